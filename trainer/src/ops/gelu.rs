//! The activations of open_clip's feed-forward layers: exact GELU (`nn.GELU`) and QuickGELU.
//!
//! GELU is `x·Φ(x)` with `Φ(x) = ½(1 + erf(x/√2))`; `erf` is formula 7.1.26 of Abramowitz and Stegun, whose
//! error is below 1.5e-7, and shares its exponential with the density that the derivative needs. QuickGELU
//! is `x·σ(1.702x)`. The bias before the activation belongs to the matrix product, where it costs nothing
//! (see `linear.rs`); so there is no fused bias here. Left out: the tanh approximation.

use super::buffer::{on_kernels, read, rows_per_chunk, slice, tensor};
use super::lanes::exp;
use super::recycle::Buffer;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Which non-linearity a feed-forward layer uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x·Φ(x)`, the default of open_clip's own models.
    #[default]
    Gelu,
    /// `x·σ(1.702x)`, of the models that OpenAI released.
    QuickGelu,
    /// `x/2·(1 + tanh(√(2/π)·(x + 0.044715x³)))`, of GPT-2.
    GeluTanh,
    /// `x·σ(x)`, of llama.
    Silu,
}

/// Applies an activation element by element.
///
/// # Errors
/// Only those of the tensor library.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if on_kernels(&[x]) {
        return x.contiguous()?.apply_op1(Activate(activation));
    }
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::QuickGelu => {
            // σ(z) = (1 + tanh(z/2))/2, whose derivative has no overflow.
            x * (((x * 0.851)?.tanh()? + 1.0)? * 0.5)?
        }
        Activation::GeluTanh => {
            let u = ((x + (x.powf(3.0)? * 0.044_715)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
            x * ((u.tanh()? + 1.0)? * 0.5)?
        }
        Activation::Silu => x * (((x * 0.5)?.tanh()? + 1.0)? * 0.5)?,
    }
}

/// Φ(x) and the density φ(x) of the normal distribution.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let u = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * u);
    let p = 1.061_405_4 * t - 1.453_152_1;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_73;
    let p = (p * t + 0.254_829_6) * t;
    let e = exp(-u * u);
    let tail = 0.5 * p * e; // 1 − Φ(|x|)
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    (cdf, e * 0.398_942_3)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

simd! {
    fn gelu_forward(x: &[f32], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = x * normal(*x).0;
        }
    }
}

simd! {
    fn gelu_both(x: &[f32], out: &mut [f32], grad: &mut [f32]) {
        for ((out, grad), x) in out.iter_mut().zip(grad).zip(x) {
            let (cdf, density) = normal(*x);
            *out = x * cdf;
            *grad *= cdf + x * density;
        }
    }
}

simd! {
    fn quick_gelu_forward(x: &[f32], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = x * sigmoid(1.702 * x);
        }
    }
}

simd! {
    fn quick_gelu_both(x: &[f32], out: &mut [f32], grad: &mut [f32]) {
        for ((out, grad), x) in out.iter_mut().zip(grad).zip(x) {
            let s = sigmoid(1.702 * x);
            *out = x * s;
            *grad *= s + 1.702 * x * s * (1.0 - s);
        }
    }
}

/// GPT-2's argument: `√(8/π)·(x + 0.044715x³)`, as `(1 + tanh(u/2))/2 = σ(u)`.
#[inline(always)]
fn tanh_argument(x: f32) -> (f32, f32) {
    const SCALE: f32 = 1.595_769;
    (SCALE * (x + 0.044_715 * x * x * x), SCALE * (1.0 + 3.0 * 0.044_715 * x * x))
}

simd! {
    fn gelu_tanh_forward(x: &[f32], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = x * sigmoid(tanh_argument(*x).0);
        }
    }
}

simd! {
    fn gelu_tanh_both(x: &[f32], out: &mut [f32], grad: &mut [f32]) {
        for ((out, grad), x) in out.iter_mut().zip(grad).zip(x) {
            let (u, du) = tanh_argument(*x);
            let s = sigmoid(u);
            *out = x * s;
            *grad *= s + x * s * (1.0 - s) * du;
        }
    }
}

simd! {
    fn silu_forward(x: &[f32], out: &mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = x * sigmoid(*x);
        }
    }
}

simd! {
    fn silu_both(x: &[f32], out: &mut [f32], grad: &mut [f32]) {
        for ((out, grad), x) in out.iter_mut().zip(grad).zip(x) {
            let s = sigmoid(*x);
            *out = x * s;
            *grad *= s + x * s * (1.0 - s);
        }
    }
}

/// Writes the activation of `x` to `out`.
pub(crate) fn forward(activation: Activation, x: &[f32], out: &mut [f32]) {
    match activation {
        Activation::Gelu => gelu_forward(x, out),
        Activation::QuickGelu => quick_gelu_forward(x, out),
        Activation::GeluTanh => gelu_tanh_forward(x, out),
        Activation::Silu => silu_forward(x, out),
    }
}

/// Writes the activation of `x` to `out` and multiplies `grad` by its derivative: one exponential for both.
pub(crate) fn forward_and_backward(activation: Activation, x: &[f32], out: &mut [f32], grad: &mut [f32]) {
    match activation {
        Activation::Gelu => gelu_both(x, out, grad),
        Activation::QuickGelu => quick_gelu_both(x, out, grad),
        Activation::GeluTanh => gelu_tanh_both(x, out, grad),
        Activation::Silu => silu_both(x, out, grad),
    }
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let chunk = rows_per_chunk(1);
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| forward(self.0, x, out));
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let chunk = rows_per_chunk(1);
        let mut dx = read(grad, |grad| Ok(grad.to_vec()))?;
        read(x, |x| {
            dx.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each_init(
                || Buffer::stale(chunk),
                |scratch, (dx, x)| forward_and_backward(self.0, x, &mut scratch[..x.len()], dx),
            );
            Ok(())
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Φ by integrating the density with Simpson's rule in double precision.
    fn exact_cdf(x: f64) -> f64 {
        let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (steps, width) = (2000, x / 2000.0);
        let inner: f64 =
            (1..steps).map(|i| density(f64::from(i) * width) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
        0.5 + (density(0.0) + inner + density(x)) * width / 3.0
    }

    #[test]
    fn normal_distribution_within_a_millionth() {
        let mut x = -6.0f32;
        while x < 6.0 {
            let error = (f64::from(normal(x).0) - exact_cdf(f64::from(x))).abs();
            assert!(error < 4e-7, "cdf({x}) is off by {error}");
            x += 0.0311;
        }
    }
}
