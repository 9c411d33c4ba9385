//! Words as numbers: each distinct word of the captions at hand has a number of its own, in order of appearance.
//!
//! Numbers are given one after the other, so they do not depend on the number of threads. Left out: any notion of a
//! fixed vocabulary; a model's tokens are nothing to these metrics.

use rustc_hash::FxHashMap;

use crate::tokenizer::is_python_space;

/// The number of a word.
pub(crate) type WordId = u32;

/// All distinct words so far.
#[derive(Debug, Default)]
pub(crate) struct Vocabulary {
    ids: FxHashMap<Box<str>, WordId>,
}

/// One tokenised caption.
///
/// pycocoevalcap cuts the joined tokens in two ways: BLEU and CIDEr with Python's `split()`, at any white space, ROUGE-L
/// with `split(" ")`. They differ where a token holds a no-break space, and for the caption without tokens, which is no
/// word to the former and one empty word to the latter.
#[derive(Debug, Default, Clone)]
pub(crate) struct Words {
    /// As `split(" ")` cuts; never empty.
    spaced: Vec<WordId>,
    /// As `split()` cuts, where that differs.
    split: Option<Vec<WordId>>,
}

impl Words {
    /// The words of BLEU, CIDEr and the rates of repetition.
    pub(crate) fn split(&self) -> &[WordId] {
        self.split.as_deref().unwrap_or(&self.spaced)
    }

    /// The words of ROUGE-L.
    pub(crate) fn spaced(&self) -> &[WordId] {
        &self.spaced
    }
}

impl Vocabulary {
    /// The number of a word, a new one where the word is new.
    pub(crate) fn intern(&mut self, word: &str) -> WordId {
        if let Some(&id) = self.ids.get(word) {
            return id;
        }
        let id = WordId::try_from(self.ids.len()).expect("memory ends before four thousand million words");
        assert!(id < WordId::MAX, "the last number is kept for n-grams that are shorter");
        self.ids.insert(word.into(), id);
        id
    }

    /// The number of a word that is known.
    pub(crate) fn get(&self, word: &str) -> Option<WordId> {
        self.ids.get(word).copied()
    }

    /// All words, by their number.
    pub(crate) fn words(&self) -> Vec<&str> {
        let mut words = vec![""; self.ids.len()];
        for (word, &id) in &self.ids {
            words[id as usize] = word;
        }
        words
    }

    /// The words of a tokenised caption, tokens with one space between them.
    pub(crate) fn words_of(&mut self, joined: &str) -> Words {
        let spaced: Vec<WordId> = joined.split(' ').map(|word| self.intern(word)).collect();
        let is_plain = joined.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let has_other_space = || joined.chars().any(|c| c != ' ' && is_python_space(c));
        let is_same = !joined.is_empty() && (is_plain || !has_other_space());
        let split = (!is_same).then(|| {
            joined
                .split(is_python_space)
                .filter(|word| !word.is_empty())
                .map(|word| self.intern(word))
                .collect()
        });
        Words { spaced, split }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_cut() {
        let mut vocabulary = Vocabulary::default();
        let plain = vocabulary.words_of("a b a");
        assert_eq!((plain.split(), plain.spaced()), (&[0, 1, 0][..], &[0, 1, 0][..]));
        let tag = vocabulary.words_of("a 3\u{A0}1/2");
        assert_eq!((tag.split().len(), tag.spaced().len()), (3, 2));
        let empty = vocabulary.words_of("");
        assert_eq!((empty.split().len(), empty.spaced().len()), (0, 1));
        assert_eq!(vocabulary.words()[1], "b");
        assert_eq!(vocabulary.get("zebra"), None);
    }
}
