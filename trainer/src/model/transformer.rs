//! The stack of residual blocks that both towers share.

use super::params::ParamSpec;
use crate::init::Init;
use crate::ops::{
    BlockParams, BlockShape, GradSink, residual_block_at, residual_block_rows, residual_blocks,
    select_positions,
};
use candle_core::{Result, Tensor};

/// ε of layer normalisation, as in PyTorch.
pub(super) const LAYER_NORM_EPS: f32 = 1e-5;

/// Initial values of the matrices in a block.
#[derive(Clone, Copy)]
pub(super) enum BlockInit {
    /// PyTorch's defaults, which open_clip leaves to the vision tower.
    Default,
    /// Normal deviations scaled with width and depth, which open_clip gives the text tower.
    Scaled,
}

/// Specs of `layers` blocks under `prefix` (which ends in a dot or is empty).
pub(super) fn specs(
    prefix: &str,
    layers: usize,
    width: usize,
    hidden: usize,
    init: BlockInit,
) -> Vec<ParamSpec> {
    let (d, h) = (width as f64, hidden as f64);
    let (in_proj, out_proj, c_fc, c_proj) = match init {
        BlockInit::Default => (
            // Xavier over the packed matrix, then Kaiming with a = √5, which is 1/√fan_in.
            Init::Uniform((6.0 / (4.0 * d)).sqrt()),
            Init::Uniform(d.sqrt().recip()),
            Init::Uniform(d.sqrt().recip()),
            Init::Uniform(h.sqrt().recip()),
        ),
        BlockInit::Scaled => {
            let residual = (d * 2.0 * layers as f64).sqrt().recip();
            (
                Init::Normal(d.sqrt().recip()),
                Init::Normal(residual),
                Init::Normal((2.0 * d).sqrt().recip()),
                Init::Normal(residual),
            )
        }
    };
    let (zero, one) = (Init::Constant(0.0), Init::Constant(1.0));
    let mut specs = Vec::with_capacity(12 * layers);
    for layer in 0..layers {
        let mut add = |name: &str, shape: &[usize], init: Init| {
            specs.push(ParamSpec::new(format!("{prefix}transformer.resblocks.{layer}.{name}"), shape, init));
        };
        add("ln_1.weight", &[width], one);
        add("ln_1.bias", &[width], zero);
        add("attn.in_proj_weight", &[3 * width, width], in_proj);
        add("attn.in_proj_bias", &[3 * width], zero);
        add("attn.out_proj.weight", &[width, width], out_proj);
        add("attn.out_proj.bias", &[width], zero);
        add("ln_2.weight", &[width], one);
        add("ln_2.bias", &[width], zero);
        add("mlp.c_fc.weight", &[hidden, width], c_fc);
        add("mlp.c_fc.bias", &[hidden], Init::Uniform(d.sqrt().recip()));
        add("mlp.c_proj.weight", &[width, hidden], c_proj);
        add("mlp.c_proj.bias", &[width], Init::Uniform(h.sqrt().recip()));
    }
    specs
}

/// A stack of residual blocks.
#[derive(Clone, Debug)]
pub(super) struct Transformer {
    blocks: Vec<BlockParams>,
    shape: BlockShape,
    sink: GradSink,
}

impl Transformer {
    /// Takes its parameters from `lookup` by full name.
    pub(super) fn new(
        prefix: &str,
        layers: usize,
        shape: BlockShape,
        sink: &GradSink,
        lookup: &dyn Fn(&str) -> Result<Tensor>,
    ) -> Result<Self> {
        let blocks = (0..layers)
            .map(|layer| {
                let at = |name: &str| lookup(&format!("{prefix}transformer.resblocks.{layer}.{name}"));
                let pair = |name: &str| -> Result<[Tensor; 2]> {
                    Ok([at(&format!("{name}.weight"))?, at(&format!("{name}.bias"))?])
                };
                Ok(BlockParams {
                    ln_1: pair("ln_1")?,
                    in_proj: [at("attn.in_proj_weight")?, at("attn.in_proj_bias")?],
                    out_proj: pair("attn.out_proj")?,
                    ln_2: pair("ln_2")?,
                    c_fc: pair("mlp.c_fc")?,
                    c_proj: pair("mlp.c_proj")?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { blocks, shape, sink: sink.clone() })
    }

    /// Whether blocks run their forward pass again in the backward pass instead of keeping its results.
    pub(super) fn set_recompute(&mut self, recompute: bool) {
        self.shape.recompute = recompute;
    }

    /// The blocks' parameters, and what they are besides.
    pub(super) fn parts(&self) -> (&[BlockParams], BlockShape) {
        (&self.blocks, self.shape)
    }

    /// Carries `x` (B, T, D) through every block.
    pub(super) fn forward(&self, x: Tensor) -> Result<Tensor> {
        residual_blocks(&x, &self.blocks, self.shape, &self.sink)
    }

    /// Carries `x` (B, T, D) through the first `count` blocks: what comes out there, and behind all blocks.
    pub(super) fn forward_past(&self, x: Tensor, count: usize) -> Result<(Tensor, Tensor)> {
        let (first, rest) = self.blocks.split_at(count.min(self.blocks.len()));
        let there = residual_blocks(&x, first, self.shape, &self.sink)?;
        let last = residual_blocks(&there, rest, self.shape, &self.sink)?;
        Ok((there, last))
    }

    /// Blocks.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Carries `x` (B, T, D) through every block and keeps rows `first` to `first + count` of each sample.
    pub(super) fn forward_rows(&self, x: Tensor, first: usize, count: usize) -> Result<Tensor> {
        let Some((last, others)) = self.blocks.split_last() else {
            return x.narrow(1, first, count)?.contiguous();
        };
        let x = residual_blocks(&x, others, self.shape, &self.sink)?;
        residual_block_rows(&x, last, self.shape, first, count)
    }

    /// Carries `x` (B, T, D) through every block and keeps row `positions[b]` of each sample: (B, D).
    pub(super) fn forward_at(&self, x: Tensor, positions: &[u32]) -> Result<Tensor> {
        let Some((last, others)) = self.blocks.split_last() else { return select_positions(&x, positions) };
        let x = residual_blocks(&x, others, self.shape, &self.sink)?;
        residual_block_at(&x, last, self.shape, positions)
    }
}
