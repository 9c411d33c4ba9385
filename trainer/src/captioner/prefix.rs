//! The prefix captioner as a writer of captions: its decoder token by token.
//!
//! The weights are copied to the CPU, where the search is made whatever the model was trained on.

use super::lm::LmStack;
use super::write::{Memory, NextToken};
use crate::model::caption::{PrefixDecoder, Words};
use crate::ops::cached::{Affine, CachedStack, Layer, Norm, Projection, Sizes, numbers};
use crate::ops::read;
use candle_core::{Device, Result, Tensor, bail};

/// Where tokens come from.
enum WordRows {
    Table(Vec<f32>),
    Frozen { lm: Box<LmStack>, proj: Affine },
}

/// A decoder ready to write.
pub(crate) struct PrefixWriter<'a> {
    model: &'a PrefixDecoder,
    stack: CachedStack,
    ln_final: Norm,
    output_proj: Option<Affine>,
    output: Affine,
    words: WordRows,
    positions: Vec<f32>,
    start: u32,
    width: usize,
}

impl<'a> PrefixWriter<'a> {
    /// Of a model as it is now; `start` begins every caption.
    pub(crate) fn new(model: &'a PrefixDecoder, start: u32) -> Result<Self> {
        let (blocks, shape) = model.blocks();
        let affine = |[weight, bias]: &[Tensor; 2]| Affine::new(weight, Some(bias));
        let layers = blocks.iter().map(|block| {
            Ok(Layer {
                norm_1: Norm::layer(&block.ln_1, shape.eps)?,
                qkv: Projection::Packed(affine(&block.in_proj)?),
                out: affine(&block.out_proj)?,
                norm_2: Norm::layer(&block.ln_2, shape.eps)?,
                gate: None,
                up: affine(&block.c_fc)?,
                down: affine(&block.c_proj)?,
                activation: shape.activation,
            })
        });
        let width = model.sizes().decoder.width;
        let (heads, depth) = (shape.heads, width / shape.heads);
        let sizes = Sizes { width, heads, groups: heads, depth, rope_theta: None };
        let (ln_final, output_proj, output) = model.head();
        let (words, positions) = model.tables();
        let words = match words {
            Words::Table(table) => WordRows::Table(numbers(table)?),
            Words::Frozen { lm, proj } => WordRows::Frozen {
                lm: Box::new(LmStack::new(lm, &lm.blocks, 0.0)?),
                proj: Affine::new(proj, None)?,
            },
        };
        Ok(Self {
            model,
            stack: CachedStack::new(layers.collect::<Result<_>>()?, sizes),
            ln_final: Norm::layer(ln_final, shape.eps)?,
            output_proj: output_proj.map(|proj| Affine::new(proj, None)).transpose()?,
            output: Affine::new(&output.weight, output.bias.as_ref())?,
            words,
            positions: numbers(positions)?,
            start,
            width,
        })
    }

    /// The decoder's rows of each caption's next token.
    fn embed(&self, tokens: &[u32], place: usize, memory: &mut Memory) -> Result<Vec<f32>> {
        let width = self.width;
        let mut rows = vec![0.0; tokens.len() * width];
        match &self.words {
            WordRows::Table(table) => {
                for (row, token) in rows.chunks_exact_mut(width).zip(tokens) {
                    row.copy_from_slice(&table[*token as usize * width..][..width]);
                }
            }
            WordRows::Frozen { lm, proj } => {
                let [_, cache] = memory.0.as_mut_slice() else { bail!("the words have a memory too") };
                let states = lm.extend(lm.embed(tokens, place)?, cache)?;
                proj.apply(&states, &mut rows);
            }
        }
        let position = &self.positions[place * width..][..width];
        for row in rows.chunks_exact_mut(width) {
            row.iter_mut().zip(position).for_each(|(row, position)| *row += position);
        }
        Ok(rows)
    }

    /// Logits behind states (rows, D).
    fn logits(&self, last: &[f32]) -> Result<Vec<f32>> {
        let rows = last.len() / self.width;
        let mut states = vec![0.0; last.len()];
        self.ln_final.apply(last, &mut states);
        if let Some(proj) = &self.output_proj {
            let mut wide = vec![0.0; rows * proj.outputs()];
            proj.apply(&states, &mut wide);
            states = wide;
        }
        let mut logits = vec![0.0; rows * self.output.outputs()];
        self.output.apply(&states, &mut logits);
        Ok(logits)
    }
}

impl NextToken for PrefixWriter<'_> {
    fn vocab_size(&self) -> usize {
        self.output.outputs()
    }

    fn begin(&self, features: &Tensor, tokens: usize) -> Result<(Memory, Vec<f32>)> {
        let prefix = self.model.prefix(features)?.to_device(&Device::Cpu)?;
        let (rows, count, width) = prefix.dims3()?;
        let mut memory = Memory(vec![self.stack.cache(rows, count + 1 + tokens)]);
        if let WordRows::Frozen { lm, .. } = &self.words {
            memory.0.push(lm.cache(rows, 1 + tokens));
        }
        let starts = self.embed(&vec![self.start; rows], 0, &mut memory)?;
        let mut x = Vec::with_capacity(rows * (count + 1) * width);
        read(&prefix, |prefix| {
            for (prefix, start) in prefix.chunks_exact(count * width).zip(starts.chunks_exact(width)) {
                x.extend_from_slice(prefix);
                x.extend_from_slice(start);
            }
            Ok(())
        })?;
        let last = self.stack.extend(x, &mut memory.0[0])?;
        let logits = self.logits(&last)?;
        Ok((memory, logits))
    }

    fn next(&self, memory: &mut Memory, tokens: &[u32], place: usize) -> Result<Vec<f32>> {
        let x = self.embed(tokens, place, memory)?;
        let last = self.stack.extend(x, &mut memory.0[0])?;
        self.logits(&last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DecoderConfig, ImageFeatures, MapperConfig, MapperKind};
    use crate::model::caption::{MapperSizes, PrefixSizes};
    use crate::ops::linear;

    fn sizes(kind: MapperKind, features: ImageFeatures) -> PrefixSizes {
        let config = MapperConfig { kind, tokens: 3, layers: 1, heads: 2 };
        let rows = if features == ImageFeatures::Vector { 1 } else { 5 };
        PrefixSizes {
            mapper: MapperSizes { config, features, rows, inputs: 6, width: 16 },
            decoder: DecoderConfig { width: 16, layers: 2, heads: 2, tied: false },
            context_length: 12,
            vocab_size: 40,
        }
    }

    fn values(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        Tensor::from_vec((0..count).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>(), shape, &Device::Cpu)
            .unwrap()
    }

    #[test]
    fn token_by_token_gives_the_logits_of_one_pass() {
        for (kind, features, prefix) in [
            (MapperKind::Linear, ImageFeatures::Vector, 3),
            (MapperKind::Mlp, ImageFeatures::Patches, 5),
            (MapperKind::Transformer, ImageFeatures::Vector, 3),
            (MapperKind::Transformer, ImageFeatures::Patches, 3),
        ] {
            let sizes = sizes(kind, features);
            let model = PrefixDecoder::new(&sizes, None, 7, &Device::Cpu).unwrap().for_inference().unwrap();
            let seen = values(&[4, sizes.mapper.rows, 6]);
            // Three captions a picture; the second and third go on with pictures of others.
            let tokens = [[9u32, 3, 7, 39], [1, 30, 2, 0], [5, 5, 5, 5], [11, 0, 21, 8]];
            let ids: Vec<u32> = tokens.iter().flat_map(|row| [&[2][..], row].concat()).collect();
            let ids = Tensor::from_vec(ids, (4, 5), &Device::Cpu).unwrap();
            let hidden = model.hidden(&seen, &ids).unwrap();
            assert_eq!(hidden.dims(), [4, 5, 16]);
            assert_eq!(model.prefix(&seen).unwrap().dims(), [4, prefix, 16]);
            let logits = linear(&hidden, &model.head().2.weight, None).unwrap();
            let expected = logits.to_vec3::<f32>().unwrap();
            let writer = PrefixWriter::new(&model, 2).unwrap();
            let (mut cache, first) = writer.begin(&seen, 6).unwrap();
            let close = |found: &[f32], place: usize, rows: &[usize]| {
                for (found, row) in found.chunks_exact(40).zip(rows) {
                    for (a, b) in found.iter().zip(&expected[*row][place]) {
                        assert!((a - b).abs() < 1e-4, "{kind:?} {features:?}: {a} against {b} at {place}");
                    }
                }
            };
            close(&first, 0, &[0, 1, 2, 3]);
            let mut rows = vec![0, 1, 2, 3];
            for place in 1..5 {
                if place == 3 {
                    // One caption is done, another is followed twice.
                    cache.choose(&[3, 1, 3]);
                    rows = vec![3, 1, 3];
                }
                let next: Vec<u32> = rows.iter().map(|row| tokens[*row][place - 1]).collect();
                close(&writer.next(&mut cache, &next, place).unwrap(), place, &rows);
            }
            // One row alone takes another way through the matrices.
            cache.choose(&[1]);
            assert_eq!(writer.next(&mut cache, &[4], 5).unwrap().len(), 40);
            assert!((0..3).any(|_| writer.next(&mut cache, &[4], 6).is_err()), "the memory has an end");
        }
    }

    #[test]
    fn a_single_row_has_the_numbers_of_many() {
        let model = PrefixDecoder::new(&sizes(MapperKind::Mlp, ImageFeatures::Vector), None, 3, &Device::Cpu)
            .unwrap();
        let writer = PrefixWriter::new(&model, 2).unwrap();
        let seen = values(&[5, 1, 6]);
        let (_, many) = writer.begin(&seen, 3).unwrap();
        for row in 0..5 {
            let (_, one) = writer.begin(&seen.narrow(0, row, 1).unwrap(), 3).unwrap();
            for (a, b) in one.iter().zip(&many[row * 40..]) {
                assert!((a - b).abs() < 1e-5);
            }
        }
    }
}
