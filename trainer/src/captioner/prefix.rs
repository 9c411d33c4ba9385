//! The prefix captioner as a writer of captions: its decoder token by token.
//!
//! The weights are copied to the CPU, where the search is made whatever the model was trained on.

use super::write::NextToken;
use crate::model::caption::PrefixDecoder;
use crate::ops::cached::{Affine, Cache, CachedStack, Layer, Norm, Sizes};
use crate::ops::read;
use candle_core::{Device, Result, Tensor};

/// A decoder ready to write.
pub(crate) struct PrefixWriter<'a> {
    model: &'a PrefixDecoder,
    stack: CachedStack,
    ln_final: Norm,
    output: Affine,
    tokens: Vec<f32>,
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
                qkv: affine(&block.in_proj)?,
                out: affine(&block.out_proj)?,
                norm_2: Norm::layer(&block.ln_2, shape.eps)?,
                c_fc: affine(&block.c_fc)?,
                c_proj: affine(&block.c_proj)?,
                activation: shape.activation,
            })
        });
        let width = model.sizes().decoder.width;
        let stack = CachedStack::new(layers.collect::<Result<_>>()?, Sizes { width, heads: shape.heads });
        let (ln_final, output) = model.head();
        let (tokens, positions) = model.tables();
        let numbers = |tensor: &Tensor| read(&tensor.detach().to_device(&Device::Cpu)?, |v| Ok(v.to_vec()));
        Ok(Self {
            model,
            stack,
            ln_final: Norm::layer(ln_final, shape.eps)?,
            output: Affine::new(&output.weight, output.bias.as_ref())?,
            tokens: numbers(tokens)?,
            positions: numbers(positions)?,
            start,
            width,
        })
    }

    fn embed(&self, token: u32, place: usize, out: &mut [f32]) {
        let token = &self.tokens[token as usize * self.width..][..self.width];
        let position = &self.positions[place * self.width..][..self.width];
        for (out, (token, position)) in out.iter_mut().zip(token.iter().zip(position)) {
            *out = token + position;
        }
    }

    /// Logits of the last of every row's tokens.
    fn logits(&self, x: &[f32], rows: usize) -> Vec<f32> {
        let tokens = x.len() / self.width / rows;
        let last: Vec<f32> = x
            .chunks_exact(tokens * self.width)
            .flat_map(|row| &row[(tokens - 1) * self.width..])
            .copied()
            .collect();
        let mut normed = vec![0.0; last.len()];
        self.ln_final.apply(&last, &mut normed);
        let mut logits = vec![0.0; rows * self.output.outputs()];
        self.output.apply(&normed, &mut logits);
        logits
    }
}

impl NextToken for PrefixWriter<'_> {
    fn vocab_size(&self) -> usize {
        self.output.outputs()
    }

    fn begin(&self, features: &Tensor, tokens: usize) -> Result<(Cache, Vec<f32>)> {
        let prefix = self.model.prefix(features)?.to_device(&Device::Cpu)?;
        let (rows, count, width) = prefix.dims3()?;
        let mut cache = self.stack.cache(rows, count + 1 + tokens);
        let mut x = vec![0.0; rows * (count + 1) * width];
        read(&prefix, |prefix| {
            for (x, prefix) in x.chunks_exact_mut((count + 1) * width).zip(prefix.chunks_exact(count * width))
            {
                x[..count * width].copy_from_slice(prefix);
                self.embed(self.start, 0, &mut x[count * width..]);
            }
            Ok(())
        })?;
        self.stack.extend(&mut x, &mut cache)?;
        let logits = self.logits(&x, rows);
        Ok((cache, logits))
    }

    fn next(&self, cache: &mut Cache, tokens: &[u32], place: usize) -> Result<Vec<f32>> {
        let mut x = vec![0.0; tokens.len() * self.width];
        for (x, token) in x.chunks_exact_mut(self.width).zip(tokens) {
            self.embed(*token, place, x);
        }
        self.stack.extend(&mut x, cache)?;
        Ok(self.logits(&x, tokens.len()))
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
            let model = PrefixDecoder::new(&sizes, 7, &Device::Cpu).unwrap().for_inference().unwrap();
            let seen = values(&[4, sizes.mapper.rows, 6]);
            // Three captions a picture; the second and third go on with pictures of others.
            let tokens = [[9u32, 3, 7, 39], [1, 30, 2, 0], [5, 5, 5, 5], [11, 0, 21, 8]];
            let ids: Vec<u32> = tokens.iter().flat_map(|row| [&[2][..], row].concat()).collect();
            let ids = Tensor::from_vec(ids, (4, 5), &Device::Cpu).unwrap();
            let hidden = model.hidden(&seen, &ids).unwrap();
            assert_eq!(hidden.dims(), [4, prefix + 5, 16]);
            let logits = linear(&hidden, &model.head().1.weight, None).unwrap();
            let expected = logits.narrow(1, prefix, 5).unwrap().to_vec3::<f32>().unwrap();
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
        let model =
            PrefixDecoder::new(&sizes(MapperKind::Mlp, ImageFeatures::Vector), 3, &Device::Cpu).unwrap();
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
