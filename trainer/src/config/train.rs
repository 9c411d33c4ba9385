//! The section `[train]`: seed, rhythm, memory, what is kept and when to stop.

use super::DataConfig;
use crate::device::{DeviceChoice, Precision};
use crate::error::{Error, Result};
use crate::metrics::ValRow;
use serde::{Deserialize, Serialize};

/// The loop: seed, rhythm, threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Seed of weights, order and captions.
    pub seed: u64,
    /// Steps between two rows of metrics.jsonl.
    pub log_every: u64,
    /// Steps between two rows with the gradient's norm by layer; 0: none.
    pub grad_norms_every: u64,
    /// Steps between two evaluations; 0: only at the end.
    pub eval_every: u64,
    /// Images that an evaluation during training reads at most; 0: all of the view.
    pub eval_limit: usize,
    /// Steps between two checkpoints; 0: only at the end and when stopped.
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept, beside the best one.
    pub keep_checkpoints: usize,
    /// Saves a checkpoint whenever an evaluation is the best so far, and keeps the last such.
    pub keep_best: bool,
    /// What tells a better evaluation.
    pub monitor: Monitor,
    /// Evaluations in a row without improvement that end the run; 0: never.
    pub patience: u64,
    /// Samples that pass through the towers at once (gradient caching); 0: the whole batch.
    pub chunk_size: usize,
    /// Keeps nothing of a transformer block for its backward pass, which then runs the block again.
    pub recompute: bool,
    /// Decay of the running average of the weights, which is then what is evaluated; 0: none.
    pub ema_decay: f64,
    /// Parameters that are not learned, by the beginning of their names.
    pub freeze: Vec<String>,
    /// Keeps of each sample how often it was learned from, and its last loss.
    pub sample_ledger: bool,
    /// Threads of the loader; they change no result.
    pub threads: usize,
    /// What the run computes on.
    pub device: DeviceChoice,
    /// What activations are computed in; bf16 on CUDA only.
    pub precision: Precision,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            log_every: 10,
            grad_norms_every: 0,
            eval_every: 0,
            eval_limit: 1000,
            checkpoint_every: 500,
            keep_checkpoints: 2,
            keep_best: true,
            monitor: Monitor::default(),
            patience: 0,
            chunk_size: 0,
            recompute: false,
            ema_decay: 0.0,
            freeze: Vec::new(),
            sample_ledger: false,
            threads: 2,
            device: DeviceChoice::Cpu,
            precision: Precision::F32,
        }
    }
}

/// What tells a better evaluation: recall, the mean of both directions, or the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Monitor {
    /// Recall at 1.
    #[default]
    #[serde(rename = "recall_at_1")]
    RecallAt1,
    /// Recall at 5.
    #[serde(rename = "recall_at_5")]
    RecallAt5,
    /// Recall at 10.
    #[serde(rename = "recall_at_10")]
    RecallAt10,
    /// The mean loss over batches of the configured size.
    #[serde(rename = "val_loss")]
    ValLoss,
    /// A captioner's CIDEr.
    #[serde(rename = "cider")]
    Cider,
    /// A captioner's BLEU-4.
    #[serde(rename = "bleu_4")]
    Bleu4,
    /// Mean cosine of captions to their pictures.
    #[serde(rename = "image_proximity")]
    ImageProximity,
    /// Mean cosine of captions to their best reference.
    #[serde(rename = "text_proximity")]
    TextProximity,
}

/// The names that `train.monitor` takes.
pub(super) const MONITORS: [&str; 8] = [
    "recall_at_1",
    "recall_at_5",
    "recall_at_10",
    "val_loss",
    "cider",
    "bleu_4",
    "image_proximity",
    "text_proximity",
];

impl Monitor {
    /// What an evaluation is worth: the larger, the better, so that a loss counts below zero. None for an evaluation
    /// of fewer samples than a batch, which has no loss.
    pub fn score(self, row: &ValRow) -> Option<f64> {
        let recall = |place: usize| Some(0.5 * (row.image_to_text?[place] + row.text_to_image?[place]));
        let caption = row.caption.as_ref();
        match self {
            Self::RecallAt1 => recall(0),
            Self::RecallAt5 => recall(1),
            Self::RecallAt10 => recall(2),
            Self::ValLoss => row.loss.map(|loss| -f64::from(loss)),
            Self::Cider => caption.map(|row| row.cider),
            Self::Bleu4 => caption.map(|row| row.bleu_4),
            Self::ImageProximity => caption.and_then(|row| row.image_proximity),
            Self::TextProximity => caption.and_then(|row| row.text_proximity),
        }
    }

    /// Whether captions have it, or recall; none for what both kinds of models have.
    pub(super) fn is_of_captions(self) -> Option<bool> {
        match self {
            Self::RecallAt1 | Self::RecallAt5 | Self::RecallAt10 => Some(false),
            Self::ValLoss => None,
            Self::Cider | Self::Bleu4 | Self::ImageProximity | Self::TextProximity => Some(true),
        }
    }

    /// The name that `train.monitor` has it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::RecallAt1 => "recall_at_1",
            Self::RecallAt5 => "recall_at_5",
            Self::RecallAt10 => "recall_at_10",
            Self::ValLoss => "val_loss",
            Self::Cider => "cider",
            Self::Bleu4 => "bleu_4",
            Self::ImageProximity => "image_proximity",
            Self::TextProximity => "text_proximity",
        }
    }
}

impl TrainConfig {
    /// Opens the device.
    ///
    /// # Errors
    /// As [`DeviceChoice::open`], and [`Error::Config`] when it does not compute in the precision asked for.
    pub fn open_device(&self) -> Result<candle_core::Device> {
        let device = self.device.open()?;
        self.precision.check(&device)?;
        Ok(device)
    }

    /// Settings that need one another.
    pub(super) fn validate(&self, data: &DataConfig, is_clip: bool) -> Result<()> {
        let refuse = |key: &str, value: String, allowed: String| {
            Err(Error::Config { key: key.to_owned(), value, allowed })
        };
        if self.patience > 0 && self.eval_every == 0 {
            let allowed = "0, or a number of train.eval_every too, without which there is one evaluation";
            return refuse("train.patience", self.patience.to_string(), allowed.to_owned());
        }
        if self.chunk_size > data.batch_size {
            let allowed = format!("at most data.batch_size, which is {}", data.batch_size);
            return refuse("train.chunk_size", self.chunk_size.to_string(), allowed);
        }
        if is_clip && self.monitor == Monitor::ValLoss && (1..data.batch_size).contains(&self.eval_limit) {
            let allowed = format!(
                "0, or at least data.batch_size, which is {}, with train.monitor = \"val_loss\"",
                data.batch_size
            );
            return refuse("train.eval_limit", self.eval_limit.to_string(), allowed);
        }
        if self.precision == Precision::Bf16 && self.device == DeviceChoice::Cpu {
            let allowed = "\"f32\", or \"bf16\" with train.device = \"cuda\"";
            return refuse("train.precision", "\"bf16\"".to_owned(), allowed.to_owned());
        }
        Ok(())
    }
}
