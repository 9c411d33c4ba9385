//! Captions as normalised tf-idf vectors over the most frequent words.
//!
//! Leaves out stemming, stop words and word order.

use std::collections::{BTreeMap, BTreeSet};

/// Words that the vocabulary keeps at most.
pub const WORDS_MAX: usize = 2000;

/// The kept words with their inverse document frequencies.
#[derive(Debug)]
pub struct Vocabulary {
    words: BTreeMap<String, (usize, f64)>,
}

/// The words of a caption: runs of letters and digits, in lower case.
fn split(caption: &str) -> impl Iterator<Item = String> + '_ {
    caption.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

impl Vocabulary {
    /// Counts in how many captions each word stands; keeps the most frequent, ties in alphabetical order.
    pub fn of<S: AsRef<str>>(captions: impl IntoIterator<Item = S>) -> Self {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut total = 0usize;
        for caption in captions {
            total += 1;
            for word in split(caption.as_ref()).collect::<BTreeSet<_>>() {
                *counts.entry(word).or_default() += 1;
            }
        }
        let mut ranked: Vec<(String, usize)> = counts.into_iter().collect();
        ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        ranked.truncate(WORDS_MAX);
        let idf = |count: usize| ((1 + total) as f64 / (1 + count) as f64).ln() + 1.0;
        let words =
            ranked.into_iter().enumerate().map(|(i, (word, count))| (word, (i, idf(count)))).collect();
        Self { words }
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// A caption's vector of length 1, as pairs of place and value in the order of places; empty when no word is
    /// known.
    pub fn vector(&self, caption: &str) -> Vec<(usize, f64)> {
        let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
        for word in split(caption) {
            if let Some((place, idf)) = self.words.get(&word) {
                *sums.entry(*place).or_default() += idf;
            }
        }
        let norm = sums.values().map(|v| v * v).sum::<f64>().sqrt();
        sums.into_iter().map(|(place, value)| (place, value / norm)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_and_rare_words_weigh_more() {
        let vocabulary = Vocabulary::of(["A red star.", "a blue star", "a square", "A circle, a circle"]);
        assert_eq!(vocabulary.len(), 6);
        let vector = vocabulary.vector("the Red STAR");
        let norm: f64 = vector.iter().map(|(_, v)| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-12);
        let value = |word: &str| vector.iter().find(|(p, _)| *p == vocabulary.words[word].0).unwrap().1;
        assert!(value("red") > value("star"));
        assert!(vocabulary.vector("nothing known").is_empty());
    }
}
