//! Search: the images of a data set nearest to a text or to another picture, and a sheet of them.
//!
//! Every image is compared; leaves out approximate indexes and features that are kept between searches.

use crate::error::{Error, Result};
use crate::retrieval::{Features, dot};
use crate::samples::Sample;
use crate::trained::Trained;
use loader::{Loader, LoaderConfig, Order, Output, Remainder, Selection};
use picture::{Sheet, Tile};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// An image that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// The image's key.
    pub key: String,
    /// The cosine between the image and the query.
    pub score: f32,
    /// The captions that the data set has for it.
    pub captions: Vec<String>,
}

/// The `count` best images for each query, the best first, and how many were compared. Of equal scores the
/// image that the data set has first is the better.
///
/// # Errors
/// [`Error::Loader`] and [`Error::Tensor`], also when a score is not a number.
pub fn search(
    trained: &Trained,
    loader: &Loader,
    queries: &Features,
    count: usize,
    limit: Option<usize>,
) -> Result<(usize, Vec<Vec<Hit>>)> {
    let mut found: Vec<Vec<Hit>> = vec![Vec::new(); queries.len()];
    let compared = trained.each_batch(loader, limit, &mut |batch, images, features| {
        for image in 0..images {
            for (query, hits) in found.iter_mut().enumerate() {
                let score = dot(features.row(image), queries.row(query));
                if score.is_nan() {
                    let source = candle_core::Error::Msg("a score is not a number".into());
                    return Err(Error::Tensor { doing: "compare images with a query", source });
                }
                let place = hits.partition_point(|hit| hit.score >= score);
                if place < count {
                    hits.truncate(count - 1);
                    let captions = batch.captions(image).map(str::to_owned).collect();
                    hits.insert(place, Hit { key: batch.key(image).to_owned(), score, captions });
                }
            }
        }
        Ok(())
    })?;
    Ok((compared, found))
}

/// Draws the hits with their scores, keys and first captions: a grid for one query, a row for each of several.
///
/// # Errors
/// [`Error::Loader`], and [`Error::Data`] when a key is not in the split.
pub fn sheet(data: &Path, split: &str, queries: &[String], found: &[Vec<Hit>]) -> Result<Sheet> {
    let keys: BTreeSet<String> = found.iter().flatten().map(|hit| hit.key.clone()).collect();
    let pictures = pictures(data, split, keys)?;
    let mut tiles = Vec::new();
    for (query, hits) in queries.iter().zip(found) {
        for hit in hits {
            let picture = pictures.get(&hit.key).ok_or_else(|| Error::Data {
                data: data.to_path_buf(),
                reason: format!("the split {split:?} has no sample {}", hit.key),
            })?;
            // A single query stands in the heading.
            let query = (queries.len() > 1).then(|| query.clone());
            let captions = query.into_iter().chain(hit.captions.first().cloned()).collect();
            let title = format!("{:.3} {}", hit.score, hit.key);
            tiles.push(Tile { title, captions, ..picture.clone() });
        }
    }
    let (heading, columns) = match queries {
        [query] => (query.clone(), 0),
        _ => (format!("{} queries", queries.len()), found.iter().map(Vec::len).max().unwrap_or(0)),
    };
    Ok(Sheet { heading, columns: columns.min(64), tiles, tile_size: 160, ..Sheet::default() })
}

/// Draws samples with their losses, keys and captions in a grid, in their order.
///
/// # Errors
/// [`Error::Loader`], and [`Error::Data`] when a key is not in the split.
pub fn hardest(
    data: &Path,
    split: &str,
    heading: String,
    samples: &[(Sample, Vec<String>)],
) -> Result<Sheet> {
    let pictures = pictures(data, split, samples.iter().map(|(sample, _)| sample.key.clone()).collect())?;
    let tile = |(sample, captions): &(Sample, Vec<String>)| {
        let picture = pictures.get(&sample.key).ok_or_else(|| Error::Data {
            data: data.to_path_buf(),
            reason: format!("the split {split:?} has no sample {}", sample.key),
        })?;
        let title = format!("{:.3} {}", sample.last_loss, sample.key);
        Ok(Tile { title, captions: captions.clone(), ..picture.clone() })
    };
    let tiles = samples.iter().map(tile).collect::<Result<_>>()?;
    Ok(Sheet { heading, tiles, tile_size: 160, ..Sheet::default() })
}

/// The tiles of the samples with these keys, by key, with nothing but their pixels.
fn pictures(data: &Path, split: &str, keys: BTreeSet<String>) -> Result<HashMap<String, Tile>> {
    let mut pictures = HashMap::new();
    if keys.is_empty() {
        return Ok(pictures);
    }
    let config = LoaderConfig {
        split: split.to_owned(),
        batch_size: keys.len().min(64),
        remainder: Some(Remainder::PadLast),
        order: Order::None,
        selection: Selection { keys: Some(Arc::new(keys)), ..Selection::default() },
        output: Output::U8,
        ..LoaderConfig::default()
    };
    let loader = Loader::open(data, config).map_err(Error::loader("open the images that were found"))?;
    for batch in loader.epoch(0).map_err(Error::loader("begin to read the images that were found"))? {
        let batch = batch.map_err(Error::loader("read the images that were found"))?;
        let (height, width) = (batch.height(), batch.width());
        let plane = height * width;
        for (i, planar) in batch.u8().chunks_exact(3 * plane).enumerate().take(batch.valid_count()) {
            let pixels = (0..3 * plane).map(|place| planar[place % 3 * plane + place / 3]).collect();
            pictures.insert(batch.key(i).to_owned(), Tile { pixels, height, width, ..Tile::default() });
        }
    }
    Ok(pictures)
}
