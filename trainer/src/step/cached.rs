//! The gradient of one batch: in one pass, or chunk by chunk with the gradient cached at the features.
//!
//! Chunked (GradCache; Gao et al. 2021): the features of the whole batch are computed chunk by chunk with no
//! record kept; the loss over all of them gives its derivative by the features; then each chunk passes through
//! its tower again, with a record, and is sent that derivative. Memory for the towers is a chunk's, negatives
//! are the batch's, and the gradient is exact to rounding, at the price of one more forward pass. Leaves out
//! what is done with the gradients.

use super::{Add, Pass};
use crate::config::LossConfig;
use crate::data::TensorBatch;
use crate::loss::{pair_loss, sample_losses};
use crate::model::{Clip, ClipOutput};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};
use std::time::Instant;

/// How a batch's loss is computed.
pub(super) struct Objective<'a, 'b> {
    pub(super) loss: &'a LossConfig,
    pub(super) pass: &'a Pass<'b>,
}

impl Objective<'_, '_> {
    /// The loss of a batch, whose gradients go to `add` unless the loss is no number.
    pub(super) fn whole(&self, clip: &Clip, batch: &TensorBatch, add: Add<'_>) -> Result<f32> {
        let output = clip.forward(&batch.pixel_values, &batch.input_ids, &batch.eot_positions)?;
        let (value, grads) = self.backward(clip, &output)?;
        grads.map_or(Ok(()), |grads| add(&grads))?;
        Ok(value)
    }

    /// As [`whole`](Self::whole), with at most `chunk` samples in a tower at once; `caching` gives the same
    /// features without a record.
    pub(super) fn chunked(
        &self,
        clip: &Clip,
        caching: &Clip,
        batch: &TensorBatch,
        chunk: usize,
        add: Add<'_>,
    ) -> Result<f32> {
        let count = batch.eot_positions.len();
        let chunks: Vec<Chunk<'_>> = (0..count)
            .step_by(chunk)
            .map(|first| Chunk { batch, first, len: chunk.min(count - first) })
            .collect();
        let features = |encode: &dyn Fn(&Chunk<'_>) -> Result<Tensor>| {
            let parts = chunks.iter().map(encode).collect::<Result<Vec<_>>>()?;
            Var::from_tensor(&Tensor::cat(&parts, 0)?)
        };
        let images = features(&|chunk| chunk.images(caching))?;
        let texts = features(&|chunk| chunk.texts(caching))?;
        let output = ClipOutput {
            image_features: images.as_tensor().clone(),
            text_features: texts.as_tensor().clone(),
            logit_scale: clip.logit_scale()?,
            logit_bias: clip.logit_bias(),
        };
        let (value, grads) = self.backward(clip, &output)?;
        let Some(grads) = grads else { return Ok(value) };
        add(&grads)?;
        let (Some(dimages), Some(dtexts)) = (grads.get(&images), grads.get(&texts)) else {
            bail!("the loss does not depend on the features")
        };
        for chunk in &chunks {
            chunk.send(clip, &chunk.images(clip)?, dimages, add)?;
            chunk.send(clip, &chunk.texts(clip)?, dtexts, add)?;
        }
        Ok(value)
    }

    /// The loss, and its gradients if it is a number.
    fn backward(&self, clip: &Clip, output: &ClipOutput) -> Result<(f32, Option<GradStore>)> {
        let loss = pair_loss(output, self.loss)?;
        let value = loss.to_scalar::<f32>()?;
        self.pass.loss_known.set(Instant::now());
        if !value.is_finite() {
            return Ok((value, None));
        }
        if let Some(samples) = self.pass.samples {
            samples.replace(sample_losses(output, self.loss)?);
        }
        let loss = if self.pass.share == 1.0 { loss } else { (loss * self.pass.share)? };
        Ok((value, Some(clip.backward(&loss)?)))
    }
}

/// Some samples of a batch.
struct Chunk<'a> {
    batch: &'a TensorBatch,
    first: usize,
    len: usize,
}

impl Chunk<'_> {
    fn images(&self, clip: &Clip) -> Result<Tensor> {
        clip.encode_image(&self.batch.pixel_values.narrow(0, self.first, self.len)?)
    }

    fn texts(&self, clip: &Clip) -> Result<Tensor> {
        let input_ids = self.batch.input_ids.narrow(0, self.first, self.len)?;
        clip.encode_text(&input_ids, &self.batch.eot_positions[self.first..self.first + self.len])
    }

    /// Runs a tower's backward pass with the cached derivative of the loss by its features.
    fn send(&self, clip: &Clip, features: &Tensor, cached: &Tensor, add: Add<'_>) -> Result<()> {
        if !features.track_op() {
            // A tower that is frozen as a whole.
            return Ok(());
        }
        let cached = cached.narrow(0, self.first, self.len)?.detach();
        add(&clip.backward(&(features * cached)?.sum_all()?)?)
    }
}
