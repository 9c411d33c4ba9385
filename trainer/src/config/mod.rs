//! A run's configuration: one TOML file, `--set` overrides, and defaults, resolved into one [`Config`].
//!
//! Every key is listed once, in [`keys`], with what it may be; unknown keys and values out of range are
//! errors of one sentence. Leaves out what depends on the data (the size of the vocabulary).

pub mod keys;
pub mod preset;

use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use loader::Order;
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

pub use preset::{ModelConfig, TextConfig, VisionConfig};

/// A resolved configuration, as it is written to `runs/NAME/config.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The sizes of both towers.
    pub model: ModelConfig,
    /// Which samples, in which order.
    pub data: DataConfig,
    /// Where the tokenizer comes from.
    pub tokenizer: TokenizerConfig,
    /// AdamW and its schedule.
    pub optim: OptimConfig,
    /// The loop around it.
    pub train: TrainConfig,
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
    /// Samples a step.
    pub batch_size: usize,
    /// Which caption of a sample is learned in an epoch.
    pub captions: CaptionChoice,
    /// In which order the samples come: `global`, `block:16x2048`, `shard-buffer:1000`, `none`.
    pub order: Order,
    /// Mean and deviation that pixels are normalised with.
    pub normalize: Normalize,
    /// Deals the captions of a batch out to the wrong images: a control that must not learn.
    pub shuffle_captions: bool,
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

/// AdamW, its schedule and how long it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// Peak learning rate.
    pub lr: f64,
    /// Decoupled decay, on matrices only.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Bound on the gradient's global norm; 0 for none.
    pub clip: f64,
    /// Steps of linear warm-up; 0 takes `warmup_fraction`.
    pub warmup_steps: u64,
    /// Warm-up as a share of all steps.
    pub warmup_fraction: f64,
    /// Passes over the training view.
    pub epochs: u64,
    /// Optimizer steps in all, whatever `epochs` says; 0 takes `epochs`.
    pub steps: u64,
    /// The learning rate at the end of the cosine, as a share of `lr`.
    pub final_lr_fraction: f64,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            lr: 5e-4,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-6,
            clip: 1.0,
            warmup_steps: 0,
            warmup_fraction: 0.05,
            epochs: 10,
            steps: 0,
            final_lr_fraction: 0.1,
        }
    }
}

/// The loop: seed, rhythm, threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Seed of weights, order and captions.
    pub seed: u64,
    /// Steps between two rows of metrics.jsonl.
    pub log_every: u64,
    /// Steps between two evaluations; 0: only at the end.
    pub eval_every: u64,
    /// Images that an evaluation during training reads at most; 0: all of the view.
    pub eval_limit: usize,
    /// Steps between two checkpoints; 0: only at the end and when stopped.
    pub checkpoint_every: u64,
    /// How many checkpoints are kept.
    pub keep_checkpoints: usize,
    /// Threads of the loader; they change no result.
    pub threads: usize,
    /// What the run computes on.
    pub device: DeviceChoice,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            log_every: 10,
            eval_every: 0,
            eval_limit: 1000,
            checkpoint_every: 500,
            keep_checkpoints: 2,
            threads: 2,
            device: DeviceChoice::Cpu,
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
    /// [`Error::Toml`], [`Error::UnknownKey`] and [`Error::Config`].
    pub fn from_toml(text: &str, name: &str, overrides: &[String]) -> Result<Self> {
        let mut table: Table = toml::from_str(text)
            .map_err(|source| Error::Toml { path: name.to_owned(), source: Box::new(source) })?;
        for given in overrides {
            keys::apply_override(&mut table, given)?;
        }
        let table = keys::sugar(table);
        keys::check(&table)?;
        let table = preset::expand(table)?;
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
        let optim = &self.optim;
        if optim.epochs == 0 && optim.steps == 0 {
            return Err(Error::Config {
                key: "optim.epochs".into(),
                value: "0".into(),
                allowed: "a number of epochs above 0, or a number of optim.steps".into(),
            });
        }
        Ok(())
    }

    /// All optimizer steps of the run, for so many batches an epoch.
    pub fn total_steps(&self, batches_per_epoch: u64) -> u64 {
        if self.optim.steps > 0 {
            self.optim.steps
        } else {
            self.optim.epochs.saturating_mul(batches_per_epoch)
        }
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

#[cfg(test)]
mod tests;
