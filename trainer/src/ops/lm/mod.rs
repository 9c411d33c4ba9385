//! Blocks of a frozen causal language model through which a gradient flows, with low-rank corrections that are learned.
//!
//! `m = x + out(attention(q(n₁(x)), k(n₁(x)), v(n₁(x))))`, `y = m + down(act(gate(n₂(m))) ∘ up(n₂(m)))`, or
//! `y = m + down(act(up(n₂(m))))` without a gate: llama's block and GPT-2's. The frozen matrices have no gradient, so
//! that the backward pass costs as much as the forward pass. Left out: trainable norms, key padding (captions are padded
//! behind their end, where a causal model does not look), windows.

mod attention;
mod kernel;
mod lora;
mod norm;

pub(crate) use attention::Rotations;
pub use lora::{LmLinear, Lora, LoraPass};
pub use norm::LmNorm;
pub(crate) use norm::NormView;

use self::attention::Groups;
use self::kernel::Block;
use super::buffer::{at_least_f32, on_kernels};
use super::gelu::{Activation, activate};
use super::layer_norm::layer_norm;
use super::linear::linear;
use super::sink::GradSink;
use super::stack::stack;
use candle_core::{D, Result, Tensor, bail};
use std::sync::Arc;

/// A block's parameters (D wide, H heads of d numbers, G groups of keys and values, M hidden units).
#[derive(Clone, Debug)]
pub struct LmBlockParams {
    /// Before attention.
    pub norm_1: LmNorm,
    /// (H·d, D).
    pub q: LmLinear,
    /// (G·d, D).
    pub k: LmLinear,
    /// (G·d, D).
    pub v: LmLinear,
    /// (D, H·d).
    pub out: LmLinear,
    /// Before the feed-forward layers.
    pub norm_2: LmNorm,
    /// The feed-forward layers.
    pub mlp: LmMlp,
}

/// The feed-forward layers of a block.
#[derive(Clone, Debug)]
pub struct LmMlp {
    /// (M, D), what `up` is multiplied with after the non-linearity; none in GPT-2, where `up` goes through it.
    pub gate: Option<LmLinear>,
    /// (M, D).
    pub up: LmLinear,
    /// (D, M).
    pub down: LmLinear,
}

impl LmBlockParams {
    /// The linear layers with their names, in the order of the parameters.
    pub fn linears(&self) -> impl Iterator<Item = (&'static str, &LmLinear)> {
        let attention = [("q", &self.q), ("k", &self.k), ("v", &self.v), ("out", &self.out)];
        let gate = self.mlp.gate.iter().map(|gate| ("gate", gate));
        attention.into_iter().chain(gate).chain([("up", &self.mlp.up), ("down", &self.mlp.down)])
    }

    /// The same, to be changed.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut LmLinear)> {
        let attention = [("q", &mut self.q), ("k", &mut self.k), ("v", &mut self.v), ("out", &mut self.out)];
        let gate = self.mlp.gate.iter_mut().map(|gate| ("gate", gate));
        let rest = [("up", &mut self.mlp.up), ("down", &mut self.mlp.down)];
        attention.into_iter().chain(gate).chain(rest)
    }

    fn all(&self) -> impl Iterator<Item = &Tensor> {
        self.norm_1.all().chain(self.norm_2.all()).chain(self.linears().flat_map(|(_, linear)| linear.all()))
    }
}

/// What blocks are besides their parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LmShape {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub groups: usize,
    /// Base of the rotations; none where positions are added to the tokens.
    pub rope_theta: Option<f64>,
    /// Non-linearity of the feed-forward layers.
    pub activation: Activation,
    /// Added to the variance, or the mean square, in normalisation.
    pub eps: f32,
    /// Keeps the blocks' inputs alone for the backward pass, which runs each block forward once more.
    pub recompute: bool,
}

fn groups(params: &LmBlockParams, shape: &LmShape, tokens: usize) -> Result<Groups> {
    let (_, wide) = params.q.sizes()?;
    let LmShape { heads, groups, .. } = *shape;
    if heads == 0 || groups == 0 || !heads.is_multiple_of(groups) || !wide.is_multiple_of(heads) {
        bail!("{wide} numbers do not split into {heads} heads over {groups} groups")
    }
    let depth = wide / heads;
    if shape.rope_theta.is_some() && !depth.is_multiple_of(2) {
        bail!("a head of {depth} numbers has no pairs to rotate")
    }
    Ok(Groups { tokens, heads, groups, depth })
}

fn check(params: &LmBlockParams, groups: Groups, width: usize) -> Result<()> {
    let Groups { heads, groups, depth, .. } = groups;
    let (_, hidden) = params.mlp.up.sizes()?;
    let expected = [
        ("q", (width, heads * depth)),
        ("k", (width, groups * depth)),
        ("v", (width, groups * depth)),
        ("out", (heads * depth, width)),
        ("gate", (width, hidden)),
        ("up", (width, hidden)),
        ("down", (hidden, width)),
    ];
    for (name, linear) in params.linears() {
        let sizes = linear.sizes()?;
        let wanted = expected.iter().find(|(of, _)| *of == name).map(|(_, sizes)| *sizes);
        let fits_bias = linear.bias.as_ref().is_none_or(|bias| bias.dims() == [sizes.1]);
        let fits_lora = match &linear.lora {
            None => true,
            Some(Lora { a, b }) => {
                let rank = a.dim(0)?;
                a.dims() == [rank, sizes.0] && b.dims() == [sizes.1, rank]
            }
        };
        if wanted != Some(sizes) || !fits_bias || !fits_lora {
            bail!("the layer {name} of {sizes:?} does not fit a block {width} wide")
        }
    }
    if params.norm_1.all().chain(params.norm_2.all()).any(|tensor| tensor.dims() != [width]) {
        bail!("a normalisation does not fit a block {width} wide")
    }
    Ok(())
}

/// Carries `x` (B, T, D) through a stack of blocks, tokens at positions 0 to T − 1; the corrections' gradients go to
/// `sink`.
///
/// # Errors
/// When a parameter's shape does not fit.
pub fn lm_blocks(
    x: &Tensor,
    blocks: &[LmBlockParams],
    shape: &LmShape,
    pass: &LoraPass,
    sink: &GradSink,
) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    for params in blocks {
        check(params, groups(params, shape, tokens)?, width)?;
    }
    let mut tensors = vec![x];
    tensors.extend(blocks.iter().flat_map(LmBlockParams::all));
    if blocks.is_empty() || x.elem_count() == 0 || !on_kernels(&tensors) {
        let mut numbered = blocks.iter().enumerate();
        return numbered.try_fold(x.clone(), |x, (number, block)| composite(&x, block, shape, pass, number));
    }
    let first = groups(&blocks[0], shape, tokens)?;
    let rotations = shape.rope_theta.map(|theta| Arc::new(Rotations::new(first.depth, theta, 0, tokens)));
    let stages = blocks.iter().enumerate().map(|(number, params)| {
        Ok(Block {
            params: params.clone(),
            shape: *shape,
            groups: groups(params, shape, tokens)?,
            rotations: rotations.clone(),
            pass: *pass,
            number,
            width,
            hidden: params.mlp.up.sizes()?.1,
            rows: batch * tokens,
        })
    });
    stack(x, stages.collect::<Result<_>>()?, (batch, tokens, width), sink, shape.recompute)
}

/// A frozen normalisation of rows (…, D) behind the blocks.
///
/// # Errors
/// When widths differ.
pub fn lm_norm(x: &Tensor, norm: &LmNorm, eps: f32) -> Result<Tensor> {
    if let Some(bias) = &norm.bias {
        return layer_norm(x, &norm.weight, bias, eps);
    }
    let wide = at_least_f32(x)?;
    let mean = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let scale = (mean + f64::from(eps))?.sqrt()?.recip()?;
    wide.broadcast_mul(&scale)?.broadcast_mul(&norm.weight.to_dtype(wide.dtype())?)?.to_dtype(x.dtype())
}

/// `x·Wᵀ + b + s·(d(x)·Aᵀ)·Bᵀ` from single operations; `number` tells the layer's mask from others'.
fn linear_with(x: &Tensor, layer: &LmLinear, pass: &LoraPass, number: u64) -> Result<Tensor> {
    let y = linear(x, &layer.weight, layer.bias.as_ref())?;
    let Some(Lora { a, b }) = &layer.lora else { return Ok(y) };
    let seen = if pass.dropout > 0.0 {
        let width = x.dim(D::Minus1)?;
        let mask = lora::mask(pass, number, x.elem_count() / width.max(1), width);
        (x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?)?
    } else {
        x.clone()
    };
    y + (linear(&linear(&seen, a, None)?, b, None)? * f64::from(pass.scale))?
}

/// The block from single operations: the reference, and the path of other devices.
fn composite(
    x: &Tensor,
    p: &LmBlockParams,
    shape: &LmShape,
    pass: &LoraPass,
    block: usize,
) -> Result<Tensor> {
    let mut number = kernel::first_layer(block);
    // In the order of [`LmBlockParams::linears`].
    let mut through = |x: &Tensor, layer: &LmLinear| {
        number += 1;
        linear_with(x, layer, pass, number)
    };
    let (batch, tokens, _) = x.dims3()?;
    let Groups { heads, groups, depth, .. } = groups(p, shape, tokens)?;
    let normed = lm_norm(x, &p.norm_1, shape.eps)?;
    let mut split = |layer: &LmLinear, heads: usize| -> Result<Tensor> {
        let rows = through(&normed, layer)?.reshape((batch, tokens, heads, depth))?;
        rows.transpose(1, 2)?.contiguous()
    };
    let (mut q, mut k, v) = (split(&p.q, heads)?, split(&p.k, groups)?, split(&p.v, groups)?);
    if let Some(theta) = shape.rope_theta {
        (q, k) = (turned(&q, theta)?, turned(&k, theta)?);
    }
    let repeat = |x: Tensor| -> Result<Tensor> {
        let each = heads / groups;
        let wide = x.unsqueeze(2)?.broadcast_as((batch, groups, each, tokens, depth))?.contiguous()?;
        wide.reshape((batch, heads, tokens, depth))
    };
    let (k, v) = (repeat(k)?, repeat(v)?);
    let scores = (q.matmul(&k.t()?.contiguous()?)? / (depth as f64).sqrt())?;
    let mask: Vec<f32> =
        (0..tokens * tokens).map(|i| if i % tokens > i / tokens { f32::NEG_INFINITY } else { 0.0 }).collect();
    let mask = Tensor::from_vec(mask, (tokens, tokens), x.device())?.to_dtype(scores.dtype())?;
    let scores = at_least_f32(&scores.broadcast_add(&mask)?)?;
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?.to_dtype(x.dtype())?;
    let attended = weights.matmul(&v)?.transpose(1, 2)?.reshape((batch, tokens, heads * depth))?;
    let middle = (x + through(&attended, &p.out)?)?;
    let normed = lm_norm(&middle, &p.norm_2, shape.eps)?;
    let hidden = match &p.mlp.gate {
        Some(gate) => {
            let gated = activate(&through(&normed, gate)?, shape.activation)?;
            (gated * through(&normed, &p.mlp.up)?)?
        }
        None => activate(&through(&normed, &p.mlp.up)?, shape.activation)?,
    };
    middle + through(&hidden, &p.mlp.down)?
}

/// Rotary positions from single operations: (B, heads, T, d).
fn turned(x: &Tensor, theta: f64) -> Result<Tensor> {
    let (_, _, tokens, depth) = x.dims4()?;
    let half = depth / 2;
    let angle = |i: usize| (i / half) as f64 * theta.powf(-2.0 * (i % half) as f64 / depth as f64);
    let numbers = |f: fn(f64) -> f64| -> Result<Tensor> {
        let values: Vec<f64> = (0..tokens * half).map(|i| f(angle(i))).collect();
        Tensor::from_vec(values, (1, 1, tokens, half), x.device())?.to_dtype(x.dtype())
    };
    let (cos, sin) = (numbers(f64::cos)?, numbers(f64::sin)?);
    let (left, right) = (x.narrow(3, 0, half)?.contiguous()?, x.narrow(3, half, half)?.contiguous()?);
    let first = (left.broadcast_mul(&cos)? - right.broadcast_mul(&sin)?)?;
    let second = (right.broadcast_mul(&cos)? + left.broadcast_mul(&sin)?)?;
    Tensor::cat(&[first, second], 3)
}

#[cfg(test)]
mod tests;
