//! Frozen language models token by token: with corrections as the LoRA captioner's writer, and without as the source of
//! another decoder's words.

use super::write::{Memory, NextToken};
use crate::lm::LanguageModel;
use crate::model::caption::LoraCaptioner;
use crate::ops::cached::{Affine, Cache, CachedStack, Layer, Norm, Projection, Sizes};
use crate::ops::{LmBlockParams, read};
use candle_core::{Device, Result, Tensor};

/// A language model ready to read on.
pub(crate) struct LmStack {
    stack: CachedStack,
    norm: Norm,
    /// (V, D).
    tokens: Tensor,
    positions: Option<Vec<f32>>,
    width: usize,
}

impl LmStack {
    /// Of `lm` with these blocks, whose corrections count `scale` times.
    pub(crate) fn new(lm: &LanguageModel, blocks: &[LmBlockParams], scale: f32) -> Result<Self> {
        let shape = lm.shape(false);
        let layers = blocks.iter().map(|block| {
            let frozen = |layer| Affine::frozen(layer, scale);
            Ok(Layer {
                norm_1: Norm::frozen(&block.norm_1, shape.eps)?,
                qkv: Projection::Split(Box::new([frozen(&block.q)?, frozen(&block.k)?, frozen(&block.v)?])),
                out: frozen(&block.out)?,
                norm_2: Norm::frozen(&block.norm_2, shape.eps)?,
                gate: block.mlp.gate.as_ref().map(frozen).transpose()?,
                up: frozen(&block.mlp.up)?,
                down: frozen(&block.mlp.down)?,
                activation: shape.activation,
            })
        });
        let sizes = Sizes {
            width: lm.sizes.width,
            heads: shape.heads,
            groups: shape.groups,
            depth: lm.sizes.depth(),
            rope_theta: shape.rope_theta,
        };
        Ok(Self {
            stack: CachedStack::new(layers.collect::<Result<_>>()?, sizes),
            norm: Norm::frozen(&lm.norm, shape.eps)?,
            tokens: lm.tokens.to_device(&Device::Cpu)?,
            positions: lm.positions.as_ref().map(crate::ops::cached::numbers).transpose()?,
            width: lm.sizes.width,
        })
    }

    /// An empty memory for so many rows of at most `capacity` tokens.
    pub(crate) fn cache(&self, rows: usize, capacity: usize) -> Cache {
        self.stack.cache(rows, capacity)
    }

    /// The rows of tokens at one place of the model's sequence.
    pub(crate) fn embed(&self, tokens: &[u32], place: usize) -> Result<Vec<f32>> {
        let width = self.width;
        let mut rows = vec![0.0; tokens.len() * width];
        read(&self.tokens, |table| {
            for (row, token) in rows.chunks_exact_mut(width).zip(tokens) {
                let Some(found) = table.chunks_exact(width).nth(*token as usize) else {
                    candle_core::bail!("the language model has no token {token}");
                };
                row.copy_from_slice(found);
            }
            Ok(())
        })?;
        if let Some(positions) = &self.positions {
            let position = &positions[place * width..][..width];
            for row in rows.chunks_exact_mut(width) {
                row.iter_mut().zip(position).for_each(|(row, position)| *row += position);
            }
        }
        Ok(rows)
    }

    /// Reads the next tokens of every row, and gives the last one's hidden state behind the last normalisation.
    pub(crate) fn extend(&self, x: Vec<f32>, cache: &mut Cache) -> Result<Vec<f32>> {
        let last = self.stack.extend(x, cache)?;
        let mut normed = vec![0.0; last.len()];
        self.norm.apply(&last, &mut normed);
        Ok(normed)
    }
}

/// A LoRA captioner ready to write.
pub(crate) struct LoraWriter<'a> {
    model: &'a LoraCaptioner,
    lm: LmStack,
    output: Affine,
    start: u32,
}

impl<'a> LoraWriter<'a> {
    /// Of a model as it is now; `start` begins every caption.
    pub(crate) fn new(model: &'a LoraCaptioner, start: u32) -> Result<Self> {
        let lm = LmStack::new(model.lm(), model.blocks(), model.scale())?;
        Ok(Self { model, lm, output: Affine::new(&model.lm().output, None)?, start })
    }

    fn logits(&self, states: &[f32], rows: usize) -> Result<Vec<f32>> {
        let mut logits = vec![0.0; rows * self.output.outputs()];
        self.output.apply(states, &mut logits);
        Ok(logits)
    }
}

impl NextToken for LoraWriter<'_> {
    fn vocab_size(&self) -> usize {
        self.output.outputs()
    }

    fn begin(&self, features: &Tensor, tokens: usize) -> Result<(Memory, Vec<f32>)> {
        let prefix = self.model.prefix(features)?.to_device(&Device::Cpu)?;
        let (rows, count, width) = prefix.dims3()?;
        let mut cache = self.lm.cache(rows, count + 1 + tokens);
        let start = self.lm.embed(&[self.start], count)?;
        let mut x = Vec::with_capacity(rows * (count + 1) * width);
        read(&prefix, |prefix| {
            for prefix in prefix.chunks_exact(count * width) {
                x.extend_from_slice(prefix);
                x.extend_from_slice(&start);
            }
            Ok(())
        })?;
        let states = self.lm.extend(x, &mut cache)?;
        Ok((Memory(vec![cache]), self.logits(&states, rows)?))
    }

    fn next(&self, memory: &mut Memory, tokens: &[u32], place: usize) -> Result<Vec<f32>> {
        let [cache] = memory.0.as_mut_slice() else { candle_core::bail!("a language model has one memory") };
        let first = self.model.prefix_tokens();
        let x = self.lm.embed(tokens, first + place)?;
        let states = self.lm.extend(x, cache)?;
        self.logits(&states, tokens.len())
    }
}
