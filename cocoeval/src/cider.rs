//! CIDEr as pycocoevalcap computes it, which is the form called CIDEr-D.
//!
//! Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation", 2015. The weight of a run of words in a
//! caption is its count times `ln(images) − ln(max(1, df))`, `df` being the images whose references have the run. For
//! hypothesis weights `h`, reference weights `r` and lengths `l`, counted in runs of two words:
//!
//! `10 · mean over n = 1..4 and references of (Σ min(h, r)·r) / (|h|·|r|) · exp(−(l_h − l_r)² / (2·6²))`.
//!
//! Left out: the plain CIDEr without clipping and without the penalty of length, and stemming.

use crate::{
    frequencies::GramFrequencies,
    ngrams::{Grams, ORDERS},
};

/// Standard deviation of the penalty of length, in runs of two words.
const SIGMA: f64 = 6.0;

/// The weights of one caption.
#[derive(Debug, Default)]
struct Weights {
    /// In the order of [`Grams::all`].
    of: Vec<f64>,
    norms: [f64; ORDERS],
    /// Runs of two words, repetitions included.
    length: f64,
}

impl Weights {
    fn set(&mut self, grams: &Grams, frequencies: &GramFrequencies) {
        self.of.clear();
        for order in 1..=ORDERS {
            let mut square = 0.0;
            for &(gram, count) in &grams.all()[grams.range(order)] {
                let weight = f64::from(count) * frequencies.rarity(gram);
                square += weight * weight;
                self.of.push(weight);
            }
            self.norms[order - 1] = f64::sqrt(square);
        }
        self.length = grams.length().saturating_sub(1) as f64;
    }
}

/// Computes CIDEr; keeps its memory between captions.
#[derive(Debug, Default)]
pub(crate) struct Cider {
    hypothesis: Weights,
    reference: Weights,
}

impl Cider {
    /// CIDEr of a hypothesis against its references, from 0 to 10 where document frequencies come from the references
    /// that are scored; 0 without references.
    pub(crate) fn score(
        &mut self,
        hypothesis: &Grams,
        references: &[Grams],
        frequencies: &GramFrequencies,
    ) -> f64 {
        self.hypothesis.set(hypothesis, frequencies);
        let mut sums = [0.0; ORDERS];
        for reference in references {
            self.reference.set(reference, frequencies);
            for (order, sum) in (1..).zip(&mut sums) {
                *sum += self.similarity(order, hypothesis, reference);
            }
        }
        let mean = (sums[0] + sums[1] + sums[2] + sums[3]) / ORDERS as f64;
        mean / references.len().max(1) as f64 * 10.0
    }

    /// Similarity by the runs of `order` words.
    fn similarity(&self, order: usize, hypothesis: &Grams, reference: &Grams) -> f64 {
        let mut product = 0.0;
        for place in hypothesis.range(order) {
            if let Some(other) = reference.place(hypothesis.all()[place].0) {
                let theirs = self.reference.of[other];
                product += self.hypothesis.of[place].min(theirs) * theirs;
            }
        }
        let norms = (self.hypothesis.norms[order - 1], self.reference.norms[order - 1]);
        if norms.0 != 0.0 && norms.1 != 0.0 {
            product /= norms.0 * norms.1;
        }
        let delta = self.hypothesis.length - self.reference.length;
        product * (-(delta * delta) / (2.0 * SIGMA * SIGMA)).exp()
    }
}
