//! What the measurements share: medians, and the lines that say where a figure comes from. The programs are in
//! `src/bin`, one a question; their results are kept in `results/`. Nothing here is a test.

pub mod orders;

use std::{process::Command, time::Instant};

use anyhow::Result;
use loader::Loader;
use shard::ShardReader;

/// The middle value, the lower of two; 0 of none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// Each sample's picture, in the mapped tars.
///
/// # Errors
/// A damaged index.
pub fn payloads(shards: &[ShardReader]) -> Result<Vec<&[u8]>> {
    let mut payloads = Vec::new();
    for shard in shards {
        for number in 0..shard.len() {
            let row = shard.row(number)?;
            payloads.push(shard.image(&row)?.1);
        }
    }
    Ok(payloads)
}

/// Samples a second of one epoch, from the first batch to the last.
///
/// # Errors
/// Those of the loader.
pub fn epoch(loader: &Loader, epoch: u64) -> Result<f64> {
    let mut samples = 0;
    let mut begun = Instant::now();
    for (number, batch) in loader.epoch(epoch)?.enumerate() {
        let batch = batch?;
        if number == 0 {
            begun = Instant::now();
        } else {
            samples += batch.len();
        }
        std::hint::black_box(batch.pixels());
    }
    Ok(samples as f64 / begun.elapsed().as_secs_f64())
}

/// Machine, commit and command, as Markdown.
pub fn provenance() -> String {
    let cpu = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs_err::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let commit =
        commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let program = env!("CARGO_PKG_NAME");
    format!(
        "- machine: {}, {cores} cores, load {load} at the end\n- commit: {commit}\n- command: `cargo run --release -p {program} --bin {} -- {}`\n",
        model.trim_start_matches([':', ' ', '\t']),
        std::env::args().next().unwrap_or_default().rsplit('/').next().unwrap_or_default(),
        words.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.0);
        assert_eq!(median(&mut []), 0.0);
    }
}
