//! Document frequencies: in the references of how many images a run of one to four words occurs.
//!
//! CIDEr takes them from the references that it scores against, or from a file of this form, so that a few images can
//! be scored by the frequencies of a large set:
//!
//! ```json
//! {"images": 40504, "df": {"a": 39105, "a dog": 2110, "a dog on the": 38}}
//! ```
//!
//! `images` is the number of images, whose logarithm CIDEr needs; a key of `df` is one to four tokens with one space
//! between them, its value the number of images, at least 1. Keys are written in order of their bytes. Left out: the
//! pickled files of other programs.

use std::{collections::BTreeMap, io::BufReader, path::Path};

use rayon::prelude::*;
use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::{Deserialize, Serialize};

use crate::{
    CocoevalError, References,
    ngrams::{Gram, ORDERS, pack, unpack},
    tokenizer::tokenize_joined,
    vocabulary::{Vocabulary, Words},
};

/// Document frequencies by words, as a file has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentFrequencies {
    /// Number of images, at least 1 in a file.
    pub images: u64,
    /// Images by run of words.
    pub df: BTreeMap<String, u64>,
}

impl DocumentFrequencies {
    /// Counts the references of all images.
    pub fn of(references: &References) -> Self {
        let joined: Vec<Vec<String>> = references
            .images()
            .par_iter()
            .map(|image| image.captions.iter().map(|caption| tokenize_joined(caption)).collect())
            .collect();
        let mut vocabulary = Vocabulary::default();
        let words: Vec<Vec<Words>> = joined
            .iter()
            .map(|captions| captions.iter().map(|caption| vocabulary.words_of(caption)).collect())
            .collect();
        let counted = GramFrequencies::of(words.len(), |image| &words[image]);
        let names = vocabulary.words();
        let name = |gram: Gram| unpack(gram).map(|word| names[word as usize]).collect::<Vec<_>>().join(" ");
        let df =
            counted.shards.iter().flatten().map(|(&gram, &count)| (name(gram), u64::from(count))).collect();
        Self { images: words.len() as u64, df }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Io`](CocoevalError::Io), [`NotJson`](CocoevalError::NotJson), [`Form`](CocoevalError::Form) where there are
    /// no images, a run of words is in none or in more than there are, or a key is none that captions are asked by.
    pub fn read(path: &Path) -> Result<Self, CocoevalError> {
        let io = |source| CocoevalError::Io { doing: "read the document frequencies", source };
        let file = BufReader::new(fs_err::File::open(path).map_err(io)?);
        let read: Self = serde_json::from_reader(file).map_err(|source| match source.classify() {
            // JSON, and something else than this.
            serde_json::error::Category::Data => {
                form(path, "it", source, "{\"images\": N, \"df\": {WORDS: N, …}}")
            }
            _ => CocoevalError::NotJson { path: path.to_owned(), source },
        })?;
        if read.images == 0 {
            return Err(form(path, "images", 0, "the number of images that were counted"));
        }
        for (words, &count) in &read.df {
            let at = format!("df[{words:?}]");
            if count == 0 || count > read.images {
                return Err(form(path, &at, count, "a count from 1 to the number of images"));
            }
            let runs = words.split(' ').collect::<Vec<_>>();
            let is_run = (1..=ORDERS).contains(&runs.len()) && runs.iter().all(|word| !word.is_empty());
            if !is_run || words.to_lowercase() != *words {
                let expected = "a key of one to four lower-case tokens with one space between them";
                return Err(form(path, &at, "its key", expected));
            }
        }
        Ok(read)
    }

    /// The text of a file.
    ///
    /// # Errors
    /// [`Io`](CocoevalError::Io) where it is too large for memory.
    pub fn to_json(&self) -> Result<Vec<u8>, CocoevalError> {
        let io = |source| CocoevalError::Io { doing: "write the document frequencies", source };
        serde_json::to_vec(self).map_err(|error| io(error.into()))
    }
}

fn form(path: &Path, at: &str, found: impl ToString, expected: &'static str) -> CocoevalError {
    CocoevalError::Form { path: path.to_owned(), at: at.to_owned(), found: found.to_string(), expected }
}

/// Document frequencies by packed runs, split by hash so that threads can count side by side.
#[derive(Debug)]
pub(crate) struct GramFrequencies {
    shards: Vec<FxHashMap<Gram, u32>>,
    ln_images: f64,
    /// Logarithms of the counts that occur most, by count.
    logarithms: Vec<f64>,
}

const SHARDS: usize = 16;
/// Images that one task looks at.
const CHUNK: usize = 512;

fn shard_of(gram: Gram) -> usize {
    let folded = gram as u64 ^ ((gram >> 64) as u64).rotate_left(29);
    (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60) as usize
}

impl GramFrequencies {
    /// Counts `images` images, whose references `of` names by number.
    pub(crate) fn of<'a>(images: usize, of: impl Fn(usize) -> &'a [Words] + Sync) -> Self {
        let chunks: Vec<Vec<Vec<Gram>>> = (0..images.div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| {
                let mut shards = vec![Vec::new(); SHARDS];
                let mut seen = Vec::new();
                for image in chunk * CHUNK..images.min((chunk + 1) * CHUNK) {
                    seen.clear();
                    for words in of(image) {
                        for order in 1..=ORDERS {
                            seen.extend(words.split().windows(order).map(pack));
                        }
                    }
                    seen.sort_unstable();
                    seen.dedup();
                    for &gram in &seen {
                        shards[shard_of(gram)].push(gram);
                    }
                }
                shards
            })
            .collect();
        let shards = (0..SHARDS)
            .into_par_iter()
            .map(|shard| {
                let given: usize = chunks.iter().map(|chunk| chunk[shard].len()).sum();
                let mut counts = FxHashMap::with_capacity_and_hasher(given / 2, FxBuildHasher);
                for gram in chunks.iter().flat_map(|chunk| &chunk[shard]) {
                    *counts.entry(*gram).or_insert(0) += 1;
                }
                counts
            })
            .collect();
        Self::new(shards, images as u64)
    }

    /// Forgets the runs that one image alone has. They are most, their logarithm is that of a run that no image has,
    /// and without them the tables fit the processor's caches: scoring 40,000 images takes half the time.
    pub(crate) fn without_rare(mut self) -> Self {
        self.shards.par_iter_mut().for_each(|counts| {
            counts.retain(|_, count| *count > 1);
            counts.shrink_to_fit();
        });
        self
    }

    /// The frequencies of a file, as far as the words at hand can ask for them.
    pub(crate) fn from_words(file: &DocumentFrequencies, vocabulary: &Vocabulary) -> Self {
        let mut shards = vec![FxHashMap::default(); SHARDS];
        for (words, &count) in &file.df {
            let words: Option<Vec<_>> = words.split(' ').map(|word| vocabulary.get(word)).collect();
            if let Some(words) = words.filter(|words| words.len() <= ORDERS) {
                let gram = pack(&words);
                shards[shard_of(gram)].insert(gram, u32::try_from(count).unwrap_or(u32::MAX));
            }
        }
        Self::new(shards, file.images)
    }

    fn new(shards: Vec<FxHashMap<Gram, u32>>, images: u64) -> Self {
        let logarithms = (0..1024_u32).map(|count| f64::from(count.max(1)).ln()).collect();
        Self { shards, ln_images: (images.max(1) as f64).ln(), logarithms }
    }

    /// `ln(images) − ln(max(1, df))` of a run of words.
    pub(crate) fn rarity(&self, gram: Gram) -> f64 {
        let count = self.shards[shard_of(gram)].get(&gram).copied().unwrap_or(0);
        let logarithm = self.logarithms.get(count as usize).copied();
        self.ln_images - logarithm.unwrap_or_else(|| f64::from(count).ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_images_not_captions_and_survives_its_file() {
        let references =
            References::new([(1.into(), vec!["A dog.", "a dog runs"]), (2.into(), vec!["A cat!"])]);
        let counted = DocumentFrequencies::of(&references);
        assert_eq!((counted.images, counted.df["a"], counted.df["a dog"]), (2, 2, 1));
        assert_eq!(counted.df.len(), 8, "{:?}", counted.df);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("df.json");
        fs_err::write(&path, counted.to_json().unwrap()).unwrap();
        assert_eq!(DocumentFrequencies::read(&path).unwrap(), counted);
    }

    #[test]
    fn a_file_without_images_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("df.json");
        fs_err::write(&path, r#"{"images": 0, "df": {}}"#).unwrap();
        let error = DocumentFrequencies::read(&path).unwrap_err().to_string();
        assert!(error.contains("images is 0"), "{error}");
        for (df, told) in [
            (r#"{"a": 0}"#, r#"df["a"] is 0"#),
            (r#"{"a": 3}"#, r#"df["a"] is 3"#),
            (r#"{"a b c d e": 1}"#, "its key"),
            (r#"{"a  b": 1}"#, "its key"),
            (r#"{"A": 1}"#, "its key"),
            (r#"{"a": []}"#, "is needed"),
        ] {
            fs_err::write(&path, format!(r#"{{"images": 2, "df": {df}}}"#)).unwrap();
            let error = DocumentFrequencies::read(&path).unwrap_err().to_string();
            assert!(error.contains("df.json") && error.contains(told), "{df}: {error}");
        }
        fs_err::write(&path, "{").unwrap();
        assert!(matches!(DocumentFrequencies::read(&path), Err(CocoevalError::NotJson { .. })));
    }
}
