//! How near is the loader to memory? Batches of 256 through the real reading path beside a bare gather: the same
//! payloads copied in a random order into one reused buffer, on as many threads, without checksum, order or
//! captions; for floats, beside a gather that normalises, in this machine's widest vectors and with ordinary stores,
//! as a C loop with `-march=native` does it. Rounds alternate, medians of second epochs are told. It leaves out peers,
//! which need their own programs.
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::time::Instant;

use anyhow::{Context as _, Result};
use benches::{epoch, median, payloads, provenance};
use loader::{
    Augment, CLIP_NORMALIZE, Check, ColorJitter, Loader, LoaderConfig, Output, RandomResizedCrop, Remainder,
};
use shard::Dataset;

const ROUNDS: usize = 5;
const BATCH: usize = 256;

fn main() -> Result<()> {
    let dir =
        std::env::args().nth(1).context("usage: read DIR (a data set with 256 or more train samples)")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = Dataset::open(&dir)?.open_split("train")?;
    let payloads = payloads(&shards)?;
    let normalised = Output::F32(CLIP_NORMALIZE);
    let augment = |crop, flip, jitter| {
        Some(Augment { crop, flip: Some(flip).filter(|&flip| flip > 0.0), jitter, grayscale: None })
    };
    let (crop, jitter) = (Some(RandomResizedCrop::default()), Some(ColorJitter::default()));
    let cases = [
        ("loader, u8, CRC checked", Output::U8, Check::Always, None),
        ("loader, u8, CRC not checked", Output::U8, Check::Never, None),
        ("loader, normalised f32, CRC checked", normalised, Check::Always, None),
        ("loader, normalised f32, CRC not checked", normalised, Check::Never, None),
        ("the same f32, CRC checked, flip", normalised, Check::Always, augment(None, 0.5, None)),
        ("… random resized crop, flip", normalised, Check::Always, augment(crop, 0.5, None)),
        ("… random resized crop, flip, jitter", normalised, Check::Always, augment(crop, 0.5, jitter)),
    ];
    let mut rates = vec![Vec::new(); cases.len() + BARE.len()];
    for round in 0..=ROUNDS {
        let mut measured: Vec<f64> =
            BARE.iter().map(|(_, bare)| gather(&payloads, threads, round, *bare)).collect();
        for (_, output, check, augment) in &cases {
            let mut config = LoaderConfig {
                batch_size: BATCH,
                remainder: Some(Remainder::DropLast),
                output: *output,
                check: *check,
                threads,
                ..LoaderConfig::default()
            };
            config.augment = *augment;
            let loader = Loader::open(dir.as_ref(), config)?;
            // The first epoch touches new buffers and a new mapping, which the bare loops' are not.
            epoch(&loader, 0)?;
            measured.push(epoch(&loader, 1 + round as u64)?);
        }
        // The first round warms the page cache.
        if round > 0 {
            rates.iter_mut().zip(measured).for_each(|(rates, rate)| rates.push(rate));
        }
    }
    println!("# Reading {} samples of {} bytes\n", payloads.len(), payloads.first().map_or(0, |p| p.len()));
    println!("Medians of {ROUNDS} rounds, {threads} threads, batch {BATCH}.\n");
    println!("| what | samples/s | share of the bare gather of its kind |\n| --- | --- | --- |");
    let limits: Vec<f64> = rates.iter_mut().take(BARE.len()).map(|rates| median(rates)).collect();
    let bare = BARE.into_iter().zip(&limits).map(|((name, _), limit)| (name, *limit));
    let ours = cases.iter().map(|(name, output, check, _)| {
        (
            *name,
            limits[match (output, check) {
                (Output::F32(_), _) => 2,
                (Output::U8, Check::Never) => 0,
                (Output::U8, _) => 1,
            }],
        )
    });
    for ((name, limit), rates) in bare.chain(ours).zip(&mut rates) {
        let rate = median(rates);
        println!("| {name} | {rate:.0} | {:.2} |", rate / limit);
    }
    println!("\n{}", provenance());
    Ok(())
}

/// What a bare loop does with each payload.
#[derive(Clone, Copy)]
enum Bare {
    Copy,
    CheckAndCopy,
    Normalise,
}

const BARE: [(&str, Bare); 3] = [
    ("bare gather into one reused buffer", Bare::Copy),
    ("bare gather and CRC", Bare::CheckAndCopy),
    ("bare gather and normalise", Bare::Normalise),
];

/// Samples a second of whole batches, each thread its own, in a scattered order.
fn gather(payloads: &[&[u8]], threads: usize, round: usize, bare: Bare) -> f64 {
    let largest = payloads.iter().map(|payload| payload.len()).max().unwrap_or(0);
    // Memory that is new costs page faults; they are no part of the limit.
    let (bytes, floats) = match bare {
        Bare::Normalise => (0, BATCH * largest),
        Bare::Copy | Bare::CheckAndCopy => (BATCH * largest, 0),
    };
    let mut buffers: Vec<(Vec<u8>, Vec<f32>)> =
        (0..threads).map(|_| (vec![1; bytes], vec![1.0; floats])).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (thread, (bytes, floats)) in buffers.iter_mut().enumerate() {
            scope.spawn(move || {
                for position in (thread..payloads.len()).step_by(threads) {
                    // A stride without a common factor with most lengths visits all samples, far apart.
                    let payload = payloads[(position * 7_919 + round * 104_729) % payloads.len()];
                    let slot = (position / threads % BATCH) * largest;
                    let range = slot..slot + payload.len();
                    match bare {
                        Bare::Copy => bytes[range].copy_from_slice(payload),
                        Bare::CheckAndCopy => {
                            std::hint::black_box(crc32fast::hash(payload));
                            bytes[range].copy_from_slice(payload);
                        }
                        Bare::Normalise => normalise(payload, &mut floats[range]),
                    }
                }
                std::hint::black_box((bytes, floats));
            });
        }
    });
    payloads.len() as f64 / begun.elapsed().as_secs_f64()
}

/// `value · scale + shift` in the widest vectors that compilers are told of here.
fn normalise(values: &[u8], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn wide(values: &[u8], out: &mut [f32]) {
            plain(values, out);
        }
        #[expect(unsafe_code, reason = "instructions that were looked for")]
        // SAFETY: the machine has AVX2.
        return unsafe { wide(values, out) };
    }
    plain(values, out);
}

#[inline(always)]
fn plain(values: &[u8], out: &mut [f32]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = f32::from(value) * (1.0 / 68.5) - 1.79;
    }
}
