//! What colours alone reach: ridge regression from colour histograms to bags of words.
//!
//! An image is a joint histogram of its colours; a caption is a normalised tf-idf vector. Regression learned
//! on the training split predicts the words of a validation image, and retrieval is measured as for a model.
//! A trained CLIP has to beat it. Leaves out anything spatial.

pub mod ridge;
pub mod words;

use crate::error::{Error, Result};
use crate::retrieval::{self, Features, Retrieval};
use loader::{Captions, Check, Loader, Order, Remainder};
use rayon::prelude::*;
use ridge::NormalEquations;
use std::path::Path;
use words::Vocabulary;

/// Levels a channel; the histogram has their cube of bins.
pub const LEVELS: usize = 6;

/// Bins of the histogram and a constant.
pub const FEATURES: usize = LEVELS * LEVELS * LEVELS + 1;

/// The joint colour histogram of one picture of 3 × height × width bytes (R, G, B): the square roots of the
/// bins' shares, so that small and large areas weigh alike, and a constant 1 at the end.
pub fn histogram(pixels: &[u8]) -> Vec<f64> {
    let plane = pixels.len() / 3;
    let mut bins = vec![0f64; FEATURES];
    let level = |value: u8| usize::from(value) * LEVELS / 256;
    for i in 0..plane {
        let (r, g, b) = (level(pixels[i]), level(pixels[plane + i]), level(pixels[2 * plane + i]));
        bins[(r * LEVELS + g) * LEVELS + b] += 1.0;
    }
    bins.iter_mut().for_each(|bin| *bin = (*bin / plane.max(1) as f64).sqrt());
    bins[FEATURES - 1] = 1.0;
    bins
}

/// The ridge a sample: small beside the histogram's own variance, large enough for empty bins.
const LAMBDA: f64 = 1e-4;

/// What was measured.
#[derive(Debug)]
pub struct Outcome {
    /// Recall on the evaluated split.
    pub retrieval: Retrieval,
    /// Samples that were learned from.
    pub train_samples: usize,
    /// Words of the vocabulary.
    pub words: usize,
    /// The ridge a sample.
    pub lambda: f64,
}

/// Learns on `train_split` and evaluates on the first `limit` samples of `split`.
///
/// # Errors
/// [`Error::Loader`] naming a damaged sample; [`Error::Data`] when there is nothing to learn.
pub fn measure(data: &Path, train_split: &str, split: &str, limit: Option<usize>) -> Result<Outcome> {
    let train = open(data, train_split)?;
    let captions = train.captions().collect::<loader::Result<Vec<_>>>();
    let vocabulary = Vocabulary::of(captions.map_err(Error::loader("read the captions"))?);
    let mut equations = NormalEquations::new(FEATURES, vocabulary.len());
    let mut target = vec![0f64; vocabulary.len()];
    visit(&train, usize::MAX, |captions, histogram| {
        target.fill(0.0);
        for (place, value) in captions.iter().flat_map(|c| vocabulary.vector(c)) {
            target[place] += value;
        }
        let norm = target.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        let sparse: Vec<(usize, f64)> =
            target.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, v)| (i, v / norm)).collect();
        equations.add(&histogram, &sparse);
    })?;
    let weights = equations.solve(LAMBDA).ok_or_else(|| Error::Data {
        data: data.to_path_buf(),
        reason: format!(
            "ridge regression on the {} samples of {train_split:?} has no solution",
            equations.samples()
        ),
    })?;
    let retrieval = evaluate(&open(data, split)?, limit.unwrap_or(usize::MAX), &vocabulary, &weights)?;
    Ok(Outcome { retrieval, train_samples: equations.samples(), words: vocabulary.len(), lambda: LAMBDA })
}

/// Predicts every image's words and ranks all captions by them.
fn evaluate(loader: &Loader, limit: usize, vocabulary: &Vocabulary, weights: &[f64]) -> Result<Retrieval> {
    let width = vocabulary.len();
    let mut images = Features { values: Vec::new(), width };
    let mut captions = Features { values: Vec::new(), width };
    let mut owner = Vec::new();
    visit(loader, limit, |texts, histogram| {
        let mut predicted = vec![0f64; width];
        for (value, row) in histogram.iter().zip(weights.chunks_exact(width.max(1))) {
            if *value != 0.0 {
                predicted.iter_mut().zip(row).for_each(|(p, w)| *p += value * w);
            }
        }
        let norm = predicted.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        let image = images.len();
        images.values.extend(predicted.iter().map(|v| (v / norm) as f32));
        for text in &texts {
            let start = captions.values.len();
            captions.values.resize(start + width, 0.0);
            vocabulary
                .vector(text)
                .into_iter()
                .for_each(|(place, v)| captions.values[start + place] = v as f32);
            owner.push(image);
        }
    })?;
    retrieval::recall(&images, &captions, &owner)
}

fn open(data: &Path, split: &str) -> Result<Loader> {
    Loader::builder(data)
        .split(split)
        .batch_size(64)
        .remainder(Remainder::PadLast)
        .order(Order::None)
        .captions(Captions::All)
        .check(Check::Always)
        .build()
        .map_err(Error::loader(format!("open the split {split:?} of {}", data.display())))
}

/// Calls `with` on the captions and the histogram of each of the first `limit` samples, in order.
fn visit(loader: &Loader, limit: usize, mut with: impl FnMut(Vec<&str>, Vec<f64>)) -> Result<()> {
    let mut left = limit;
    for batch in loader.epoch(0).map_err(Error::loader("begin to read a split"))? {
        let batch = batch.map_err(Error::loader("read a batch"))?;
        let count = batch.valid_count().min(left);
        left -= count;
        let sample = 3 * batch.height() * batch.width();
        let histograms: Vec<Vec<f64>> =
            batch.u8()[..count * sample].par_chunks(sample).map(histogram).collect();
        for (i, histogram) in histograms.into_iter().enumerate() {
            with(batch.captions(i).collect(), histogram);
        }
        if left == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_colours_and_nothing_else() {
        // Two red pixels and two black ones, in whichever order.
        let one = histogram(&[255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let other = histogram(&[0, 255, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(one, other);
        let red = 5 * LEVELS * LEVELS;
        assert!((one[red] - 0.5f64.sqrt()).abs() < 1e-12 && (one[0] - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(one[FEATURES - 1], 1.0);
        assert_eq!(one.iter().filter(|v| **v != 0.0).count(), 3);
    }
}
