//! The sections `[caption]` and `[decode]`: a captioner instead of a CLIP, and how its captions are written.
//!
//! Leaves out the networks, which are in [`model::caption`](crate::model::caption).

use super::Config;
use super::preset::divides;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// A captioner: images → captions. With `family = "none"` the run trains a CLIP and the rest means nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptionConfig {
    /// Which kind of model writes.
    pub family: Family,
    /// The frozen image tower: a CLIP run's folder, or a safetensors file with the sizes of `[model]`.
    pub tower: String,
    /// A `tokenizer.json` or hub id for the text side of a tower that is a file; empty: it has no text side, and
    /// there are no proximities and no re-ranking.
    pub tower_tokenizer: String,
    /// What the tower hands on.
    pub features: ImageFeatures,
    /// Tokens of a caption with both markers.
    pub context_length: usize,
    /// From image features to the decoder's width.
    pub mapper: MapperConfig,
    /// The network that writes.
    pub decoder: DecoderConfig,
    /// The frozen language model of the families that have one.
    pub lm: LmConfig,
}

impl Default for CaptionConfig {
    fn default() -> Self {
        Self {
            family: Family::None,
            tower: String::new(),
            tower_tokenizer: String::new(),
            features: ImageFeatures::Vector,
            context_length: 42,
            mapper: MapperConfig::default(),
            decoder: DecoderConfig::default(),
            lm: LmConfig::default(),
        }
    }
}

/// The kinds of captioners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// A CLIP and no captioner.
    #[default]
    None,
    /// Image features as the first tokens of a small decoder (Mokady et al. 2021).
    Prefix,
    /// The same, over the hidden states that a frozen language model makes of the caption.
    PrefixLm,
    /// Image features as the first tokens of a frozen language model with learned corrections.
    Lora,
}

impl Family {
    /// The name that `caption.family` has it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Prefix => "prefix",
            Self::PrefixLm => "prefix_lm",
            Self::Lora => "lora",
        }
    }

    /// Whether there is a frozen language model.
    pub fn has_lm(self) -> bool {
        matches!(self, Self::PrefixLm | Self::Lora)
    }
}

/// A frozen language model and its corrections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LmConfig {
    /// A GGUF file, a folder with `config.json` and safetensors, or a hub id.
    pub source: String,
    /// A `tokenizer.json` or hub id in the place of the model's own.
    pub tokenizer: String,
    /// Rank of a correction.
    pub rank: usize,
    /// A correction counts alpha over rank times.
    pub alpha: f64,
    /// Share of a correction's inputs that are taken out in training.
    pub dropout: f64,
    /// Which layers are corrected.
    pub targets: LoraTargets,
}

impl Default for LmConfig {
    fn default() -> Self {
        Self {
            source: String::new(),
            tokenizer: String::new(),
            rank: 8,
            alpha: 16.0,
            dropout: 0.05,
            targets: LoraTargets::All,
        }
    }
}

/// Which layers of a frozen language model are corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraTargets {
    /// Queries, keys, values and the layer behind attention.
    Attention,
    /// The feed-forward layers.
    Ffn,
    /// Both.
    All,
}

/// What a frozen image tower hands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFeatures {
    /// One row a picture: its embedding in the space that the towers share.
    Vector,
    /// A row a patch: the last block's tokens behind their layer normalisation, without the class token.
    Patches,
}

/// The networks between the image features and the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapperKind {
    /// One matrix.
    Linear,
    /// Two with a non-linearity between them.
    Mlp,
    /// A transformer over the features and learned queries, whose outputs are the prefix.
    Transformer,
}

/// From image features to prefix tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MapperConfig {
    /// The network.
    pub kind: MapperKind,
    /// Prefix tokens; patches through `linear` or `mlp` are one token each, whatever this says.
    pub tokens: usize,
    /// Blocks of a transformer.
    pub layers: usize,
    /// Heads of a transformer.
    pub heads: usize,
}

impl Default for MapperConfig {
    fn default() -> Self {
        Self { kind: MapperKind::Mlp, tokens: 8, layers: 2, heads: 8 }
    }
}

/// A small decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecoderConfig {
    /// Width of a token.
    pub width: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Whether the output layer is the table of the token embedding.
    pub tied: bool,
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self { width: 512, layers: 3, heads: 2, tied: true }
    }
}

/// Writes the defaults that depend on whether there is a captioner below the keys that are given.
pub(super) fn expand(mut table: Table) -> Table {
    let family = table.get("caption").and_then(|caption| caption.get("family")).and_then(Value::as_str);
    if family.is_some_and(|family| family != Family::None.name()) {
        let train = table.entry("train").or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(train) = train {
            train.entry("monitor").or_insert(Value::String("cider".into()));
        }
    }
    table
}

impl CaptionConfig {
    /// Whether the run trains a captioner.
    pub fn is_on(&self) -> bool {
        self.family != Family::None
    }

    /// Settings that need or exclude one another.
    pub(super) fn validate(&self, config: &Config) -> Result<()> {
        if !self.is_on() {
            return refuse_monitor(config, true);
        }
        let refuse = |key: &str, value: String, allowed: &str| {
            Err(Error::Config { key: key.to_owned(), value, allowed: allowed.to_owned() })
        };
        if self.tower.is_empty() {
            let allowed = "a CLIP run's folder, or a safetensors file of a CLIP with the sizes of [model]";
            return refuse("caption.tower", "\"\"".into(), allowed);
        }
        let (mapper, decoder) = (&self.mapper, &self.decoder);
        divides("caption.decoder.heads", decoder.heads, "caption.decoder.width", decoder.width)?;
        if mapper.kind == MapperKind::Transformer {
            divides("caption.mapper.heads", mapper.heads, "caption.decoder.width", decoder.width)?;
        }
        if self.family.has_lm() != !self.lm.source.is_empty() {
            let allowed = if self.family.has_lm() {
                "a GGUF file, a folder with config.json and safetensors, or a hub id"
            } else {
                "\"\" for a family without a language model"
            };
            return refuse("caption.lm.source", format!("{:?}", self.lm.source), allowed);
        }
        if self.family.has_lm() && !config.tokenizer.source.is_empty() {
            let allowed =
                "\"\" for a family with a language model, whose tokenizer is used (caption.lm.tokenizer)";
            return refuse("tokenizer.source", format!("{:?}", config.tokenizer.source), allowed);
        }
        if config.train.sample_ledger {
            let allowed = "false for a captioner";
            return refuse("train.sample_ledger", "true".into(), allowed);
        }
        if !config.train.freeze.is_empty() {
            let allowed = "an empty list for a captioner, whose image tower is frozen as it is";
            return refuse("train.freeze", format!("{:?}", config.train.freeze), allowed);
        }
        if config.train.chunk_size > 0 {
            let allowed =
                "0 for a captioner, whose samples do not meet in the loss; optim.accum_steps spares memory";
            return refuse("train.chunk_size", config.train.chunk_size.to_string(), allowed);
        }
        config.decode.validate(self)?;
        refuse_monitor(config, false)
    }
}

/// Refuses what only the other kind of model is measured by.
fn refuse_monitor(config: &Config, is_clip: bool) -> Result<()> {
    let monitor = config.train.monitor;
    if monitor.is_of_captions().is_none_or(|of_captions| of_captions != is_clip) {
        return Ok(());
    }
    let allowed = if is_clip {
        "recall_at_1, recall_at_5, recall_at_10 or val_loss for a CLIP"
    } else {
        "cider, bleu_4, image_proximity, text_proximity or val_loss for a captioner"
    };
    Err(Error::Config {
        key: "train.monitor".into(),
        value: format!("\"{}\"", monitor.name()),
        allowed: allowed.into(),
    })
}

/// How captions are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecodeConfig {
    /// How the next token is chosen.
    pub method: DecodeMethod,
    /// Logits are divided by it before a token is drawn.
    pub temperature: f64,
    /// Tokens that are drawn from: the most likely ones; 0: all.
    pub top_k: usize,
    /// Tokens that are drawn from: the fewest whose probabilities reach this.
    pub top_p: f64,
    /// Captions that a beam search follows.
    pub beams: usize,
    /// A beam's score is its log-probability over length to this power.
    pub length_penalty: f64,
    /// Divides positive logits of tokens that were written already, and multiplies negative ones.
    pub repetition_penalty: f64,
    /// No run of so many tokens comes twice; 0: any may.
    pub no_repeat_ngram: usize,
    /// Tokens before a caption may end.
    pub min_length: usize,
    /// Tokens of a caption at most; 0: what the context has room for.
    pub max_length: usize,
    /// Captions that are written for a picture, of which CLIP's favourite is kept.
    pub candidates: usize,
    /// Seed of what is drawn.
    pub seed: u64,
}

impl Default for DecodeConfig {
    fn default() -> Self {
        Self {
            method: DecodeMethod::Greedy,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            beams: 4,
            length_penalty: 1.0,
            repetition_penalty: 1.0,
            no_repeat_ngram: 0,
            min_length: 1,
            max_length: 0,
            candidates: 1,
            seed: 0,
        }
    }
}

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecodeMethod {
    /// The likeliest.
    #[default]
    Greedy,
    /// Drawn.
    Sample,
    /// The best of several captions that are followed at once.
    Beam,
}

impl DecodeConfig {
    fn validate(&self, caption: &CaptionConfig) -> Result<()> {
        let room = caption.context_length - 2;
        let refuse = |key: &str, value: usize, allowed: String| {
            Err(Error::Config { key: key.to_owned(), value: value.to_string(), allowed })
        };
        if self.max_length > room {
            let allowed = format!("at most caption.context_length less its two markers, which is {room}");
            return refuse("decode.max_length", self.max_length, allowed);
        }
        let longest = if self.max_length == 0 { room } else { self.max_length };
        if self.min_length > longest {
            let allowed = format!("at most the {longest} tokens that a caption may have");
            return refuse("decode.min_length", self.min_length, allowed);
        }
        if self.candidates > 1 && self.method == DecodeMethod::Greedy {
            let allowed =
                "1 with decode.method = \"greedy\", which has one answer; \"sample\" or \"beam\" have more";
            return refuse("decode.candidates", self.candidates, allowed.to_owned());
        }
        if self.candidates > self.beams && self.method == DecodeMethod::Beam {
            let allowed = format!("at most decode.beams, which is {}", self.beams);
            return refuse("decode.candidates", self.candidates, allowed);
        }
        Ok(())
    }
}
