//! BLEU of one to four words as pycocoevalcap's `BleuScorer` computes it with the option "closest".
//!
//! Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", 2002. For a segment or a corpus
//! with `guess_k` runs of `k` words, `correct_k` of them right (each counted at most as often as in the reference that
//! has it most often), length `c` and closest reference length `r`:
//!
//! `bleu_n = (∏_{k≤n} (correct_k + 1e-15) / (guess_k + 1e-9))^(1/n) · min(1, exp(1 − 1/ratio))`,
//! `ratio = (c + 1e-15) / (r + 1e-9)`.
//!
//! Of two references equally close the shorter counts. Left out: other choices of length, other smoothing.

use crate::ngrams::{Grams, ORDERS};

/// Keeps a share whose count is zero from being a zero that all products share.
const TINY: f64 = 1e-15;
/// Keeps a share of nothing from being a division by zero.
const SMALL: f64 = 1e-9;

/// What BLEU needs to know of a segment, and, added up, of a corpus.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BleuCounts {
    guess: [u64; ORDERS],
    correct: [u64; ORDERS],
    length: u64,
    reference_length: u64,
}

impl BleuCounts {
    /// Counts of one hypothesis against its references, at least one.
    pub(crate) fn of(hypothesis: &Grams, references: &[Grams]) -> Self {
        let length = hypothesis.length();
        let closest = references.iter().map(Grams::length).min_by_key(|&of| (of.abs_diff(length), of));
        let mut counts =
            Self { length: length as u64, reference_length: closest.unwrap_or(0) as u64, ..Self::default() };
        for order in 1..=ORDERS {
            counts.guess[order - 1] = (length + 1).saturating_sub(order) as u64;
            for &(gram, count) in &hypothesis.all()[hypothesis.range(order)] {
                let in_reference = |of: &Grams| of.place(gram).map_or(0, |place| of.all()[place].1);
                let most = references.iter().map(in_reference).max().unwrap_or(0);
                counts.correct[order - 1] += u64::from(count.min(most));
            }
        }
        counts
    }

    /// Adds the counts of another segment.
    pub(crate) fn add(&mut self, other: &Self) {
        for order in 0..ORDERS {
            self.guess[order] += other.guess[order];
            self.correct[order] += other.correct[order];
        }
        self.length += other.length;
        self.reference_length += other.reference_length;
    }

    /// BLEU-1 to BLEU-4, from 0 to 1.
    pub(crate) fn scores(&self) -> [f64; ORDERS] {
        let ratio = (self.length as f64 + TINY) / (self.reference_length as f64 + SMALL);
        let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        let mut product = 1.0;
        std::array::from_fn(|order| {
            product *= (self.correct[order] as f64 + TINY) / (self.guess[order] as f64 + SMALL);
            f64::powf(product, 1.0 / (order + 1) as f64) * brevity
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grams(words: &[u32]) -> Grams {
        let mut grams = Grams::default();
        grams.count(words);
        grams
    }

    #[test]
    fn the_closest_length_and_of_two_the_shorter() {
        let references = [grams(&[1; 7]), grams(&[1; 3])];
        let counts = BleuCounts::of(&grams(&[1; 5]), &references);
        assert_eq!((counts.length, counts.reference_length), (5, 3));
        assert_eq!(BleuCounts::of(&grams(&[1; 6]), &references).reference_length, 7);
    }

    #[test]
    fn a_word_is_right_as_often_as_one_reference_has_it() {
        let counts = BleuCounts::of(&grams(&[1, 1, 1, 2]), &[grams(&[1, 1]), grams(&[2, 1])]);
        assert_eq!(counts.correct, [3, 1, 0, 0]);
        assert_eq!(counts.guess, [4, 3, 2, 1]);
    }

    #[test]
    fn nothing_scores_nothing() {
        let counts = BleuCounts::of(&grams(&[]), &[grams(&[1, 2])]);
        assert_eq!(counts.scores(), [0.0; 4]);
    }
}
