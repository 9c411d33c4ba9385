//! Captions to token ids: `<|startoftext|>`, the caption, `<|endoftext|>`, padding.
//!
//! Trains a byte-level BPE on the captions, or takes a ready `tokenizer.json` from a path or a hub. The
//! end's position is handed out beside the ids, so that padding may be any id (it is 0) and is never
//! mistaken for the end. Leaves out what the ids mean to the model.

mod bpe;

use crate::error::{Error, Result};
use crate::hub;
use serde_json::json;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use tokenizers::{NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Begins every caption in a tokenizer that is trained here.
pub const START: &str = "<|startoftext|>";
/// Ends every caption in a tokenizer that is trained here.
pub const END: &str = "<|endoftext|>";
/// Ids lie below this, many times what any vocabulary has: each is a row of the token embedding.
const IDS_MAX: usize = 1 << 22;
/// Fills a row behind the end.
pub const PADDING: u32 = 0;

/// The markers of the usual families, in the order in which they are looked for.
const MARKERS: [(&str, &str); 5] =
    [(START, END), ("[CLS]", "[SEP]"), ("<s>", "</s>"), ("<|im_start|>", "<|im_end|>"), (END, END)];

/// A tokenizer with its markers, and its file's bytes, which are kept with each run.
pub struct Tokenizer {
    /// A path, a hub id or where it comes from, for errors.
    name: String,
    inner: tokenizers::Tokenizer,
    json: Vec<u8>,
    start: u32,
    end: u32,
    vocab_size: usize,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size).finish_non_exhaustive()
    }
}

/// Captions as ids, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Shape (captions, length), row-major.
    pub input_ids: Vec<u32>,
    /// The place of the end marker in each row.
    pub eot_positions: Vec<u32>,
    /// Whether each caption was cut, so that the end marker is not its own.
    pub is_cut: Vec<bool>,
    /// Tokens a row.
    pub length: usize,
}

impl Tokenizer {
    /// Reads the bytes of a `tokenizer.json`; `name` stands in the errors.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when it does not parse or has no pair of markers that is known here.
    pub fn from_bytes(json: Vec<u8>, name: &str) -> Result<Self> {
        let fail = |reason: String| Error::Tokenizer { name: name.to_owned(), reason };
        let mut inner = caught(name, || tokenizers::Tokenizer::from_bytes(&json))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| fail(e.to_string()))?;
        // A caption that spells a marker out must not end the sequence.
        inner.set_encode_special_tokens(true);
        let find = |(start, end): &(&str, &str)| Some((inner.token_to_id(start)?, inner.token_to_id(end)?));
        let (start, end) = MARKERS.iter().find_map(find).ok_or_else(|| {
            let known: Vec<String> = MARKERS.iter().map(|(s, e)| format!("{s} … {e}")).collect();
            fail(format!(
                "has no markers of a beginning and an end that are known here ({})",
                known.join(", ")
            ))
        })?;
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= IDS_MAX {
            return Err(fail(format!("has a token id of {largest}, and ids are read below {IDS_MAX}")));
        }
        // Some damaged files are met only by a text: before a run begins is the time to know.
        caught(name, || inner.encode_fast("a photo of a cat", false))?;
        Ok(Self { name: name.to_owned(), inner, json, start, end, vocab_size: largest + 1 })
    }

    /// Trains a byte-level BPE of at most `vocab_size` tokens; the order of the captions does not matter.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when there is no caption.
    pub fn train<S: AsRef<str>>(captions: impl IntoIterator<Item = S>, vocab_size: usize) -> Result<Self> {
        let name = "trained on the captions";
        let fail = |reason: String| Error::Tokenizer { name: name.to_owned(), reason };
        let normalizer: NormalizerWrapper =
            serde_json::from_value(normalizer_json()).map_err(|e| fail(e.to_string()))?;
        let splitter: tokenizers::PreTokenizerWrapper =
            serde_json::from_value(splitter_json()).map_err(|e| fail(e.to_string()))?;
        let mut words: BTreeMap<String, u64> = BTreeMap::new();
        for caption in captions {
            let mut text = PreTokenizedString::from(caption.as_ref());
            text.normalize(|piece| tokenizers::Normalizer::normalize(&normalizer, piece))
                .and_then(|()| splitter.pre_tokenize(&mut text))
                .map_err(|e| fail(e.to_string()))?;
            for (word, _, _) in text.get_splits(OffsetReferential::Original, OffsetType::Byte) {
                *words.entry(word.to_owned()).or_default() += 1;
            }
        }
        if words.is_empty() {
            return Err(fail("there is no caption to train it on".into()));
        }
        let mut alphabet: Vec<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let learned = bpe::learn(&words, &alphabet, vocab_size.saturating_sub(2));
        Self::from_bytes(file(&learned)?, name)
    }

    /// Whether `source` is a hub id rather than a path.
    pub fn is_on_hub(source: &str) -> bool {
        let path = Path::new(source);
        !path.is_file() && hub::is_repository_id(source) && path.extension().is_none_or(|e| e != "json")
    }

    /// Loads `source`: a path to a `tokenizer.json` if there is such a file, else a hub id.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], [`Error::Hub`] and [`Error::Io`].
    pub fn load(source: &str) -> Result<Self> {
        let path = Path::new(source);
        if path.is_file() {
            let json = fs_err::read(path).map_err(Error::io("read the tokenizer"))?;
            return Self::from_bytes(json, source);
        }
        if !Self::is_on_hub(source) {
            let reason = "there is no such file, and it is not a hub id of the form owner/name".to_owned();
            return Err(Error::Tokenizer { name: source.to_owned(), reason });
        }
        let path = hub::Hub::from_env().fetch(source, "tokenizer.json")?;
        let json = fs_err::read(path).map_err(Error::io("read the tokenizer"))?;
        Self::from_bytes(json, source)
    }

    /// Ids are below this: the rows of the token embedding.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The ids that begin and end every caption.
    pub fn markers(&self) -> (u32, u32) {
        (self.start, self.end)
    }

    /// The bytes of its `tokenizer.json`.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// BLAKE3 of its file, in hex: checkpoints name the tokenizer by it.
    pub fn digest(&self) -> String {
        blake3::hash(&self.json).to_hex().to_string()
    }

    /// The text of `ids` without markers, its spaces at the ends taken off.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let text = caught(&self.name, || self.inner.decode(ids, true))?;
        Ok(text.trim().to_owned())
    }

    /// Encodes captions to rows of `length` tokens: what does not fit is cut off before the end marker.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the tokenizer fails, or when `length` is below 2.
    pub fn encode<S: AsRef<str>>(&self, captions: &[S], length: usize) -> Result<Encoded> {
        if length < 2 {
            let reason = format!("{length} tokens leave no room for both markers");
            return Err(Error::Tokenizer { name: self.name.clone(), reason });
        }
        let mut input_ids = vec![PADDING; captions.len() * length];
        let mut eot_positions = Vec::with_capacity(captions.len());
        let mut is_cut = Vec::with_capacity(captions.len());
        for (row, caption) in input_ids.chunks_exact_mut(length).zip(captions) {
            let encoding = caught(&self.name, || self.inner.encode_fast(caption.as_ref(), false))?;
            let ids = encoding.get_ids();
            let kept = ids.len().min(length - 2);
            row[0] = self.start;
            row[1..=kept].copy_from_slice(&ids[..kept]);
            row[kept + 1] = self.end;
            // At most the context length, which the configuration bounds at 4,096.
            eot_positions.push(kept as u32 + 1);
            is_cut.push(kept < ids.len());
        }
        Ok(Encoded { input_ids, eot_positions, is_cut, length })
    }
}

/// What the tokenizers library gives, which meets some damaged files with an assertion; `name` stands in the errors.
fn caught<T>(name: &str, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    let fail = |reason: String| Error::Tokenizer { name: name.to_owned(), reason };
    std::panic::catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| fail("its file is damaged: the tokenizers library panicked on it".to_owned()))?
        .map_err(|e| fail(e.to_string()))
}

fn normalizer_json() -> serde_json::Value {
    json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]})
}

fn splitter_json() -> serde_json::Value {
    json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})
}

/// The `tokenizer.json` of what was learned. Ids: the two markers, the bytes, then the merges in order.
fn file(learned: &bpe::Learned) -> Result<Vec<u8>> {
    let marker = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let mut vocab = serde_json::Map::new();
    let markers = [START.to_owned(), END.to_owned()];
    for (id, token) in markers.iter().chain(&learned.tokens).enumerate() {
        vocab.insert(token.clone(), json!(id));
    }
    let merges: Vec<[&String; 2]> = learned.merges.iter().map(|(a, b)| [a, b]).collect();
    let document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [marker(0, START), marker(1, END)],
        "normalizer": normalizer_json(),
        "pre_tokenizer": splitter_json(),
        "post_processor": null,
        "decoder": splitter_json(),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    });
    serde_json::to_vec_pretty(&document)
        .map_err(|e| Error::Tokenizer { name: "trained on the captions".into(), reason: e.to_string() })
}

#[cfg(test)]
mod tests;
