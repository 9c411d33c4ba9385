//! How long from the start of a program to its first batch, and how much memory beside the mapped shards? A child process
//! opens the data set and takes a batch of 256 u8 pictures with its checksums; the time is its parent's, from before it
//! is started. Measured for 8,000 samples and for 2,000,000, page cache warm. The large set is one shard of real
//! 224×224 tensors under many names, each with an index file of its own: as many rows, mappings and files as a real one
//! has, in the disk space of one. It leaves out cold caches (`cold`).
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use benches::{median, provenance};
use loader::{Loader, Order, Remainder};
use shard::{ImageSettings, Key, Manifest, Sample, SampleMeta, ShardEntry, ShardWriter, SplitEntry, npy};

const ROUNDS: usize = 15;
const BATCH: usize = 256;
const SIZE: u32 = 224;
const SETS: [(u64, u32, f64); 2] = [(8_000, 8, 50.0), (2_000_000, 400, 200.0)];

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [dir, order, batches] = &words[..] {
        return child(Path::new(dir), order.parse().map_err(anyhow::Error::msg)?, batches.parse()?);
    }
    let [dir] = &words[..] else { anyhow::bail!("usage: first_batch DIR (made there, 2 GB)") };
    println!("# From the start of a program to its first batch\n");
    println!("Medians of {ROUNDS} runs; u8 batches of {BATCH}, CRC checked.\n");
    println!(
        "| samples | shards | order | first batch, ms | slowest, ms | asked, ms | memory after 20 batches, MiB | in batches |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (samples, shards, asked) in SETS {
        let dir = Path::new(dir).join(samples.to_string());
        if !dir.join("dataset.json").exists() {
            make(&dir, samples, shards)?;
        }
        for order in [Order::Global, Order::BLOCK] {
            let mut first = Vec::new();
            for _ in 0..=ROUNDS {
                first.push(run(&dir, order, 1)?.0);
            }
            // The first run warms the page cache.
            first.remove(0);
            let memory = run(&dir, order, 20)?.1 as f64 / (1 << 20) as f64;
            let batch = (BATCH * SIZE as usize * SIZE as usize * 3) as f64 / (1 << 20) as f64;
            let slowest = first.iter().copied().fold(0.0, f64::max);
            let first = median(&mut first);
            println!(
                "| {samples} | {shards} | {order} | {first:.1} | {slowest:.1} | {asked:.0} | {memory:.1} | {:.2} |",
                memory / batch
            );
        }
    }
    println!("\n{}", provenance());
    Ok(())
}

/// Milliseconds to the first batch, and bytes of the child's own memory after its last.
fn run(dir: &Path, order: Order, batches: usize) -> Result<(f64, u64)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(dir).arg(order.to_string()).arg(batches.to_string()).stdout(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("a piped child has an output")?).lines();
    let line = lines.next().context("the child printed nothing")??;
    let first = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(line == "first", "the child printed {line}");
    let memory = lines.next().context("the child printed no memory")??.parse()?;
    ensure!(child.wait()?.success(), "the child failed");
    Ok((first, memory))
}

fn child(dir: &Path, order: Order, batches: usize) -> Result<()> {
    let loader =
        Loader::builder(dir).batch_size(BATCH).remainder(Remainder::DropLast).order(order).build()?;
    let mut epoch = loader.epoch(0)?;
    let mut sum = 0;
    for number in 0..batches {
        let batch = epoch.next().context("too few batches")??;
        sum += batch.u8().iter().step_by(4096).map(|&value| u64::from(value)).sum::<u64>();
        if number == 0 {
            println!("first");
        }
    }
    std::hint::black_box(sum);
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    println!("{}", line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024);
    Ok(())
}

/// One shard written, and linked as often as there are others; indexes are copies.
fn make(dir: &Path, samples: u64, shards: u32) -> Result<()> {
    let folder = dir.join("train");
    fs_err::create_dir_all(&folder)?;
    let image = ImageSettings::tensor(SIZE);
    let mut writer = ShardWriter::create(&folder, 0, &image)?;
    let mut payload = npy::header(&image).to_vec();
    payload.resize(payload.len() + 3 * (SIZE * SIZE) as usize, 0);
    let pixels = payload.len() - 3 * (SIZE * SIZE) as usize;
    for row in 0..samples / u64::from(shards) {
        for (place, value) in payload[pixels..].iter_mut().enumerate() {
            *value = ((place as u64 * (row + 1)) >> 5) as u8;
        }
        let name = format!("sample-{row:08}");
        let captions =
            (0..5).map(|caption| format!("caption {caption} of {name}: a few words about a picture"));
        let meta = SampleMeta {
            key: Key::from_source_id(&name),
            source_id: name.clone(),
            source_row: row,
            captions: captions.collect(),
            original_height: SIZE,
            original_width: SIZE,
            url: None,
            license: None,
        };
        writer.append(&Sample { meta: &meta, image: &payload })?;
    }
    let first = writer.commit()?;
    let mut entries = vec![first.clone()];
    for shard in 1..shards {
        let entry = ShardEntry { name: format!("shard-{shard:06}"), ..first.clone() };
        fs_err::hard_link(folder.join(first.tar_name()), folder.join(entry.tar_name()))?;
        fs_err::copy(folder.join(first.index_name()), folder.join(entry.index_name()))?;
        entries.push(entry);
    }
    Manifest::of(image, vec![SplitEntry::of("train", entries)]).write(dir)?;
    Ok(())
}
