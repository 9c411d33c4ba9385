//! How near is the loader to the disk, when nothing is in memory? One epoch of u8 batches of 256 beside the disk's own
//! rate: reads of 150 kB at the same places, past the page cache, from as many threads as serve it best. Rounds
//! alternate, and each begins with the data set's pages dropped. With CGROUP_LIMIT set, say so in the results: the limit
//! itself is the caller's to set. It leaves out machines that cannot drop pages.
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::{
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Instant,
};

use anyhow::{Context as _, Result};
use benches::{median, provenance};
use fs_err::os::unix::fs::OpenOptionsExt as _;
use loader::{Loader, LoaderConfig, Order, Remainder};
use rustix::fs::{Advice, OFlags, fadvise};
use shard::Dataset;

const ROUNDS: usize = 5;
const BATCH: usize = 256;
const PAGE: u64 = 4096;
/// The bytes of a 224x224 picture, in whole pages.
const READ: usize = 37 * PAGE as usize;
const THREADS: [usize; 4] = [4, 16, 32, 64];

fn main() -> Result<()> {
    let dir: PathBuf = std::env::args().nth(1).context("usage: cold DIR (a data set on a disk)")?.into();
    let files = files(&dir)?;
    let orders = [Order::Global, Order::BLOCK, Order::None];
    let mut disk: Vec<Vec<f64>> = vec![Vec::new(); THREADS.len()];
    let mut ours: Vec<Vec<f64>> = vec![Vec::new(); orders.len()];
    for round in 0..ROUNDS {
        for (threads, rates) in THREADS.iter().zip(&mut disk) {
            rates.push(disk_rate(&files, *threads, round)?);
        }
        for (order, rates) in orders.iter().zip(&mut ours) {
            drop_pages(&files)?;
            rates.push(epoch(&dir, *order, round as u64)?);
        }
    }
    let disk: Vec<f64> = disk.iter_mut().map(|rates| median(rates)).collect();
    let best = disk.iter().copied().fold(0.0, f64::max);
    println!("# Reading what is not in memory\n");
    println!("Medians of {ROUNDS} rounds; u8 batches of {BATCH}, CRC checked, one epoch with its opening.\n");
    println!("| what | samples/s | share of the disk's best |\n| --- | --- | --- |");
    for (threads, rate) in THREADS.iter().zip(&disk) {
        println!("| disk alone, {READ} B at random, {threads} at a time | {rate:.0} | {:.2} |", rate / best);
    }
    for (order, rates) in orders.iter().zip(&mut ours) {
        let rate = median(rates);
        println!("| loader, {order} | {rate:.0} | {:.2} |", rate / best);
    }
    println!("\n{}", provenance());
    Ok(())
}

/// The tars and indexes of `train`.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let dataset = Dataset::open(dir)?;
    let train = dataset.manifest().splits.iter().find(|split| split.name == "train");
    let shards = &train.context("the data set has no split `train`")?.shards;
    let names = shards.iter().flat_map(|shard| [shard.tar_name(), shard.index_name()]);
    Ok(names.map(|name| dir.join("train").join(name)).collect())
}

fn drop_pages(files: &[PathBuf]) -> Result<()> {
    for path in files {
        let file = fs_err::File::open(path)?;
        // What is not yet written cannot be dropped.
        file.sync_all()?;
        fadvise(file.file(), 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Reads a second of the disk alone.
fn disk_rate(files: &[PathBuf], threads: usize, round: usize) -> Result<f64> {
    let mut places = Vec::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "tar")) {
        let mut options = fs_err::OpenOptions::new();
        options.read(true).custom_flags(OFlags::DIRECT.bits() as i32);
        let file = options.open(path).context("cannot read past the page cache")?;
        let reads = file.metadata()?.len() / READ as u64;
        let file = std::sync::Arc::new(file);
        places.extend((0..reads).map(|number| (std::sync::Arc::clone(&file), number * READ as u64)));
    }
    let (next, count) = (AtomicUsize::new(0), places.len().min(4000));
    let begun = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let reader = || -> Result<()> {
            let mut memory = vec![0u8; READ + PAGE as usize];
            let start = memory.as_ptr().align_offset(PAGE as usize);
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= count {
                    return Ok(());
                }
                let (file, offset) = &places[(number * 7_919 + round * 104_729) % places.len()];
                file.file().read_exact_at(&mut memory[start..start + READ], *offset)?;
            }
        };
        let readers: Vec<_> = (0..threads).map(|_| scope.spawn(reader)).collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("a reader does not panic"))
    })?;
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// Samples a second of one epoch, with its opening.
fn epoch(dir: &Path, order: Order, epoch: u64) -> Result<f64> {
    let begun = Instant::now();
    let config = LoaderConfig {
        batch_size: BATCH,
        remainder: Some(Remainder::DropLast),
        order,
        ..LoaderConfig::default()
    };
    let loader = Loader::open(dir, config)?;
    let mut samples = 0;
    for batch in loader.epoch(epoch)? {
        samples += batch?.len();
    }
    Ok(samples as f64 / begun.elapsed().as_secs_f64())
}
