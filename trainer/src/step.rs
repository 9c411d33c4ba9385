//! One training step: forward, backward, clip, update, clamp, average.
//!
//! A step may take its gradient from several batches (accumulation), and a batch may pass through the towers in
//! chunks (gradient caching). Leaves out the order of steps, data and files; see [`fit`](crate::fit).

mod average;
mod cached;

use crate::checkpoint::Tensors;
use crate::config::{Config, LossConfig};
use crate::data::TensorBatch;
use crate::error::{Error, Result};
use crate::loss::clamp_logit_scale;
use crate::model::{Clip, Params, ParamsError, VisionKind};
use crate::optim::{AdamW, AdamWConfig, Gradients};
use crate::schedule::Schedule;
use crate::weights;
use average::Average;
use candle_core::Device;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time that steps have taken by phase.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phases {
    /// Towers and loss.
    pub forward: Duration,
    /// Gradients.
    pub backward: Duration,
    /// Norm, clipping and update.
    pub optimizer: Duration,
}

/// A model in training, with its optimizer and schedule.
pub struct TrainState {
    clip: Clip,
    /// The same parameters without a record for the backward pass.
    plain: Clip,
    /// The same again, as the first pass of gradient caching needs it.
    caching: Clip,
    average: Option<Average>,
    optimizer: AdamW,
    schedule: Schedule,
    loss: LossConfig,
    chunk_size: usize,
    accum_steps: u64,
    /// Gradients and losses of the batches since the last update.
    sums: Gradients,
    losses: Vec<f32>,
    /// The samples' own losses, where they are kept.
    sample_losses: Option<Vec<f32>>,
    phases: Phases,
}

impl std::fmt::Debug for TrainState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainState").field("steps", &self.optimizer.steps()).finish_non_exhaustive()
    }
}

/// What a step measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepResult {
    /// The loss before the update, in nats: the mean over the step's batches.
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
        Self::build(config, vocab_size, total, device).map_err(Error::tensor("build the model"))
    }

    fn build(config: &Config, vocab_size: usize, total: u64, device: &Device) -> candle_core::Result<Self> {
        let (optim, train) = (&config.optim, &config.train);
        let clip = Clip::new(&config.clip(vocab_size), train.seed, device)?;
        let clip = clip.in_precision(train.precision.dtype());
        let clip = clip.for_training(&|name| train.freezes(name), train.recompute)?;
        let settings = AdamWConfig {
            kind: optim.kind,
            beta1: optim.beta1,
            beta2: optim.beta2,
            eps: optim.eps,
            weight_decay: optim.weight_decay,
            grad_norm_max: Some(optim.clip).filter(|clip| *clip > 0.0),
        };
        let schedule = Schedule {
            decay: optim.schedule,
            lr_max: optim.lr,
            warmup_steps: config.warmup_steps(total),
            total_steps: total,
            final_fraction: optim.final_lr_fraction,
        };
        let average = match train.ema_decay {
            0.0 => None,
            decay => Some(Average::new(&clip, decay)?),
        };
        Ok(Self {
            plain: clip.for_inference()?,
            caching: clip.for_caching()?,
            optimizer: AdamW::new(clip.params(), settings)?,
            clip,
            average,
            schedule,
            loss: config.loss.clone(),
            chunk_size: train.chunk_size,
            accum_steps: optim.accum_steps,
            sums: Gradients::default(),
            losses: Vec::new(),
            sample_losses: train.sample_ledger.then(Vec::new),
            phases: Phases::default(),
        })
    }

    /// Puts back the weights, moments and averaged weights of a checkpoint after `steps` steps.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming what does not fit.
    pub fn load(
        &mut self,
        weights: Tensors,
        moments: Tensors,
        averaged: Option<Tensors>,
        steps: u64,
    ) -> Result<()> {
        load(self.clip.params(), weights)?;
        if let (Some(average), Some(averaged)) = (&self.average, averaged) {
            load(average.model().params(), averaged)?;
        }
        let loaded = self.optimizer.load_state(&moments.into_iter().collect(), steps);
        loaded.map_err(|e| unfit("put the optimizer's moments back", e))
    }

    /// Takes the weights of the file `model.weights`, in whichever layout it is.
    ///
    /// # Errors
    /// As [`weights::initialise`].
    pub fn begin_with(&self, config: &Config, device: &Device) -> Result<()> {
        weights::initialise(self.clip.params(), config, Path::new(&config.model.weights), device)?;
        match &self.average {
            Some(average) => {
                average.begin(&self.clip).map_err(Error::tensor("begin the average of the weights"))
            }
            None => Ok(()),
        }
    }

    /// The model for evaluation: the average of the weights if there is one, else the weights. It follows
    /// every update.
    pub fn evaluated(&self) -> &Clip {
        self.average.as_ref().map_or(&self.plain, Average::model)
    }

    /// Whether evaluations use an average of the weights.
    pub fn has_average(&self) -> bool {
        self.average.is_some()
    }

    /// The weights by name; they share memory with the model.
    pub fn weights(&self) -> Tensors {
        self.clip.params().tensors().into_iter().collect()
    }

    /// The optimizer's moments by name; they share memory with the optimizer.
    pub fn moments(&self) -> Tensors {
        self.optimizer.state().into_iter().collect()
    }

    /// The averaged weights by name, if there are any; they share memory with the average.
    pub fn averaged(&self) -> Option<Tensors> {
        self.average.as_ref().map(|average| average.model().params().tensors().into_iter().collect())
    }

    /// The time of each phase since this was last asked.
    pub fn take_phases(&mut self) -> Phases {
        std::mem::take(&mut self.phases)
    }

    /// Scalars in all parameters.
    pub fn parameter_count(&self) -> usize {
        self.clip.params().scalar_count()
    }

    /// The model in a few words.
    pub fn describe(&self) -> String {
        let (config, count) = (self.clip.config(), self.clip.params().scalar_count());
        let (vision, millions) = (&config.vision, count as f64 / 1e6);
        let seen = match vision.kind {
            VisionKind::Vit => format!("{} pixels in patches of {}", vision.image_size, vision.patch_size),
            VisionKind::Resnet50 => format!("{} pixels through a ResNet-50", vision.image_size),
        };
        format!("{millions:.1} M parameters, {seen}, {} token ids", config.text.vocab_size)
    }

    /// What a reader of the results should know of how they come about, one sentence each.
    pub fn notes(&self) -> Vec<String> {
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
        if self.average.is_some() {
            notes.push("evaluations use the running average of the weights (train.ema_decay)".to_owned());
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

    /// Learns from one batch alone. A loss or gradient that is no number leaves the weights as they were.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn train_step(&mut self, batch: &TensorBatch) -> Result<std::result::Result<StepResult, NotFinite>> {
        match self.gather(batch, 1)? {
            Ok(()) => self.update(),
            Err(broken) => Ok(Err(broken)),
        }
    }

    /// Adds one of a step's `optim.accum_steps` batches to the gradient of the next [`update`](Self::update).
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn accumulate(&mut self, batch: &TensorBatch) -> Result<std::result::Result<(), NotFinite>> {
        self.gather(batch, self.accum_steps)
    }

    fn gather(&mut self, batch: &TensorBatch, batches: u64) -> Result<std::result::Result<(), NotFinite>> {
        let begun = Instant::now();
        let samples = RefCell::new(Vec::new());
        let kept = self.sample_losses.is_some().then_some(&samples);
        let share = 1.0 / batches as f64;
        let pass = cached::Pass { loss: &self.loss, share, samples: kept, loss_known: Cell::new(begun) };
        let count = batch.eot_positions.len();
        let (optimizer, sums) = (&self.optimizer, &mut self.sums);
        let mut add = |grads: &candle_core::backprop::GradStore| optimizer.accumulate(sums, grads);
        let loss = if self.chunk_size > 0 && self.chunk_size < count {
            pass.chunked(&self.clip, &self.caching, batch, self.chunk_size, &mut add)
        } else {
            pass.whole(&self.clip, batch, &mut add)
        };
        let loss = loss.map_err(Error::tensor("run the model forward and backward"))?;
        // Work that a device has not done yet would count as the optimizer's, which waits for it next.
        let done = batch.pixel_values.device().synchronize();
        done.map_err(Error::tensor("wait for the backward pass"))?;
        self.phases.forward += pass.loss_known.get() - begun;
        self.phases.backward += pass.loss_known.get().elapsed();
        if !loss.is_finite() {
            self.sums = Gradients::default();
            self.losses.clear();
            return Ok(Err(NotFinite { what: "loss", value: f64::from(loss) }));
        }
        self.losses.push(loss);
        self.sample_losses.iter_mut().for_each(|losses| losses.append(&mut samples.borrow_mut()));
        Ok(Ok(()))
    }

    /// One step of the optimizer with the gradients gathered since the last.
    ///
    /// # Errors
    /// [`Error::Tensor`], also when nothing was gathered.
    pub fn update(&mut self) -> Result<std::result::Result<StepResult, NotFinite>> {
        let begun = Instant::now();
        let (sums, losses) = (std::mem::take(&mut self.sums), std::mem::take(&mut self.losses));
        let grad_norm = self.optimizer.measure(&sums).map_err(Error::tensor("measure the gradient"))?;
        if !grad_norm.is_finite() {
            return Ok(Err(NotFinite { what: "gradient norm", value: grad_norm }));
        }
        let lr = self.schedule.lr(self.optimizer.steps());
        self.optimizer.descend(&sums, grad_norm, lr).map_err(Error::tensor("update the weights"))?;
        // The backward passes' own records are gone: this was the last to read the gradients.
        sums.recycle().map_err(Error::tensor("free the gradients"))?;
        clamp_logit_scale(self.clip.params()).map_err(Error::tensor("clamp the logit scale"))?;
        if let Some(average) = &self.average {
            average
                .follow(&self.clip, self.optimizer.steps())
                .map_err(Error::tensor("average the weights"))?;
        }
        let logit_scale = self.plain.logit_scale().and_then(|s| s.to_scalar::<f32>());
        let logit_scale = f64::from(logit_scale.map_err(Error::tensor("read the logit scale"))?);
        self.phases.optimizer += begun.elapsed();
        let loss = losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len().max(1) as f64;
        Ok(Ok(StepResult { loss: loss as f32, lr, grad_norm, logit_scale }))
    }

    /// Each sample's own loss in the batches since this was last asked, in their order; none unless
    /// `train.sample_ledger` is set.
    pub fn take_sample_losses(&mut self) -> Vec<f32> {
        self.sample_losses.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The norms of the last step's gradient by layer, before clipping.
    pub fn layer_norms(&self) -> BTreeMap<String, f64> {
        self.optimizer.layer_norms()
    }
}

/// A model for evaluation with given weights.
///
/// # Errors
/// [`Error::Tensor`] naming what does not fit.
pub fn load_model(config: &Config, vocab_size: usize, weights: Tensors, device: &Device) -> Result<Clip> {
    let failed = || Error::tensor("build the model");
    let clip = Clip::new(&config.clip(vocab_size), config.train.seed, device).map_err(failed())?;
    load(clip.params(), weights)?;
    clip.in_precision(config.train.precision.dtype()).for_inference().map_err(failed())
}

fn load(params: &Params, weights: Tensors) -> Result<()> {
    params.load(&weights.into_iter().collect()).map_err(|e| unfit("put the weights into the model", e))
}

fn unfit(doing: &'static str, error: ParamsError) -> Error {
    Error::Tensor { doing, source: candle_core::Error::wrap(error) }
}
