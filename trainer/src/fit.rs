//! The training loop: evaluate, save, stop, step, log.
//!
//! A step is in [`step`](crate::step), a checkpoint in [`checkpoint`]; this is the
//! order of things around them. Prints nothing: a [`Reporter`] is told.

mod caption;
mod clip;
mod gathered;
mod patience;
mod preflight;
mod task;

pub use preflight::Preflight;
pub(crate) use task::{At, Inputs, Task};

use crate::ahead::{Numbering, Ready, with_batches};
use crate::checkpoint::{self, Best, Checkpoints, Identity, State, Weights};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::fsync;
use crate::metrics::{self, MetricsLog, NormsRow, Row, TrainRow, ValRow};
use crate::periodicity;
use crate::plots;
use crate::run::RunFolder;
use crate::samples::Samples;
use crate::step::{NotFinite, StepResult, TrainState};
use crate::tokenizer::Tokenizer;
use gathered::Gathered;
use loader::{Batch, Loader, LoaderState};
use patience::Patience;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Is told how a run goes.
pub trait Reporter {
    /// The run begins or goes on at `state`, of `total` steps.
    fn begin(&mut self, state: &State, total: u64, model: &str);
    /// A step was made; `is_logged` when its row goes to the metrics.
    fn step(&mut self, row: &TrainRow, total: u64, is_logged: bool);
    /// An evaluation was made.
    fn evaluated(&mut self, row: &ValRow);
    /// A checkpoint was written.
    fn saved(&mut self, checkpoint: &Path);
    /// Something that a reader of the results should know, in one sentence.
    fn note(&mut self, _note: &str) {}
    /// Something that the person who trains should know; the run goes on.
    fn warned(&mut self, message: &str);
}

/// What a run needs.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The resolved configuration.
    pub config: &'a Config,
    /// The data set's folder.
    pub data: &'a Path,
    /// The run's folder.
    pub run: &'a Path,
    /// Whether an existing run is continued.
    pub resume: bool,
    /// Set from outside to stop after the step that is being made.
    pub stop: &'a AtomicBool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are made.
    Finished {
        /// Optimizer steps of the run.
        step: u64,
        /// The plots.
        plots: Vec<PathBuf>,
    },
    /// Evaluations did not get better for as long as `train.patience` says.
    StoppedEarly {
        /// Optimizer steps made.
        step: u64,
        /// The step of the best evaluation.
        best: u64,
        /// The plots.
        plots: Vec<PathBuf>,
    },
    /// It was asked to stop, and a checkpoint is written.
    Stopped {
        /// Optimizer steps made.
        step: u64,
        /// The checkpoint.
        checkpoint: PathBuf,
    },
}

/// Trains a run to its end or until it is stopped.
///
/// # Errors
/// Whatever the parts fail with; [`Error::NotFinite`] when loss or gradient are no numbers. The last
/// checkpoint stays as it was.
pub fn train(job: Job<'_>, reporter: &mut dyn Reporter) -> Result<Outcome> {
    if job.config.caption.is_on() { caption::train(job, reporter) } else { clip::train(job, reporter) }
}

/// The captions of a view, for a tokenizer that is trained on them.
pub(crate) fn captions_of(loader: &Loader) -> Result<Vec<String>> {
    let doing = "read the captions for the tokenizer";
    loader.captions().map(|caption| caption.map(str::to_owned).map_err(Error::loader(doing))).collect()
}

/// What a run learns, with everything that the loop around it needs.
pub(crate) struct Parts<'a, T: Task> {
    pub(crate) run: &'a RunFolder,
    pub(crate) loader: &'a Loader,
    pub(crate) tokenizer: &'a Tokenizer,
    /// Digests of what is read beside the data set and never learned, by name.
    pub(crate) frozen: &'a BTreeMap<String, String>,
    pub(crate) task: &'a T,
    pub(crate) model: TrainState<T::Model>,
    pub(crate) total: u64,
}

/// Goes on from the newest checkpoint, or begins.
pub(crate) fn go<T: Task>(job: Job<'_>, parts: Parts<'_, T>, reporter: &mut dyn Reporter) -> Result<Outcome> {
    let Parts { run, loader, tokenizer, frozen, task, mut model, total } = parts;
    let config = job.config;
    let device = model.device().clone();
    let digest = tokenizer.digest();
    let first = loader.state(0, 0);
    let identity = Identity { config, loader: &first, tokenizer: &digest, frozen };
    let mut state = State::begin(identity)?;
    let mut samples = config.train.sample_ledger.then(|| Samples::of(loader));
    if let Some(latest) = Checkpoints::of_run(job.run).latest()? {
        let saved = checkpoint::read_state(&latest)?;
        saved.check(&latest, identity)?;
        let weights = checkpoint::read_model(&latest, &saved, &device)?;
        let moments = checkpoint::read_optimizer(&latest, &saved, &device)?;
        model.load(
            &latest,
            weights,
            moments,
            checkpoint::read_averaged(&latest, &saved, &device)?,
            saved.step,
        )?;
        if let Some(samples) = &mut samples {
            samples.resume(&latest, &saved)?;
        }
        state = State { step: saved.step, samples_seen: saved.samples_seen, loader: saved.loader, ..state };
    } else {
        model.initialise(config)?;
    }
    let checkpoints = Checkpoints::of_run(job.run);
    if state.step < total {
        let (weights, moments, averaged) = (model.weights(), model.moments(), model.averaged());
        let weights =
            Weights { model: &weights, optimizer: &moments, averaged: averaged.as_ref(), samples: None };
        let samples_bytes = samples.as_ref().map_or(0, Samples::file_bytes);
        checkpoints.require_room(weights.bytes() + samples_bytes)?;
    }
    task.keep(job.run)?;
    run.keep(config, tokenizer)?;
    let log = MetricsLog::open(job.run, state.step)?;
    let rows = metrics::read(job.run)?;
    reporter.begin(&state, total, &model.describe());
    let notes = model.notes().into_iter().chain(samples.as_ref().and_then(Samples::note));
    notes.for_each(|note| reporter.note(&note));
    let mut fit = Fit {
        job,
        task,
        loader,
        model,
        saved_at: if state.step > 0 { Some(state.step) } else { None },
        evaluated_at: rows.iter().rev().find_map(|r| matches!(r, Row::Val(_)).then(|| r.step())),
        patience: Patience::new(&config.train, &rows),
        gathered: Vec::new(),
        samples,
        state,
        total,
        log,
        checkpoints,
        window: Window::new(),
        periodicity: periodicity::watch::Watch::default(),
        reporter,
    };
    fit.run()
}

/// Time and samples since the last row of the log.
struct Window {
    begun: Instant,
    waited: Duration,
    samples: u64,
}

impl Window {
    fn new() -> Self {
        Self { begun: Instant::now(), waited: Duration::ZERO, samples: 0 }
    }

    /// Samples a second, and the share of the time that was spent waiting for data.
    fn rates(&self) -> (f64, f64) {
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-9);
        (self.samples as f64 / seconds, (self.waited.as_secs_f64() / seconds).min(1.0))
    }
}

struct Fit<'a, T: Task> {
    job: Job<'a>,
    task: &'a T,
    loader: &'a Loader,
    model: TrainState<T::Model>,
    state: State,
    saved_at: Option<u64>,
    evaluated_at: Option<u64>,
    patience: Patience,
    /// The batches since the last step.
    gathered: Vec<Gathered>,
    /// What is kept of each sample, with `train.sample_ledger`.
    samples: Option<Samples>,
    total: u64,
    log: MetricsLog,
    checkpoints: Checkpoints,
    window: Window,
    periodicity: periodicity::watch::Watch,
    reporter: &'a mut dyn Reporter,
}

impl<T: Task> Fit<'_, T> {
    fn run(&mut self) -> Result<Outcome> {
        if self.state.step > 0
            && self.is_due(self.job.config.train.eval_every)
            && self.evaluated_at != Some(self.state.step)
        {
            // The run was stopped between this step and its evaluation.
            self.evaluate()?;
        }
        self.mark_best()?;
        let mut cursor = self.state.loader.clone();
        while self.goes_on() {
            let resumed = self.loader.resume(&cursor);
            let batches = resumed.map_err(Error::loader("begin an epoch"))?;
            let (steps, gathered) = (self.state.step, self.gathered.len() as u64);
            let accum_steps = self.job.config.optim.accum_steps;
            let numbering = Numbering { steps, gathered, accum_steps };
            // No more than the run learns from.
            let wanted = (self.total - steps).saturating_mul(accum_steps).saturating_sub(gathered);
            let batches = batches.take(usize::try_from(wanted).unwrap_or(usize::MAX));
            let task = self.task;
            let prepare = |batch: &Batch| task.prepare(batch);
            let outcome = with_batches(&prepare, batches, numbering, |next| self.epoch(next, &mut cursor))?;
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
        self.finish()
    }

    /// Learns from the batches of an epoch; something when the run is over or was stopped. Nothing is left to save
    /// then: the thread that makes batches ready may be waiting for a slow store.
    fn epoch(
        &mut self,
        next: &mut dyn FnMut() -> Option<Result<Ready<Inputs<T>>>>,
        cursor: &mut LoaderState,
    ) -> Result<Option<Outcome>> {
        while self.goes_on() {
            let waiting = Instant::now();
            let Some(ready) = next() else { break };
            let (batch, inputs) = ready?;
            self.window.waited += waiting.elapsed();
            *cursor = self.loader.state_after(&batch);
            self.gather(&batch, &inputs)?;
            drop((batch, inputs));
            if (self.gathered.len() as u64) < self.job.config.optim.accum_steps {
                continue;
            }
            self.step(cursor)?;
            if self.job.stop.load(Ordering::SeqCst) && self.state.step < self.total {
                let checkpoint = self.save()?;
                self.draw()?;
                return Ok(Some(Outcome::Stopped { step: self.state.step, checkpoint }));
            }
            self.rhythm()?;
        }
        self.epoch_ended();
        if self.goes_on() { Ok(None) } else { self.finish().map(Some) }
    }

    /// Looks for a loss that repeats with the epoch.
    fn epoch_ended(&mut self) {
        // Of steps and not of batches, which a step may take several of.
        let finished = self.state.loader.epoch;
        let epochs = self.total.saturating_mul(finished) / self.state.step.max(1);
        if let Some(message) = self.periodicity.look(self.job.run, finished, epochs) {
            self.reporter.warned(&message);
        }
    }

    fn goes_on(&self) -> bool {
        self.state.step < self.total && !self.patience.is_over()
    }

    /// The gradient of one of a step's batches.
    fn gather(&mut self, batch: &Batch, inputs: &Inputs<T>) -> Result<()> {
        self.window.samples += batch.len() as u64;
        let seen = Gathered::new(batch);
        if let Err(broken) = self.model.accumulate(inputs)? {
            return Err(self.not_finite(&[seen], broken));
        }
        self.gathered.push(seen);
        Ok(())
    }

    /// One optimizer step, its counters and its row; the next batch is at `next`.
    fn step(&mut self, next: &LoaderState) -> Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        let StepResult { loss, lr, grad_norm, logit_scale } = match self.model.update()? {
            Ok(result) => result,
            Err(broken) => return Err(self.not_finite(&gathered, broken)),
        };
        if let Some(samples) = &mut self.samples {
            let numbers = gathered.iter().flat_map(|batch| &batch.samples).copied();
            samples.record(numbers.zip(self.model.take_sample_losses()));
        }
        let row = {
            let state = &mut self.state;
            state.step += 1;
            state.samples_seen += gathered.iter().map(|batch| batch.keys.len() as u64).sum::<u64>();
            let (samples_per_s, data_wait) = self.window.rates();
            TrainRow {
                step: state.step,
                epoch: state.loader.epoch,
                samples_seen: state.samples_seen,
                loss,
                lr,
                grad_norm,
                logit_scale,
                samples_per_s,
                data_wait,
                time: metrics::now(),
            }
        };
        self.state.loader = next.clone();
        let train = &self.job.config.train;
        if train.grad_norms_every > 0 && row.step.is_multiple_of(train.grad_norms_every) {
            let grad_norms = self.model.layer_norms();
            self.log.add(&Row::Norms(NormsRow { step: row.step, grad_norms, time: row.time }))?;
        }
        let is_edge = row.step == 1 || row.step == self.total;
        let is_logged = is_edge || row.step.is_multiple_of(train.log_every);
        self.reporter.step(&row, self.total, is_logged);
        if is_logged {
            self.log.add(&Row::Train(row))?;
            self.window = Window::new();
        }
        Ok(())
    }

    /// Whether something that is done every so many steps is due; the last step has its own end.
    fn is_due(&self, every: u64) -> bool {
        every > 0 && self.state.step.is_multiple_of(every) && self.state.step < self.total
    }

    /// Evaluation and checkpoints that are due after a step.
    fn rhythm(&mut self) -> Result<()> {
        let train = &self.job.config.train;
        if self.is_due(train.eval_every) {
            self.evaluate()?;
        }
        if self.is_due(train.checkpoint_every) {
            if self.saved_at != Some(self.state.step) {
                self.save()?;
            }
            self.draw()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Outcome> {
        if self.evaluated_at != Some(self.state.step) {
            self.evaluate()?;
        }
        if self.saved_at != Some(self.state.step) {
            self.save()?;
        }
        let plots = self.draw()?;
        let step = self.state.step;
        match self.patience.best() {
            Some((best, _)) if step < self.total => Ok(Outcome::StoppedEarly { step, best, plots }),
            _ => Ok(Outcome::Finished { step, plots }),
        }
    }

    fn draw(&self) -> Result<Vec<PathBuf>> {
        plots::draw(self.job.run, &metrics::read(self.job.run)?)
    }

    fn evaluate(&mut self) -> Result<()> {
        let train = &self.job.config.train;
        let at = At {
            step: self.state.step,
            epoch: self.state.loader.epoch,
            samples_seen: self.state.samples_seen,
            averaged: self.model.has_average(),
            run: self.job.run,
        };
        let row = self.task.evaluate(self.model.evaluated(), &at)?;
        self.reporter.evaluated(&row);
        let is_best = self.patience.observe(&row);
        self.log.add(&Row::Val(row))?;
        self.evaluated_at = Some(self.state.step);
        if is_best && train.keep_best {
            if self.saved_at != Some(self.state.step) {
                self.save()?;
            }
            self.mark_best()?;
        }
        // The time of an evaluation is not the training's.
        self.window = Window::new();
        Ok(())
    }

    fn save(&mut self) -> Result<PathBuf> {
        self.log.sync()?;
        let keep = self.job.config.train.keep_checkpoints;
        let (weights, moments) = (self.model.weights(), self.model.moments());
        let averaged = self.model.averaged();
        let samples = self.samples.as_ref().map(|samples| samples.to_file(self.loader)).transpose()?;
        let (averaged, samples) = (averaged.as_ref(), samples.as_deref());
        let weights = Weights { model: &weights, optimizer: &moments, averaged, samples };
        let path = self.checkpoints.save(self.state.clone(), &weights, keep)?;
        self.saved_at = Some(self.state.step);
        self.reporter.saved(&path);
        Ok(path)
    }

    /// Marks the checkpoint of the best evaluation, where there is one and it is not marked yet.
    fn mark_best(&mut self) -> Result<()> {
        let train = &self.job.config.train;
        let Some((step, value)) = self.patience.best().filter(|_| train.keep_best) else { return Ok(()) };
        let best = Best { step, monitor: train.monitor.name().to_owned(), value };
        let is_there = self.checkpoints.list()?.iter().any(|(saved, _)| *saved == step);
        if is_there && self.checkpoints.best()?.is_none_or(|(marked, _)| marked != best) {
            self.checkpoints.mark_best(&best, train.keep_checkpoints)?;
        }
        Ok(())
    }

    /// Keeps the batches that broke the run, for whoever looks for the cause.
    fn not_finite(&self, batches: &[Gathered], broken: NotFinite) -> Error {
        let NotFinite { what, value } = broken;
        let saved = self.job.run.join("not_finite.json");
        let step = self.state.step + 1;
        let report = serde_json::json!({
            "step": step,
            "epoch": batches.first().map(|batch| batch.epoch),
            "position": batches.first().map(|batch| batch.position),
            "what": what,
            "value": value.to_string(),
            "keys": batches.iter().flat_map(|batch| &batch.keys).collect::<Vec<_>>(),
            "captions": batches.iter().flat_map(|batch| &batch.captions).collect::<Vec<_>>(),
        });
        match fsync::replace(&saved, format!("{report:#}\n").as_bytes()) {
            Ok(()) => Error::NotFinite { step, what, value, saved },
            Err(source) => Error::Io { doing: "keep the keys of the batch whose loss is no number", source },
        }
    }
}
