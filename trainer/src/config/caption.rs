//! The section `[caption]`: a captioner instead of a CLIP.
//!
//! Leaves out the networks, which are in [`model::caption`](crate::model::caption).

use super::Config;
use super::preset::divides;
use crate::error::{Error, Result};
use crate::model::caption::noise::Noise;
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
    /// Blocks at the end of the image tower that patches do not go through: what a CLIP's last block leaves of a patch
    /// serves its class token. Of a ResNet, stages.
    pub skip_blocks: usize,
    /// Tokens of a caption with both markers.
    pub context_length: usize,
    /// From image features to the decoder's width.
    pub mapper: MapperConfig,
    /// The network that writes.
    pub decoder: DecoderConfig,
    /// The frozen language model of the families that have one.
    pub lm: LmConfig,
    /// The denoiser of the family `diffusion`.
    pub diffusion: DiffusionConfig,
}

impl Default for CaptionConfig {
    fn default() -> Self {
        Self {
            family: Family::None,
            tower: String::new(),
            tower_tokenizer: String::new(),
            features: ImageFeatures::Vector,
            skip_blocks: 1,
            context_length: 42,
            mapper: MapperConfig::default(),
            decoder: DecoderConfig::default(),
            lm: LmConfig::default(),
            diffusion: DiffusionConfig::default(),
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
    /// Noise that is taken off the embeddings of a whole caption.
    Diffusion,
}

impl Family {
    /// The name that `caption.family` has it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Prefix => "prefix",
            Self::PrefixLm => "prefix_lm",
            Self::Lora => "lora",
            Self::Diffusion => "diffusion",
        }
    }

    /// Whether there is a frozen language model.
    pub fn has_lm(self) -> bool {
        matches!(self, Self::PrefixLm | Self::Lora)
    }
}

/// A denoiser of captions and its loss. The sizes are DistilBERT's by default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiffusionConfig {
    /// Width of a token.
    pub width: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Numbers of a token's embedding; 0: the width.
    pub embed_dim: usize,
    /// Whether embeddings are learned.
    pub embeddings: Embeddings,
    /// Steps from a caption to noise.
    pub steps: usize,
    /// How much noise there is at a step.
    pub schedule: NoiseSchedule,
    /// How many times stronger noise is than the schedule says. The more numbers an embedding has, the more noise a word
    /// is still told by, so that wide ones need more of it for there to be something to learn (Gao et al. 2022).
    pub noise_factor: f64,
    /// What the network gives.
    pub predicts: Predicts,
    /// How many steps before the present one `predicts = "previous"` means.
    pub stride: usize,
    /// How the picture is told.
    pub condition: Condition,
    /// Share of pictures that are not told in training, which guidance needs.
    pub mask_probability: f64,
    /// Whether the network is told the caption's own embedding by the tower's text side in training.
    pub text_condition: bool,
    /// Share of captions that are not told; none is when captions are written.
    pub text_mask_probability: f64,
    /// The distance to the embeddings.
    pub loss: DiffusionLoss,
    /// Weight of the distance from the first step; 0: none.
    pub first_weight: f64,
    /// Steps that are drawn for a caption of a batch.
    pub draws: usize,
    /// What becomes of their distances.
    pub reduction: Reduction,
    /// Weight of the cross-entropy of the nearest words.
    pub rounding_weight: f64,
    /// Where above 0: the weight follows both terms, so that the cross-entropy counts so many times the distance.
    pub rounding_ratio: f64,
    /// Whose nearest words.
    pub rounding_of: Rounding,
    /// Whether the step is told to the network.
    pub time_embedding: bool,
    /// Whether the network sees its own earlier estimate.
    pub self_conditioning: bool,
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        Self {
            width: 768,
            layers: 6,
            heads: 12,
            embed_dim: 0,
            embeddings: Embeddings::Trained,
            steps: 1000,
            schedule: NoiseSchedule::Cosine,
            noise_factor: 1.0,
            predicts: Predicts::Start,
            stride: 100,
            condition: Condition::Concat,
            mask_probability: 0.1,
            text_condition: false,
            text_mask_probability: 0.5,
            loss: DiffusionLoss::L1,
            first_weight: 1.0,
            draws: 1,
            reduction: Reduction::Mean,
            rounding_weight: 0.5,
            rounding_ratio: 0.0,
            rounding_of: Rounding::Estimate,
            time_embedding: true,
            self_conditioning: false,
        }
    }
}

/// A word of a configuration for each value.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$each:meta])* $value:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$each])* #[serde(rename = $word)] $value),+ }

        impl $name {
            pub(super) const WORDS: &'static [&'static str] = &[$($word),+];
        }
    };
}

words! {
    /// Whether the embeddings of a diffusion are learned.
    Embeddings {
        /// Learned; their norm and how alike they are is reported.
        Trained = "trained",
        /// As they were drawn.
        Frozen = "frozen",
    }
}
words! {
    /// How much noise there is at a step.
    NoiseSchedule {
        /// By a squared cosine.
        Cosine = "cosine",
        /// By a square root, which is noisy early.
        Sqrt = "sqrt",
    }
}
words! {
    /// What a denoiser gives.
    Predicts {
        /// The caption.
        Start = "x0",
        /// The mean of an earlier step.
        Previous = "previous",
    }
}
words! {
    /// How a denoiser is told the picture.
    Condition {
        /// As further tokens, with a segment's embedding.
        Concat = "concat",
        /// Added to every token.
        Add = "add",
    }
}
words! {
    /// The distance to the embeddings.
    DiffusionLoss {
        /// Absolute.
        L1 = "l1",
        /// Squared.
        Mse = "mse",
    }
}
words! {
    /// What becomes of the distances of several steps.
    Reduction {
        /// Their mean.
        Mean = "mean",
        /// Their sum.
        Sum = "sum",
    }
}
words! {
    /// Whose nearest words are learned.
    Rounding {
        /// Those of the denoised estimate.
        Estimate = "estimate",
        /// Those of the embeddings with the first step's noise.
        Sample = "sample",
    }
}
words! {
    /// How a diffusion writes.
    Sampler {
        /// Each estimate gets fresh noise.
        Passes = "passes",
        /// Each estimate keeps the noise that is left (Song et al. 2021).
        Ddim = "ddim",
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
    /// A row a patch: the tokens before the last `caption.skip_blocks` blocks, without the class token. Of a ResNet, the
    /// pixels before its last `caption.skip_blocks` stages.
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

    /// Whether a diffusion that predicts an earlier step can tell the caption from it.
    fn tells_start(&self) -> bool {
        let DiffusionConfig { schedule, steps, noise_factor, stride, .. } = self.diffusion;
        Noise::new(schedule, steps, noise_factor).tells_start(stride)
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
        let (mapper, decoder, diffusion) = (&self.mapper, &self.decoder, &self.diffusion);
        divides("caption.decoder.heads", decoder.heads, "caption.decoder.width", decoder.width)?;
        divides("caption.diffusion.heads", diffusion.heads, "caption.diffusion.width", diffusion.width)?;
        if mapper.kind == MapperKind::Transformer {
            let (key, width) = match self.family {
                Family::Diffusion => ("caption.diffusion.width", diffusion.width),
                _ => ("caption.decoder.width", decoder.width),
            };
            // A language model's width is known when it is opened.
            if self.family != Family::Lora {
                divides("caption.mapper.heads", mapper.heads, key, width)?;
            }
        }
        if diffusion.text_condition && diffusion.text_mask_probability == 0.0 {
            let allowed = "above 0 with caption.diffusion.text_condition: a caption that is written has no text to be told";
            return refuse("caption.diffusion.text_mask_probability", "0".into(), allowed);
        }
        if diffusion.stride > diffusion.steps {
            let allowed = "at most caption.diffusion.steps";
            return refuse("caption.diffusion.stride", diffusion.stride.to_string(), allowed);
        }
        if self.family.has_lm() == self.lm.source.is_empty() {
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
        if diffusion.predicts == Predicts::Previous && !self.tells_start() {
            let allowed = "a larger share of caption.diffusion.steps: an earlier step so near has too little of the caption to tell it from";
            return refuse("caption.diffusion.stride", diffusion.stride.to_string(), allowed);
        }
        refuse_unused("loss", &config.loss, LOSS_KEYS, "in a captioner, whose loss is its family's")?;
        if self.family != Family::Lora {
            refuse_unused("caption.lm", &self.lm, LORA_KEYS, "in a family other than lora")?;
        }
        config.decode.validate(self)?;
        refuse_monitor(config, false)
    }
}

/// Keys of `[loss]` that a CLIP alone has a use for.
const LOSS_KEYS: &[&str] = &["kind", "label_smoothing", "logit_bias"];
/// Keys of `[caption.lm]` that LoRA alone has a use for.
const LORA_KEYS: &[&str] = &["rank", "alpha", "dropout", "targets"];

/// Refuses a value of a key that would mean nothing `what`, as in "in a captioner".
pub(super) fn refuse_unused<T: Serialize + Default>(
    section: &str,
    given: &T,
    keys: &[&str],
    what: &str,
) -> Result<()> {
    let values = |of: &T| {
        serde_json::to_value(of).map_err(|e| Error::Config {
            key: section.to_owned(),
            value: e.to_string(),
            allowed: "values that JSON has too".into(),
        })
    };
    let (given, default) = (values(given)?, values(&T::default())?);
    for key in keys {
        let (given, default) = (&given[key], &default[key]);
        if given != default {
            let allowed = format!("{default}; another value has no use {what}");
            return Err(Error::Config { key: format!("{section}.{key}"), value: given.to_string(), allowed });
        }
    }
    Ok(())
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
