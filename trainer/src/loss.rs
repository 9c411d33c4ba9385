//! The losses of a batch of pairs: InfoNCE (Radford et al. 2021) and SigLIP (Zhai et al. 2023).
//!
//! For unit-length features `I`, `T` of B pairs and `s = exp(logit_scale)`, InfoNCE takes the logits
//! `L = s·I·Tᵀ`, and with pair i the only positive of row and column i,
//! `loss = ½ · mean_i(logsumexp_j L_ij − L_ii) + ½ · mean_i(logsumexp_j L_ji − L_ii)`.
//! SigLIP asks of each of the B² pairs alone whether it belongs together, see
//! [`sigmoid_loss()`]; it learns a bias beside the scale.
//! The parameter is the logarithm of s and is clamped after each step, so that s stays between 1 and 100.
//! Left out: features gathered from other ranks.

mod samples;

pub use samples::sample_losses;

use crate::config::{LossConfig, LossKind};
use crate::model::{ClipOutput, Params};
use crate::ops::{linear, sigmoid_loss, smoothed_cross_entropy};
use candle_core::{Result, Tensor, bail};

/// Largest value of `logit_scale`: ln 100.
pub const LOGIT_SCALE_MAX: f32 = 4.605_170_2;

/// Loss of a batch in which image i belongs to text i, by the configured kind; a scalar.
///
/// # Errors
/// When the two sides differ in shape, or the model has no `logit_bias` for SigLIP.
pub fn pair_loss(output: &ClipOutput, config: &LossConfig) -> Result<Tensor> {
    match config.kind {
        LossKind::Infonce => info_nce(output, config.label_smoothing as f32),
        LossKind::Siglip => {
            let Some(bias) = &output.logit_bias else {
                bail!("the model has no logit_bias, which SigLIP needs")
            };
            let cosines = linear(&output.image_features, &output.text_features, None)?;
            sigmoid_loss(&cosines, &output.logit_scale, bias)
        }
    }
}

/// InfoNCE without label smoothing: CLIP's loss.
///
/// # Errors
/// When the two sides differ in shape.
pub fn contrastive_loss(output: &ClipOutput) -> Result<Tensor> {
    info_nce(output, 0.0)
}

fn info_nce(output: &ClipOutput, smoothing: f32) -> Result<Tensor> {
    let (images, texts) = (&output.image_features, &output.text_features);
    let targets: Vec<u32> = (0..images.dim(0)? as u32).collect();
    let side = |rows: &Tensor, columns: &Tensor| {
        let logits = linear(rows, columns, None)?.broadcast_mul(&output.logit_scale)?;
        smoothed_cross_entropy(&logits, &targets, None, smoothing)
    };
    (side(images, texts)? + side(texts, images)?)? * 0.5
}

/// Brings a learned `logit_scale` back between 0 and [`LOGIT_SCALE_MAX`], as is due after each optimizer step.
///
/// # Errors
/// Only those of the tensor library.
pub fn clamp_logit_scale(params: &Params) -> Result<()> {
    match params.find("logit_scale") {
        Some(param) if param.trainable => {
            let var = &param.var;
            var.set(&var.as_detached_tensor().clamp(0f32, LOGIT_SCALE_MAX)?)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn output(bias: Option<f32>) -> ClipOutput {
        let same = Tensor::ones((4, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let features = crate::ops::normalize_rows(&same).unwrap();
        let scalar = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
        ClipOutput {
            image_features: features.clone(),
            text_features: features,
            logit_scale: scalar(14.0),
            logit_bias: bias.map(scalar),
        }
    }

    fn loss(output: &ClipOutput, config: &LossConfig) -> f32 {
        pair_loss(output, config).unwrap().to_scalar::<f32>().unwrap()
    }

    #[test]
    fn chance_level_is_the_logarithm_of_the_batch() {
        let value = loss(&output(None), &LossConfig::default());
        assert!((value - 4f32.ln()).abs() < 1e-5, "{value}");
        let smoothed = LossConfig { label_smoothing: 0.3, ..LossConfig::default() };
        let value = loss(&output(None), &smoothed);
        assert!((value - 4f32.ln()).abs() < 1e-5, "equal guesses cost the same under smoothing: {value}");
    }

    #[test]
    fn siglip_of_equal_guesses_is_what_its_formula_says_and_wants_a_bias() {
        let config = LossConfig { kind: LossKind::Siglip, ..LossConfig::default() };
        let value = f64::from(loss(&output(Some(-13.0)), &config));
        // All logits are 14 − 13 = 1: of 16 pairs 4 are right.
        let softplus = |u: f64| (1.0 + u.exp()).ln();
        let expected = (4.0 * softplus(-1.0) + 12.0 * softplus(1.0)) / 4.0;
        assert!((value - expected).abs() < 1e-4, "{value}, expected {expected}");
        assert!(pair_loss(&output(None), &config).unwrap_err().to_string().contains("logit_bias"));
    }
}
