//! What the tests of the training loop share: a small run, and a reporter that keeps rows and stops.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod program;
pub(crate) mod values;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::Spec;
use trainer::checkpoint::State;
use trainer::config::Config;
use trainer::fit::{self, Job, Outcome, Reporter};
use trainer::metrics::{TrainRow, ValRow};

/// A data set of 30 training and 13 validation samples of 40 pixels, larger than the model's 32.
pub(crate) fn data() -> tempfile::TempDir {
    let splits = vec![("train".to_owned(), 30), ("val".to_owned(), 13)];
    Spec { splits, ..Spec::small() }.size(40).temporary()
}

/// The smallest model for six steps over one and a half epochs.
pub(crate) fn config(overrides: &[&str]) -> Config {
    let text = "model.preset = \"nano\"
        data = { batch_size = 7 }
        tokenizer = { vocab_size = 300 }
        optim = { epochs = 0, steps = 6, lr = 1e-2, warmup_steps = 2 }
        train = { log_every = 1, eval_every = 2, checkpoint_every = 0, seed = 3 }";
    let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
    Config::from_toml(text, "test.toml", &overrides).unwrap()
}

/// Keeps every row, and asks to stop after a step.
#[derive(Default)]
pub(crate) struct Keep {
    pub(crate) rows: Vec<TrainRow>,
    pub(crate) evaluated: Vec<ValRow>,
    pub(crate) warnings: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) begun_at: u64,
    pub(crate) stop_after: Option<u64>,
}

struct Shared<'a>(&'a mut Keep, &'a AtomicBool);

impl Reporter for Shared<'_> {
    fn begin(&mut self, state: &State, _total: u64, _model: &str) {
        self.0.begun_at = state.step;
    }
    fn step(&mut self, row: &TrainRow, _total: u64, _is_logged: bool) {
        self.0.rows.push(row.clone());
        if self.0.stop_after == Some(row.step) {
            self.1.store(true, Ordering::SeqCst);
        }
    }
    fn evaluated(&mut self, row: &ValRow) {
        self.0.evaluated.push(row.clone());
    }
    fn saved(&mut self, _checkpoint: &Path) {}
    fn warned(&mut self, message: &str) {
        self.0.warnings.push(message.to_owned());
    }
    fn note(&mut self, note: &str) {
        self.0.notes.push(note.to_owned());
    }
}

impl Keep {
    /// For a run that is stopped after `step`.
    pub(crate) fn until(step: u64) -> Self {
        Self { stop_after: Some(step), ..Self::default() }
    }

    /// What must be equal in bits: step, epoch, loss, learning rate, gradient norm, logit scale.
    pub(crate) fn bits(&self) -> Vec<(u64, u64, u32, u64, u64, Option<u64>)> {
        let bits = |r: &TrainRow| {
            (
                r.step,
                r.epoch,
                r.loss.to_bits(),
                r.lr.to_bits(),
                r.grad_norm.to_bits(),
                r.logit_scale.map(f64::to_bits),
            )
        };
        self.rows.iter().map(bits).collect()
    }
}

/// Trains, telling `keep`.
pub(crate) fn train(
    config: &Config,
    data: &Path,
    run: &Path,
    resume: bool,
    keep: &mut Keep,
) -> trainer::Result<Outcome> {
    let stop = AtomicBool::new(false);
    fit::train(Job { config, data, run, resume, stop: &stop }, &mut Shared(keep, &stop))
}
