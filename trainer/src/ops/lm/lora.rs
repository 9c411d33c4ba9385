//! A frozen matrix with a low-rank correction that is learned (LoRA; Hu et al. 2022): `y = x·Wᵀ + b + s·(d(x)·Aᵀ)·Bᵀ`.
//!
//! `d` is dropout on the correction's input: which numbers it takes is a hash of (key, row, column), so that the backward
//! pass finds the same without keeping it and the number of threads changes nothing. W and b get no gradient.

use super::super::gemm::{Matrix, MatrixMut, gemm};
use super::super::linear::{backward_input, forward_rows};
use super::super::recycle::Buffer;
use candle_core::{Result, Tensor};

/// A learned correction of rank r.
#[derive(Clone, Debug)]
pub struct Lora {
    /// (r, K).
    pub a: Tensor,
    /// (N, r).
    pub b: Tensor,
}

/// A frozen matrix (N, K), its bias, and a correction.
#[derive(Clone, Debug)]
pub struct LmLinear {
    /// (N, K).
    pub weight: Tensor,
    /// (N).
    pub bias: Option<Tensor>,
    /// What is learned.
    pub lora: Option<Lora>,
}

impl LmLinear {
    /// A frozen matrix without a correction.
    pub fn frozen(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias, lora: None }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Tensor> {
        let lora = self.lora.iter().flat_map(|lora| [&lora.a, &lora.b]);
        [&self.weight].into_iter().chain(&self.bias).chain(lora)
    }

    /// Numbers of a row that goes in, and of one that comes out.
    pub(super) fn sizes(&self) -> Result<(usize, usize)> {
        let (outputs, inputs) = self.weight.dims2()?;
        Ok((inputs, outputs))
    }
}

/// How corrections are applied in one pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraPass {
    /// What corrections are multiplied by: alpha over rank.
    pub scale: f32,
    /// Share of the correction's inputs that are taken out; 0 outside of training.
    pub dropout: f32,
    /// What the taken numbers are drawn from, another one for each step.
    pub seed: u64,
}

/// The numbers of a [`LmLinear`] within a pass.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    lora: Option<(&'a [f32], &'a [f32])>,
    sizes: (usize, usize),
    pass: LoraPass,
    key: u64,
}

/// The gradients of a correction, to be added to.
pub(super) struct LoraGrad<'a> {
    pub(super) a: &'a mut [f32],
    pub(super) b: &'a mut [f32],
}

/// Mixes the bits of a number (Steele et al. 2014, splitmix64).
#[inline(always)]
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

simd! {
    /// Takes numbers out of rows whose first is number `first`, and scales the others up.
    fn drop_out(x: &[f32], width: usize, first: usize, key: u64, dropout: f32, out: &mut [f32]) {
        let bound = (dropout * 65_536.0) as u64;
        let scale = 1.0 / (1.0 - dropout);
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for (row, (x, out)) in rows.enumerate() {
            let row = mixed(key ^ (first + row) as u64);
            for (four, (x, out)) in x.chunks(4).zip(out.chunks_mut(4)).enumerate() {
                let bits = mixed(row.wrapping_add((four as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                for (place, (x, out)) in x.iter().zip(out).enumerate() {
                    let drawn = (bits >> (16 * place)) & 0xffff;
                    *out = if drawn < bound { 0.0 } else { x * scale };
                }
            }
        }
    }
}

/// What the corrections of layer `number` are masked by in a pass.
fn key(pass: &LoraPass, number: u64) -> u64 {
    mixed(pass.seed ^ mixed(number))
}

/// The factors (rows, width) that dropout multiplies the input of layer `number` with, for devices without the kernel.
pub(super) fn mask(pass: &LoraPass, number: u64, rows: usize, width: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * width];
    drop_out(&vec![1.0; rows * width], width, 0, key(pass, number), pass.dropout, &mut out);
    out
}

impl<'a> View<'a> {
    /// Takes its numbers from the parameters in the order of [`LmLinear::all`]; `number` tells its masks from others'.
    pub(super) fn take(
        of: &LmLinear,
        from: &mut impl Iterator<Item = &'a [f32]>,
        pass: LoraPass,
        number: u64,
    ) -> Option<Self> {
        let weight = from.next()?;
        let bias = if of.bias.is_some() { Some(from.next()?) } else { None };
        let lora = if of.lora.is_some() { Some((from.next()?, from.next()?)) } else { None };
        let key = key(&pass, number);
        Some(Self { weight, bias, lora, sizes: of.sizes().ok()?, pass, key })
    }

    /// The correction's input: `x` itself, or what dropout leaves of it.
    fn seen<'b>(&self, x: &'b [f32], first: usize, scratch: &'b mut Option<Buffer>) -> &'b [f32] {
        if self.pass.dropout == 0.0 {
            return x;
        }
        let mut dropped = Buffer::stale(x.len());
        drop_out(x, self.sizes.0, first, self.key, self.pass.dropout, &mut dropped);
        &scratch.insert(dropped)[..]
    }

    /// Writes rows; `first` is the number of the first row in the batch.
    pub(super) fn forward(&self, x: &[f32], first: usize, out: &mut [f32]) {
        let (inputs, outputs) = self.sizes;
        forward_rows(x, self.weight, self.bias, out, self.sizes);
        let Some((a, b)) = self.lora else { return };
        let (rows, rank) = (x.len() / inputs, a.len() / inputs);
        let mut scratch = None;
        let x = self.seen(x, first, &mut scratch);
        let mut inner = Buffer::stale(rows * rank);
        forward_rows(x, a, None, &mut inner, (inputs, rank));
        let inner = Matrix::new(&inner, rows, rank);
        gemm(
            MatrixMut::new(out, rows, outputs),
            true,
            inner,
            Matrix::new(b, outputs, rank).t(),
            self.pass.scale,
        );
    }

    /// Writes (or adds, with `accumulate`) the gradient of the rows to `dx`, and adds the correction's to `learned`.
    pub(super) fn backward(
        &self,
        x: &[f32],
        first: usize,
        grad: &[f32],
        dx: &mut [f32],
        accumulate: bool,
        learned: Option<LoraGrad<'_>>,
    ) {
        let (inputs, outputs) = self.sizes;
        backward_input(grad, self.weight, dx, accumulate, self.sizes);
        let (Some((a, b)), Some(learned)) = (self.lora, learned) else { return };
        let (rows, rank) = (x.len() / inputs, a.len() / inputs);
        let scale = self.pass.scale;
        let mut scratch = None;
        let seen = self.seen(x, first, &mut scratch);
        let (mut inner, mut dinner) = (Buffer::stale(rows * rank), Buffer::stale(rows * rank));
        forward_rows(seen, a, None, &mut inner, (inputs, rank));
        let grad = Matrix::new(grad, rows, outputs);
        gemm(
            MatrixMut::new(learned.b, outputs, rank),
            true,
            grad.t(),
            Matrix::new(&inner, rows, rank),
            scale,
        );
        let b = Matrix::new(b, outputs, rank);
        gemm(MatrixMut::new(&mut dinner, rows, rank), false, grad, b, scale);
        let dinner = Matrix::new(&dinner, rows, rank);
        gemm(MatrixMut::new(learned.a, rank, inputs), true, dinner.t(), Matrix::new(seen, rows, inputs), 1.0);
        let a = Matrix::new(a, rank, inputs);
        if self.pass.dropout == 0.0 {
            gemm(MatrixMut::new(dx, rows, inputs), true, dinner, a, 1.0);
            return;
        }
        let mut through = Buffer::stale(rows * inputs);
        gemm(MatrixMut::new(&mut through, rows, inputs), false, dinner, a, 1.0);
        let mut kept = Buffer::stale(rows * inputs);
        drop_out(&through, inputs, first, self.key, self.pass.dropout, &mut kept);
        dx.iter_mut().zip(kept.iter()).for_each(|(dx, kept)| *dx += kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_takes_its_share_and_keeps_the_mean() {
        let ones = vec![1.0f32; 100 * 999];
        let mut out = vec![0.0; ones.len()];
        drop_out(&ones, 999, 0, 5, 0.25, &mut out);
        let taken = out.iter().filter(|v| **v == 0.0).count() as f64 / out.len() as f64;
        assert!((taken - 0.25).abs() < 0.005, "{taken}");
        assert!(out.iter().all(|v| *v == 0.0 || (*v - 4.0 / 3.0).abs() < 1e-6));
        // A part of the rows has what the whole has there; another key has other ones.
        let mut part = vec![0.0; 10 * 999];
        drop_out(&ones[..10 * 999], 999, 20, 5, 0.25, &mut part);
        assert_eq!(part, out[20 * 999..30 * 999]);
        drop_out(&ones[..10 * 999], 999, 20, 6, 0.25, &mut part);
        assert_ne!(part, out[20 * 999..30 * 999]);
        // Neither rows nor columns are alike.
        assert_ne!(out[..999], out[999..1998]);
    }
}
