//! Learns the merges of a byte-pair encoding from word counts (Sennrich et al. 2016, algorithm 1).
//!
//! The `tokenizers` crate has a trainer of its own; where two merges make the same string its result
//! depends on the order of a randomly seeded hash map. This one orders everything, so the same counts
//! always give the same merges. Leaves out splitting text into words.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// Two neighbouring tokens.
type Pair = (u32, u32);

/// What was learned: tokens by id, and the merges in the order in which they were made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Learned {
    /// The token of each id: the alphabet first, then one token a merge.
    pub(super) tokens: Vec<String>,
    /// The two tokens of each merge.
    pub(super) merges: Vec<(String, String)>,
}

struct Corpus {
    words: Vec<(Vec<u32>, u64)>,
    counts: BTreeMap<Pair, u64>,
    places: BTreeMap<Pair, BTreeSet<usize>>,
    /// Candidates, the most frequent first, then the smallest ids; counts may be out of date.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

/// Learns merges until there are `token_count` tokens or no pair occurs twice.
///
/// `alphabet` gives the first tokens; characters of `words` outside it are skipped.
pub(super) fn learn(words: &BTreeMap<String, u64>, alphabet: &[char], token_count: usize) -> Learned {
    let ids: BTreeMap<char, u32> = (0u32..).zip(alphabet).map(|(id, c)| (*c, id)).collect();
    let words = words
        .iter()
        .map(|(word, count)| (word.chars().filter_map(|c| ids.get(&c).copied()).collect(), *count))
        .collect();
    let mut corpus = Corpus::new(words);
    let mut tokens: Vec<String> = alphabet.iter().map(char::to_string).collect();
    let mut known: BTreeSet<String> = tokens.iter().cloned().collect();
    let mut merges = Vec::new();
    while tokens.len() < token_count {
        let Some(pair) = corpus.most_frequent() else { break };
        let (left, right) = (&tokens[pair.0 as usize], &tokens[pair.1 as usize]);
        let merged = format!("{left}{right}");
        if known.contains(&merged) {
            // Another split of a token that exists: a second merge to it would leave two ranks for one token.
            corpus.forget(pair);
            continue;
        }
        merges.push((left.clone(), right.clone()));
        let id = u32::try_from(tokens.len()).expect("the configuration bounds the vocabulary at a million");
        corpus.merge(pair, id);
        known.insert(merged.clone());
        tokens.push(merged);
    }
    Learned { tokens, merges }
}

impl Corpus {
    fn new(words: Vec<(Vec<u32>, u64)>) -> Self {
        let mut corpus =
            Self { words, counts: BTreeMap::new(), places: BTreeMap::new(), queue: BinaryHeap::new() };
        for place in 0..corpus.words.len() {
            corpus.count(place);
        }
        corpus.queue = corpus.counts.iter().map(|(pair, count)| (*count, Reverse(*pair))).collect();
        corpus
    }

    /// Adds the pairs of one word to the counts.
    fn count(&mut self, place: usize) {
        let (word, count) = &self.words[place];
        for pair in word.windows(2) {
            let pair = (pair[0], pair[1]);
            *self.counts.entry(pair).or_default() += count;
            self.places.entry(pair).or_default().insert(place);
        }
    }

    /// Takes the pairs of one word out of the counts.
    fn discount(&mut self, place: usize) {
        let (word, count) = &self.words[place];
        for pair in word.windows(2) {
            let pair = (pair[0], pair[1]);
            if let Some(total) = self.counts.get_mut(&pair) {
                *total = total.saturating_sub(*count);
            }
            if let Some(places) = self.places.get_mut(&pair) {
                places.remove(&place);
            }
        }
    }

    /// The pair that occurs most, if it occurs twice; ties go to the smaller ids.
    fn most_frequent(&mut self) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let current = self.counts.get(&pair).copied().unwrap_or(0);
            if current == count && count >= 2 {
                return Some(pair);
            }
            if current != count && current >= 2 {
                self.queue.push((current, Reverse(pair)));
            }
        }
        None
    }

    /// Leaves a pair out of everything that follows.
    fn forget(&mut self, pair: Pair) {
        self.counts.remove(&pair);
        self.places.remove(&pair);
    }

    /// Replaces a pair by the token `id` wherever it stands.
    fn merge(&mut self, pair: Pair, id: u32) {
        let places = self.places.get(&pair).cloned().unwrap_or_default();
        let mut changed = BTreeSet::new();
        for place in places {
            self.discount(place);
            let merged = replace(&self.words[place].0, pair, id);
            changed.extend(merged.windows(2).map(|p| (p[0], p[1])).filter(|p| p.0 == id || p.1 == id));
            self.words[place].0 = merged;
            self.count(place);
        }
        self.forget(pair);
        for pair in changed {
            let count = self.counts.get(&pair).copied().unwrap_or(0);
            self.queue.push((count, Reverse(pair)));
        }
    }
}

/// The word with each occurrence of `pair`, from the left, replaced by `id`.
fn replace(word: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut merged = Vec::with_capacity(word.len());
    let mut at = 0;
    while at < word.len() {
        if at + 1 < word.len() && (word[at], word[at + 1]) == pair {
            merged.push(id);
            at += 2;
        } else {
            merged.push(word[at]);
            at += 1;
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(words: &[(&str, u64)]) -> BTreeMap<String, u64> {
        words.iter().map(|(w, n)| ((*w).to_owned(), *n)).collect()
    }

    #[test]
    fn the_example_of_the_paper() {
        // Sennrich et al. 2016, with `_` for the end of a word. There the second merge is "est"; "t_" occurs
        // as often, nine times, and has the smaller ids.
        let words = counts(&[("low_", 5), ("lower_", 2), ("newest_", 6), ("widest_", 3)]);
        let alphabet: Vec<char> = "_deilnorstw".chars().collect();
        let learned = learn(&words, &alphabet, alphabet.len() + 5);
        let merged: Vec<String> = learned.merges.iter().map(|(a, b)| format!("{a}{b}")).collect();
        assert_eq!(merged, ["es", "t_", "est_", "lo", "low"]);
        assert_eq!(learned.tokens.len(), alphabet.len() + 5);
    }

    #[test]
    fn repeats_of_one_letter_are_merged_from_the_left() {
        assert_eq!(replace(&[1, 1, 1, 2], (1, 1), 9), [9, 1, 2]);
    }

    #[test]
    fn it_stops_when_no_pair_occurs_twice() {
        let learned = learn(&counts(&[("abc", 1)]), &['a', 'b', 'c'], 100);
        assert!(learned.merges.is_empty());
    }

    #[test]
    fn no_token_is_made_twice() {
        let words = counts(&[("abc", 9), ("ab", 9), ("bc", 30), ("abcabc", 4), ("xbc", 3), ("cab", 5)]);
        let learned = learn(&words, &['a', 'b', 'c', 'x'], 40);
        let distinct: BTreeSet<&String> = learned.tokens.iter().collect();
        assert_eq!(distinct.len(), learned.tokens.len());
        assert_eq!(learned.tokens.len(), 4 + learned.merges.len());
    }
}
