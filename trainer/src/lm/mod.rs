//! Frozen causal language models: llama's family and GPT-2's, from safetensors or GGUF.
//!
//! [`LanguageModel::open`] takes a GGUF file, a folder of Hugging Face's, or a hub id. Weights are f32 in memory, whatever
//! they are on disk. Leaves out corrections that are learned and writing text, which are the captioners'.

mod gguf;
mod hugging_face;
mod load;
mod vocabulary;

use crate::error::{Error, Result};
use crate::hub::{self, Hub};
use crate::ops::{
    Activation, GradSink, LmBlockParams, LmNorm, LmShape, LoraPass, embedding_rows, linear, lm_blocks,
    lm_norm,
};
use crate::tokenizer::Tokenizer;
use candle_core::{Device, Tensor};
use gguf::Gguf;
use hugging_face::HuggingFace;
use load::{Ends, Loading, Names};
use std::path::{Path, PathBuf};

/// The families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Root-mean-square norms, rotated positions, gated feed-forward layers.
    Llama,
    /// Layer norms, learned positions, biases.
    Gpt2,
}

/// Everything that decides the shapes of a language model.
#[derive(Clone, Debug, PartialEq)]
pub struct LmSizes {
    /// The family.
    pub kind: Kind,
    /// Token ids.
    pub vocab_size: usize,
    /// Tokens that it was trained with at once, at most.
    pub context_length: usize,
    /// Width of a token.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub groups: usize,
    /// Numbers of a head; 0: width over heads.
    pub head_width: usize,
    /// Units of a feed-forward layer.
    pub hidden: usize,
    /// Added to the variance, or the mean square.
    pub eps: f64,
    /// Base of the rotations.
    pub rope_theta: f64,
    /// Non-linearity of the feed-forward layers.
    pub activation: Activation,
    /// Whether the output layer is the table of tokens.
    pub is_tied: bool,
}

impl LmSizes {
    /// Numbers of a head.
    pub fn depth(&self) -> usize {
        if self.head_width > 0 { self.head_width } else { self.width / self.heads.max(1) }
    }

    /// Why no model has these sizes, in a clause.
    fn problem(&self) -> Option<String> {
        let Self { vocab_size, width, layers, heads, groups, hidden, .. } = *self;
        let all = [
            ("the vocabulary", vocab_size),
            ("the width", width),
            ("the number of layers", layers),
            ("the number of heads", heads),
            ("the number of key and value heads", groups),
            ("the hidden width", hidden),
        ];
        if let Some((name, _)) = all.iter().find(|(_, size)| *size == 0 || *size > 1 << 24) {
            return Some(format!("{name} is missing or out of bounds"));
        }
        if self.head_width > 1 << 24 {
            return Some("the width of a head is out of bounds".into());
        }
        if !heads.is_multiple_of(groups) || (self.head_width == 0 && !width.is_multiple_of(heads)) {
            return Some(format!("{heads} heads over {groups} groups do not fit a width of {width}"));
        }
        if self.kind == Kind::Gpt2 && heads != groups {
            return Some(format!("{heads} heads of queries and {groups} of keys are none of GPT-2's"));
        }
        if self.kind == Kind::Llama && !self.depth().is_multiple_of(2) {
            return Some(format!("a head of {} numbers has no pairs to rotate", self.depth()));
        }
        None
    }

    /// Numbers in all parameters.
    pub fn parameters(&self) -> u64 {
        let product =
            |sizes: &[usize]| sizes.iter().fold(1, |all: u64, size| all.saturating_mul(*size as u64));
        let attention = product(&[2, self.width, self.depth(), self.heads.saturating_add(self.groups)]);
        let matrices = if self.kind == Kind::Llama { 3 } else { 2 };
        let layer = attention.saturating_add(product(&[matrices, self.width, self.hidden]));
        let tables = product(&[if self.is_tied { 1 } else { 2 }, self.vocab_size, self.width]);
        tables.saturating_add(layer.saturating_mul(self.layers as u64))
    }

    /// Why a model of these sizes is not read, in a clause: they fit none, or it does not fit in memory.
    fn check(&self) -> std::result::Result<(), String> {
        if let Some(problem) = self.problem() {
            return Err(problem);
        }
        // Once as tensors, and once more laid out while captions are written.
        let bytes = self.parameters().saturating_mul(2 * 4);
        match loader::available_memory().filter(|available| bytes > *available) {
            None => Ok(()),
            Some(available) => Err(format!(
                "its {:.1} M parameters take {:.1} GB in f32 with a copy to write by, and {:.1} GB of memory are free: take a smaller model",
                self.parameters() as f64 / 1e6,
                bytes as f64 / 1e9,
                available as f64 / 1e9
            )),
        }
    }

    fn shape(&self, recompute: bool) -> LmShape {
        LmShape {
            heads: self.heads,
            groups: self.groups,
            rope_theta: (self.kind == Kind::Llama).then_some(self.rope_theta),
            activation: self.activation,
            eps: self.eps as f32,
            recompute,
        }
    }
}

/// A frozen language model.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    /// Its sizes.
    pub sizes: LmSizes,
    /// (V, D).
    pub tokens: Tensor,
    /// (T, D), in GPT-2's family.
    pub positions: Option<Tensor>,
    /// Its blocks.
    pub blocks: Vec<LmBlockParams>,
    /// Behind the blocks.
    pub norm: LmNorm,
    /// (V, D); the table of tokens, or a matrix of its own.
    pub output: Tensor,
    /// BLAKE3 of the files that it was read from, in hex.
    pub digest: String,
}

/// Whether a source is a hub id rather than a path.
pub(crate) fn is_on_hub(source: &str) -> bool {
    let path = Path::new(source);
    let is_file = path.extension().is_some_and(|e| e == "gguf" || e == "safetensors");
    !path.exists() && !is_file && hub::is_repository_id(source)
}

/// The file or folder of a source, which a hub's repository is fetched to.
fn located(source: &str, with_tokenizer: bool) -> Result<PathBuf> {
    let path = Path::new(source);
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    if !is_on_hub(source) {
        let reason = "there is no such file or folder, and it is no hub id of the form owner/name".to_owned();
        return Err(Error::Weights { path: path.to_path_buf(), reason });
    }
    let hub = Hub::from_env();
    let config = hub.fetch(source, "config.json")?;
    hugging_face::check(&config)?;
    for file in hugging_face::files_of(&config, &mut |file| hub.fetch(source, file))? {
        hub.fetch(source, &file)?;
    }
    if with_tokenizer {
        hub.fetch(source, "tokenizer.json")?;
    }
    Ok(config.parent().map(Path::to_path_buf).unwrap_or_default())
}

impl LanguageModel {
    /// Opens a GGUF file, a folder with `config.json` and safetensors, or a hub id; with its tokenizer, or that of
    /// `tokenizer_source` (a path or hub id) where that is not empty.
    ///
    /// # Errors
    /// [`Error::Weights`] for what is no language model that is known here or does not fit in memory,
    /// [`Error::Tokenizer`], [`Error::Hub`], [`Error::Io`].
    pub fn open(source: &str, tokenizer_source: &str, device: &Device) -> Result<(Self, Tokenizer)> {
        let path = located(source, tokenizer_source.is_empty())?;
        let fail = |reason: String| Error::Weights { path: path.clone(), reason };
        let own = !tokenizer_source.is_empty();
        let name_of_tokenizer = match path.is_dir() {
            true => path.join("tokenizer.json").display().to_string(),
            false => source.to_owned(),
        };
        let (model, json) = if path.is_dir() {
            let mut files = HuggingFace::open(&path, device)?;
            let (sizes, digest) = (files.sizes.clone(), files.digest.clone());
            let json = if own { None } else { Some(files.tokenizer()?) };
            (Self::build(&mut files, Names::HuggingFace, sizes, digest)?, json)
        } else {
            let mut file = Gguf::open(&path, device)?;
            let sizes = vocabulary::sizes(&file).map_err(&fail)?;
            sizes.check().map_err(&fail)?;
            let json = if own { None } else { Some(vocabulary::tokenizer(&file).map_err(&fail)?) };
            let digest = file.digest()?;
            (Self::build(&mut file, Names::Gguf, sizes, digest)?, json)
        };
        let tokenizer = match json {
            Some(json) => Tokenizer::from_bytes(json, &name_of_tokenizer)?,
            None => Tokenizer::load(tokenizer_source)?,
        };
        if tokenizer.vocab_size() > model.sizes.vocab_size {
            let (ids, rows) = (tokenizer.vocab_size(), model.sizes.vocab_size);
            let reason = format!("it has {ids} token ids, and the language model {source} has {rows}");
            let name = if own { tokenizer_source } else { name_of_tokenizer.as_str() };
            return Err(Error::Tokenizer { name: name.to_owned(), reason });
        }
        Ok((model, tokenizer))
    }

    fn build(tensors: &mut dyn load::Tensors, names: Names, sizes: LmSizes, digest: String) -> Result<Self> {
        let mut loading = Loading { tensors, names, sizes: &sizes };
        let Ends { tokens, positions, norm, output } = loading.ends()?;
        let blocks = (0..sizes.layers).map(|layer| loading.block(layer)).collect::<Result<_>>()?;
        loading.all_read()?;
        let output = output.unwrap_or_else(|| tokens.clone());
        Ok(Self { tokens, positions, blocks, norm, output, digest, sizes })
    }

    /// The rows of tokens (B, T) at positions `first` and on: (B, T, D).
    ///
    /// # Errors
    /// When an id is not in the vocabulary, or a position is behind the last that GPT-2 has.
    pub fn embed(&self, input_ids: &Tensor, first: usize) -> candle_core::Result<Tensor> {
        let rows = embedding_rows(input_ids, &self.tokens)?;
        match &self.positions {
            Some(positions) => rows.broadcast_add(&positions.narrow(0, first, input_ids.dim(1)?)?),
            None => Ok(rows),
        }
    }

    /// What the blocks are besides their parameters.
    pub fn shape(&self, recompute: bool) -> LmShape {
        self.sizes.shape(recompute)
    }

    /// Hidden states (B, T, D) behind the last normalisation, of rows (B, T, D).
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn forward(&self, rows: &Tensor, pass: &LoraPass, sink: &GradSink) -> candle_core::Result<Tensor> {
        let hidden = lm_blocks(rows, &self.blocks, &self.shape(false), pass, sink)?;
        lm_norm(&hidden, &self.norm, self.sizes.eps as f32)
    }

    /// Logits (B, T, V) of tokens (B, T): what the model says without any correction.
    ///
    /// # Errors
    /// As [`embed`](Self::embed).
    pub fn logits(&self, input_ids: &Tensor) -> candle_core::Result<Tensor> {
        let sink = GradSink::detached(input_ids.device())?;
        let plain = LoraPass { scale: 0.0, dropout: 0.0, seed: 0 };
        linear(&self.forward(&self.embed(input_ids, 0)?, &plain, &sink)?, &self.output, None)
    }
}

#[cfg(test)]
mod tests;
