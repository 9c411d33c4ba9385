//! What the pixel engine does by itself: decodes and reduces the JPEGs of a folder on some threads, and packs nothing.
//! Prints images, wall seconds and CPU seconds as JSON; `benches/prep_speed.py` sets packing against it.
#![allow(clippy::print_stdout, reason = "a measurement prints its result")]

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use prep::{
    pixels::{Decode, Engine, PixelSettings, Preparer},
    source::Picture,
};
use shard::ImageSettings;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dir, threads, engine, decode] = &words[..] else {
        anyhow::bail!("usage: pixels_alone DIR THREADS rust|turbo exact|fast");
    };
    let mut files: Vec<PathBuf> =
        fs_err::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jpg"));
    files.sort();
    let engine = if engine == "turbo" { Engine::Turbo } else { Engine::Rust };
    let decode = if decode == "fast" { Decode::Fast } else { Decode::Exact };
    let settings = PixelSettings { engine, decode, ..PixelSettings::of(ImageSettings::tensor(224)) };
    let (next, kept) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads.parse().unwrap_or(1) {
            scope.spawn(|| {
                let (mut preparer, mut payload) = (Preparer::new(&settings), Vec::new());
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Ok(bytes) = fs_err::read(file) else { continue };
                    if preparer.prepare(&Picture::Encoded(bytes), &mut payload).is_ok() {
                        kept.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    println!("{{\"n\": {}, \"wall_s\": {:.4}}}", kept.into_inner(), begun.elapsed().as_secs_f64());
    Ok(())
}
