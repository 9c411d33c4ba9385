//! Mean cross-entropy of rows of logits against target classes, stable for logits of any size.
//!
//! `loss = mean over counted rows of (logsumexp(row) − (1 − ε)·row[target] − ε·mean(row))` with ε the label
//! smoothing (Szegedy et al. 2016), as in PyTorch; its gradient is
//! `(softmax(row) − (1 − ε)·onehot(target) − ε/C) / counted`. Rows whose target is `ignored` count for
//! nothing, and a batch with no counted row has loss 0. Left out: class weights.

use super::buffer::{at_least_f32, on_kernels, read, rows_of, rows_per_chunk, slice, tensor};
use super::lanes::{exp, max, sum_map};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Mean cross-entropy of `logits` (N, C) for one target class a row; a scalar.
///
/// # Errors
/// When the number of targets is not N, or a target that is not `ignored` is not below C.
pub fn cross_entropy(logits: &Tensor, targets: &[u32], ignored: Option<u32>) -> Result<Tensor> {
    smoothed_cross_entropy(logits, targets, ignored, 0.0)
}

/// As [`cross_entropy`], with the share `smoothing` of each target spread evenly over all classes.
///
/// # Errors
/// Those of [`cross_entropy`], and when `smoothing` is not from 0 to below 1.
pub fn smoothed_cross_entropy(
    logits: &Tensor,
    targets: &[u32],
    ignored: Option<u32>,
    smoothing: f32,
) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if !(0.0..1.0).contains(&smoothing) {
        bail!("cross_entropy: a label smoothing of {smoothing} is not from 0 to below 1")
    }
    if targets.len() != rows {
        bail!("cross_entropy: {rows} rows of logits, {} targets", targets.len())
    }
    if let Some(target) = targets.iter().find(|t| Some(**t) != ignored && **t as usize >= classes) {
        bail!("cross_entropy: target {target} is outside the {classes} classes")
    }
    let counted = targets.iter().filter(|t| Some(**t) != ignored).count();
    if on_kernels(&[logits]) {
        let op = CrossEntropy { targets: targets.to_vec(), ignored, counted, smoothing };
        return logits.contiguous()?.apply_op1(op);
    }
    let logits = at_least_f32(logits)?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let weight: Vec<f32> = targets.iter().map(|t| if Some(*t) == ignored { 0.0 } else { 1.0 }).collect();
    let safe: Vec<u32> = targets.iter().map(|t| if Some(*t) == ignored { 0 } else { *t }).collect();
    let safe = Tensor::from_vec(safe, (rows, 1), logits.device())?;
    let at_target = (shifted.gather(&safe, 1)? * f64::from(1.0 - smoothing))?;
    let at_all = (shifted.mean_keepdim(D::Minus1)? * f64::from(smoothing))?;
    let losses = ((log_sum - at_target)? - at_all)?.squeeze(1)?;
    let weight = Tensor::from_vec(weight, rows, logits.device())?.to_dtype(logits.dtype())?;
    (losses * weight)?.sum_all()? / counted.max(1) as f64
}

struct CrossEntropy {
    targets: Vec<u32>,
    ignored: Option<u32>,
    counted: usize,
    smoothing: f32,
}

simd! {
    /// The largest value of a row and the sum of exponentials relative to it.
    pub(crate) fn log_sum_parts(row: &[f32]) -> (f32, f32) {
        let largest = max(row);
        (largest, sum_map(row, |v| exp(v - largest)))
    }
}

simd! {
    fn scaled_softmax(row: &[f32], scale: f32, less: f32, out: &mut [f32]) {
        let (largest, sum) = log_sum_parts(row);
        let scale = scale / sum;
        for (out, v) in out.iter_mut().zip(row) {
            *out = exp(v - largest) * scale - less;
        }
    }
}

simd! {
    fn mean(row: &[f32]) -> f32 {
        sum_map(row, |v| v) / row.len() as f32
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = slice(storage, layout)?;
        let (_, classes) = rows_of(layout.shape())?;
        let losses: Vec<f64> = logits
            .par_chunks(classes)
            .zip(self.targets.par_iter())
            .map(|(row, target)| {
                if Some(*target) == self.ignored {
                    return 0.0;
                }
                let (largest, sum) = log_sum_parts(row);
                let log_sum = f64::from(sum).ln() + f64::from(largest);
                let at_target = f64::from(row[*target as usize]);
                if self.smoothing == 0.0 {
                    return log_sum - at_target;
                }
                let smoothing = f64::from(self.smoothing);
                log_sum - (1.0 - smoothing) * at_target - smoothing * f64::from(mean(row))
            })
            .collect();
        let mean = losses.iter().sum::<f64>() / self.counted.max(1) as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, classes) = rows_of(logits.shape())?;
        let scale = grad.to_scalar::<f32>()? / self.counted.max(1) as f32;
        let (at_target, at_all) = (scale * (1.0 - self.smoothing), scale * self.smoothing / classes as f32);
        let rows = rows_per_chunk(classes);
        let mut dx = vec![0.0; logits.elem_count()];
        read(logits, |logits| {
            dx.par_chunks_mut(rows * classes)
                .zip(logits.par_chunks(rows * classes))
                .zip(self.targets.par_chunks(rows))
                .for_each(|((dx, logits), targets)| {
                    let rows = dx.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
                    for ((dx, row), target) in rows.zip(targets) {
                        if Some(*target) != self.ignored {
                            scaled_softmax(row, scale, at_all, dx);
                            dx[*target as usize] -= at_target;
                        }
                    }
                });
            Ok(())
        })?;
        Ok(Some(tensor(dx, logits.shape())?))
    }
}
