//! Multi-head scaled dot-product attention on packed queries, keys and values.
//!
//! Per head, `P = softmax(Q·Kᵀ/√d)` (masked above the diagonal if causal) and `O = P·V`. The probabilities
//! are computed anew in the backward pass instead of kept: `dV = Pᵀ·dO`, `dP = dO·Vᵀ`,
//! `dS = P ∘ (dP − rowsum(P ∘ dP))`, `dQ = dS·K/√d`, `dK = dSᵀ·Q/√d`. One task handles one sample.
//! Left out: dropout, key padding masks and cross attention.

use super::buffer::{at_least_f32, on_kernels, read, slice, tensor};
use super::gemm::{Matrix, MatrixMut, gemm};
use super::lanes::{dot, exp, max, sum_map};
use super::recycle::stale_vec;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// The sizes of an attention layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Tokens in a sample.
    pub(crate) tokens: usize,
    /// Width of the model, over all heads.
    pub(crate) width: usize,
    /// Number of heads.
    pub(crate) heads: usize,
    /// Whether a token sees only itself and earlier ones.
    pub(crate) causal: bool,
}

impl Heads {
    fn scale(&self) -> f32 {
        1.0 / ((self.width / self.heads) as f32).sqrt()
    }
}

/// Attends over `qkv` (B, T, 3·D), packed as queries, keys, values: (B, T, D).
///
/// # Errors
/// When the last dimension is not three times a multiple of `heads`.
pub fn attention(qkv: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
    let (batch, tokens, packed) = qkv.dims3()?;
    let width = packed / 3;
    if heads == 0 || !packed.is_multiple_of(3) || !width.is_multiple_of(heads) {
        bail!("attention: {packed} packed features do not split into 3 × {heads} heads")
    }
    let shape = Heads { tokens, width, heads, causal };
    if on_kernels(&[qkv]) {
        return qkv.contiguous()?.apply_op1(Attention(shape));
    }
    let split = qkv.reshape((batch, tokens, 3, heads, width / heads))?.permute((2, 0, 3, 1, 4))?;
    let (q, k, v) = (split.get(0)?.contiguous()?, split.get(1)?.contiguous()?, split.get(2)?.contiguous()?);
    let mut scores = (q.matmul(&k.t()?)? * f64::from(shape.scale()))?;
    if causal {
        let mask: Vec<f32> = (0..tokens * tokens)
            .map(|i| if i % tokens > i / tokens { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        let mask = Tensor::from_vec(mask, (tokens, tokens), qkv.device())?.to_dtype(scores.dtype())?;
        scores = scores.broadcast_add(&mask)?;
    }
    let scores = at_least_f32(&scores)?;
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?.to_dtype(qkv.dtype())?;
    weights.matmul(&v)?.transpose(1, 2)?.reshape((batch, tokens, width))
}

simd! {
    /// Turns rows of scores into probabilities; with `causal`, row r keeps its first r + 1 entries.
    pub(crate) fn softmax_rows(scores: &mut [f32], tokens: usize, causal: bool) {
        for (position, row) in scores.chunks_exact_mut(tokens).enumerate() {
            let (seen, hidden) = row.split_at_mut(if causal { position + 1 } else { tokens });
            hidden.fill(0.0);
            let largest = max(seen);
            for value in seen.iter_mut() {
                *value = exp(*value - largest);
            }
            let scale = 1.0 / sum_map(seen, |v| v);
            for value in seen.iter_mut() {
                *value *= scale;
            }
        }
    }
}

simd! {
    /// `ds = p ∘ (dp − rowsum(p ∘ dp))`, in place of `dp`.
    pub(crate) fn softmax_backward(p: &[f32], dp: &mut [f32], tokens: usize) {
        for (p, dp) in p.chunks_exact(tokens).zip(dp.chunks_exact_mut(tokens)) {
            let mean = dot(p, dp);
            for (dp, p) in dp.iter_mut().zip(p) {
                *dp = p * (*dp - mean);
            }
        }
    }
}

/// Queries, keys and values of one head of one sample.
fn head_views<'a>(qkv: &'a [f32], h: &Heads, head: usize) -> [Matrix<'a>; 3] {
    let depth = h.width / h.heads;
    [0, 1, 2].map(|part| Matrix::strided(&qkv[part * h.width + head * depth..], h.tokens, depth, 3 * h.width))
}

fn probabilities(q: Matrix<'_>, k: Matrix<'_>, h: &Heads, scores: &mut [f32]) {
    gemm(MatrixMut::new(scores, h.tokens, h.tokens), false, q, k.t(), h.scale());
    softmax_rows(scores, h.tokens, h.causal);
}

/// Attention of one sample; `scores` holds tokens² numbers.
pub(crate) fn forward_sample(qkv: &[f32], h: &Heads, out: &mut [f32], scores: &mut [f32]) {
    let depth = h.width / h.heads;
    for head in 0..h.heads {
        let [q, k, v] = head_views(qkv, h, head);
        probabilities(q, k, h, scores);
        let out = MatrixMut::strided(&mut out[head * depth..], h.tokens, depth, h.width);
        gemm(out, false, Matrix::new(scores, h.tokens, h.tokens), v, 1.0);
    }
}

/// Gradient of one sample with respect to `qkv`; `scores` and `dscores` hold tokens² numbers each.
pub(crate) fn backward_sample(
    qkv: &[f32],
    grad: &[f32],
    h: &Heads,
    dqkv: &mut [f32],
    scores: &mut [f32],
    dscores: &mut [f32],
) {
    let depth = h.width / h.heads;
    let tokens = h.tokens;
    for head in 0..h.heads {
        let [q, k, v] = head_views(qkv, h, head);
        probabilities(q, k, h, scores);
        let g = Matrix::strided(&grad[head * depth..], tokens, depth, h.width);
        let p = Matrix::new(scores, tokens, tokens);
        let part = |part: usize| part * h.width + head * depth;
        let stride = 3 * h.width;
        gemm(MatrixMut::strided(&mut dqkv[part(2)..], tokens, depth, stride), false, p.t(), g, 1.0);
        gemm(MatrixMut::new(dscores, tokens, tokens), false, g, v.t(), 1.0);
        softmax_backward(scores, dscores, tokens);
        let ds = Matrix::new(dscores, tokens, tokens);
        gemm(MatrixMut::strided(&mut dqkv[part(0)..], tokens, depth, stride), false, ds, k, h.scale());
        gemm(MatrixMut::strided(&mut dqkv[part(1)..], tokens, depth, stride), false, ds.t(), q, h.scale());
    }
}

struct Attention(Heads);

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (h, qkv) = (&self.0, slice(storage, layout)?);
        let sample = h.tokens * h.width;
        let mut out = stale_vec(qkv.len() / 3);
        if sample > 0 {
            out.par_chunks_mut(sample).zip(qkv.par_chunks(3 * sample)).for_each_init(
                || vec![0.0; h.tokens * h.tokens],
                |scores, (out, qkv)| forward_sample(qkv, h, out, scores),
            );
        }
        Ok((CpuStorage::F32(out), (layout.dims()[0], h.tokens, h.width).into()))
    }

    fn bwd(&self, qkv: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let h = &self.0;
        let sample = h.tokens * h.width;
        let mut dqkv = stale_vec(qkv.elem_count());
        if sample > 0 {
            read(qkv, |qkv| {
                read(grad, |grad| {
                    dqkv.par_chunks_mut(3 * sample)
                        .zip(qkv.par_chunks(3 * sample))
                        .zip(grad.par_chunks(sample))
                        .for_each_init(
                            || (vec![0.0; h.tokens * h.tokens], vec![0.0; h.tokens * h.tokens]),
                            |(scores, dscores), ((dqkv, qkv), grad)| {
                                backward_sample(qkv, grad, h, dqkv, scores, dscores);
                            },
                        );
                    Ok(())
                })
            })?;
        }
        Ok(Some(tensor(dqkv, qkv.shape())?))
    }
}
