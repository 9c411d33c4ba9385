//! Each sample's own share of a batch's loss.
//!
//! A sample's two terms are those of its image (a row of the logits) and of its caption (a column); their mean
//! over the batch is the batch's loss. Taken from the features that the step has anyway; records nothing for a
//! backward pass. Leaves out what is done with them.

use crate::config::{LossConfig, LossKind};
use crate::model::ClipOutput;
use crate::ops::linear;
use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

/// The mean of each sample's two terms, in nats, in the order of the batch.
///
/// # Errors
/// When the two sides differ in shape, or the model has no `logit_bias` for SigLIP.
pub fn sample_losses(output: &ClipOutput, config: &LossConfig) -> Result<Vec<f32>> {
    let scalar = |tensor: &Tensor| tensor.detach().to_dtype(DType::F32)?.to_scalar::<f32>();
    let scale = scalar(&output.logit_scale)?;
    let bias = match (config.kind, &output.logit_bias) {
        (LossKind::Infonce, _) => 0.0,
        (LossKind::Siglip, Some(bias)) => scalar(bias)?,
        (LossKind::Siglip, None) => bail!("the model has no logit_bias, which SigLIP needs"),
    };
    let cosines = linear(&output.image_features.detach(), &output.text_features.detach(), None)?;
    let count = cosines.dim(0)?;
    let side = |cosines: Tensor| -> Result<Vec<f64>> {
        let values = cosines.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let row = |(pair, row): (usize, &[f32])| {
            let logits = row.iter().map(|cosine| scale * cosine + bias);
            match config.kind {
                LossKind::Infonce => info_nce(logits, pair, config.label_smoothing),
                LossKind::Siglip => sigmoid(logits, pair),
            }
        };
        Ok(values.par_chunks_exact(count.max(1)).enumerate().map(row).collect())
    };
    let (images, texts) = (side(cosines.clone())?, side(cosines.t()?.contiguous()?)?);
    Ok(images.iter().zip(texts).map(|(image, text)| (0.5 * (image + text)) as f32).collect())
}

/// `logsumexp(row) − (1 − ε)·row[pair] − ε·mean(row)`.
fn info_nce(logits: impl Iterator<Item = f32> + Clone, pair: usize, smoothing: f64) -> f64 {
    let largest = logits.clone().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut total, mut right, mut count) = (0.0, 0.0, 0.0, 0.0);
    for (place, logit) in logits.enumerate() {
        sum += f64::from(logit - largest).exp();
        total += f64::from(logit);
        count += 1.0;
        if place == pair {
            right = f64::from(logit);
        }
    }
    sum.ln() + f64::from(largest) - (1.0 - smoothing) * right - smoothing * total / count
}

/// The sum of `softplus(−z·logit)` over a row, z = 1 for the pair and −1 elsewhere.
fn sigmoid(logits: impl Iterator<Item = f32>, pair: usize) -> f64 {
    let loss = |(place, logit): (usize, f32)| {
        let wrong = f64::from(if place == pair { -logit } else { logit });
        wrong.max(0.0) + (-wrong.abs()).exp().ln_1p()
    };
    logits.enumerate().map(loss).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::pair_loss;
    use crate::ops::normalize_rows;
    use candle_core::Device;

    fn output(count: usize, width: usize) -> ClipOutput {
        let features = |step: f32| {
            let values = (0..count * width).map(|i| (i as f32 * step).sin()).collect::<Vec<f32>>();
            normalize_rows(&Tensor::from_vec(values, (count, width), &Device::Cpu).unwrap()).unwrap()
        };
        let scalar = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
        ClipOutput {
            image_features: features(0.7),
            text_features: features(0.71),
            logit_scale: scalar(9.0),
            logit_bias: Some(scalar(-4.0)),
        }
    }

    #[test]
    fn their_mean_is_the_loss_of_the_batch() {
        for (kind, label_smoothing) in
            [(LossKind::Infonce, 0.0), (LossKind::Infonce, 0.2), (LossKind::Siglip, 0.0)]
        {
            let config = LossConfig { kind, label_smoothing, ..LossConfig::default() };
            let output = output(13, 8);
            let losses = sample_losses(&output, &config).unwrap();
            let mean = losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / 13.0;
            let whole = f64::from(pair_loss(&output, &config).unwrap().to_scalar::<f32>().unwrap());
            assert!((mean - whole).abs() < 1e-5 * whole, "{kind:?}: {mean}, {whole}");
            assert!(losses.iter().any(|loss| (f64::from(*loss) - mean).abs() > 0.01), "{losses:?}");
        }
    }

    #[test]
    fn a_sample_has_its_own_row_and_column() {
        // Images (1,0), (0,1); captions (1,0), (0.6,0.8): cosines [[1, 0.6], [0, 0.8]].
        let rows = |values: [f32; 4]| Tensor::from_slice(&values, (2, 2), &Device::Cpu).unwrap();
        let scalar = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
        let output = ClipOutput {
            image_features: rows([1.0, 0.0, 0.0, 1.0]),
            text_features: rows([1.0, 0.0, 0.6, 0.8]),
            logit_scale: scalar(2.0),
            logit_bias: None,
        };
        let found = sample_losses(&output, &LossConfig::default()).unwrap();
        let miss = |right: f64, wrong: f64| (1.0 + (2.0 * (wrong - right)).exp()).ln();
        let expected = [0.5 * (miss(1.0, 0.6) + miss(1.0, 0.0)), 0.5 * (miss(0.8, 0.0) + miss(0.8, 0.6))];
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{found}, {expected}");
        }
        let siglip = LossConfig { kind: LossKind::Siglip, ..LossConfig::default() };
        assert!(sample_losses(&output, &siglip).unwrap_err().to_string().contains("logit_bias"));
    }
}
