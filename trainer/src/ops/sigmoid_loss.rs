//! The pairwise sigmoid loss of SigLIP (Zhai et al. 2023, equation 1), stable for logits of any size.
//!
//! With `l_ij = s·c_ij + b` and `z_ij` = 1 on the diagonal and −1 elsewhere,
//! `loss = −(1/N)·Σ_ij log σ(z_ij·l_ij)`: a sum over all pairs, divided by the N rows as in the paper and
//! open_clip. Computed as `softplus(u) = max(u, 0) + log1p(e^−|u|)` of `u = −z·l`, which neither overflows
//! nor rounds a small loss to zero. Left out: features of other ranks.

use super::buffer::{on_kernels, read, slice, tensor};
use super::lanes::exp;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// The loss of `cosines` (N, N), whose diagonal are the pairs, under a factor and a bias; all scalars.
///
/// # Errors
/// When `cosines` is not square, or `scale` or `bias` is not a scalar.
pub fn sigmoid_loss(cosines: &Tensor, scale: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (rows, columns) = cosines.dims2()?;
    if rows != columns || rows == 0 || scale.rank() > 0 || bias.rank() > 0 {
        bail!("sigmoid_loss: expected a square matrix and two scalars, got {:?}", cosines.shape())
    }
    if on_kernels(&[cosines, scale, bias]) {
        return cosines.contiguous()?.apply_op3(scale, bias, SigmoidLoss);
    }
    let logits = cosines.broadcast_mul(scale)?.broadcast_add(bias)?;
    // −z: −1 on the diagonal, 1 elsewhere.
    let signs = Tensor::eye(rows, logits.dtype(), logits.device())?.affine(-2.0, 1.0)?;
    let wrong = (logits * signs)?;
    let tail = (wrong.abs()?.neg()?.exp()? + 1.0)?.log()?;
    (wrong.relu()? + tail)?.sum_all()? / rows as f64
}

struct SigmoidLoss;

/// The two scalars.
fn scalars(scale: &Tensor, bias: &Tensor) -> Result<(f32, f32)> {
    Ok((scale.to_scalar()?, bias.to_scalar()?))
}

/// `log(1 + e^u)`; a NaN stays one, which `max` would lose.
fn softplus(u: f32) -> f32 {
    0.5 * (u + u.abs()) + exp(-u.abs()).ln_1p()
}

/// `1 / (1 + e^−u)`, exact to rounding however small.
#[inline(always)]
fn sigmoid(u: f32) -> f32 {
    let tail = exp(-u.abs());
    if u >= 0.0 { 1.0 / (1.0 + tail) } else { tail / (1.0 + tail) }
}

/// Sum of one row's losses; `pair` is the column of the right caption.
fn row_loss(row: &[f32], pair: usize, scale: f32, bias: f32) -> f64 {
    let loss = |(column, cosine): (usize, &f32)| {
        let logit = scale * cosine + bias;
        f64::from(softplus(if column == pair { -logit } else { logit }))
    };
    row.iter().enumerate().map(loss).sum()
}

simd! {
    /// Derivatives of one row's losses by its logits, times `gain`.
    fn row_gradient(row: &[f32], pair: usize, scale: f32, bias: f32, gain: f32, out: &mut [f32]) {
        for (out, cosine) in out.iter_mut().zip(row) {
            *out = gain * sigmoid(scale * cosine + bias);
        }
        out[pair] = -gain * sigmoid(-(scale * row[pair] + bias));
    }
}

impl CustomOp3 for SigmoidLoss {
    fn name(&self) -> &'static str {
        "sigmoid-loss"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (cosines, scale, bias) = (slice(s1, l1)?, slice(s2, l2)?[0], slice(s3, l3)?[0]);
        let rows = l1.shape().dims()[0];
        let losses: Vec<f64> = cosines
            .par_chunks(rows)
            .enumerate()
            .map(|(pair, row)| row_loss(row, pair, scale, bias))
            .collect();
        let mean = losses.iter().sum::<f64>() / rows as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        cosines: &Tensor,
        scale: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (factor, offset) = scalars(scale, bias)?;
        let rows = cosines.dim(0)?;
        let gain = grad.to_scalar::<f32>()? / rows as f32;
        let mut dcosines = vec![0.0; cosines.elem_count()];
        // By row: the derivatives by scale and by bias.
        let sums: Vec<[f64; 2]> = read(cosines, |cosines| {
            let parts = dcosines.par_chunks_mut(rows).zip(cosines.par_chunks(rows)).enumerate();
            let sums = parts.map(|(pair, (out, row))| {
                row_gradient(row, pair, factor, offset, gain, out);
                let mut sums = [0.0; 2];
                for (derivative, cosine) in out.iter_mut().zip(row) {
                    sums[0] += f64::from(*derivative) * f64::from(*cosine);
                    sums[1] += f64::from(*derivative);
                    *derivative *= factor;
                }
                sums
            });
            Ok(sums.collect())
        })?;
        let total = |place: usize| sums.iter().map(|row| row[place]).sum::<f64>() as f32;
        let dscale = tensor(vec![total(0)], ())?;
        let dbias = tensor(vec![total(1)], ())?;
        Ok((Some(tensor(dcosines, cosines.shape())?), Some(dscale), Some(dbias)))
    }
}
