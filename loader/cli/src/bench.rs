//! `loader bench`: samples per second, time to the first batch and peak memory of the real reading path.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use loader::{Loader, LoaderConfig, Remainder, RemoteStats};
use serde::Serialize;

use crate::{
    args::{Augment, BenchArgs, Normalize, Output, tell_substitutions},
    limits::Limits,
    memory::status_bytes,
};

/// What was measured. Sizes in bytes; null where the system does not say.
#[derive(Serialize)]
struct Report {
    samples_per_s: f64,
    /// From the first batch's arrival to the last one's; null where only one batch came.
    steady_samples_per_s: Option<f64>,
    /// From the start of the program.
    first_batch_ms: f64,
    /// Most memory ever resident, mapped shards included.
    peak_memory_bytes: Option<u64>,
    /// Most memory of the program's own, seen after each batch: without the mapped shards.
    peak_anonymous_bytes: Option<u64>,
    samples: u64,
    batches: u64,
    epochs_begun: u64,
    seconds: f64,
    /// Share of the time that the consumer waited.
    wait_share: f64,
    payload_bytes_per_s: f64,
    fresh_buffers: u64,
    output: &'static str,
    batch_size: usize,
    threads: usize,
    /// Where the workers' time goes, measured over a few batches after the others.
    stages: Option<Limits>,
    /// What was fetched meanwhile; null where all data sets are local.
    remote: Option<RemoteStats>,
}

pub(crate) fn run(args: &BenchArgs, start: Instant) -> Result<()> {
    let defaults = LoaderConfig::default();
    let config = LoaderConfig {
        batch_size: args.batch_size,
        remainder: Some(Remainder::DropLast),
        seed: args.seed,
        output: output(args)?,
        augment: Augment::all(&args.augment),
        check: args.check.into(),
        threads: args.threads.unwrap_or(defaults.threads),
        ..defaults
    };
    let loader = args.data.open(config.clone())?;
    let mut report = measure(args, &loader, start)?;
    // The next epoch: its samples are no warmer than the last one's were.
    report.stages = Some(Limits::measure(|config| args.data.open(config), config, report.epochs_begun)?);
    tell_substitutions(&loader);
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        print(&report, &mut out)?;
    }
    Ok(())
}

fn output(args: &BenchArgs) -> Result<loader::Output> {
    match (args.output, args.normalize) {
        (Output::U8, None) => Ok(loader::Output::U8),
        (Output::U8, Some(_)) => bail!("--normalize needs --output f32: bytes are not normalised"),
        (Output::F32, normalize) => Ok(loader::Output::F32(normalize.unwrap_or(Normalize::Clip).into())),
    }
}

fn measure(args: &BenchArgs, loader: &Loader, start: Instant) -> Result<Report> {
    let limit = args.seconds.map(Duration::try_from_secs_f64).transpose().context("--seconds")?;
    ensure!(limit != Some(Duration::ZERO), "--seconds must be above 0");
    let epochs = args.epochs.unwrap_or(if limit.is_some() { u64::MAX } else { 1 });
    let begin = Instant::now();
    let mut first: Option<Instant> = None;
    let (mut last, mut samples, mut first_samples, mut batches, mut epochs_begun) = (begin, 0u64, 0, 0, 0);
    let mut peak_anonymous_bytes = None;
    'epochs: for epoch in 0..epochs {
        epochs_begun += 1;
        for batch in loader.epoch(epoch)? {
            let batch = batch?;
            last = Instant::now();
            if first.is_none() {
                first = Some(last);
                first_samples = batch.len() as u64;
            }
            samples += batch.len() as u64;
            batches += 1;
            peak_anonymous_bytes = peak_anonymous_bytes.max(status_bytes("RssAnon"));
            if limit.is_some_and(|limit| begin.elapsed() >= limit) {
                break 'epochs;
            }
        }
    }
    let first = first.context("no batch came")?;
    let seconds = (last - begin).as_secs_f64();
    let steady = (last - first).as_secs_f64();
    let stats = loader.stats();
    Ok(Report {
        samples_per_s: samples as f64 / seconds,
        steady_samples_per_s: (steady > 0.0).then(|| (samples - first_samples) as f64 / steady),
        first_batch_ms: (first - start).as_secs_f64() * 1e3,
        peak_memory_bytes: status_bytes("VmHWM"),
        peak_anonymous_bytes,
        samples,
        batches,
        epochs_begun,
        seconds,
        wait_share: (stats.wait_ns as f64 / 1e9 / seconds).min(1.0),
        payload_bytes_per_s: stats.payload_bytes as f64 / seconds,
        fresh_buffers: stats.fresh_buffers,
        output: match loader.config().output {
            loader::Output::U8 => "u8",
            loader::Output::F32(_) => "f32",
        },
        batch_size: args.batch_size,
        threads: loader.config().threads,
        stages: None,
        remote: loader.remote_stats(),
    })
}

fn print(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    let mib = |bytes: Option<u64>| {
        bytes.map_or("unknown".to_owned(), |b| format!("{:.0} MiB", b as f64 / 1048576.0))
    };
    writeln!(
        out,
        "{:.0} samples/s ({:.2} GB/s of payload), {} samples in {:.2} s, {} threads, {} batches of {}",
        report.samples_per_s,
        report.payload_bytes_per_s / 1e9,
        report.samples,
        report.seconds,
        report.threads,
        report.output,
        report.batch_size
    )?;
    writeln!(out, "first batch after {:.1} ms", report.first_batch_ms)?;
    writeln!(
        out,
        "peak memory {} with mapped shards, {} without",
        mib(report.peak_memory_bytes),
        mib(report.peak_anonymous_bytes)
    )?;
    if let Some(remote) = &report.remote {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        writeln!(
            out,
            "fetched {:.1} MB in {} requests ({:.1} MB/s), {} payloads again; {} samples were in the cache, {} were not; \
             {:.1} MB evicted",
            megabytes(remote.fetched_bytes),
            remote.requests,
            megabytes(remote.fetched_bytes) / report.seconds,
            remote.refetched,
            remote.hits,
            remote.misses,
            megabytes(remote.evicted_bytes)
        )?;
    }
    match &report.stages {
        Some(limits) => writeln!(out, "{}", limits.words()),
        None => Ok(()),
    }
}
