//! A run's configuration: one TOML file, `--set` overrides, and defaults, resolved into one [`Config`].
//!
//! Every key is listed once, in [`keys`], with what it may be; unknown keys and values out of range are
//! errors of one sentence. Leaves out what depends on the data (the size of the vocabulary).

mod augment;
mod caption;
mod decode;
mod freeze;
pub mod keys;
mod loss;
pub mod preset;
mod sweep;
mod train;

use crate::error::{Error, Result};
use crate::model::ClipConfig;
use crate::schedule::{Decay, Warmup};
use loader::Order;
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

pub use augment::AugmentConfig;
pub use caption::{
    CaptionConfig, Condition, DecoderConfig, DiffusionConfig, DiffusionLoss, Embeddings, Family,
    ImageFeatures, LmConfig, LoraTargets, MapperConfig, MapperKind, NoiseSchedule, Predicts, Reduction,
    Rounding, Sampler,
};
pub use decode::{DecodeConfig, DecodeMethod};
pub use loss::{LossConfig, LossKind};
pub use preset::{ModelConfig, TextConfig, VisionConfig};
pub use sweep::Point;
pub use train::{Monitor, TrainConfig};

/// A resolved configuration, as it is written to `runs/NAME/config.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The sizes of both towers.
    pub model: ModelConfig,
    /// Which samples, in which order.
    pub data: DataConfig,
    /// A captioner instead of a CLIP.
    #[serde(skip_serializing_if = "is_off")]
    pub caption: CaptionConfig,
    /// How a captioner writes.
    #[serde(skip_serializing_if = "is_default")]
    pub decode: DecodeConfig,
    /// Where the tokenizer comes from.
    pub tokenizer: TokenizerConfig,
    /// What is made small.
    pub loss: LossConfig,
    /// The optimizer and its schedule.
    pub optim: OptimConfig,
    /// The loop around it.
    pub train: TrainConfig,
}

fn is_off(caption: &CaptionConfig) -> bool {
    *caption == CaptionConfig::default()
}

fn is_default(decode: &DecodeConfig) -> bool {
    *decode == DecodeConfig::default()
}

/// Which samples are read, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// The split to train on.
    pub split: String,
    /// The split to evaluate on.
    pub val_split: String,
    /// Share of the training split, (0, 1]; nested: the 1 % are among the 10 %.
    pub fraction: f64,
    /// Share of the validation split, (0, 1].
    pub val_fraction: f64,
    /// Samples of a batch, all of which are each other's negatives.
    pub batch_size: usize,
    /// Which caption of a sample is learned in an epoch.
    pub captions: CaptionChoice,
    /// In which order the samples come: `global`, `block:16x2048`, `shard-buffer:1000`, `none`.
    pub order: Order,
    /// Mean and deviation that pixels are normalised with.
    pub normalize: Normalize,
    /// Deals the captions of a batch out to the wrong images: a control that must not learn.
    pub shuffle_captions: bool,
    /// How pictures are changed at random in training.
    pub augment: AugmentConfig,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            split: "train".into(),
            val_split: "val".into(),
            fraction: 1.0,
            val_fraction: 1.0,
            batch_size: 64,
            captions: CaptionChoice::Random,
            order: Order::Global,
            normalize: Normalize::Clip,
            shuffle_captions: false,
            augment: AugmentConfig::default(),
        }
    }
}

/// Which caption of a sample an epoch takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptionChoice {
    /// One drawn by hash(seed, epoch, sample).
    Random,
    /// Always the first.
    First,
}

/// A preset of channel means and deviations, on the scale 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalize {
    /// OpenAI CLIP's.
    Clip,
    /// ImageNet's.
    Imagenet,
    /// Mean and deviation 0.5, so that pixels lie in [-1, 1].
    Half,
}

impl Normalize {
    /// Mean and deviation of R, G and B on the scale 0 to 1.
    pub fn mean_std(self) -> ([f32; 3], [f32; 3]) {
        match self {
            Self::Clip => {
                ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1])
            }
            Self::Imagenet => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            Self::Half => ([0.5; 3], [0.5; 3]),
        }
    }
}

/// Where the tokenizer comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// A path to a `tokenizer.json` or a hub id; empty: one is trained on the captions at the first run.
    pub source: String,
    /// Tokens of one that is trained.
    pub vocab_size: usize,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self { source: String::new(), vocab_size: 8192 }
    }
}

/// The optimizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay.
    #[default]
    Adamw,
    /// Adam, where the decay is a penalty in the gradient.
    Adam,
}

/// The optimizer, its schedule and how long it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// Which optimizer.
    pub kind: OptimizerKind,
    /// Peak learning rate.
    pub lr: f64,
    /// What becomes of the learning rate after the warm-up.
    pub schedule: Decay,
    /// Weight decay, on matrices only: decoupled for AdamW, added to the gradient for Adam.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Bound on the gradient's global norm; 0 for none.
    pub clip: f64,
    /// How the learning rate comes to its peak.
    pub warmup: Warmup,
    /// Steps of the warm-up; 0 takes `warmup_fraction`.
    pub warmup_steps: u64,
    /// Warm-up as a share of all steps.
    pub warmup_fraction: f64,
    /// Batches whose gradients are averaged into one step; each has its own negatives only.
    pub accum_steps: u64,
    /// Passes over the training view; a fraction is allowed.
    pub epochs: f64,
    /// Optimizer steps in all, whatever `epochs` says; 0 takes `epochs`.
    pub steps: u64,
    /// The learning rate at the end of the schedule, as a share of `lr`.
    pub final_lr_fraction: f64,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Adamw,
            lr: 5e-4,
            schedule: Decay::Cosine,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-6,
            clip: 1.0,
            warmup: Warmup::Linear,
            warmup_steps: 0,
            warmup_fraction: 0.05,
            accum_steps: 1,
            epochs: 10.0,
            steps: 0,
            final_lr_fraction: 0.1,
        }
    }
}

impl Config {
    /// Reads `path` and lays the overrides (`key.path=value`, values in TOML) over it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Toml`], [`Error::UnknownKey`] and [`Error::Config`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = fs_err::read_to_string(path).map_err(Error::io("read the configuration"))?;
        Self::from_toml(&text, &path.display().to_string(), overrides)
    }

    /// As [`load`](Self::load), from a text; `name` stands in the errors.
    ///
    /// # Errors
    /// [`Error::Toml`], [`Error::UnknownKey`] and [`Error::Config`]; [`Error::Sweep`] for a configuration of many runs.
    pub fn from_toml(text: &str, name: &str, overrides: &[String]) -> Result<Self> {
        let mut table = parse(text, name)?;
        if table.contains_key(sweep::SECTION) {
            let reason = "it has a section [sweep], which is for `trainer sweep`; take the section out to train one run";
            return Err(Error::Sweep { path: name.to_owned(), reason: reason.to_owned() });
        }
        for given in overrides {
            keys::apply_override(&mut table, given)?;
        }
        Self::from_table(table, name)
    }

    fn from_table(table: Table, name: &str) -> Result<Self> {
        let table = keys::sugar(table);
        keys::check(&table)?;
        let table = preset::expand(caption::expand(loss::expand(table)))?;
        let config: Self = Value::Table(table)
            .try_into()
            .map_err(|source| Error::Toml { path: name.to_owned(), source: Box::new(source) })?;
        config.validate()?;
        Ok(config)
    }

    /// The whole configuration as TOML, which [`from_toml`](Self::from_toml) reads back to an equal one.
    ///
    /// # Errors
    /// [`Error::DamagedFile`] when it cannot be written as TOML, which no valid configuration causes.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| Error::DamagedFile { path: "config.toml".into(), reason: e.to_string() })
    }

    /// What one key alone does not tell: sizes that must divide, and the length of the run.
    fn validate(&self) -> Result<()> {
        self.model.validate()?;
        self.loss.validate()?;
        self.train.validate(&self.data, !self.caption.is_on())?;
        self.caption.validate(self)?;
        freeze::validate(self)?;
        let optim = &self.optim;
        let refuse = |key: &str, value: f64, allowed: &str| {
            Err(Error::Config { key: key.into(), value: value.to_string(), allowed: allowed.into() })
        };
        if optim.epochs == 0.0 && optim.steps == 0 {
            let allowed = "a number of epochs above 0, or a number of optim.steps";
            return refuse("optim.epochs", optim.epochs, allowed);
        }
        if optim.schedule == Decay::Exponential && optim.final_lr_fraction == 0.0 {
            let allowed = "a fraction above 0 with optim.schedule = \"exponential\", which never reaches 0";
            return refuse("optim.final_lr_fraction", optim.final_lr_fraction, allowed);
        }
        Ok(())
    }

    /// The model that is trained, with the vocabulary that the tokenizer gives.
    pub fn clip(&self, vocab_size: usize) -> ClipConfig {
        ClipConfig { init_logit_bias: self.loss.init_logit_bias(), ..self.model.clip(vocab_size) }
    }

    /// All optimizer steps of the run, for so many batches an epoch: at least one.
    pub fn total_steps(&self, batches_per_epoch: u64) -> u64 {
        let optim = &self.optim;
        if optim.steps > 0 {
            return optim.steps;
        }
        // Whole epochs of any real data set are far below 2^53 batches, so their product is exact.
        let batches = (optim.epochs * batches_per_epoch as f64).round() as u64;
        (batches / optim.accum_steps.max(1)).max(1)
    }

    /// Steps of warm-up for a run of `total` steps.
    pub fn warmup_steps(&self, total: u64) -> u64 {
        if self.optim.warmup_steps > 0 {
            return self.optim.warmup_steps;
        }
        // A share of a step count: far below 2^53, so the conversion is exact.
        (total as f64 * self.optim.warmup_fraction).round() as u64
    }
}

fn parse(text: &str, name: &str) -> Result<Table> {
    toml::from_str(text).map_err(|source| Error::Toml { path: name.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests;
