//! `loader show`: the batch of a step as a PNG, through the real reading path: what a training run with the same
//! settings gets. It leaves out the drawing itself (`picture`) and normalisation, which the eye cannot use.

use anyhow::{Context, Result};
use loader::{Batch, Loader, LoaderConfig};

use crate::args::{Augment, ShowArgs, tell_substitutions};

pub(crate) fn run(args: &ShowArgs) -> Result<()> {
    let config = LoaderConfig {
        batch_size: args.batch_size,
        remainder: Some(args.remainder.into()),
        seed: args.seed,
        augment: Augment::all(&args.augment),
        threads: 0,
        ..LoaderConfig::default()
    };
    let loader = args.data.open(config)?;
    let count = loader.batch_count();
    let epoch = args.epoch.checked_add(args.step / count).context("no epoch has that number")?;
    let position = args.step % count * args.batch_size as u64;
    let batch = loader.epoch_from(epoch, position)?.next().context("no batch came")??;
    tell_substitutions(&loader);
    Ok(sheet(args, &loader, &batch).draw()?.write_png(&args.png)?)
}

fn sheet(args: &ShowArgs, loader: &Loader, batch: &Batch) -> picture::Sheet {
    let manifest = loader.dataset().manifest();
    let (height, width) = (batch.height(), batch.width());
    let plane = height * width;
    let tiles = batch.u8().chunks_exact(3 * plane).enumerate().map(|(i, planar)| picture::Tile {
        pixels: (0..plane).flat_map(|at| [planar[at], planar[plane + at], planar[2 * plane + at]]).collect(),
        height,
        width,
        title: batch.key(i).to_owned(),
        captions: batch.captions(i).map(str::to_owned).collect(),
    });
    let step = batch.epoch().saturating_mul(loader.batch_count()).saturating_add(batch.number());
    let repeats = match batch.len() - batch.valid_count() {
        0 => String::new(),
        repeats => format!(", the last {repeats} of them repeats"),
    };
    picture::Sheet {
        heading: format!("{} · {} · step {step}", manifest.source.name, args.data.view.split),
        subheading: format!(
            "epoch {}, batch {} of {} · {} samples of {height}×{width}{repeats} · seed {} · fingerprint {}",
            batch.epoch(),
            batch.number() + 1,
            loader.batch_count(),
            batch.len(),
            loader.seed(),
            loader.fingerprint().get(..12).unwrap_or_default()
        ),
        tiles: tiles.collect(),
        ..Default::default()
    }
}
