//! AdamW (Loshchilov and Hutter 2019) with decay groups, readable moments and global-norm clipping.
//!
//! With `g` the clipped gradient at step t: `p ← p·(1 − lr·λ)`, `m ← β₁m + (1 − β₁)g`,
//! `v ← β₂v + (1 − β₂)g²`, `p ← p − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)`, as in PyTorch. λ is 0 for
//! parameters of fewer than two dimensions and those whose name says layer norm, bias or logit scale, as in
//! open_clip. The norm is summed over fixed chunks in order, the same for any number of threads.

use crate::model::{Params, ParamsError};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;
use std::collections::HashMap;

/// Elements that one task updates or sums.
const CHUNK: usize = 1 << 15;

/// Settings of the optimizer that do not change from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decay of the weights, times the learning rate, where it applies.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; no clipping if absent.
    pub grad_norm_max: Option<f64>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.98, eps: 1e-6, weight_decay: 0.01, grad_norm_max: Some(1.0) }
    }
}

struct Slot {
    name: String,
    var: Var,
    decays: bool,
    exp_avg: Var,
    exp_avg_sq: Var,
}

/// The optimizer and its moments.
pub struct AdamW {
    config: AdamWConfig,
    slots: Vec<Slot>,
    steps: u64,
}

/// Whether weight decay applies to a parameter, by open_clip's rule.
pub fn decays(name: &str, rank: usize) -> bool {
    rank >= 2 && !["bn", "ln", "bias", "logit_scale"].iter().any(|part| name.contains(part))
}

impl AdamW {
    /// An optimizer of every trainable parameter, with zero moments.
    ///
    /// # Errors
    /// When the device cannot hold the moments.
    pub fn new(params: &Params, config: AdamWConfig) -> Result<Self> {
        let slots = params
            .iter()
            .filter(|param| param.trainable)
            .map(|param| {
                let zeros = || Var::zeros(param.var.shape(), param.var.dtype(), param.var.device());
                Ok(Slot {
                    name: param.name.clone(),
                    var: param.var.clone(),
                    decays: decays(&param.name, param.var.rank()),
                    exp_avg: zeros()?,
                    exp_avg_sq: zeros()?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { config, slots, steps: 0 })
    }

    /// Updates taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moments as `NAME.exp_avg` and `NAME.exp_avg_sq`, in the order of the parameters. The tensors share
    /// memory with the optimizer: write or copy them before the next step.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let pair = |slot: &Slot| {
            [
                (format!("{}.exp_avg", slot.name), slot.exp_avg.as_detached_tensor()),
                (format!("{}.exp_avg_sq", slot.name), slot.exp_avg_sq.as_detached_tensor()),
            ]
        };
        self.slots.iter().flat_map(pair).collect()
    }

    /// Puts back what [`AdamW::state`] and [`AdamW::steps`] gave.
    ///
    /// # Errors
    /// [`ParamsError::Mismatch`] names all missing, unexpected and wrongly shaped tensors.
    pub fn load_state(
        &mut self,
        state: &HashMap<String, Tensor>,
        steps: u64,
    ) -> std::result::Result<(), ParamsError> {
        let moments = self.slots.iter().flat_map(|slot| {
            [
                (format!("{}.exp_avg", slot.name), slot.exp_avg.clone()),
                (format!("{}.exp_avg_sq", slot.name), slot.exp_avg_sq.clone()),
            ]
        });
        Params::from_vars(moments).load(state)?;
        self.steps = steps;
        Ok(())
    }

    /// Clips the gradients, takes one step with learning rate `lr`, and returns the global norm of the
    /// gradient before clipping.
    ///
    /// # Errors
    /// When a trainable parameter has no gradient (an operation cut it) or the norm is not finite; the
    /// parameters are then unchanged.
    pub fn step(&mut self, grads: &GradStore, lr: f64) -> Result<f64> {
        let grads = self
            .slots
            .iter()
            .map(|slot| match grads.get(&slot.var) {
                Some(grad) => grad.contiguous(),
                None => bail!("parameter {} has no gradient", slot.name),
            })
            .collect::<Result<Vec<_>>>()?;
        let norm = global_norm(&grads)?;
        if !norm.is_finite() {
            for (slot, grad) in self.slots.iter().zip(&grads) {
                if !square_sum(grad)?.is_finite() {
                    bail!("the gradient of {} is not finite", slot.name)
                }
            }
            bail!("the norm of the gradient is not finite")
        }
        let clip = self.config.grad_norm_max.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0));
        self.steps += 1;
        for (slot, grad) in self.slots.iter().zip(&grads) {
            self.update(slot, grad, clip, lr)?;
        }
        Ok(norm)
    }

    fn update(&self, slot: &Slot, grad: &Tensor, clip: f64, lr: f64) -> Result<()> {
        let config = &self.config;
        let steps = self.steps as f64;
        let first = Average { keep: config.beta1 as f32, clip: clip as f32, square: false };
        let second = Average { keep: config.beta2 as f32, clip: clip as f32, square: true };
        let descend = Descend {
            shrink: (1.0 - lr * if slot.decays { config.weight_decay } else { 0.0 }) as f32,
            rate: (lr / (1.0 - config.beta1.powf(steps))) as f32,
            root_scale: (1.0 / (1.0 - config.beta2.powf(steps)).sqrt()) as f32,
            eps: config.eps as f32,
        };
        if slot.var.device().is_cpu() {
            slot.exp_avg.inplace_op2(grad, &first)?;
            slot.exp_avg_sq.inplace_op2(grad, &second)?;
            return slot.var.inplace_op3(&slot.exp_avg, &slot.exp_avg_sq, &descend);
        }
        first.composite(&slot.exp_avg, grad)?;
        second.composite(&slot.exp_avg_sq, grad)?;
        descend.composite(slot)
    }
}

/// Square root of the sum of squares over all gradients.
///
/// # Errors
/// Only those of the tensor library.
pub fn global_norm(grads: &[Tensor]) -> Result<f64> {
    let sums = grads.iter().map(square_sum).collect::<Result<Vec<_>>>()?;
    Ok(sums.iter().sum::<f64>().sqrt())
}

fn square_sum(grad: &Tensor) -> Result<f64> {
    if !crate::ops::on_kernels(&[grad]) {
        return Ok(f64::from(grad.to_dtype(candle_core::DType::F32)?.sqr()?.sum_all()?.to_scalar::<f32>()?));
    }
    crate::ops::read(grad, |grad| {
        let sums: Vec<f64> = grad
            .par_chunks(CHUNK)
            .map(|chunk| chunk.chunks(1024).map(|part| f64::from(crate::ops::dot(part, part))).sum())
            .collect();
        Ok(sums.iter().sum())
    })
}

/// `a ← keep·a + (1 − keep)·g`, or of g².
struct Average {
    keep: f32,
    clip: f32,
    square: bool,
}

impl Average {
    fn composite(&self, average: &Var, grad: &Tensor) -> Result<()> {
        let grad = (grad * f64::from(self.clip))?;
        let grad = if self.square { grad.sqr()? } else { grad };
        let kept = (average.as_detached_tensor() * f64::from(self.keep))?;
        average.set(&(kept + grad * f64::from(1.0 - self.keep))?)
    }
}

impl InplaceOp2 for Average {
    fn name(&self) -> &'static str {
        "adamw-average"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let grad = crate::ops::slice(s2, l2)?;
        let average = crate::ops::slice_mut(s1, l1)?;
        let (keep, clip, gain) = (self.keep, self.clip, 1.0 - self.keep);
        average.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK)).for_each(|(average, grad)| {
            for (average, grad) in average.iter_mut().zip(grad) {
                let grad = grad * clip;
                *average = keep * *average + gain * if self.square { grad * grad } else { grad };
            }
        });
        Ok(())
    }
}

/// `p ← shrink·p − rate·m / (root_scale·√v + ε)`.
struct Descend {
    shrink: f32,
    rate: f32,
    root_scale: f32,
    eps: f32,
}

impl Descend {
    fn composite(&self, slot: &Slot) -> Result<()> {
        let root = (slot.exp_avg_sq.as_detached_tensor().sqrt()? * f64::from(self.root_scale))?;
        let change = slot.exp_avg.as_detached_tensor().div(&(root + f64::from(self.eps))?)?;
        let kept = (slot.var.as_detached_tensor() * f64::from(self.shrink))?;
        slot.var.set(&(kept - change * f64::from(self.rate))?)
    }
}

impl InplaceOp3 for Descend {
    fn name(&self) -> &'static str {
        "adamw-descend"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<()> {
        let (first, second) = (crate::ops::slice(s2, l2)?, crate::ops::slice(s3, l3)?);
        let values = crate::ops::slice_mut(s1, l1)?;
        let parts = values.par_chunks_mut(CHUNK).zip(first.par_chunks(CHUNK)).zip(second.par_chunks(CHUNK));
        parts.for_each(|((values, first), second)| {
            for ((value, m), v) in values.iter_mut().zip(first).zip(second) {
                *value = self.shrink * *value - self.rate * m / (v.sqrt() * self.root_scale + self.eps);
            }
        });
        Ok(())
    }
}
