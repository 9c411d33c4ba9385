//! How others shuffle, by simulation: a table of what `loader report` finds, or the key lists that it reads. It
//! leaves out the loaders themselves; their real key lists can be measured with `loader report --keys`.
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::{
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use benches::{
    orders::{LOADERS, Size},
    provenance,
};
use loader::report::Verdict;

const EPOCHS: u64 = 3;
const SEED: u64 = 0;
const SIMULATIONS: u32 = 20;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["table"] => table(),
        ["keys", dir] => keys(Path::new(dir)),
        _ => bail!("usage: orders table | orders keys DIR"),
    }
}

fn table() -> Result<()> {
    let size = Size::TABLE;
    println!("# How others shuffle\n");
    println!(
        "Simulated: {} samples in source order, shards of {}, batches of {}, {} workers, {EPOCHS} epochs; measured by \
         `loader::report`\nbeside {SIMULATIONS} ideal permutations. ± is the standard deviation of what these score.\n",
        size.samples, size.shard_samples, size.batch_size, size.workers
    );
    println!(
        "- shards: distinct shards in a batch.\n- pair repeat: how much likelier than chance two batch-mates meet again in the next epoch."
    );
    println!(
        "- variance: of the batches' mean source rank, over an ideal shuffle's.\n- tail shards: as shards, in the last 1/32 of an epoch.\n"
    );
    println!(
        "| loader | shards | pair repeat | variance | tail shards | verdict |\n| --- | --- | --- | --- | --- | --- |"
    );
    for (name, shuffle) in LOADERS {
        let simulations = if name == "ideal" { SIMULATIONS } else { 0 };
        let report = shuffle.report(size, SEED, EPOCHS, simulations)?;
        let cell = |name: &str| {
            let metric = report.metric(name).context("a metric is missing")?;
            let spread =
                metric.simulated.map_or(String::new(), |spread| format!(" ± {:.3}", spread.deviation));
            Ok::<_, anyhow::Error>(format!("{:.2}{spread}", metric.value))
        };
        let verdict = match report.verdict {
            Verdict::Ideal => "ideal",
            Verdict::Near => "near",
            Verdict::Bad => "bad",
        };
        println!(
            "| {name} | {} | {} | {} | {} | {verdict} |",
            cell("shards_per_batch")?,
            cell("pair_repeat")?,
            cell("batch_variance")?,
            cell("tail_shards")?
        );
    }
    // Neither the machine nor the profile has a say in these figures.
    let provenance = provenance();
    let commit = provenance.lines().find(|line| line.starts_with("- commit")).context("no commit")?;
    println!("\n{commit}\n- command: `cargo run -p benches --bin orders -- table`");
    Ok(())
}

/// Writes `DIR/NAME.EPOCH.txt`, lines of SHARD, a tab and KEY.
fn keys(dir: &Path) -> Result<()> {
    fs_err::create_dir_all(dir)?;
    let size = Size::TABLE;
    for (name, shuffle) in LOADERS {
        let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let file: String = name.chars().map(word).collect::<String>().replace("--", "-");
        for epoch in 0..EPOCHS {
            let path = dir.join(format!("{file}.{epoch}.txt"));
            let mut out = BufWriter::new(fs_err::File::create(&path)?);
            for sample in shuffle.epoch(size, SEED, epoch)? {
                writeln!(out, "{:05}\t{sample:09}", sample / size.shard_samples)?;
            }
            out.flush()?;
            println!("{}", path.display());
        }
    }
    Ok(())
}
