//! The loader under the rules by which `loader_peers.py` measures others: batches of 256 with all captions, bytes or
//! normalised floats, one process and one first epoch each, the page cache warm. Prints one line of JSON. It leaves out
//! the peers and the table.
//!
//! `arena DIR FORMAT THREADS CHECK`: FORMAT, `raw` or `jpeg`, only names what DIR holds; CHECK is always, first or never.
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::{path::Path, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use loader::{
    Batch, CLIP_NORMALIZE, Captions, Check, Epoch, Loader, LoaderConfig, Output, Pixels, Remainder,
};

const BATCH: usize = 256;
/// Batches that are measured, after some that are not.
const BATCHES: usize = 14;

fn main() -> Result<()> {
    let start = Instant::now();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dir, format, threads, check] = &words[..] else { bail!("usage: arena DIR raw|jpeg THREADS CHECK") };
    let dir = Path::new(dir);
    let threads: usize = threads.parse().context("THREADS is a number")?;
    let check = match check.as_str() {
        "always" => Check::Always,
        "first" => Check::First,
        "never" => Check::Never,
        other => bail!("CHECK is always, first or never, not {other}"),
    };
    let config = |output| LoaderConfig {
        batch_size: BATCH,
        remainder: Some(Remainder::DropLast),
        captions: Captions::All,
        output,
        check,
        threads,
        ..LoaderConfig::default()
    };
    let mut sum = 0.0;
    let loader = Loader::open(dir, config(Output::U8))?;
    let mut epoch = loader.epoch(0)?;
    sum += look(&epoch.next().context("no batch")??)?;
    let first_batch_s = start.elapsed().as_secs_f64();
    skip(&mut epoch, &mut sum)?;
    let bytes = measured(&mut epoch, &mut sum)?;
    drop((epoch, loader));
    let loader = Loader::open(dir, config(Output::F32(CLIP_NORMALIZE)))?;
    let mut epoch = loader.epoch(0)?;
    skip(&mut epoch, &mut sum)?;
    let floats = measured(&mut epoch, &mut sum)?;
    println!(
        "{{\"bench\": \"load\", \"peer\": \"ours\", \"check\": \"{check:?}\", \"fmt\": \"{format}\", \"workers\": {threads}, \"u8_sps\": {:.1}, \"f32_sps\": {:.1}, \"u8_cpu_ms\": {:.4}, \"f32_cpu_ms\": {:.4}, \"ttfb_s\": {first_batch_s:.4}, \"peak_anon_mb\": {}, \"sum\": {sum}}}",
        bytes.0,
        floats.0,
        bytes.1,
        floats.1,
        anonymous_mb()
    );
    Ok(())
}

/// Takes batches until the loader has all its memory: what is new costs page faults, and the peers that use theirs again
/// have it before they are measured.
fn skip(epoch: &mut Epoch, sum: &mut f64) -> Result<()> {
    for _ in 0..3 {
        *sum += look(&epoch.next().context("no batch")??)?;
    }
    Ok(())
}

/// Samples a second of the next batches, and CPU milliseconds a sample.
fn measured(epoch: &mut Epoch, sum: &mut f64) -> Result<(f64, f64)> {
    let (begun, cpu, mut samples) = (Instant::now(), cpu_s()?, 0);
    for batch in epoch.by_ref().take(BATCHES) {
        let batch = batch?;
        *sum += look(&batch)?;
        samples += batch.len();
    }
    ensure!(samples == BATCHES * BATCH, "the data set has too few samples: {samples} were left");
    Ok((samples as f64 / begun.elapsed().as_secs_f64(), (cpu_s()? - cpu) * 1e3 / samples as f64))
}

/// What a consumer does: one value in 4096, and the captions counted.
fn look(batch: &Batch) -> Result<f64> {
    let captions: usize = (0..batch.len()).map(|sample| batch.captions(sample).len()).sum();
    ensure!(captions == 5 * batch.len(), "{captions} captions of {} samples", batch.len());
    Ok(match batch.pixels() {
        Pixels::U8(pixels) => pixels.iter().step_by(4096).map(|&value| f64::from(value)).sum(),
        Pixels::F32(pixels) => pixels.iter().step_by(4096).map(|&value| f64::from(value)).sum(),
    })
}

/// User and system time of this process.
fn cpu_s() -> Result<f64> {
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').context("no name in /proc/self/stat")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let ticks: f64 = ticks.collect::<Result<Vec<_>, _>>()?.iter().sum();
    // Linux counts hundredths for programs, whatever it does itself.
    Ok(ticks / 100.0)
}

fn anonymous_mb() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).map_or(0, |kib: u64| kib / 1024)
}
