//! AdamW (Loshchilov and Hutter 2019) and Adam (Kingma and Ba 2015) with decay groups, readable moments and
//! global-norm clipping.
//!
//! With `g` the clipped gradient at step t, AdamW is `p ← p·(1 − lr·λ)`, `m ← β₁m + (1 − β₁)g`,
//! `v ← β₂v + (1 − β₂)g²`, `p ← p − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)`, as in PyTorch. Adam adds λ·p to
//! `g` instead of shrinking p. λ is 0 for parameters of fewer than two dimensions and those whose name says
//! layer norm, bias or logit scale, as in open_clip. A parameter, its moments and its gradient are passed over
//! once. The norm is summed over fixed chunks in order, the same for any number of threads.

mod gradients;

pub use gradients::{Gradients, global_norm, layer_of};

use crate::config::OptimizerKind;
use crate::model::{Params, ParamsError};
use crate::ops::update::{AdamRule, adam};
use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};
use gradients::square_sum;
use std::collections::{BTreeMap, HashMap};

/// Settings of the optimizer that do not change from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// AdamW or Adam, which differ in what weight decay does.
    pub kind: OptimizerKind,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decay of the weights where it applies: times the learning rate for AdamW, a part of the gradient for
    /// Adam.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; no clipping if absent.
    pub grad_norm_max: Option<f64>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        let kind = OptimizerKind::Adamw;
        Self { kind, beta1: 0.9, beta2: 0.98, eps: 1e-6, weight_decay: 0.01, grad_norm_max: Some(1.0) }
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
    /// Sum of squares of each slot's last measured gradient.
    squares: Vec<f64>,
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
        Ok(Self { config, slots, steps: 0, squares: Vec::new() })
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

    /// Adds the gradients of one backward pass to `sums`; a pass need not reach every parameter.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn accumulate(&self, sums: &mut Gradients, grads: &GradStore) -> Result<()> {
        for (place, slot) in self.slots.iter().enumerate() {
            if let Some(grad) = grads.get(&slot.var) {
                sums.add(place, grad)?;
            }
        }
        Ok(())
    }

    /// The global norm of the gradient, before clipping; infinite or NaN when one of its numbers is.
    ///
    /// # Errors
    /// When a trainable parameter has no gradient, because an operation cut it.
    pub fn measure(&mut self, sums: &Gradients) -> Result<f64> {
        let squares = self.slots.iter().enumerate().map(|(place, slot)| match sums.get(place) {
            Some(grad) => square_sum(grad),
            None => bail!("parameter {} has no gradient", slot.name),
        });
        self.squares = squares.collect::<Result<Vec<_>>>()?;
        Ok(self.squares.iter().sum::<f64>().sqrt())
    }

    /// The norms of the last measured gradient by layer: a block of a tower, or a tensor outside of them.
    pub fn layer_norms(&self) -> BTreeMap<String, f64> {
        let mut norms = BTreeMap::new();
        for (slot, square) in self.slots.iter().zip(&self.squares) {
            *norms.entry(layer_of(&slot.name).to_owned()).or_insert(0.0) += square;
        }
        norms.values_mut().for_each(|norm| *norm = norm.sqrt());
        norms
    }

    /// Clips the gradient, whose norm is `norm`, and takes one step with learning rate `lr`.
    ///
    /// # Errors
    /// When a trainable parameter has no gradient; the parameters are then unchanged.
    pub fn descend(&mut self, sums: &Gradients, norm: f64, lr: f64) -> Result<()> {
        let grads: Option<Vec<&Tensor>> = (0..self.slots.len()).map(|place| sums.get(place)).collect();
        let Some(grads) = grads else { bail!("a parameter has no gradient") };
        let config = &self.config;
        let clip = config.grad_norm_max.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0));
        self.steps += 1;
        let steps = self.steps as f64;
        for (slot, grad) in self.slots.iter().zip(grads) {
            let decay = if slot.decays { config.weight_decay } else { 0.0 };
            let is_decoupled = config.kind == OptimizerKind::Adamw;
            let rule = AdamRule {
                clip: clip as f32,
                l2: if is_decoupled { 0.0 } else { decay as f32 },
                shrink: if is_decoupled { (1.0 - lr * decay) as f32 } else { 1.0 },
                beta1: config.beta1 as f32,
                beta2: config.beta2 as f32,
                rate: (lr / (1.0 - config.beta1.powf(steps))) as f32,
                root_scale: (1.0 / (1.0 - config.beta2.powf(steps)).sqrt()) as f32,
                eps: config.eps as f32,
            };
            adam(&slot.var, &slot.exp_avg, &slot.exp_avg_sq, grad, &rule)?;
        }
        Ok(())
    }

    /// Clips the gradients of one backward pass, takes one step with learning rate `lr`, and returns the
    /// global norm of the gradient before clipping.
    ///
    /// # Errors
    /// When a trainable parameter has no gradient (an operation cut it) or the norm is not finite; the
    /// parameters are then unchanged.
    pub fn step(&mut self, grads: &GradStore, lr: f64) -> Result<f64> {
        let mut sums = Gradients::default();
        self.accumulate(&mut sums, grads)?;
        let norm = self.measure(&sums)?;
        if !norm.is_finite() {
            let broken = self.slots.iter().zip(&self.squares).find(|(_, square)| !square.is_finite());
            match broken {
                Some((slot, _)) => bail!("the gradient of {} is not finite", slot.name),
                None => bail!("the norm of the gradient is not finite"),
            }
        }
        self.descend(&sums, norm, lr)?;
        Ok(norm)
    }
}
