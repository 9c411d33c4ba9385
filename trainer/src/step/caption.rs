//! A captioner as a model that steps learn.

use super::{Add, Pass, Trainee};
use crate::captioner::{CaptionBatch, CaptionModel};
use crate::model::Params;
use candle_core::{Device, Result};
use std::time::Instant;

/// A captioner in training.
pub struct CaptionTrainee {
    model: CaptionModel,
    /// The same parameters without a record for the backward pass.
    plain: CaptionModel,
    device: Device,
    notes: Vec<String>,
}

impl CaptionTrainee {
    /// Learns `model`, which stands on `device`.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn new(model: CaptionModel, device: &Device) -> Result<Self> {
        Ok(Self { plain: model.for_inference()?, model, device: device.clone(), notes: Vec::new() })
    }

    /// The same, with what a reader of the results should know.
    #[must_use]
    pub fn noting(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// The network for evaluation: it records nothing.
    pub fn plain(&self) -> &CaptionModel {
        &self.plain
    }
}

impl Trainee for CaptionTrainee {
    type Inputs = CaptionBatch;

    fn params(&self) -> &Params {
        self.model.params()
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn copied(&self) -> Result<Self> {
        let plain = self.model.copied()?;
        Ok(Self { model: plain.clone(), plain, device: self.device.clone(), notes: Vec::new() })
    }

    fn learn(&self, batch: &CaptionBatch, pass: &Pass<'_>, add: Add<'_>) -> Result<f32> {
        let loss = self.model.loss(batch)?;
        let value = loss.mean.to_scalar::<f32>()?;
        pass.loss_known.set(Instant::now());
        if !value.is_finite() {
            return Ok(value);
        }
        let loss = if pass.share == 1.0 { loss.mean } else { (loss.mean * pass.share)? };
        add(&self.model.backward(&loss)?)?;
        Ok(value)
    }

    fn describe(&self) -> String {
        self.model.describe()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}
