//! A whole pre-norm transformer block as one differentiable operation.
//!
//! `m = x + out_proj(attention(in_proj(ln_1(x))))`, `y = m + c_proj(activation(c_fc(ln_2(m))))`.
//!
//! A task carries a few samples through the entire block, so that what one step writes the next still finds
//! in the cache, and candle's backward pass (which zeroes a tensor and adds to it for every argument of
//! every operation, on one thread) sees one edge a block instead of ten. The twelve parameters travel as
//! one concatenated tensor because a candle custom op takes three arguments at most. Kept for the backward
//! pass: packed qkv, attention output, `m` and the pre-activation; the rest is computed anew. Weight
//! gradients are summed in `GROUPS` fixed groups of tasks, which are then added in order.
//!
//! Left out: dropout, and mixed precision; other devices run the composite of single operations.

use super::attention::{Heads, attention, backward_sample, forward_sample};
use super::buffer::{on_kernels, read, slice, sum_in_order, tensor};
use super::gelu::{self, Activation, activate};
use super::layer_norm::{self, layer_norm};
use super::linear::{backward_input, backward_weight, forward_rows, linear};
use super::pool::select_positions;
use super::recycle::Buffer;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::Mutex;

/// Rows (tokens) that a task aims at.
const ROWS: usize = 256;

/// Most partial sums of the weights' gradients.
const GROUPS: usize = 8;

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
    /// Keeps nothing for the backward pass, which then runs the forward pass again: less memory, a third
    /// more time, the same bits.
    pub recompute: bool,
}

/// Applies a block to `x` (B, T, D).
///
/// # Errors
/// When a parameter's shape does not fit the width of `x`.
pub fn residual_block(x: &Tensor, params: &BlockParams, shape: BlockShape) -> Result<Tensor> {
    let (_, tokens, width) = x.dims3()?;
    let hidden = params.c_fc[1].elem_count();
    let sizes = Sizes { width, hidden };
    let expected = sizes.lengths();
    if params.all().zip(expected).any(|(t, len)| t.elem_count() != len)
        || shape.heads == 0
        || !width.is_multiple_of(shape.heads)
    {
        bail!("residual_block: parameters do not fit width {width}, {} heads", shape.heads)
    }
    let mut tensors = vec![x];
    tensors.extend(params.all());
    if tokens == 0 || !on_kernels(&tensors) {
        return composite(x, params, shape);
    }
    let flat = params.all().map(Tensor::flatten_all).collect::<Result<Vec<_>>>()?;
    let flat = Tensor::cat(&flat, 0)?;
    let keep = !shape.recompute && (x.track_op() || flat.track_op());
    let heads = Heads { tokens, width, heads: shape.heads, causal: shape.causal };
    let block = Block { shape, heads, sizes, keep, is_learned: flat.track_op(), kept: Mutex::new(None) };
    x.contiguous()?.apply_op2(&flat, block)
}

/// Row `positions[b]` of each sample of a block's output: (B, D).
///
/// The last block of a tower that is pooled at one position needs queries, output projection and
/// feed-forward layer for that row alone, which saves three quarters of its work. The numbers are those of
/// [`residual_block`] followed by [`select_positions`], to rounding.
///
/// # Errors
/// Those of [`residual_block`] and [`select_positions`].
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

#[derive(Clone, Copy)]
struct Sizes {
    width: usize,
    hidden: usize,
}

impl Sizes {
    /// Number of elements of each parameter, in the order of [`BlockParams::all`].
    fn lengths(&self) -> [usize; 12] {
        let (d, h) = (self.width, self.hidden);
        [d, d, 3 * d * d, 3 * d, d * d, d, d, d, h * d, h, d * h, d]
    }

    fn split<'a>(&self, mut flat: &'a [f32]) -> [&'a [f32]; 12] {
        self.lengths().map(|len| {
            let (head, rest) = flat.split_at(len);
            flat = rest;
            head
        })
    }

    fn split_mut<'a>(&self, mut flat: &'a mut [f32]) -> [&'a mut [f32]; 12] {
        self.lengths().map(|len| {
            let (head, rest) = std::mem::take(&mut flat).split_at_mut(len);
            flat = rest;
            head
        })
    }
}

/// What one task keeps of its forward pass.
struct Kept {
    qkv: Buffer,
    attended: Buffer,
    middle: Buffer,
    hidden: Buffer,
}

/// What the backward pass of one task reads: its rows of the input, what was kept, and the output's gradient.
struct Task<'a> {
    x: &'a [f32],
    kept: &'a Kept,
    grad: &'a [f32],
}

/// Buffers of one backward group, sized for the largest task and reused by each.
struct Scratch {
    normed: Buffer,
    activated: Buffer,
    dhidden: Buffer,
    dnormed: Buffer,
    dmiddle: Buffer,
    dqkv: Buffer,
    scores: Buffer,
    dscores: Buffer,
    row: Buffer,
}

impl Scratch {
    fn new(rows: usize, tokens: usize, sizes: Sizes) -> Self {
        let take = Buffer::stale;
        let Sizes { width, hidden } = sizes;
        Self {
            normed: take(rows * width),
            activated: take(rows * hidden),
            dhidden: take(rows * hidden),
            dnormed: take(rows * width),
            dmiddle: take(rows * width),
            dqkv: take(rows * 3 * width),
            scores: take(tokens * tokens),
            dscores: take(tokens * tokens),
            row: take(width),
        }
    }
}

struct Block {
    shape: BlockShape,
    heads: Heads,
    sizes: Sizes,
    keep: bool,
    /// Whether the parameters want a gradient; a frozen block passes on its input's alone.
    is_learned: bool,
    kept: Mutex<Option<Vec<Kept>>>,
}

impl Block {
    /// Elements of `x` that one task takes: whole samples, about `ROWS` tokens.
    fn task_len(&self) -> usize {
        let samples = ((ROWS + self.heads.tokens / 2) / self.heads.tokens).max(1);
        samples * self.heads.tokens * self.sizes.width
    }

    /// Runs one task forward into `out`.
    fn forward_task(&self, x: &[f32], params: &[&[f32]; 12], out: &mut [f32]) -> Kept {
        let Sizes { width, hidden } = self.sizes;
        let [ln1_w, ln1_b, in_w, in_b, out_w, out_b, ln2_w, ln2_b, fc_w, fc_b, proj_w, proj_b] = *params;
        let rows = x.len() / width;
        let take = |len: usize| Buffer::stale(rows * len);
        let (mut qkv, mut attended, mut middle) = (take(3 * width), take(width), take(width));
        let (mut hidden_in, mut activated) = (take(hidden), take(hidden));

        // `out` serves as scratch for the normalised rows until the result is written to it.
        layer_norm::forward_rows(x, ln1_w, ln1_b, self.shape.eps, out);
        forward_rows(out, in_w, Some(in_b), &mut qkv, (width, 3 * width));
        let sample = self.heads.tokens * width;
        let mut scores = Buffer::stale(self.heads.tokens * self.heads.tokens);
        for (qkv, attended) in qkv.chunks_exact(3 * sample).zip(attended.chunks_exact_mut(sample)) {
            forward_sample(qkv, &self.heads, attended, &mut scores);
        }
        forward_rows(&attended, out_w, Some(out_b), &mut middle, (width, width));
        add(x, &mut middle);
        layer_norm::forward_rows(&middle, ln2_w, ln2_b, self.shape.eps, out);
        forward_rows(out, fc_w, Some(fc_b), &mut hidden_in, (width, hidden));
        gelu::forward(self.shape.activation, &hidden_in, &mut activated);
        forward_rows(&activated, proj_w, Some(proj_b), out, (hidden, width));
        add(&middle, out);
        Kept { qkv, attended, middle, hidden: hidden_in }
    }

    fn forward(&self, x: &[f32], flat: &[f32], out: &mut [f32], keep: bool) -> Vec<Kept> {
        let params = self.sizes.split(flat);
        let task = self.task_len();
        let tasks = out.par_chunks_mut(task).zip(x.par_chunks(task));
        if !keep {
            tasks.for_each(|(out, x)| drop(self.forward_task(x, &params, out)));
            return Vec::new();
        }
        tasks.map(|(out, x)| self.forward_task(x, &params, out)).collect()
    }

    /// Runs one task backward: writes `dx`, adds to the parameters' gradients.
    fn backward_task(
        &self,
        task: &Task<'_>,
        params: &[&[f32]; 12],
        dx: &mut [f32],
        dparams: &mut [&mut [f32]; 12],
        s: &mut Scratch,
    ) {
        let Task { x, kept, grad } = *task;
        let Sizes { width, hidden } = self.sizes;
        let rows = x.len() / width;
        let eps = self.shape.eps;
        let [ln1_w, ln1_b, in_w, _, out_w, _, ln2_w, ln2_b, fc_w, _, proj_w, _] = *params;
        let [dln1_w, dln1_b, din_w, din_b, dout_w, dout_b, dln2_w, dln2_b, dfc_w, dfc_b, dproj_w, dproj_b] =
            dparams;
        let normed = &mut s.normed[..rows * width];
        let activated = &mut s.activated[..rows * hidden];
        let dhidden = &mut s.dhidden[..rows * hidden];
        let dnormed = &mut s.dnormed[..rows * width];
        let dmiddle = &mut s.dmiddle[..rows * width];
        let dqkv = &mut s.dqkv[..rows * 3 * width];

        // Feed-forward half.
        backward_input(grad, proj_w, dhidden, false, (hidden, width));
        gelu::forward_and_backward(self.shape.activation, &kept.hidden, activated, dhidden);
        if self.is_learned {
            backward_weight(grad, activated, dproj_w, dproj_b, (hidden, width));
            layer_norm::forward_rows(&kept.middle, ln2_w, ln2_b, eps, normed);
            backward_weight(dhidden, normed, dfc_w, dfc_b, (width, hidden));
        }
        backward_input(dhidden, fc_w, dnormed, false, (width, hidden));
        dmiddle.copy_from_slice(grad);
        layer_norm::backward_rows(&kept.middle, ln2_w, eps, dnormed, dmiddle, dln2_w, dln2_b, &mut s.row);

        // Attention half; `dnormed` first holds the gradient of the attention's output.
        if self.is_learned {
            backward_weight(dmiddle, &kept.attended, dout_w, dout_b, (width, width));
        }
        backward_input(dmiddle, out_w, dnormed, false, (width, width));
        let sample = self.heads.tokens * width;
        let samples = kept.qkv.chunks_exact(3 * sample).zip(dnormed.chunks_exact(sample));
        for ((qkv, grad), dqkv) in samples.zip(dqkv.chunks_exact_mut(3 * sample)) {
            backward_sample(qkv, grad, &self.heads, dqkv, &mut s.scores, &mut s.dscores);
        }
        if self.is_learned {
            layer_norm::forward_rows(x, ln1_w, ln1_b, eps, normed);
            backward_weight(dqkv, normed, din_w, din_b, (width, 3 * width));
        }
        backward_input(dqkv, in_w, dnormed, false, (width, 3 * width));
        dx.copy_from_slice(dmiddle);
        layer_norm::backward_rows(x, ln1_w, eps, dnormed, dx, dln1_w, dln1_b, &mut s.row);
    }

    fn backward(&self, x: &[f32], flat: &[f32], kept: &[Kept], grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let params = self.sizes.split(flat);
        let task = self.task_len();
        let mut dx = vec![0.0; x.len()];
        let mut groups = Vec::with_capacity(GROUPS);
        let mut rest = dx.as_mut_slice();
        for group in 0..GROUPS {
            let (first, end) = (group * kept.len() / GROUPS, (group + 1) * kept.len() / GROUPS);
            if first < end {
                let range = first * task..(end * task).min(x.len());
                let (dx, tail) = std::mem::take(&mut rest).split_at_mut(range.len());
                rest = tail;
                groups.push((range, &kept[first..end], dx));
            }
        }
        let parts: Vec<Buffer> = groups
            .into_par_iter()
            .map(|(range, kept, dx)| {
                let mut part = Buffer::zeroed(flat.len());
                let mut dparams = self.sizes.split_mut(&mut part);
                let mut scratch = Scratch::new(task / self.sizes.width, self.heads.tokens, self.sizes);
                let (x, grad) = (&x[range.clone()], &grad[range]);
                let tasks = x.chunks(task).zip(grad.chunks(task)).zip(dx.chunks_mut(task)).zip(kept);
                for (((x, grad), dx), kept) in tasks {
                    self.backward_task(&Task { x, kept, grad }, &params, dx, &mut dparams, &mut scratch);
                }
                part
            })
            .collect();
        (dx, sum_in_order(&parts))
    }
}

simd! {
    fn add(from: &[f32], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to += from;
        }
    }
}

impl CustomOp2 for Block {
    fn name(&self) -> &'static str {
        "residual-block"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, flat) = (slice(s1, l1)?, slice(s2, l2)?);
        let mut out = vec![0.0; x.len()];
        let kept = self.forward(x, flat, &mut out, self.keep);
        if self.keep
            && let Ok(mut slot) = self.kept.lock()
        {
            *slot = Some(kept);
        }
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        flat: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        // Taken out so that the memory is free once this block is done; a second backward pass over the
        // same graph runs the forward pass again.
        let kept = self.kept.lock().ok().and_then(|mut slot| slot.take());
        let (dx, dflat) = read(x, |x| {
            read(flat, |flat| {
                read(grad, |grad| {
                    let kept = kept.unwrap_or_else(|| self.forward(x, flat, &mut vec![0.0; x.len()], true));
                    Ok(self.backward(x, flat, &kept, grad))
                })
            })
        })?;
        let dflat = if self.is_learned { Some(tensor(dflat, flat.shape())?) } else { None };
        Ok((Some(tensor(dx, x.shape())?), dflat))
    }
}
