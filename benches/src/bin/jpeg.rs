//! How near is the loader to its decoder, where pictures are stored as JPEGs? Whole epochs through the real reading path
//! beside the decoder alone: the same payloads in the same memory, decoded into one reused buffer a thread, on as many
//! threads, without checksum, order, captions or normalisation; and beside zune-jpeg alone, likewise. Rounds alternate,
//! medians are told. It leaves out peers, which need their own programs.
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::{sync::atomic::AtomicUsize, sync::atomic::Ordering::Relaxed, time::Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use benches::{epoch, median, payloads, provenance};
use loader::{CLIP_NORMALIZE, Check, Loader, LoaderConfig, Output, Remainder};
use shard::Dataset;
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

const USAGE: &str = "usage: jpeg DIR [THREADS] [ROUNDS] (a data set of JPEGs with 256 or more train samples)";
const BATCH: usize = 64;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().context(USAGE)?;
    let threads = arguments.next().map_or(Ok(2), |count| count.parse()).context(USAGE)?;
    let rounds: usize = arguments.next().map_or(Ok(7), |count| count.parse()).context(USAGE)?;
    let shards = Dataset::open(&dir)?.open_split("train")?;
    let payloads = payloads(&shards)?;
    let cases = [
        ("loader, u8, CRC checked", Output::U8),
        ("loader, normalised f32, CRC checked", Output::F32(CLIP_NORMALIZE)),
    ];
    let decoders: [(&str, Decode); 2] = [("the decoder alone", ours), ("zune-jpeg alone", zune)];
    let mut loaders = Vec::new();
    for (_, output) in cases {
        let (remainder, check) = (Some(Remainder::DropLast), Check::Always);
        let config =
            LoaderConfig { batch_size: BATCH, remainder, output, check, threads, ..LoaderConfig::default() };
        loaders.push(Loader::open(dir.as_ref(), config)?);
    }
    let mut rates = vec![Vec::new(); decoders.len() + cases.len()];
    for round in 0..=rounds {
        let mut measured = Vec::new();
        for (_, decode) in decoders {
            measured.push(alone(&payloads, threads, decode)?);
        }
        for loader in &loaders {
            measured.push(epoch(loader, round as u64)?);
        }
        // The first round warms the page cache and the buffers.
        if round > 0 {
            rates.iter_mut().zip(measured).for_each(|(rates, rate)| rates.push(rate));
        }
    }
    let bytes: usize = payloads.iter().map(|payload| payload.len()).sum();
    println!("# Decoding {} JPEGs of {} bytes on average\n", payloads.len(), bytes / payloads.len().max(1));
    println!("Medians of {rounds} rounds, {threads} threads, batch {BATCH}.\n");
    println!("| what | samples/s | share of the decoder alone |\n| --- | --- | --- |");
    let limit = median(&mut rates[0]);
    let names = decoders.iter().map(|(name, _)| name).chain(cases.iter().map(|(name, _)| name));
    for (name, rates) in names.zip(&mut rates) {
        let rate = median(rates);
        println!("| {name} | {rate:.0} | {:.2} |", rate / limit);
    }
    println!("\n{}", provenance());
    Ok(())
}

/// Decodes a JPEG into a buffer, and comes to the number of values.
type Decode = fn(&mut jpeg::Decoder, &[u8], &mut Vec<u8>) -> Result<usize>;

fn ours(decoder: &mut jpeg::Decoder, jpeg: &[u8], out: &mut Vec<u8>) -> Result<usize> {
    let Ok(picture) = decoder.open(jpeg) else { bail!("not a baseline JPEG") };
    let values = 3 * picture.height() * picture.width();
    out.resize(values, 0);
    picture.planar(out).map_err(|refusal| anyhow!("{refusal:?}"))?;
    Ok(values)
}

fn zune(_: &mut jpeg::Decoder, jpeg: &[u8], out: &mut Vec<u8>) -> Result<usize> {
    let options = DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
    decoder.decode_headers().map_err(|error| anyhow!("{error}"))?;
    let values = decoder.output_buffer_size().context("no frame header")?;
    out.resize(values, 0);
    decoder.decode_into(out).map_err(|error| anyhow!("{error}"))?;
    Ok(values)
}

/// Pictures a second, of all payloads four times over.
fn alone(payloads: &[&[u8]], threads: usize, decode: Decode) -> Result<f64> {
    const TIMES: usize = 4;
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    let work = || -> Result<()> {
        let (mut decoder, mut out) = (jpeg::Decoder::default(), Vec::new());
        loop {
            let number = next.fetch_add(1, Relaxed);
            if number >= TIMES * payloads.len() {
                return Ok(());
            }
            let values = decode(&mut decoder, payloads[number % payloads.len()], &mut out)?;
            std::hint::black_box(&out[..values]);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a panic"))?)
    })?;
    Ok((TIMES * payloads.len()) as f64 / begun.elapsed().as_secs_f64())
}
