//! From image features to the first tokens of a decoder.
//!
//! One row a picture becomes k tokens, by one matrix, by two with a non-linearity, or by a transformer over the row's
//! k images and k learned queries (Mokady et al. 2021). A row a patch becomes a token each, or k tokens through the
//! queries of a transformer. To what a patch became its place in the picture is added, which the pixels of a ResNet do not
//! tell.

use crate::config::{ImageFeatures, MapperConfig, MapperKind};
use crate::init::Init;
use crate::model::params::ParamSpec;
use crate::model::transformer::{BlockInit, LAYER_NORM_EPS, Transformer, specs as block_specs};
use crate::ops::{Activation, BlockShape, GradSink, activate, layer_norm, linear};
use candle_core::{Result, Tensor, bail};

/// Where image features come from and go to.
#[derive(Clone, Debug, PartialEq)]
pub struct MapperSizes {
    /// Which network.
    pub config: MapperConfig,
    /// What the tower hands on.
    pub features: ImageFeatures,
    /// Rows a picture that come in.
    pub rows: usize,
    /// Numbers of a row that comes in.
    pub inputs: usize,
    /// Numbers of a token that goes out.
    pub width: usize,
}

impl MapperSizes {
    /// Tokens that go out for a picture.
    pub fn tokens(&self) -> usize {
        match (self.features, self.config.kind) {
            (ImageFeatures::Patches, MapperKind::Linear | MapperKind::Mlp) => self.rows,
            _ => self.config.tokens,
        }
    }

    /// Tokens that one row becomes before a transformer.
    fn fan(&self) -> usize {
        match self.features {
            ImageFeatures::Vector => self.config.tokens,
            ImageFeatures::Patches => 1,
        }
    }

    /// Units between the two matrices of an MLP: half of what goes out, as published.
    fn hidden(&self) -> usize {
        (self.fan() * self.width / 2).max(self.width)
    }
}

/// The parameters of a mapper, in order.
pub(super) fn specs(sizes: &MapperSizes) -> Vec<ParamSpec> {
    let (inputs, outputs) = (sizes.inputs, sizes.fan() * sizes.width);
    let mut specs = Vec::new();
    if sizes.features == ImageFeatures::Patches {
        let shape = [sizes.rows, sizes.width];
        specs.push(ParamSpec::new("mapper.positional_embedding", &shape, Init::Normal(0.02)));
    }
    let mut layer = |name: &str, inputs: usize, outputs: usize| {
        let bound = Init::Uniform((inputs as f64).sqrt().recip());
        specs.push(ParamSpec::new(format!("mapper.{name}.weight"), &[outputs, inputs], bound));
        specs.push(ParamSpec::new(format!("mapper.{name}.bias"), &[outputs], bound));
    };
    match sizes.config.kind {
        MapperKind::Linear => layer("proj", inputs, outputs),
        MapperKind::Mlp => {
            layer("c_fc", inputs, sizes.hidden());
            layer("c_proj", sizes.hidden(), outputs);
        }
        MapperKind::Transformer => {
            layer("proj", inputs, outputs);
            let width = sizes.width;
            specs.push(ParamSpec::new("mapper.queries", &[sizes.config.tokens, width], Init::Normal(0.02)));
            specs.extend(block_specs("mapper.", sizes.config.layers, width, 4 * width, BlockInit::Scaled));
            specs.push(ParamSpec::new("mapper.ln_final.weight", &[width], Init::Constant(1.0)));
            specs.push(ParamSpec::new("mapper.ln_final.bias", &[width], Init::Constant(0.0)));
        }
    }
    specs
}

/// The layers of a mapper.
#[derive(Clone, Debug)]
enum Layers {
    Linear([Tensor; 2]),
    Mlp { c_fc: [Tensor; 2], c_proj: [Tensor; 2] },
    Transformer { proj: [Tensor; 2], queries: Tensor, blocks: Transformer, ln_final: [Tensor; 2] },
}

/// A mapper.
#[derive(Clone, Debug)]
pub struct Mapper {
    sizes: MapperSizes,
    layers: Layers,
    /// (rows, D), of patches.
    positions: Option<Tensor>,
}

impl Mapper {
    /// Takes its parameters from `lookup` by full name.
    pub(super) fn new(
        sizes: &MapperSizes,
        sink: &GradSink,
        lookup: &dyn Fn(&str) -> Result<Tensor>,
    ) -> Result<Self> {
        let pair = |name: &str| -> Result<[Tensor; 2]> {
            Ok([lookup(&format!("mapper.{name}.weight"))?, lookup(&format!("mapper.{name}.bias"))?])
        };
        let layers = match sizes.config.kind {
            MapperKind::Linear => Layers::Linear(pair("proj")?),
            MapperKind::Mlp => Layers::Mlp { c_fc: pair("c_fc")?, c_proj: pair("c_proj")? },
            MapperKind::Transformer => {
                let (heads, width) = (sizes.config.heads, sizes.width);
                if heads == 0 || !width.is_multiple_of(heads) {
                    bail!(
                        "caption.mapper.heads = {heads} does not divide the width of a token, which is {width}"
                    )
                }
                let shape = BlockShape {
                    heads: sizes.config.heads,
                    causal: false,
                    activation: Activation::Gelu,
                    eps: LAYER_NORM_EPS,
                    recompute: false,
                };
                Layers::Transformer {
                    proj: pair("proj")?,
                    queries: lookup("mapper.queries")?,
                    blocks: Transformer::new("mapper.", sizes.config.layers, shape, sink, lookup)?,
                    ln_final: pair("ln_final")?,
                }
            }
        };
        let positions = match sizes.features {
            ImageFeatures::Vector => None,
            ImageFeatures::Patches => Some(lookup("mapper.positional_embedding")?),
        };
        Ok(Self { sizes: sizes.clone(), layers, positions })
    }

    /// Whether blocks run forward again in the backward pass.
    pub(super) fn set_recompute(&mut self, recompute: bool) {
        if let Layers::Transformer { blocks, .. } = &mut self.layers {
            blocks.set_recompute(recompute);
        }
    }

    /// Tokens (B, k, D) of image features (B, rows, inputs).
    ///
    /// # Errors
    /// When the features are of another shape.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let MapperSizes { rows, inputs, width, .. } = self.sizes;
        let batch = features.dim(0)?;
        if features.dims()[1..] != [rows, inputs] {
            bail!("mapper: expected features of {rows}×{inputs}, got {:?}", features.shape())
        }
        let through = |x: &Tensor, [weight, bias]: &[Tensor; 2]| linear(x, weight, Some(bias));
        let fanned = |x: Tensor| match &self.positions {
            Some(positions) => x.reshape((batch, rows, width))?.broadcast_add(positions),
            None => x.reshape((batch, rows * self.sizes.fan(), width)),
        };
        match &self.layers {
            Layers::Linear(proj) => fanned(through(features, proj)?),
            Layers::Mlp { c_fc, c_proj } => {
                let hidden = activate(&through(features, c_fc)?, Activation::Gelu)?;
                fanned(through(&hidden, c_proj)?)
            }
            Layers::Transformer { proj, queries, blocks, ln_final } => {
                let seen = fanned(through(features, proj)?)?;
                let (count, _) = queries.dims2()?;
                let queries = queries.unsqueeze(0)?.broadcast_as((batch, count, width))?.contiguous()?;
                let tokens = blocks.forward(Tensor::cat(&[&seen, &queries], 1)?)?;
                let last = tokens.narrow(1, seen.dim(1)?, count)?.contiguous()?;
                layer_norm(&last, &ln_final[0], &ln_final[1], LAYER_NORM_EPS)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::params::Params;
    use candle_core::{DType, Device};

    #[test]
    fn patches_that_look_alike_are_told_apart_by_their_places() {
        for (kind, features) in [
            (MapperKind::Linear, ImageFeatures::Patches),
            (MapperKind::Mlp, ImageFeatures::Patches),
            (MapperKind::Transformer, ImageFeatures::Patches),
            (MapperKind::Mlp, ImageFeatures::Vector),
        ] {
            let config = MapperConfig { kind, tokens: 2, layers: 1, heads: 2 };
            let rows = if features == ImageFeatures::Vector { 1 } else { 3 };
            let sizes = MapperSizes { config, features, rows, inputs: 4, width: 8 };
            let params = Params::create(specs(&sizes), 5, &Device::Cpu).unwrap();
            let sink = GradSink::detached(&Device::Cpu).unwrap();
            let mapper = Mapper::new(&sizes, &sink, &|name| params.tensor(name, false)).unwrap();
            let of = |marked: usize| {
                let numbers =
                    (0..rows * 4).map(|i| if i / 4 == marked { 1.0f32 } else { 0.25 }).collect::<Vec<_>>();
                let seen = Tensor::from_vec(numbers, (1, rows, 4), &Device::Cpu).unwrap();
                mapper.forward(&seen).unwrap()
            };
            let tokens = of(0);
            assert_eq!(tokens.dims(), [1, sizes.tokens(), 8]);
            let flat =
                |x: &Tensor| x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            // By more than another order of the same sums could tell.
            let are_apart = |one: &Tensor, other: &Tensor| {
                flat(one).iter().zip(flat(other)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) > 1e-4
            };
            match (features, sizes.tokens()) {
                // Patches 1 and 2 are the same numbers.
                (ImageFeatures::Patches, 3) => {
                    let row = |row: usize| tokens.narrow(1, row, 1).unwrap();
                    assert!(are_apart(&row(1), &row(2)), "{kind:?}");
                }
                // Queries know no order: the same patches in other places are another picture all the same.
                (ImageFeatures::Patches, _) => assert!(are_apart(&tokens, &of(1)), "{kind:?}"),
                (ImageFeatures::Vector, _) => {}
            }
        }
    }
}
