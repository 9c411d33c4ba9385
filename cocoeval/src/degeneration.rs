//! How dull or stuck generated captions are.
//!
//! distinct-n is of Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models", 2016. The
//! rate of repetition looks within single captions, where a decoder that is stuck shows. Left out: any comparison with
//! references.

use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::{
    ngrams::{Grams, ORDERS, pack},
    vocabulary::{Vocabulary, WordId},
};

/// Measures of repetition over a set of captions. All are 0 where there is nothing to count.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Degeneration {
    /// Distinct words over all words, of all captions together.
    pub distinct_1: f64,
    /// Distinct runs of two words over all such runs, of all captions together.
    pub distinct_2: f64,
    /// For runs of 1, 2, 3 and 4 words: the share of a caption's runs that occurred earlier in the same caption, as a
    /// mean over the captions that are long enough to have such runs.
    pub repeated: [f64; ORDERS],
    /// Mean length in tokens.
    pub mean_length: f64,
}

/// Measures captions that were tokenised.
///
/// ```
/// let stuck = [cocoeval::tokenize("a dog a dog a dog")];
/// let found = cocoeval::degeneration(&stuck);
/// assert_eq!((found.distinct_1, found.repeated[1], found.mean_length), (2.0 / 6.0, 3.0 / 5.0, 6.0));
/// ```
pub fn degeneration<C: AsRef<[W]>, W: AsRef<str>>(captions: &[C]) -> Degeneration {
    let mut vocabulary = Vocabulary::default();
    let ids: Vec<Vec<WordId>> = captions
        .iter()
        .map(|caption| caption.as_ref().iter().map(|word| vocabulary.intern(word.as_ref())).collect())
        .collect();
    degeneration_of(ids.iter().map(Vec::as_slice))
}

/// The same for words that are numbers.
pub(crate) fn degeneration_of<'a>(captions: impl Iterator<Item = &'a [WordId]>) -> Degeneration {
    let (mut count, mut words) = (0_u64, 0_u64);
    let mut pairs = 0_u64;
    let (mut distinct_words, mut distinct_pairs) = (FxHashSet::default(), FxHashSet::default());
    let mut shares = [(0.0, 0_u64); ORDERS];
    let mut grams = Grams::default();
    for caption in captions {
        count += 1;
        words += caption.len() as u64;
        distinct_words.extend(caption.iter().copied());
        pairs += caption.len().saturating_sub(1) as u64;
        distinct_pairs.extend(caption.windows(2).map(pack));
        grams.count(caption);
        for (order, (sum, of)) in (1..).zip(&mut shares) {
            let all = (caption.len() + 1).saturating_sub(order);
            if all > 0 {
                *sum += (all - grams.range(order).len()) as f64 / all as f64;
                *of += 1;
            }
        }
    }
    let share = |part: f64, of: u64| if of == 0 { 0.0 } else { part / of as f64 };
    Degeneration {
        distinct_1: share(distinct_words.len() as f64, words),
        distinct_2: share(distinct_pairs.len() as f64, pairs),
        repeated: shares.map(|(sum, of)| share(sum, of)),
        mean_length: share(words as f64, count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_captions_count_only_where_they_can() {
        let captions = [vec!["a"], vec!["b", "b", "b"], vec![]];
        let found = degeneration(&captions);
        assert_eq!(found.distinct_1, 0.5);
        assert_eq!(found.distinct_2, 0.5);
        assert_eq!(found.repeated, [1.0 / 3.0, 0.5, 0.0, 0.0]);
        assert_eq!(found.mean_length, 4.0 / 3.0);
    }

    #[test]
    fn nothing_at_all() {
        assert_eq!(degeneration::<Vec<&str>, &str>(&[]), Degeneration::default());
    }
}
