//! Layer normalisation over the last dimension (Ba et al. 2016), in one pass forward and one backward.
//!
//! With `x̂ = (x − mean) · rstd`, the forward pass is `y = x̂·w + b`. Backward, with `h = g·w`:
//! `dx = rstd · (h − mean(h) − x̂ · mean(h·x̂))`, `dw = Σ g·x̂`, `db = Σ g`, sums over rows. The statistics
//! are computed anew in the backward pass rather than kept.

use super::buffer::{at_least_f32, on_kernels, read, rows_of, rows_per_chunk, slice, sum_in_order, tensor};
use super::lanes::{dot, sum_map};
use super::recycle::Buffer;
use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Normalises each row of `x` (…, D) and applies `weight` (D) and `bias` (D).
///
/// # Errors
/// When the last dimension of `x` is not that of `weight` and `bias`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    if weight.dims() != [width] || bias.dims() != [width] {
        bail!("layer_norm: rows of {width}, weight {:?}, bias {:?}", weight.shape(), bias.shape())
    }
    if on_kernels(&[x, weight, bias]) {
        return x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, LayerNorm { eps });
    }
    let wide = at_least_f32(x)?;
    let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    let [weight, bias] = [weight.to_dtype(wide.dtype())?, bias.to_dtype(wide.dtype())?];
    centred.broadcast_div(&deviation)?.broadcast_mul(&weight)?.broadcast_add(&bias)?.to_dtype(x.dtype())
}

#[inline(always)]
fn statistics(row: &[f32], eps: f32) -> (f32, f32) {
    let scale = 1.0 / row.len() as f32;
    let mean = sum_map(row, |v| v) * scale;
    let variance = sum_map(row, |v| (v - mean) * (v - mean)) * scale;
    (mean, 1.0 / (variance + eps).sqrt())
}

simd! {
    /// Writes the normalised rows of `x` to `out`; the rows are as wide as `weight`.
    pub(crate) fn forward_rows(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let (mean, rstd) = statistics(x, eps);
            for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                *out = (x - mean) * rstd * w + b;
            }
        }
    }
}

simd! {
    /// Adds the gradients for `grad` to `dx` (rows), `dw` and `db` (one row each). `scratch` holds a row.
    pub(crate) fn backward_rows(
        x: &[f32], weight: &[f32], eps: f32, grad: &[f32],
        dx: &mut [f32], dw: &mut [f32], db: &mut [f32], scratch: &mut [f32],
    ) {
        let width = weight.len();
        let scale = 1.0 / width as f32;
        let rows = x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for ((x, grad), dx) in rows {
            let (mean, rstd) = statistics(x, eps);
            for (normal, x) in scratch.iter_mut().zip(x) {
                *normal = (x - mean) * rstd;
            }
            for (((dw, db), normal), g) in dw.iter_mut().zip(db.iter_mut()).zip(&*scratch).zip(grad) {
                *dw += g * normal;
                *db += g;
            }
            let mean_h = dot(grad, weight) * scale;
            let mean_hx = weighted_dot(grad, weight, scratch) * scale;
            for (((dx, normal), g), w) in dx.iter_mut().zip(&*scratch).zip(grad).zip(weight) {
                *dx += rstd * (g * w - mean_h - normal * mean_hx);
            }
        }
    }
}

/// `Σ a·b·c` over rows of equal length.
#[inline(always)]
fn weighted_dot(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    use super::lanes::LANES;
    let mut lanes = [0.0; LANES];
    let (a_chunks, a_tail) = a.as_chunks::<LANES>();
    let (b_chunks, b_tail) = b.as_chunks::<LANES>();
    let (c_chunks, c_tail) = c.as_chunks::<LANES>();
    for ((a, b), c) in a_chunks.iter().zip(b_chunks).zip(c_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane] * c[lane];
        }
    }
    for (((lane, a), b), c) in lanes.iter_mut().zip(a_tail).zip(b_tail).zip(c_tail) {
        *lane += a * b * c;
    }
    sum_map(&lanes, |v| v)
}

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
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
        let (x, weight, bias) = (slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let chunk = rows_per_chunk(weight.len()) * weight.len();
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(chunk)
            .zip(x.par_chunks(chunk))
            .for_each(|(out, x)| forward_rows(x, weight, bias, self.eps, out));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (_, width) = rows_of(x.shape())?;
        let (dx, dwb) = read(x, |xs| {
            read(weight, |weight| {
                read(grad, |grad| {
                    let chunk = rows_per_chunk(width) * width;
                    let mut dx = Buffer::zeroed(xs.len()).into_vec();
                    let parts: Vec<Buffer> = dx
                        .par_chunks_mut(chunk)
                        .zip(xs.par_chunks(chunk))
                        .zip(grad.par_chunks(chunk))
                        .map(|((dx, x), grad)| {
                            let mut dwb = Buffer::zeroed(2 * width);
                            let (dw, db) = dwb.split_at_mut(width);
                            backward_rows(x, weight, self.eps, grad, dx, dw, db, &mut vec![0.0; width]);
                            dwb
                        })
                        .collect();
                    Ok((dx, sum_in_order(parts)))
                })
            })
        })?;
        let (dw, db) = dwb.split_at(width.min(dwb.len()));
        Ok((
            Some(tensor(dx, x.shape())?),
            Some(tensor(dw.to_vec(), weight.shape())?),
            Some(tensor(db.to_vec(), bias.shape())?),
        ))
    }
}
