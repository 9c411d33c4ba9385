//! `prep --advise`: prepares a few hundred samples both ways, measures the disk, and says which of tensors and JPEGs
//! reads faster here, with the bytes of both. It leaves out the loader's own cost, which is small beside a disk.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

use rayon::prelude::*;
use serde::Serialize;
use shard::{ImageSettings, place};

use crate::{
    Error, Result,
    fetch::space,
    open::Opened,
    pixels::{self, DEFAULT_QUALITY, PixelSettings, Preparer},
    report,
    settings::Settings,
    source::Source,
};

/// Samples that are tried.
const SAMPLES: usize = 256;

/// Bytes that are written and read to measure the disk.
const DISK_BYTES: usize = 128 << 20;

/// What one way of storing comes to.
#[derive(Debug, Clone, Serialize)]
pub struct Way {
    /// `tensor` or `jpeg`.
    pub store: &'static str,
    /// Bytes of the whole data set, tar headers and JSONs included.
    pub bytes: u64,
    /// Pictures prepared a second, on all threads.
    pub prepared_per_second: f64,
    /// Samples that can be read a second: from memory where they fit, else from the disk, and decoded.
    pub read_per_second: f64,
    /// What bounds reading.
    pub bound: &'static str,
}

/// What was measured and what follows.
#[derive(Debug, Clone, Serialize)]
pub struct Advice {
    /// Samples that the source lists.
    pub samples: u64,
    /// Samples that were tried.
    pub tried: u64,
    /// Of these, those that cannot be used.
    pub left_out: u64,
    /// Threads.
    pub threads: usize,
    /// Sequential writing to the output's disk, synced.
    pub disk_write_bytes_per_second: f64,
    /// Reading back what is not in memory.
    pub disk_read_bytes_per_second: f64,
    /// Free on the output's disk.
    pub free_bytes: Option<u64>,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Both ways.
    pub ways: [Way; 2],
    /// `tensor` or `jpeg`.
    pub recommended: &'static str,
    /// Why.
    pub reason: String,
}

/// Measures and advises.
///
/// # Errors
/// What the source or the disk says; `NoSamples` where no sample of those tried can be used.
pub(super) fn run(settings: &Settings, opened: Opened, stop: &AtomicBool) -> Result<()> {
    let scratch =
        settings.pack.out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs_err::create_dir_all(scratch).map_err(Error::io("create", scratch))?;
    let dir = scratch.join(format!(".prep-advise-{}", std::process::id()));
    fs_err::create_dir(&dir).map_err(Error::io("create", &dir))?;
    let advice = measure(settings, opened, &dir, stop);
    fs_err::remove_dir_all(&dir).map_err(Error::io("remove", &dir))?;
    report::advised(&advice?);
    Ok(())
}

fn measure(settings: &Settings, opened: Opened, dir: &Path, stop: &AtomicBool) -> Result<Advice> {
    let (source, share): (Box<dyn Source>, f64) = match opened {
        Opened::Whole(source) => (source, 1.0),
        // The first input stands for all.
        Opened::Inputs(inputs) => (inputs.open(0, dir)?, inputs.names().len() as f64),
    };
    let listings = source.listings();
    let listed: usize = listings.iter().map(|listing| listing.ids.len()).sum();
    let samples = (listed as f64 * share) as u64;
    let samples = settings.plan.limit.map_or(samples, |limit| samples.min(limit as u64));
    // The lowest hashes: a fair draw.
    let mut rows: Vec<(u128, usize, usize)> = (0..listings.len())
        .flat_map(|listing| (0..listings[listing].ids.len()).map(move |row| (listing, row)))
        .map(|(listing, row)| (place::holdout_hash128(1, listings[listing].ids.get(row)), listing, row))
        .collect();
    rows.sort_unstable();
    rows.truncate(SAMPLES);
    let size = settings.pack.pixels.image.height;
    let made = settings.pack.pixels.image.resize.clone();
    let image = |image: ImageSettings| ImageSettings { resize: made.clone(), ..image };
    let tensor = PixelSettings { image: image(ImageSettings::tensor(size)), ..settings.pack.pixels.clone() };
    let quality = settings.pack.pixels.image.quality.unwrap_or(DEFAULT_QUALITY);
    let jpeg =
        PixelSettings { image: image(ImageSettings::jpeg(size, quality)), ..settings.pack.pixels.clone() };
    let threads = settings.pack.threads;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::Config(format!("--threads {threads}: {error}")))?;
    let tensors = pool.install(|| prepare(source.as_ref(), &rows, &tensor, stop))?;
    let jpegs = pool.install(|| prepare(source.as_ref(), &rows, &jpeg, stop))?;
    if tensors.payloads.is_empty() {
        let source_name = source.info().name;
        return Err(Error::NoSamples { source_name, reasons: format!("none of {} tried", rows.len()) });
    }
    let begun = Instant::now();
    let decoded: Result<Vec<usize>> = pool.install(|| {
        jpegs.payloads.par_iter().map(|bytes| Ok(pixels::stored_rgb(bytes, &jpeg.image)?.len())).collect()
    });
    let decode_rate = decoded?.len() as f64 / begun.elapsed().as_secs_f64();
    let (write, read) = disk(&dir.join("probe"))?;
    Ok(conclude(&Measured {
        samples,
        tried: rows.len() as u64,
        left_out: (rows.len() - tensors.payloads.len()) as u64,
        threads,
        tensor: tensors.summary(),
        jpeg: jpegs.summary(),
        decode_rate,
        disk: (write, read),
        free_bytes: space::free_bytes(dir),
        memory_bytes: memory_bytes(),
    }))
}

/// Samples prepared one way.
struct Prepared {
    payloads: Vec<Vec<u8>>,
    bytes: u64,
    per_second: f64,
}

impl Prepared {
    /// Mean bytes of a sample in a tar, and the rate.
    fn summary(&self) -> (f64, f64) {
        (self.bytes as f64 / self.payloads.len().max(1) as f64, self.per_second)
    }
}

fn prepare(
    source: &dyn Source,
    rows: &[(u128, usize, usize)],
    settings: &PixelSettings,
    stop: &AtomicBool,
) -> Result<Prepared> {
    let bytes = AtomicU64::new(0);
    let begun = Instant::now();
    let prepared: Result<Vec<Option<Vec<u8>>>> = rows
        .par_iter()
        .map_init(
            || Preparer::new(settings),
            |preparer, &(_, listing, row)| {
                use crate::source::LoadError::{Failed, LeftOut};
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                let loaded = match source.load(listing, row, settings.image.height) {
                    Ok(loaded) => loaded,
                    Err(LeftOut(_)) => return Ok(None),
                    Err(Failed(error)) => return Err(error),
                };
                let mut payload = Vec::new();
                if preparer.prepare(&loaded.picture, &mut payload).is_err() {
                    return Ok(None);
                }
                let captions: usize = loaded.captions.iter().map(|caption| caption.len() + 4).sum();
                // Two headers, the JSON's other fields, padding.
                let sample =
                    shard::tar::padded(payload.len() as u64) + shard::tar::padded(200 + captions as u64);
                bytes.fetch_add(sample + 2 * shard::tar::BLOCK_BYTES, Ordering::Relaxed);
                Ok(Some(payload))
            },
        )
        .collect();
    let payloads: Vec<Vec<u8>> = prepared?.into_iter().flatten().collect();
    let per_second = payloads.len() as f64 / begun.elapsed().as_secs_f64().max(1e-9);
    Ok(Prepared { payloads, bytes: bytes.into_inner(), per_second })
}

/// Bytes a second of writing a file synced, and of reading it when it is not in memory.
fn disk(path: &Path) -> Result<(f64, f64)> {
    let block: Vec<u8> = (0..1u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let begun = Instant::now();
    let mut file = fs_err::File::create(path).map_err(Error::io("write", path))?;
    for _ in 0..DISK_BYTES / block.len() {
        file.write_all(&block).map_err(Error::io("write", path))?;
    }
    file.sync_all().map_err(Error::io("sync", path))?;
    let write = DISK_BYTES as f64 / begun.elapsed().as_secs_f64();
    let mut file = fs_err::File::open(path).map_err(Error::io("read", path))?;
    // Where the system does not heed it, the rate is memory's: it is said to be at least that.
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file.file(), 0, None, rustix::fs::Advice::DontNeed);
    let begun = Instant::now();
    let mut buffer = block;
    while file.read(&mut buffer).map_err(Error::io("read", path))? > 0 {}
    Ok((write, DISK_BYTES as f64 / begun.elapsed().as_secs_f64()))
}

/// Memory of this machine: a set that is larger is read from the disk in each epoch. Unknown, it is taken for small.
fn memory_bytes() -> u64 {
    #[cfg(target_os = "linux")]
    {
        let info = rustix::system::sysinfo();
        #[allow(clippy::unnecessary_cast, reason = "the width of the field differs between systems")]
        return (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    }
    #[cfg(not(target_os = "linux"))]
    0
}

struct Measured {
    samples: u64,
    tried: u64,
    left_out: u64,
    threads: usize,
    tensor: (f64, f64),
    jpeg: (f64, f64),
    decode_rate: f64,
    disk: (f64, f64),
    free_bytes: Option<u64>,
    memory_bytes: u64,
}

/// Tensors of 224×224 that a core gathers a second from memory; the project's benches measure 25,000 and more.
const GATHER_PER_THREAD: f64 = 25_000.0;

fn conclude(measured: &Measured) -> Advice {
    let way = |store: &'static str, (sample_bytes, prepared): (f64, f64), compute: f64| {
        let bytes = (measured.samples as f64 * sample_bytes) as u64;
        // Half of the memory for the cache: the model and its batches need the rest.
        let fits = bytes < measured.memory_bytes / 2;
        let from_disk = measured.disk.1 / sample_bytes;
        let (read, bound) = match (fits, from_disk < compute) {
            (false, true) => (from_disk, "the disk"),
            _ if store == "jpeg" => (compute, "decoding"),
            _ => (compute, "memory"),
        };
        Way { store, bytes, prepared_per_second: prepared, read_per_second: read, bound }
    };
    let tensor = way("tensor", measured.tensor, GATHER_PER_THREAD * measured.threads as f64);
    let jpeg = way("jpeg", measured.jpeg, measured.decode_rate);
    let has_room = |way: &Way| measured.free_bytes.is_none_or(|free| way.bytes < free);
    let (recommended, reason) = if !has_room(&tensor) && has_room(&jpeg) {
        ("jpeg", "tensors do not fit on the disk".to_owned())
    } else if tensor.read_per_second >= jpeg.read_per_second {
        ("tensor", format!("reading is bound by {}, and still faster than decoding JPEGs", tensor.bound))
    } else {
        ("jpeg", format!("tensors are larger than memory and bound by {}", tensor.bound))
    };
    Advice {
        samples: measured.samples,
        tried: measured.tried,
        left_out: measured.left_out,
        threads: measured.threads,
        disk_write_bytes_per_second: measured.disk.0,
        disk_read_bytes_per_second: measured.disk.1,
        free_bytes: measured.free_bytes,
        memory_bytes: measured.memory_bytes,
        ways: [tensor, jpeg],
        recommended,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        Measured {
            samples: 100_000,
            tried: 256,
            left_out: 0,
            threads: 2,
            tensor: (152_000.0, 900.0),
            jpeg: (16_000.0, 800.0),
            decode_rate: 8_000.0,
            disk: (5e8, 1e9),
            free_bytes: Some(100_000_000_000),
            memory_bytes: 64_000_000_000,
        }
    }

    #[test]
    fn what_fits_into_memory_is_stored_as_tensors() {
        let advice = conclude(&measured());
        assert_eq!((advice.recommended, advice.ways[0].bound), ("tensor", "memory"));
        assert_eq!(advice.ways[0].bytes, 15_200_000_000);
    }

    #[test]
    fn a_slow_disk_or_a_full_one_asks_for_jpegs() {
        let slow = Measured { memory_bytes: 8_000_000_000, disk: (1e8, 2e8), ..measured() };
        assert_eq!((conclude(&slow).recommended, conclude(&slow).ways[0].bound), ("jpeg", "the disk"));
        let fast = Measured { memory_bytes: 8_000_000_000, disk: (1e9, 3e9), ..measured() };
        assert_eq!(conclude(&fast).recommended, "tensor");
        let full = Measured { free_bytes: Some(5_000_000_000), ..measured() };
        assert_eq!(conclude(&full).reason, "tensors do not fit on the disk");
    }
}
