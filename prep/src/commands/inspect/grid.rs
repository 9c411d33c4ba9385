//! `--grid`: a sheet of samples as a PNG. It leaves out the drawing itself (`picture`).

use std::path::Path;

use shard::{Dataset, ShardReader};

use super::samples::spread;
use crate::{Result, cli::InspectArgs, pixels};

/// Draws samples evenly spread over the split: in a shuffled set, a fair draw of it.
pub(super) fn draw(dataset: &Dataset, args: &InspectArgs, path: &Path) -> Result<()> {
    let first = dataset.manifest().splits.first().map(|split| split.name.clone()).unwrap_or_default();
    let name = args.split.clone().unwrap_or(first);
    let shards = dataset.open_split(&name)?;
    let image = &dataset.manifest().image;
    let total: usize = shards.iter().map(ShardReader::len).sum();
    let mut tiles = Vec::new();
    for (shard, number) in spread(&shards, args.samples.into()) {
        let row = shard.row(number)?;
        let payload = shard.payload(&row, row.image)?;
        shard.check(&row, row.image, payload)?;
        tiles.push(picture::Tile {
            pixels: pixels::stored_rgb(payload, image)?,
            height: row.height as usize,
            width: row.width as usize,
            title: row.key.to_owned(),
            captions: row.captions.into_iter().map(str::to_owned).collect(),
        });
    }
    let count = tiles.len();
    let manifest = dataset.manifest();
    let sheet = picture::Sheet {
        heading: format!("{} · {name}", manifest.source.name),
        subheading: format!(
            "{count} of {total} samples · {}×{} {} {} · fingerprint {}",
            image.height,
            image.width,
            image.resize,
            image.format.name(),
            &manifest.fingerprint[..12]
        ),
        tiles,
        ..Default::default()
    };
    Ok(sheet.draw()?.write_png(path)?)
}
