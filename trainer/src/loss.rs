//! The symmetric contrastive loss (InfoNCE; Radford et al. 2021).
//!
//! For unit-length features `I`, `T` of B pairs and `s = exp(logit_scale)`, the logits are `L = s·I·Tᵀ`, and
//! with pair i the only positive of row and column i,
//! `loss = ½ · mean_i(logsumexp_j L_ij − L_ii) + ½ · mean_i(logsumexp_j L_ji − L_ii)`.
//! The parameter is the logarithm of s and is clamped after each step, so that s stays between 1 and 100.
//! Left out: features gathered from other ranks.

use crate::model::{ClipOutput, Params};
use crate::ops::{cross_entropy, linear};
use candle_core::{Result, Tensor};

/// Largest value of `logit_scale`: ln 100.
pub const LOGIT_SCALE_MAX: f32 = 4.605_170_2;

/// Loss of a batch in which image i belongs to text i; a scalar.
///
/// # Errors
/// When the two sides differ in shape.
pub fn contrastive_loss(output: &ClipOutput) -> Result<Tensor> {
    let (images, texts) = (&output.image_features, &output.text_features);
    let targets: Vec<u32> = (0..images.dim(0)? as u32).collect();
    let logits_per_image = linear(images, texts, None)?.broadcast_mul(&output.logit_scale)?;
    let logits_per_text = linear(texts, images, None)?.broadcast_mul(&output.logit_scale)?;
    let total =
        cross_entropy(&logits_per_image, &targets, None)? + cross_entropy(&logits_per_text, &targets, None)?;
    total? * 0.5
}

/// Brings `logit_scale` back between 0 and [`LOGIT_SCALE_MAX`], as is due after each optimizer step.
///
/// # Errors
/// Only those of the tensor library.
pub fn clamp_logit_scale(params: &Params) -> Result<()> {
    match params.get("logit_scale") {
        Some(var) => var.set(&var.as_detached_tensor().clamp(0f32, LOGIT_SCALE_MAX)?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn chance_level_is_the_logarithm_of_the_batch() {
        let same = Tensor::ones((4, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let features = crate::ops::normalize_rows(&same).unwrap();
        let logit_scale = Tensor::new(14f32, &Device::Cpu).unwrap();
        let output = ClipOutput { image_features: features.clone(), text_features: features, logit_scale };
        let loss = contrastive_loss(&output).unwrap().to_scalar::<f32>().unwrap();
        assert!((loss - 4f32.ln()).abs() < 1e-5, "{loss}");
    }
}
