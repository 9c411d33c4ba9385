//! A whole pre-norm transformer block as one differentiable operation.
//!
//! `m = x + out_proj(attention(in_proj(ln_1(x))))`, `y = m + c_proj(activation(c_fc(ln_2(m))))`.
//!
//! Left out: dropout, and mixed precision; other devices run the composite of single operations.

mod kernel;

use self::kernel::{Block, Sizes};
use super::attention::{Heads, attention};
use super::buffer::on_kernels;
use super::gelu::{Activation, activate};
use super::layer_norm::layer_norm;
use super::linear::linear;
use super::pool::select_positions;
use super::sink::GradSink;
use super::stack::stack;
use candle_core::{Result, Tensor, bail};

/// The twelve parameters of a block, named and shaped as in open_clip (D wide, H hidden units).
#[derive(Clone, Debug)]
pub struct BlockParams {
    /// `ln_1`: weight and bias (D).
    pub ln_1: [Tensor; 2],
    /// `attn.in_proj_weight` (3·D, D) and `attn.in_proj_bias` (3·D).
    pub in_proj: [Tensor; 2],
    /// `attn.out_proj`: weight (D, D) and bias (D).
    pub out_proj: [Tensor; 2],
    /// `ln_2`: weight and bias (D).
    pub ln_2: [Tensor; 2],
    /// `mlp.c_fc`: weight (H, D) and bias (H).
    pub c_fc: [Tensor; 2],
    /// `mlp.c_proj`: weight (D, H) and bias (D).
    pub c_proj: [Tensor; 2],
}

impl BlockParams {
    fn all(&self) -> impl Iterator<Item = &Tensor> {
        [&self.ln_1, &self.in_proj, &self.out_proj, &self.ln_2, &self.c_fc, &self.c_proj]
            .into_iter()
            .flatten()
    }
}

/// What a block is besides its parameters.
#[derive(Clone, Copy, Debug)]
pub struct BlockShape {
    /// Number of attention heads.
    pub heads: usize,
    /// Whether a token sees only itself and earlier ones.
    pub causal: bool,
    /// Non-linearity of the feed-forward layer.
    pub activation: Activation,
    /// Added to the variance in layer normalisation.
    pub eps: f32,
    /// Keeps the blocks' inputs alone for the backward pass, which runs each block forward once more: less
    /// memory, a third more time, the same bits.
    pub recompute: bool,
}

/// Carries `x` (B, T, D) through a stack of blocks; their parameters' gradients go to `sink`.
///
/// # Errors
/// When a parameter's shape does not fit the width of `x`.
pub fn residual_blocks(
    x: &Tensor,
    blocks: &[BlockParams],
    shape: BlockShape,
    sink: &GradSink,
) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    for params in blocks {
        let sizes = Sizes { width, hidden: params.c_fc[1].elem_count() };
        if params.all().zip(sizes.lengths()).any(|(t, len)| t.elem_count() != len)
            || shape.heads == 0
            || !width.is_multiple_of(shape.heads)
        {
            bail!("residual_blocks: parameters do not fit width {width}, {} heads", shape.heads)
        }
    }
    let mut tensors = vec![x];
    tensors.extend(blocks.iter().flat_map(BlockParams::all));
    if blocks.is_empty() || x.elem_count() == 0 || !on_kernels(&tensors) {
        return blocks.iter().try_fold(x.clone(), |x, block| composite(&x, block, shape));
    }
    let heads = Heads { tokens, width, heads: shape.heads, causal: shape.causal };
    let stages = blocks.iter().map(|params| {
        let sizes = Sizes { width, hidden: params.c_fc[1].elem_count() };
        Block { params: params.clone(), shape, heads, sizes, rows: batch * tokens }
    });
    stack(x, stages.collect(), (batch, tokens, width), sink, shape.recompute)
}

/// Row `positions[b]` of each sample of a block's output: (B, D).
///
/// The last block of a tower that is pooled at one position needs queries, output projection and
/// feed-forward layer for that row alone, which saves three quarters of its work. The numbers are those of
/// [`residual_blocks`] followed by [`select_positions`], to rounding.
///
/// # Errors
/// Those of [`residual_blocks`] and [`select_positions`].
pub fn residual_block_at(
    x: &Tensor,
    p: &BlockParams,
    shape: BlockShape,
    positions: &[u32],
) -> Result<Tensor> {
    let normed = layer_norm(x, &p.ln_1[0], &p.ln_1[1], shape.eps)?;
    let qkv = linear(&normed, &p.in_proj[0], Some(&p.in_proj[1]))?;
    let attended = select_positions(&attention(&qkv, shape.heads, shape.causal)?, positions)?;
    let middle =
        (select_positions(x, positions)? + linear(&attended, &p.out_proj[0], Some(&p.out_proj[1]))?)?;
    feed_forward(middle, p, shape)
}

/// Rows `first` to `first + count` of each sample of a block's output: (B, count, D).
///
/// The last block of a captioner is read at its caption's tokens alone; the others need no output projection and no
/// feed-forward layer. The numbers are those of [`residual_blocks`], to rounding.
///
/// # Errors
/// Those of [`residual_blocks`], and when there are no such rows.
pub fn residual_block_rows(
    x: &Tensor,
    p: &BlockParams,
    shape: BlockShape,
    first: usize,
    count: usize,
) -> Result<Tensor> {
    let rows = |tensor: &Tensor| tensor.narrow(1, first, count)?.contiguous();
    let normed = layer_norm(x, &p.ln_1[0], &p.ln_1[1], shape.eps)?;
    let qkv = linear(&normed, &p.in_proj[0], Some(&p.in_proj[1]))?;
    let attended = rows(&attention(&qkv, shape.heads, shape.causal)?)?;
    let middle = (rows(x)? + linear(&attended, &p.out_proj[0], Some(&p.out_proj[1]))?)?;
    feed_forward(middle, p, shape)
}

/// The block from single operations: the reference, and the path of other devices.
fn composite(x: &Tensor, p: &BlockParams, shape: BlockShape) -> Result<Tensor> {
    let normed = layer_norm(x, &p.ln_1[0], &p.ln_1[1], shape.eps)?;
    let qkv = linear(&normed, &p.in_proj[0], Some(&p.in_proj[1]))?;
    let attended = attention(&qkv, shape.heads, shape.causal)?;
    let middle = (x + linear(&attended, &p.out_proj[0], Some(&p.out_proj[1]))?)?;
    feed_forward(middle, p, shape)
}

/// The second half of a block.
fn feed_forward(middle: Tensor, p: &BlockParams, shape: BlockShape) -> Result<Tensor> {
    let normed = layer_norm(&middle, &p.ln_2[0], &p.ln_2[1], shape.eps)?;
    let hidden = activate(&linear(&normed, &p.c_fc[0], Some(&p.c_fc[1]))?, shape.activation)?;
    middle + linear(&hidden, &p.c_proj[0], Some(&p.c_proj[1]))?
}
