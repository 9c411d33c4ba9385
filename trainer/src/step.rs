//! One training step: forward, backward, clip, update, average.
//!
//! A step may take its gradient from several batches (accumulation). What differs between CLIP and the captioners is
//! a [`Trainee`]. Leaves out the order of steps, data and files; see [`fit`](crate::fit).

mod average;
mod cached;
mod caption;
mod clip;

pub use caption::CaptionTrainee;
pub use clip::{ClipTrainee, load_model};

use crate::checkpoint::Tensors;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::{Params, ParamsError};
use crate::optim::{AdamW, AdamWConfig, Gradients};
use crate::schedule::Schedule;
use average::Average;
use candle_core::Device;
use candle_core::backprop::GradStore;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Takes the gradients of one backward pass.
pub type Add<'a> = &'a mut dyn FnMut(&GradStore) -> candle_core::Result<()>;

/// A model that steps learn, with its loss.
pub trait Trainee: Sized {
    /// A batch as the model's input.
    type Inputs: Send;

    /// The parameters, in order.
    fn params(&self) -> &Params;

    /// What its activations stand on.
    fn device(&self) -> &Device;

    /// The same values in memory of their own, for an average of the weights, which is only evaluated.
    ///
    /// # Errors
    /// When the device cannot hold them.
    fn copied(&self) -> candle_core::Result<Self>;

    /// The loss of a batch in nats, whose gradients go to `add` unless the loss is no number.
    ///
    /// # Errors
    /// Those of the operations.
    fn learn(&self, batch: &Self::Inputs, pass: &Pass<'_>, add: Add<'_>) -> candle_core::Result<f32>;

    /// What follows every update; the logit scale of a model that has one.
    ///
    /// # Errors
    /// Only those of the tensor library.
    fn updated(&self) -> candle_core::Result<Option<f64>> {
        Ok(None)
    }

    /// Puts what the configuration names in the place of the initial values.
    ///
    /// # Errors
    /// Whatever reading it fails with.
    fn initialise(&self, _config: &Config) -> Result<()> {
        Ok(())
    }

    /// The model in a few words.
    fn describe(&self) -> String;

    /// What a reader of the results should know of how they come about, one sentence each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A batch's part in a step.
pub struct Pass<'a> {
    /// The batch's weight in the step's gradient.
    pub share: f64,
    /// Takes each sample's own loss, where they are kept.
    pub samples: Option<&'a RefCell<Vec<f32>>>,
    /// When the loss was known: before is the forward pass, after it the backward pass.
    pub loss_known: Cell<Instant>,
}

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
pub struct TrainState<T: Trainee = ClipTrainee> {
    trainee: T,
    average: Option<Average<T>>,
    optimizer: AdamW,
    schedule: Schedule,
    accum_steps: u64,
    /// Gradients and losses of the batches since the last update.
    sums: Gradients,
    losses: Vec<f32>,
    /// The samples' own losses, where they are kept.
    sample_losses: Option<Vec<f32>>,
    phases: Phases,
}

impl<T: Trainee> std::fmt::Debug for TrainState<T> {
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
    /// The logit scale after the update, of a model that has one.
    pub logit_scale: Option<f64>,
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
    /// A CLIP with seeded initial weights, for a run of `total` steps.
    ///
    /// # Errors
    /// [`Error::Tensor`] when the model cannot be built.
    pub fn new(config: &Config, vocab_size: usize, total: u64, device: &Device) -> Result<Self> {
        let clip = ClipTrainee::new(config, vocab_size, device).map_err(Error::tensor("build the model"))?;
        Self::of(clip, config, total)
    }
}

impl<T: Trainee> TrainState<T> {
    /// A model at its beginning, for a run of `total` steps.
    ///
    /// # Errors
    /// [`Error::Tensor`] when the device cannot hold moments and averages.
    pub fn of(trainee: T, config: &Config, total: u64) -> Result<Self> {
        Self::build(trainee, config, total).map_err(Error::tensor("build the model"))
    }

    fn build(trainee: T, config: &Config, total: u64) -> candle_core::Result<Self> {
        let (optim, train) = (&config.optim, &config.train);
        let settings = AdamWConfig {
            kind: optim.kind,
            beta1: optim.beta1,
            beta2: optim.beta2,
            eps: optim.eps,
            weight_decay: optim.weight_decay,
            grad_norm_max: Some(optim.clip).filter(|clip| *clip > 0.0),
        };
        let schedule = Schedule {
            warmup: optim.warmup,
            decay: optim.schedule,
            lr_max: optim.lr,
            warmup_steps: config.warmup_steps(total),
            total_steps: total,
            final_fraction: optim.final_lr_fraction,
        };
        let average = match train.ema_decay {
            0.0 => None,
            decay => Some(Average::new(&trainee, decay)?),
        };
        Ok(Self {
            optimizer: AdamW::new(trainee.params(), settings)?,
            trainee,
            average,
            schedule,
            accum_steps: optim.accum_steps,
            sums: Gradients::default(),
            losses: Vec::new(),
            sample_losses: train.sample_ledger.then(Vec::new),
            phases: Phases::default(),
        })
    }

    /// Puts back the weights, moments and averaged weights of `checkpoint` after `steps` steps.
    ///
    /// # Errors
    /// [`Error::Weights`] naming what does not fit.
    pub fn load(
        &mut self,
        checkpoint: &Path,
        weights: Tensors,
        moments: Tensors,
        averaged: Option<Tensors>,
        steps: u64,
    ) -> Result<()> {
        load(self.trainee.params(), weights, checkpoint)?;
        if let (Some(average), Some(averaged)) = (&self.average, averaged) {
            load(average.model().params(), averaged, checkpoint)?;
        }
        let loaded = self.optimizer.load_state(&moments.into_iter().collect(), steps);
        loaded.map_err(|e| unfit(checkpoint, &e))
    }

    /// Takes the values that the configuration names in the place of the initial ones.
    ///
    /// # Errors
    /// As [`Trainee::initialise`].
    pub fn initialise(&self, config: &Config) -> Result<()> {
        self.trainee.initialise(config)?;
        match &self.average {
            Some(average) => {
                average.begin(&self.trainee).map_err(Error::tensor("begin the average of the weights"))
            }
            None => Ok(()),
        }
    }

    /// What evaluations measure: the average of the weights if there is one, else the weights. It follows every
    /// update.
    pub fn evaluated(&self) -> &T {
        self.average.as_ref().map_or(&self.trainee, Average::model)
    }

    /// What the model stands on.
    pub fn device(&self) -> &Device {
        self.trainee.device()
    }

    /// Whether evaluations use an average of the weights.
    pub fn has_average(&self) -> bool {
        self.average.is_some()
    }

    /// The weights by name; they share memory with the model.
    pub fn weights(&self) -> Tensors {
        self.trainee.params().tensors().into_iter().collect()
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
        self.trainee.params().scalar_count()
    }

    /// The model in a few words.
    pub fn describe(&self) -> String {
        self.trainee.describe()
    }

    /// What a reader of the results should know of how they come about, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.trainee.notes();
        if self.average.is_some() {
            notes.push("evaluations use the running average of the weights (train.ema_decay)".to_owned());
        }
        notes
    }

    /// Learns from one batch alone. A loss or gradient that is no number leaves the weights as they were.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn train_step(&mut self, batch: &T::Inputs) -> Result<std::result::Result<StepResult, NotFinite>> {
        match self.gather(batch, 1)? {
            Ok(()) => self.update(),
            Err(broken) => Ok(Err(broken)),
        }
    }

    /// Adds one of a step's `optim.accum_steps` batches to the gradient of the next [`update`](Self::update).
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn accumulate(&mut self, batch: &T::Inputs) -> Result<std::result::Result<(), NotFinite>> {
        self.gather(batch, self.accum_steps)
    }

    fn gather(&mut self, batch: &T::Inputs, batches: u64) -> Result<std::result::Result<(), NotFinite>> {
        let begun = Instant::now();
        let samples = RefCell::new(Vec::new());
        let kept = self.sample_losses.is_some().then_some(&samples);
        let pass = Pass { share: 1.0 / batches as f64, samples: kept, loss_known: Cell::new(begun) };
        let (optimizer, sums) = (&self.optimizer, &mut self.sums);
        let mut add = |grads: &GradStore| optimizer.accumulate(sums, grads);
        let loss = self.trainee.learn(batch, &pass, &mut add);
        let loss = loss.map_err(Error::tensor("run the model forward and backward"))?;
        // Work that a device has not done yet would count as the optimizer's, which waits for it next.
        self.trainee.device().synchronize().map_err(Error::tensor("wait for the backward pass"))?;
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
        let logit_scale = self.trainee.updated().map_err(Error::tensor("look at the updated weights"))?;
        if let Some(average) = &self.average {
            average
                .follow(&self.trainee, self.optimizer.steps())
                .map_err(Error::tensor("average the weights"))?;
        }
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

/// Sets every parameter from weights that were read from `path`.
pub(crate) fn load(params: &Params, weights: Tensors, path: &Path) -> Result<()> {
    params.load(&weights.into_iter().collect()).map_err(|e| unfit(path, &e))
}

fn unfit(path: &Path, error: &ParamsError) -> Error {
    let mut reason = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        reason.push_str(&format!(": {cause}"));
    }
    Error::Weights { path: path.to_path_buf(), reason }
}
