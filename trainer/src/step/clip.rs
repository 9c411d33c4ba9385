//! CLIP as a model that steps learn: its loss in one pass or by chunks (gradient caching), and the bound on its
//! logit scale. Leaves out the optimizer.

use super::cached::Objective;
use super::{Add, Pass, Trainee, unfit};
use crate::checkpoint::Tensors;
use crate::config::{Config, LossConfig};
use crate::data::TensorBatch;
use crate::error::{Error, Result};
use crate::loss::clamp_logit_scale;
use crate::model::{Clip, Params, VisionKind, fitting};
use crate::weights;
use candle_core::Device;
use std::path::Path;

/// A CLIP in training.
pub struct ClipTrainee {
    clip: Clip,
    /// The same parameters without a record for the backward pass.
    plain: Clip,
    /// The same again, as the first pass of gradient caching needs it.
    caching: Clip,
    loss: LossConfig,
    chunk_size: usize,
    accum_steps: u64,
    device: Device,
}

impl ClipTrainee {
    /// With seeded initial weights.
    ///
    /// # Errors
    /// When the configuration has problems, or the device cannot hold the model.
    pub fn new(config: &Config, vocab_size: usize, device: &Device) -> candle_core::Result<Self> {
        let train = &config.train;
        let clip = Clip::new(&config.clip(vocab_size), train.seed, device)?;
        let clip = clip.in_precision(train.precision.dtype());
        let clip = clip.for_training(&|name| train.freezes(name), train.recompute)?;
        Ok(Self {
            plain: clip.for_inference()?,
            caching: clip.for_caching()?,
            clip,
            loss: config.loss.clone(),
            chunk_size: train.chunk_size,
            accum_steps: config.optim.accum_steps,
            device: device.clone(),
        })
    }

    /// The model for evaluation: it records nothing.
    pub fn plain(&self) -> &Clip {
        &self.plain
    }
}

impl Trainee for ClipTrainee {
    type Inputs = TensorBatch;

    fn params(&self) -> &Params {
        self.clip.params()
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn copied(&self) -> candle_core::Result<Self> {
        let clip = self.clip.copied()?;
        Ok(Self {
            plain: clip.clone(),
            caching: clip.clone(),
            clip,
            loss: self.loss.clone(),
            device: self.device.clone(),
            ..*self
        })
    }

    fn learn(&self, batch: &TensorBatch, pass: &Pass<'_>, add: Add<'_>) -> candle_core::Result<f32> {
        let objective = Objective { loss: &self.loss, pass };
        if self.chunk_size > 0 && self.chunk_size < batch.eot_positions.len() {
            objective.chunked(&self.clip, &self.caching, batch, self.chunk_size, add)
        } else {
            objective.whole(&self.clip, batch, add)
        }
    }

    fn updated(&self) -> candle_core::Result<Option<f64>> {
        clamp_logit_scale(self.clip.params())?;
        Ok(Some(f64::from(self.plain.logit_scale()?.to_scalar::<f32>()?)))
    }

    fn initialise(&self, config: &Config) -> Result<()> {
        if config.model.weights.is_empty() {
            return Ok(());
        }
        let path = Path::new(&config.model.weights);
        weights::initialise(self.clip.params(), config, path, &self.device).map(|_| ())
    }

    fn describe(&self) -> String {
        let (config, count) = (self.clip.config(), self.clip.params().scalar_count());
        let (vision, millions) = (&config.vision, count as f64 / 1e6);
        let seen = match vision.kind {
            VisionKind::Vit => format!("{} pixels in patches of {}", vision.image_size, vision.patch_size),
            VisionKind::Resnet50 => {
                // Three convolutions of a bottleneck, the stem's, and the last layer.
                let layers = 3 * vision.depths.iter().sum::<usize>() + 2;
                format!("{} pixels through a ResNet-{layers}", vision.image_size)
            }
        };
        format!("{millions:.1} M parameters, {seen}, {} token ids", config.text.vocab_size)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.chunk_size > 0 && self.clip.has_batch_statistics() {
            notes.push(format!(
                "batch normalisation takes its statistics from chunks of {} samples (train.chunk_size), \
                 so the gradient is not quite that of the whole batch",
                self.chunk_size
            ));
        }
        if self.accum_steps > 1 {
            notes.push(format!(
                "a step averages the gradients of {} batches (optim.accum_steps); a sample's negatives are \
                 those of its own batch",
                self.accum_steps
            ));
        }
        let learned: usize =
            self.clip.params().iter().filter(|p| p.trainable).map(|p| p.var.elem_count()).sum();
        // Running statistics, which are never learned, are no news.
        let specs = Clip::specs(self.clip.config()).into_iter().filter(|spec| spec.trainable);
        let learnable: usize = specs.map(|spec| spec.shape.iter().product::<usize>()).sum();
        if learned < learnable {
            let millions = |count: usize| count as f64 / 1e6;
            notes.push(format!(
                "{:.1} M of {:.1} M parameters are learned",
                millions(learned),
                millions(learnable)
            ));
        }
        notes
    }
}

/// A CLIP for evaluation with weights that were read from `path`.
///
/// # Errors
/// [`Error::Weights`] naming what does not fit.
pub fn load_model(
    config: &Config,
    vocab_size: usize,
    weights: Tensors,
    path: &Path,
    device: &Device,
) -> Result<Clip> {
    let failed = || Error::tensor("build the model");
    let sizes = config.clip(vocab_size);
    // Before a model of other sizes takes memory.
    let specs = Clip::specs(&sizes);
    let weights = weights.into_iter().collect();
    fitting(specs.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice())), &weights)
        .map_err(|e| unfit(path, &e))?;
    let clip = Clip::new(&sizes, config.train.seed, device).map_err(failed())?;
    clip.params().load(&weights).map_err(|e| unfit(path, &e))?;
    clip.in_precision(config.train.precision.dtype()).for_inference().map_err(failed())
}
