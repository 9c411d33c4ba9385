//! What colours alone reach: ridge regression from colour histograms to bags of words.
//!
//! An image is a joint histogram of its colours; a caption is a normalised tf-idf vector. Regression learned
//! on the training split predicts the words of a validation image, and retrieval is measured as for a model.
//! The ridge is the one that does best on every tenth training sample, learned from the others. A trained
//! CLIP has to beat it. Leaves out anything spatial.

pub mod histogram;
pub mod ridge;
pub mod words;

use crate::error::{Error, Result};
use crate::retrieval::{self, Features, Retrieval};
use histogram::{FEATURES, histogram};
use loader::{Captions, Loader, Order, Remainder};
use rayon::prelude::*;
use ridge::NormalEquations;
use std::path::Path;
use words::Vocabulary;

/// Ridges a sample that are tried.
const LAMBDAS: [f64; 6] = [1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1];

/// One training sample in so many is held out to choose the ridge.
const HOLD_OUT: usize = 10;

/// Held-out samples that are kept for that at most.
const HELD_MAX: usize = 1000;

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

/// A sample as the regression sees it.
struct Sample {
    histogram: Vec<f64>,
    captions: Vec<Vec<(usize, f64)>>,
}

/// Learns on `train_split` and evaluates on the first `limit` samples of `split`.
///
/// # Errors
/// [`Error::Loader`] naming a damaged sample; [`Error::Data`] when there is nothing to learn.
pub fn measure(data: &Path, train_split: &str, split: &str, limit: Option<usize>) -> Result<Outcome> {
    let (train, val) = (open(data, train_split)?, open(data, split)?);
    let texts = train.captions().map(|caption| caption.map_err(Error::loader("read the captions")));
    let vocabulary = Vocabulary::of(texts.collect::<Result<Vec<&str>>>()?);
    let words = vocabulary.len();
    let (mut most, mut rest) = (NormalEquations::new(FEATURES, words), NormalEquations::new(FEATURES, words));
    let mut held = Vec::new();
    let mut number = 0usize;
    visit(&train, &vocabulary, usize::MAX, |sample| {
        let is_held = number % HOLD_OUT == HOLD_OUT - 1;
        number += 1;
        let equations = if is_held { &mut rest } else { &mut most };
        equations.add(&sample.histogram, &target(&sample, words));
        if is_held && held.len() < HELD_MAX {
            held.push(sample);
        }
    })?;
    let unsolvable = || Error::Data {
        data: data.to_path_buf(),
        reason: format!("ridge regression on the {number} samples of {train_split:?} has no solution"),
    };
    let lambda = choose(&most, &held, words)?;
    most.merge(&rest);
    let weights = most.solve(lambda).ok_or_else(unsolvable)?;
    let mut samples = Vec::new();
    visit(&val, &vocabulary, limit.unwrap_or(usize::MAX), |sample| samples.push(sample))?;
    let retrieval = recall(&samples, &weights, words)?;
    Ok(Outcome { retrieval, train_samples: number, words, lambda })
}

/// The ridge with the best recall on the held-out samples; the middle one when there are none.
fn choose(equations: &NormalEquations, held: &[Sample], words: usize) -> Result<f64> {
    let mut best = (0.0, LAMBDAS[LAMBDAS.len() / 2]);
    for lambda in LAMBDAS {
        let Some(weights) = equations.solve(lambda) else { continue };
        let found = recall(held, &weights, words)?;
        let score = found.image_to_text.r10 + found.text_to_image.r10;
        if score > best.0 {
            best = (score, lambda);
        }
    }
    Ok(best.1)
}

/// The mean of a sample's caption vectors, brought to length 1.
fn target(sample: &Sample, words: usize) -> Vec<(usize, f64)> {
    let mut sum = vec![0f64; words];
    sample.captions.iter().flatten().for_each(|(place, value)| sum[*place] += value);
    let norm = sum.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    sum.into_iter().enumerate().filter(|(_, v)| *v != 0.0).map(|(place, v)| (place, v / norm)).collect()
}

/// Predicts every image's words and ranks all captions by them.
fn recall(samples: &[Sample], weights: &[f64], words: usize) -> Result<Retrieval> {
    let predict = |sample: &Sample| -> Vec<f32> {
        let mut predicted = vec![0f64; words];
        for (value, row) in sample.histogram.iter().zip(weights.chunks_exact(words.max(1))) {
            if *value != 0.0 {
                predicted.iter_mut().zip(row).for_each(|(p, w)| *p += value * w);
            }
        }
        let norm = predicted.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        predicted.into_iter().map(|v| (v / norm) as f32).collect()
    };
    let rows: Vec<Vec<f32>> = samples.par_iter().map(predict).collect();
    let images = Features { values: rows.concat(), width: words };
    let mut captions = Features { values: Vec::new(), width: words };
    let mut owner = Vec::new();
    for (image, sample) in samples.iter().enumerate() {
        for vector in &sample.captions {
            let start = captions.values.len();
            captions.values.resize(start + words, 0.0);
            vector.iter().for_each(|(place, value)| captions.values[start + place] = *value as f32);
            owner.push(image);
        }
    }
    retrieval::recall(&images, &captions, &owner)
}

fn open(data: &Path, split: &str) -> Result<Loader> {
    Loader::builder(data)
        .split(split)
        .batch_size(64)
        .remainder(Remainder::PadLast)
        .order(Order::None)
        .captions(Captions::All)
        .build()
        .map_err(Error::loader(format!("open the split {split:?} of {}", data.display())))
}

/// Hands over the first `limit` samples in order.
fn visit(loader: &Loader, vocabulary: &Vocabulary, limit: usize, mut with: impl FnMut(Sample)) -> Result<()> {
    let mut left = limit;
    for batch in loader.epoch(0).map_err(Error::loader("begin to read a split"))? {
        let batch = batch.map_err(Error::loader("read a batch"))?;
        let count = batch.valid_count().min(left);
        left -= count;
        let bytes = 3 * batch.height() * batch.width();
        let histograms: Vec<Vec<f64>> =
            batch.u8()[..count * bytes].par_chunks(bytes).map(histogram).collect();
        for (i, histogram) in histograms.into_iter().enumerate() {
            let captions = batch.captions(i).map(|caption| vocabulary.vector(caption)).collect();
            with(Sample { histogram, captions });
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

    /// Pictures of one colour, each with the colour's name as its caption.
    fn sample(number: usize) -> Sample {
        let colour = [number % 6 * 43, number / 6 % 5 * 50, number / 30 * 100].map(|level| level as u8);
        let pixels: Vec<u8> = colour.iter().flat_map(|c| [*c; 4]).collect();
        Sample { histogram: histogram(&pixels), captions: vec![vec![(number, 1.0)]] }
    }

    #[test]
    fn words_that_follow_from_colours_are_found() {
        let words = 90;
        let mut equations = NormalEquations::new(FEATURES, words);
        (0..90).map(sample).for_each(|s| equations.add(&s.histogram, &target(&s, words)));
        let samples: Vec<Sample> = (0..90).map(sample).collect();
        let lambda = choose(&equations, &samples, words).unwrap();
        let found = recall(&samples, &equations.solve(lambda).unwrap(), words).unwrap();
        assert_eq!((found.text_to_image.r1, found.image_to_text.r1), (1.0, 1.0));
    }

    #[test]
    fn a_whole_data_set_is_measured() {
        let data = testkit::Spec::small().temporary();
        let outcome = measure(data.path(), "train", "val", Some(7)).unwrap();
        assert_eq!((outcome.train_samples, outcome.retrieval.images), (60, 7));
        assert!(LAMBDAS.contains(&outcome.lambda));
        assert!(measure(data.path(), "train", "test", None).is_err());
    }
}
