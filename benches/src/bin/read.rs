//! How near is the loader to memory? Batches of 256 through the real reading path beside a bare gather: the same
//! payloads copied in a random order into one reused buffer, on as many threads, without checksum, order or
//! captions. Rounds alternate, medians are told. It leaves out peers, which need their own programs.
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::time::Instant;

use anyhow::{Context as _, Result};
use benches::{median, provenance};
use loader::{CLIP_NORMALIZE, Check, Loader, Output, Remainder};
use shard::{Dataset, ShardReader};

const ROUNDS: usize = 5;
const BATCH: usize = 256;

fn main() -> Result<()> {
    let dir =
        std::env::args().nth(1).context("usage: read DIR (a data set with 256 or more train samples)")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = Dataset::open(&dir)?.open_split("train")?;
    let payloads = payloads(&shards)?;
    let normalised = Output::F32(CLIP_NORMALIZE);
    let cases = [
        ("loader, u8, CRC checked", Output::U8, Check::Always),
        ("loader, u8, CRC not checked", Output::U8, Check::Never),
        ("loader, normalised f32, CRC checked", normalised, Check::Always),
    ];
    let mut rates = vec![Vec::new(); cases.len() + 1];
    for round in 0..=ROUNDS {
        let mut measured = vec![gather(&payloads, threads, round)];
        for (_, output, check) in &cases {
            let loader = Loader::builder(&dir)
                .batch_size(BATCH)
                .remainder(Remainder::DropLast)
                .output(*output)
                .check(*check)
                .threads(threads)
                .build()?;
            measured.push(epoch(&loader, round as u64)?);
        }
        // The first round warms the page cache.
        if round > 0 {
            rates.iter_mut().zip(measured).for_each(|(rates, rate)| rates.push(rate));
        }
    }
    println!("# Reading {} samples of {} bytes\n", payloads.len(), payloads.first().map_or(0, |p| p.len()));
    println!("Medians of {ROUNDS} rounds, {threads} threads, batch {BATCH}.\n");
    println!("| what | samples/s | share of the bare gather |\n| --- | --- | --- |");
    let limit = median(&mut rates[0]);
    let names = ["bare gather into one reused buffer"].into_iter().chain(cases.iter().map(|case| case.0));
    for (name, rates) in names.zip(&mut rates) {
        let rate = median(rates);
        println!("| {name} | {rate:.0} | {:.2} |", rate / limit);
    }
    println!("\n{}", provenance());
    Ok(())
}

/// Each sample's picture, in the mapped tars.
fn payloads(shards: &[ShardReader]) -> Result<Vec<&[u8]>> {
    let mut payloads = Vec::new();
    for shard in shards {
        for number in 0..shard.len() {
            let row = shard.row(number)?;
            payloads.push(shard.image(&row)?.1);
        }
    }
    Ok(payloads)
}

/// Samples a second of copying whole batches, each thread its own, in a scattered order.
fn gather(payloads: &[&[u8]], threads: usize, round: usize) -> f64 {
    let largest = payloads.iter().map(|payload| payload.len()).max().unwrap_or(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut buffer = vec![0u8; BATCH * largest];
                for position in (thread..payloads.len()).step_by(threads) {
                    // A stride without a common factor with most lengths visits all samples, far apart.
                    let payload = payloads[(position * 7_919 + round * 104_729) % payloads.len()];
                    let slot = (position / threads % BATCH) * largest;
                    buffer[slot..slot + payload.len()].copy_from_slice(payload);
                }
                std::hint::black_box(&buffer);
            });
        }
    });
    payloads.len() as f64 / begun.elapsed().as_secs_f64()
}

/// Samples a second of one epoch, from the first batch to the last.
fn epoch(loader: &Loader, epoch: u64) -> Result<f64> {
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
