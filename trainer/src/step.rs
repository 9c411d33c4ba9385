//! One training step: forward, backward, clip, update, clamp.
//!
//! Leaves out the order of steps, data and files; see [`fit`](crate::fit).

use crate::checkpoint::Tensors;
use crate::config::Config;
use crate::data::TensorBatch;
use crate::error::{Error, Result};
use crate::loss::{clamp_logit_scale, contrastive_loss};
use crate::model::{Clip, Params, ParamsError};
use crate::optim::{AdamW, AdamWConfig, global_norm};
use crate::schedule::Schedule;
use crate::weights;
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use std::path::Path;

/// A model in training, with its optimizer and schedule.
pub struct TrainState {
    clip: Clip,
    /// The same parameters without a record for the backward pass.
    evaluated: Clip,
    optimizer: AdamW,
    schedule: Schedule,
}

impl std::fmt::Debug for TrainState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainState").field("steps", &self.optimizer.steps()).finish_non_exhaustive()
    }
}

/// What a step measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepResult {
    /// The loss of the batch before the update, in nats.
    pub loss: f32,
    /// The learning rate.
    pub lr: f64,
    /// The gradient's global norm before clipping.
    pub grad_norm: f64,
    /// The logit scale after the update.
    pub logit_scale: f64,
}

/// A step that was not made, because a number is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NotFinite {
    /// "loss" or "gradient norm".
    pub what: &'static str,
    /// NaN or an infinity.
    pub value: f64,
}

impl TrainState {
    /// A model with seeded initial weights, for a run of `total` steps.
    ///
    /// # Errors
    /// [`Error::Tensor`] when the model cannot be built.
    pub fn new(config: &Config, vocab_size: usize, total: u64, device: &Device) -> Result<Self> {
        let failed = || Error::tensor("build the model");
        let clip = Clip::new(&config.model.clip(vocab_size), config.train.seed, device).map_err(failed())?;
        let optim = &config.optim;
        let settings = AdamWConfig {
            beta1: optim.beta1,
            beta2: optim.beta2,
            eps: optim.eps,
            weight_decay: optim.weight_decay,
            grad_norm_max: Some(optim.clip).filter(|clip| *clip > 0.0),
        };
        let optimizer = AdamW::new(clip.params(), settings).map_err(failed())?;
        let schedule = Schedule {
            lr_max: optim.lr,
            warmup_steps: config.warmup_steps(total),
            total_steps: total,
            final_fraction: optim.final_lr_fraction,
        };
        let evaluated = clip.for_inference().map_err(failed())?;
        Ok(Self { clip, evaluated, optimizer, schedule })
    }

    /// Puts back the weights and moments of a checkpoint after `steps` steps.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming what does not fit.
    pub fn load(&mut self, weights: Tensors, moments: Tensors, steps: u64) -> Result<()> {
        load(self.clip.params(), weights)?;
        let loaded = self.optimizer.load_state(&moments.into_iter().collect(), steps);
        loaded.map_err(|e| unfit("put the optimizer's moments back", e))
    }

    /// Takes the weights of the file `model.weights`, in whichever layout it is.
    ///
    /// # Errors
    /// As [`weights::initialise`].
    pub fn begin_with(&self, config: &Config, device: &Device) -> Result<()> {
        weights::initialise(self.clip.params(), config, Path::new(&config.model.weights), device)?;
        Ok(())
    }

    /// The model for evaluation; it follows every update.
    pub fn evaluated(&self) -> &Clip {
        &self.evaluated
    }

    /// The weights by name; they share memory with the model.
    pub fn weights(&self) -> Tensors {
        self.clip.params().tensors().into_iter().collect()
    }

    /// The optimizer's moments by name; they share memory with the optimizer.
    pub fn moments(&self) -> Tensors {
        self.optimizer.state().into_iter().collect()
    }

    /// The model in a few words.
    pub fn describe(&self) -> String {
        let (config, count) = (self.clip.config(), self.clip.params().scalar_count());
        format!(
            "{:.1} M parameters, {} pixels in patches of {}, {} token ids",
            count as f64 / 1e6,
            config.vision.image_size,
            config.vision.patch_size,
            config.text.vocab_size
        )
    }

    /// Learns from one batch. A loss or gradient that is no number leaves the weights as they were.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn train_step(&mut self, batch: &TensorBatch) -> Result<std::result::Result<StepResult, NotFinite>> {
        let forward = self.clip.forward(&batch.pixel_values, &batch.input_ids, &batch.eot_positions);
        let loss = forward
            .and_then(|output| contrastive_loss(&output))
            .map_err(Error::tensor("run the model forward"))?;
        let value = loss.to_scalar::<f32>().map_err(Error::tensor("read the loss"))?;
        if !value.is_finite() {
            return Ok(Err(NotFinite { what: "loss", value: f64::from(value) }));
        }
        let grads = loss.backward().map_err(Error::tensor("run the model backward"))?;
        let lr = self.schedule.lr(self.optimizer.steps());
        let grad_norm = match self.optimizer.step(&grads, lr) {
            Ok(norm) => norm,
            Err(error) => {
                // The optimizer refuses a norm that is not finite; anything else is a failure of its own.
                let norm = self.norm(&grads).map_err(Error::tensor("measure the gradient"))?;
                if norm.is_finite() {
                    return Err(Error::tensor("update the weights")(error));
                }
                return Ok(Err(NotFinite { what: "gradient norm", value: norm }));
            }
        };
        clamp_logit_scale(self.clip.params()).map_err(Error::tensor("clamp the logit scale"))?;
        let logit_scale = self.evaluated.logit_scale().and_then(|s| s.to_scalar::<f32>());
        let logit_scale = f64::from(logit_scale.map_err(Error::tensor("read the logit scale"))?);
        Ok(Ok(StepResult { loss: value, lr, grad_norm, logit_scale }))
    }

    fn norm(&self, grads: &GradStore) -> candle_core::Result<f64> {
        let present: Vec<Tensor> =
            self.clip.params().iter().filter_map(|p| grads.get(&p.var).cloned()).collect();
        global_norm(&present)
    }
}

/// A model for evaluation with given weights.
///
/// # Errors
/// [`Error::Tensor`] naming what does not fit.
pub fn load_model(config: &Config, vocab_size: usize, weights: Tensors, device: &Device) -> Result<Clip> {
    let failed = || Error::tensor("build the model");
    let clip = Clip::new(&config.model.clip(vocab_size), config.train.seed, device).map_err(failed())?;
    load(clip.params(), weights)?;
    clip.for_inference().map_err(failed())
}

fn load(params: &Params, weights: Tensors) -> Result<()> {
    params.load(&weights.into_iter().collect()).map_err(|e| unfit("put the weights into the model", e))
}

fn unfit(doing: &'static str, error: ParamsError) -> Error {
    Error::Tensor { doing, source: candle_core::Error::wrap(error) }
}
