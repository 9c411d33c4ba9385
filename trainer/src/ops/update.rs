//! Changes of parameters, moments and averages in place, each in one pass over memory.
//!
//! Work is cut into chunks of fixed size, so every result has the same bits for any number of threads. Left
//! out: what the numbers mean, which is the optimizer's; other devices run stock operations.

use super::buffer::{on_kernels, read, write};
use candle_core::{Result, Tensor, Var};
use rayon::prelude::*;

/// Elements that one task updates.
const CHUNK: usize = 1 << 15;

/// The factors of one Adam step, alike for all elements of a parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamRule {
    /// Factor of the gradient before anything else.
    pub(crate) clip: f32,
    /// Share of the parameter that is added to the gradient (Adam's L2 penalty).
    pub(crate) l2: f32,
    /// Factor of the parameter (AdamW's decay): `1 − lr·λ`.
    pub(crate) shrink: f32,
    /// Decay of the first moment.
    pub(crate) beta1: f32,
    /// Decay of the second moment.
    pub(crate) beta2: f32,
    /// `lr / (1 − β₁ᵗ)`.
    pub(crate) rate: f32,
    /// `1 / √(1 − β₂ᵗ)`.
    pub(crate) root_scale: f32,
    /// Added to the root of the second moment.
    pub(crate) eps: f32,
}

simd! {
    fn adam_chunk(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], rule: &AdamRule) {
        let (gain1, gain2) = (1.0 - rule.beta1, 1.0 - rule.beta2);
        for (((p, m), v), g) in p.iter_mut().zip(m.iter_mut()).zip(v.iter_mut()).zip(g) {
            let g = g * rule.clip + rule.l2 * *p;
            *m = rule.beta1 * *m + gain1 * g;
            *v = rule.beta2 * *v + gain2 * (g * g);
            *p = rule.shrink * *p - rule.rate * *m / (v.sqrt() * rule.root_scale + rule.eps);
        }
    }
}

/// One step of Adam or AdamW on a parameter and its moments.
///
/// # Errors
/// When shapes differ, or the tensors share memory.
pub(crate) fn adam(
    value: &Var,
    exp_avg: &Var,
    exp_avg_sq: &Var,
    grad: &Tensor,
    rule: &AdamRule,
) -> Result<()> {
    if !on_kernels(&[value, exp_avg, exp_avg_sq, grad]) {
        return adam_composite(value, exp_avg, exp_avg_sq, grad, rule);
    }
    let run = |p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]| {
        let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
        let parts = p.par_chunks_mut(CHUNK).zip(moments).zip(g.par_chunks(CHUNK));
        parts.for_each(|((p, (m, v)), g)| adam_chunk(p, m, v, g, rule));
        Ok(())
    };
    read(grad, |g| write(value, |p| write(exp_avg, |m| write(exp_avg_sq, |v| run(p, m, v, g)))))
}

fn adam_composite(
    value: &Var,
    exp_avg: &Var,
    exp_avg_sq: &Var,
    grad: &Tensor,
    rule: &AdamRule,
) -> Result<()> {
    let scaled = |tensor: Tensor, factor: f32| tensor * f64::from(factor);
    let penalty = scaled(value.as_detached_tensor(), rule.l2)?;
    let grad = (scaled(grad.clone(), rule.clip)? + penalty)?;
    let first = scaled(exp_avg.as_detached_tensor(), rule.beta1)?;
    exp_avg.set(&(first + scaled(grad.clone(), 1.0 - rule.beta1)?)?)?;
    let second = scaled(exp_avg_sq.as_detached_tensor(), rule.beta2)?;
    exp_avg_sq.set(&(second + scaled(grad.sqr()?, 1.0 - rule.beta2)?)?)?;
    let root = scaled(exp_avg_sq.as_detached_tensor().sqrt()?, rule.root_scale)?;
    let change = exp_avg.as_detached_tensor().div(&(root + f64::from(rule.eps))?)?;
    let kept = scaled(value.as_detached_tensor(), rule.shrink)?;
    value.set(&(kept - scaled(change, rule.rate)?)?)
}

simd! {
    fn blend_chunk(to: &mut [f32], from: &[f32], keep: f32, gain: f32) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = keep * *to + gain * from;
        }
    }
}

/// `to ← keep·to + gain·from`, in place: a running average, or with factors of 1 a sum.
///
/// # Errors
/// When shapes differ, or the tensors share memory.
pub(crate) fn blend(to: &Var, from: &Tensor, keep: f32, gain: f32) -> Result<()> {
    if !on_kernels(&[to, from]) {
        let kept = (to.as_detached_tensor() * f64::from(keep))?;
        return to.set(&(kept + (from * f64::from(gain))?)?);
    }
    read(from, |from| {
        write(to, |to| {
            let parts = to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK));
            parts.for_each(|(to, from)| blend_chunk(to, from, keep, gain));
            Ok(())
        })
    })
}
