//! The diffusion captioner as a writer of captions: from noise to x̂_0 in a few steps, then the nearest words.
//!
//! Between steps the estimate keeps the noise that is left (DDIM; Song et al. 2021) or gets fresh noise. Guidance goes from
//! the estimate without a picture through the one with it, and beyond. What is drawn is a hash of (seed, key, candidate).

use super::write::{Writing, Written};
use crate::config::Sampler;
use crate::init::{Init, values};
use crate::model::caption::DiffusionCaptioner;
use crate::ops::linear;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Captions for each picture of `features` (B, rows, inputs): `decode.candidates` a picture.
pub(super) fn write(
    model: &DiffusionCaptioner,
    features: &Tensor,
    keys: &[&str],
    writing: &Writing<'_>,
) -> Result<Vec<Vec<Written>>> {
    let condition = model.condition(features)?;
    let mut all = vec![Vec::new(); keys.len()];
    for number in 0..writing.decode.candidates {
        let drawing = Drawing { model, condition: &condition, keys, writing, number };
        let logits = drawing.logits()?;
        let (_, length, vocab) = logits.dims3()?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        let written: Vec<Written> =
            logits.par_chunks(length * vocab).map(|rows| nearest(rows, vocab, writing)).collect();
        all.iter_mut().zip(written).for_each(|(captions, written)| captions.push(written));
    }
    Ok(all)
}

/// One caption for each of some pictures.
struct Drawing<'a> {
    model: &'a DiffusionCaptioner,
    condition: &'a Tensor,
    keys: &'a [&'a str],
    writing: &'a Writing<'a>,
    number: usize,
}

impl Drawing<'_> {
    /// Normal numbers for every picture (B, L, e); `step` tells draws apart.
    fn noise(&self, step: usize) -> Result<Tensor> {
        let sizes = self.model.sizes();
        let (length, embed) = (sizes.context_length, sizes.embed_dim());
        let (seed, number) = (self.writing.decode.seed, self.number);
        let rows: Vec<Vec<f32>> = self
            .keys
            .par_iter()
            .map(|key| {
                values(Init::Normal(1.0), seed, &format!("caption {number} {step} {key}"), length * embed)
            })
            .collect();
        Tensor::from_vec(rows.concat(), (self.keys.len(), length, embed), self.condition.device())
    }

    /// The estimate of the caption from what is noisy, with guidance.
    fn estimate(&self, noisy: &Tensor, step: usize, guess: Option<&Tensor>) -> Result<Tensor> {
        let steps = vec![step; self.keys.len()];
        let told = |condition: &Tensor| {
            let given = self.model.forward(noisy, &steps, condition, guess)?;
            self.model.estimate(&given, noisy, &steps)
        };
        let with = told(self.condition)?;
        let guidance = self.writing.decode.guidance;
        if guidance == 1.0 {
            return Ok(with);
        }
        let without = told(&self.model.nothing(self.condition)?)?;
        &without + ((with - &without)? * guidance)?
    }

    /// The logits (B, L, V) of the last estimate's nearest words.
    fn logits(&self) -> Result<Tensor> {
        let schedule = self.model.noise();
        let (decode, all) = (self.writing.decode, schedule.steps());
        let count = decode.diffusion_steps.min(all);
        let mut noisy = self.noise(0)?;
        let mut guess: Option<Tensor> = None;
        for number in 0..count {
            let (step, next) = (all * (count - number) / count, all * (count - number - 1) / count);
            let estimate = self.estimate(&noisy, step, guess.as_ref())?;
            if next > 0 {
                let (kept, added) = schedule.shares(step);
                let noise = match decode.sampler {
                    Sampler::Ddim => ((&noisy - (&estimate * kept)?)? / added)?,
                    Sampler::Passes => self.noise(number + 1)?,
                };
                let (kept, added) = schedule.shares(next);
                noisy = ((&estimate * kept)? + (noise * added)?)?;
            }
            guess = Some(estimate);
        }
        let Some(estimate) = guess else { bail!("a diffusion makes one estimate at least") };
        linear(&estimate, self.model.table(), None)
    }
}

/// The likeliest words up to the end.
fn nearest(rows: &[f32], vocab: usize, writing: &Writing<'_>) -> Written {
    let (start, end) = writing.markers;
    let mut written = Written { tokens: Vec::new(), log_prob: 0.0, has_ended: false };
    for row in rows.chunks_exact(vocab) {
        let may_end = written.tokens.len() >= writing.decode.min_length;
        let must_end = written.tokens.len() >= writing.room;
        let mut best = (0, f32::NEG_INFINITY);
        for (token, logit) in (0u32..).zip(row) {
            let allowed = if token == end { may_end } else { token != start };
            if allowed && *logit > best.1 {
                best = (token, *logit);
            }
        }
        if best.0 != end && must_end {
            return written;
        }
        // Of all words, those that may not stand here too.
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|logit| (logit - most).exp()).sum();
        written.log_prob += f64::from(best.1) - f64::from(most) - f64::from(sum).ln();
        if best.0 == end {
            written.has_ended = true;
            return written;
        }
        written.tokens.push(best.0);
    }
    written
}
