//! The prefix captioner: a picture's features become the first tokens of a small causal decoder.
//!
//! `[mapper(features), embedding(caption)] → pre-norm blocks → layer norm → output layer`. Positions are learned for
//! the caption's tokens; those of the prefix have theirs from the mapper. Left out: cross attention, and the search
//! for captions.

use super::mapper::{self, Mapper, MapperSizes};
use crate::config::DecoderConfig;
use crate::init::Init;
use crate::model::params::{ParamSpec, Params};
use crate::model::transformer::{BlockInit, LAYER_NORM_EPS, Transformer, specs as block_specs};
use crate::ops::{
    Activation, BlockParams, BlockShape, GradSink, OutputLayer, Target, TokenLoss, embedding, layer_norm,
    token_loss,
};
use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, bail};

/// Everything that decides the shapes of a prefix captioner.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixSizes {
    /// From features to prefix tokens.
    pub mapper: MapperSizes,
    /// The decoder.
    pub decoder: DecoderConfig,
    /// Tokens of a caption with both markers, at most.
    pub context_length: usize,
    /// Token ids.
    pub vocab_size: usize,
}

/// A prefix captioner and its parameters.
#[derive(Clone, Debug)]
pub struct PrefixDecoder {
    sizes: PrefixSizes,
    params: Params,
    mapper: Mapper,
    token_embedding: Tensor,
    positional_embedding: Tensor,
    transformer: Transformer,
    ln_final: [Tensor; 2],
    output: OutputLayer,
    sink: GradSink,
}

/// Hidden units of a feed-forward layer over its width.
const MLP_RATIO: usize = 4;

impl PrefixDecoder {
    /// Every parameter of a captioner of these sizes, in order.
    pub fn specs(sizes: &PrefixSizes) -> Vec<ParamSpec> {
        let PrefixSizes { mapper, decoder, context_length, vocab_size } = sizes;
        let width = decoder.width;
        let mut specs = mapper::specs(mapper);
        specs.push(ParamSpec::new("token_embedding.weight", &[*vocab_size, width], Init::Normal(0.02)));
        specs.push(ParamSpec::new("positional_embedding", &[*context_length, width], Init::Normal(0.01)));
        specs.extend(block_specs("", decoder.layers, width, MLP_RATIO * width, BlockInit::Scaled));
        specs.push(ParamSpec::new("ln_final.weight", &[width], Init::Constant(1.0)));
        specs.push(ParamSpec::new("ln_final.bias", &[width], Init::Constant(0.0)));
        if !decoder.tied {
            specs.push(ParamSpec::new("output.weight", &[*vocab_size, width], Init::Normal(0.02)));
        }
        specs
    }

    /// Builds a captioner with initial values that depend on `seed` and the sizes alone.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn new(sizes: &PrefixSizes, seed: u64, device: &Device) -> Result<Self> {
        Self::over(sizes, Params::create(Self::specs(sizes), seed, device)?, true)
    }

    fn over(sizes: &PrefixSizes, params: Params, learns: bool) -> Result<Self> {
        let lookup = |name: &str| match params.get(name) {
            Some(var) if learns => Ok(var.as_tensor().clone()),
            Some(var) => Ok(var.as_detached_tensor()),
            None => bail!("the model has no parameter {name}"),
        };
        let token_embedding = lookup("token_embedding.weight")?;
        let device = token_embedding.device();
        let sink = if learns { GradSink::new(device)? } else { GradSink::detached(device)? };
        let shape = BlockShape {
            heads: sizes.decoder.heads,
            causal: true,
            activation: Activation::Gelu,
            eps: LAYER_NORM_EPS,
            recompute: false,
        };
        let weight = if sizes.decoder.tied { token_embedding.clone() } else { lookup("output.weight")? };
        Ok(Self {
            mapper: Mapper::new(&sizes.mapper, &sink, &lookup)?,
            positional_embedding: lookup("positional_embedding")?,
            transformer: Transformer::new("", sizes.decoder.layers, shape, &sink, &lookup)?,
            ln_final: [lookup("ln_final.weight")?, lookup("ln_final.bias")?],
            output: OutputLayer { weight, bias: None },
            token_embedding,
            sink,
            sizes: sizes.clone(),
            params,
        })
    }

    /// A captioner over the same parameters whose blocks run forward again in the backward pass, if `recompute`.
    #[must_use]
    pub fn recomputing(mut self, recompute: bool) -> Self {
        self.transformer.set_recompute(recompute);
        self.mapper.set_recompute(recompute);
        self
    }

    /// A captioner over the same parameters, later updates included, that records nothing for a backward pass.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn for_inference(&self) -> Result<Self> {
        Self::over(&self.sizes, self.params.clone(), false)
    }

    /// A captioner of the same values in memory of its own, for an average of the weights; it records nothing.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn copied(&self) -> Result<Self> {
        Self::over(&self.sizes, self.params.copied()?, false)
    }

    /// The sizes.
    pub fn sizes(&self) -> &PrefixSizes {
        &self.sizes
    }

    /// The parameters, in order.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The decoder's blocks.
    pub(crate) fn blocks(&self) -> (&[BlockParams], BlockShape) {
        self.transformer.parts()
    }

    /// The last normalisation and the output layer.
    pub(crate) fn head(&self) -> (&[Tensor; 2], &OutputLayer) {
        (&self.ln_final, &self.output)
    }

    /// The tables of tokens and positions.
    pub(crate) fn tables(&self) -> (&Tensor, &Tensor) {
        (&self.token_embedding, &self.positional_embedding)
    }

    /// The first tokens (B, k, D) of image features (B, rows, inputs).
    ///
    /// # Errors
    /// When the features are of another shape.
    pub fn prefix(&self, features: &Tensor) -> Result<Tensor> {
        self.mapper.forward(features)
    }

    /// Hidden states (B, k + T, D) behind the last normalisation, for image features (B, rows, inputs) and
    /// `input_ids` (B, T).
    ///
    /// # Errors
    /// When shapes do not fit, or an id or place is out of range.
    pub fn hidden(&self, features: &Tensor, input_ids: &Tensor) -> Result<Tensor> {
        let prefix = self.prefix(features)?;
        let caption = embedding(input_ids, &self.token_embedding, &self.positional_embedding, &self.sink)?;
        let x = self.transformer.forward(Tensor::cat(&[&prefix, &caption], 1)?)?;
        layer_norm(&x, &self.ln_final[0], &self.ln_final[1], LAYER_NORM_EPS)
    }

    /// The mean cross-entropy of `targets`, whose rows count through `input_ids` (B, T).
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden), and when a target does not exist.
    pub fn loss(&self, features: &Tensor, input_ids: &Tensor, targets: &[Target]) -> Result<TokenLoss> {
        let hidden = self.hidden(features, input_ids)?;
        let tokens = input_ids.dim(1)?;
        let all = hidden.dim(1)?;
        // Before a caption's tokens stand those of its prefix.
        let place = |row: usize| (row / tokens * all + (all - tokens) + row % tokens) as u32;
        let targets: Vec<Target> =
            targets.iter().map(|t| Target { row: place(t.row as usize), class: t.class }).collect();
        token_loss(&hidden, &self.output, &targets, &self.sink)
    }

    /// Runs the backward pass of a loss of this model: the gradients of every parameter.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        self.sink.backward(loss)
    }
}
