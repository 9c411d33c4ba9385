//! Runs of one to four words, counted.
//!
//! A run is its four word numbers side by side in one integer, so equal integers are equal runs and no two runs ever
//! share a count. Counts keep the order of first appearance, shorter runs first, as pycocoevalcap's dictionaries do:
//! sums over them are the same in every run. Left out: runs of more than four words.

use rustc_hash::FxHashMap;

use crate::vocabulary::WordId;

/// The longest run that any metric counts.
pub(crate) const ORDERS: usize = 4;

/// One to four words; those of a shorter run are followed by zeros, words themselves count from 1.
pub(crate) type Gram = u128;

/// The run as one integer. `words` has one to four words.
pub(crate) fn pack(words: &[WordId]) -> Gram {
    debug_assert!((1..=ORDERS).contains(&words.len()), "{} words", words.len());
    words.iter().rev().fold(0, |gram, &word| gram << 32 | (Gram::from(word) + 1))
}

/// The words of a run.
pub(crate) fn unpack(gram: Gram) -> impl Iterator<Item = WordId> {
    (0..ORDERS)
        .map(move |place| (gram >> (32 * place)) as u32)
        .take_while(|&word| word > 0)
        .map(|word| word - 1)
}

/// How often each run occurs in one caption.
#[derive(Debug, Default)]
pub(crate) struct Grams {
    /// Length of the caption in words.
    length: usize,
    /// Runs and their counts by order of appearance, all of one word first.
    counts: Vec<(Gram, u32)>,
    /// Where in `counts` the runs of one word, of two, … end.
    ends: [usize; ORDERS],
    places: FxHashMap<Gram, u32>,
}

impl Grams {
    /// Counts the runs of a caption, in place of what was counted before.
    pub(crate) fn count(&mut self, words: &[WordId]) {
        self.length = words.len();
        self.counts.clear();
        self.places.clear();
        for order in 1..=ORDERS {
            for run in words.windows(order) {
                let gram = pack(run);
                let next = self.counts.len() as u32;
                let place = *self.places.entry(gram).or_insert(next);
                if place == next {
                    self.counts.push((gram, 1));
                } else {
                    self.counts[place as usize].1 += 1;
                }
            }
            self.ends[order - 1] = self.counts.len();
        }
    }

    /// Length of the caption in words.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// All runs, the shorter ones first.
    pub(crate) fn all(&self) -> &[(Gram, u32)] {
        &self.counts
    }

    /// Where in [`all`](Self::all) the runs of `order` words (1 to 4) lie.
    pub(crate) fn range(&self, order: usize) -> std::ops::Range<usize> {
        let start = if order == 1 { 0 } else { self.ends[order - 2] };
        start..self.ends[order - 1]
    }

    /// The place of a run in [`all`](Self::all).
    pub(crate) fn place(&self, gram: Gram) -> Option<usize> {
        self.places.get(&gram).map(|&place| place as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_their_words() {
        for words in [&[0][..], &[7, 0], &[0, 0, 0], &[1, 2, 3, u32::MAX - 1]] {
            assert_eq!(unpack(pack(words)).collect::<Vec<_>>(), words);
        }
    }

    #[test]
    fn counts_by_length() {
        let mut grams = Grams::default();
        grams.count(&[5, 6, 5, 6, 5]);
        assert_eq!(grams.length(), 5);
        assert_eq!(&grams.all()[grams.range(1)], &[(pack(&[5]), 3), (pack(&[6]), 2)]);
        assert_eq!(&grams.all()[grams.range(2)], &[(pack(&[5, 6]), 2), (pack(&[6, 5]), 2)]);
        assert_eq!(grams.range(4).len(), 2);
        assert_eq!(grams.place(pack(&[5, 6])), Some(2));
        grams.count(&[]);
        assert!(grams.all().is_empty() && grams.place(pack(&[5])).is_none());
    }
}
