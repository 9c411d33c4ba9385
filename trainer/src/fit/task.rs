//! What differs from one kind of model to another in the loop: a batch's tensors, and an evaluation.

use crate::error::Result;
use crate::metrics::ValRow;
use crate::step::Trainee;
use loader::Batch;
use std::path::Path;

/// What a model is taught, and how it is measured.
pub(crate) trait Task: Sync {
    /// The model.
    type Model: Trainee;

    /// A training batch as the model's input; a thread of its own calls this, ahead of the step.
    fn prepare(&self, batch: &Batch) -> Result<Inputs<Self>>;

    /// Keeps in the run's folder what the run needs beside its checkpoints.
    fn keep(&self, _run: &Path) -> Result<()> {
        Ok(())
    }

    /// Measures the model on the validation view.
    fn evaluate(&self, model: &Self::Model, at: &At<'_>) -> Result<ValRow>;
}

/// The input of a task's model.
pub(crate) type Inputs<T> = <<T as Task>::Model as Trainee>::Inputs;

/// Where a run stands when it is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    /// Optimizer steps made.
    pub(crate) step: u64,
    /// The epoch, from 0.
    pub(crate) epoch: u64,
    /// Samples learned from.
    pub(crate) samples_seen: u64,
    /// Whether the averaged weights are measured.
    pub(crate) averaged: bool,
    /// The run's folder.
    pub(crate) run: &'a Path,
}
