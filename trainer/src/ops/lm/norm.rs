//! Normalisation of rows before a frozen layer: layer normalisation with a bias, or by the root of the mean square
//! without (RMSNorm; Zhang and Sennrich 2019). Scale and bias are frozen.

use super::super::lanes::{dot, sum_map};
use super::super::layer_norm;
use super::super::recycle::Buffer;
use candle_core::Tensor;

/// A frozen normalisation.
#[derive(Clone, Debug)]
pub struct LmNorm {
    /// (D).
    pub weight: Tensor,
    /// (D), of a layer normalisation; none for the root of the mean square.
    pub bias: Option<Tensor>,
}

impl LmNorm {
    pub(super) fn all(&self) -> impl Iterator<Item = &Tensor> {
        [&self.weight].into_iter().chain(&self.bias)
    }
}

/// The numbers of a [`LmNorm`] within a pass.
#[derive(Clone, Copy)]
pub(crate) struct NormView<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) eps: f32,
}

impl<'a> NormView<'a> {
    pub(super) fn take(of: &LmNorm, from: &mut impl Iterator<Item = &'a [f32]>, eps: f32) -> Option<Self> {
        let weight = from.next()?;
        let bias = if of.bias.is_some() { Some(from.next()?) } else { None };
        Some(Self { weight, bias, eps })
    }

    /// Normalises rows into `out`.
    pub(crate) fn forward(&self, x: &[f32], out: &mut [f32]) {
        match self.bias {
            Some(bias) => layer_norm::forward_rows(x, self.weight, bias, self.eps, out),
            None => rms_forward(x, self.weight, self.eps, out),
        }
    }

    /// Adds the gradient for `grad` to `dx`.
    pub(super) fn backward(&self, x: &[f32], grad: &[f32], dx: &mut [f32]) {
        let width = self.weight.len();
        if self.bias.is_none() {
            return rms_backward(x, self.weight, self.eps, grad, dx);
        }
        // Those of scale and bias are of no use.
        let mut scratch = Buffer::stale(3 * width);
        let (row, rest) = scratch.split_at_mut(width);
        let (dw, db) = rest.split_at_mut(width);
        layer_norm::backward_rows(x, self.weight, self.eps, grad, dx, dw, db, row);
    }
}

simd! {
    fn rms_forward(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let scale = 1.0 / (sum_map(x, |v| v * v) / width as f32 + eps).sqrt();
            for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * w;
            }
        }
    }
}

simd! {
    fn rms_backward(x: &[f32], weight: &[f32], eps: f32, grad: &[f32], dx: &mut [f32]) {
        let width = weight.len();
        let mut h = vec![0.0; width];
        let rows = x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for ((x, grad), dx) in rows {
            let scale = 1.0 / (sum_map(x, |v| v * v) / width as f32 + eps).sqrt();
            for ((h, g), w) in h.iter_mut().zip(grad).zip(weight) {
                *h = g * w;
            }
            let mean = dot(&h, x) * scale * scale / width as f32;
            for ((dx, h), x) in dx.iter_mut().zip(&h).zip(x) {
                *dx += scale * (h - x * mean);
            }
        }
    }
}
