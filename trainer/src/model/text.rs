//! The text transformer of CLIP: causal attention, and the row at the end-of-text token as the caption's
//! features.

use super::config::TextConfig;
use super::params::ParamSpec;
use super::transformer::{BlockInit, LAYER_NORM_EPS, Transformer, specs as block_specs};
use crate::init::Init;
use crate::ops::{Activation, BlockShape, GradSink, embedding, layer_norm, linear};
use candle_core::{DType, Result, Tensor};

/// The parameters of a text tower, in order.
pub(super) fn specs(config: &TextConfig, embed_dim: usize) -> Vec<ParamSpec> {
    let width = config.width;
    let mut specs = vec![
        ParamSpec::new("positional_embedding", &[config.context_length, width], Init::Normal(0.01)),
        ParamSpec::new("text_projection", &[width, embed_dim], Init::Normal((width as f64).sqrt().recip())),
    ];
    specs.extend(block_specs("", config.layers, width, config.hidden(), BlockInit::Scaled));
    specs.push(ParamSpec::new("token_embedding.weight", &[config.vocab_size, width], Init::Normal(0.02)));
    specs.push(ParamSpec::new("ln_final.weight", &[width], Init::Constant(1.0)));
    specs.push(ParamSpec::new("ln_final.bias", &[width], Init::Constant(0.0)));
    specs
}

/// The text side of CLIP.
#[derive(Clone, Debug)]
pub struct TextTower {
    token_embedding: Tensor,
    positional_embedding: Tensor,
    transformer: Transformer,
    sink: GradSink,
    precision: Option<DType>,
    ln_final: [Tensor; 2],
    text_projection: Tensor,
}

impl TextTower {
    /// Takes its parameters from `lookup` by full name.
    pub(super) fn new(
        config: &TextConfig,
        activation: Activation,
        sink: &GradSink,
        lookup: &dyn Fn(&str) -> Result<Tensor>,
    ) -> Result<Self> {
        let shape = BlockShape {
            heads: config.heads,
            causal: true,
            activation,
            eps: LAYER_NORM_EPS,
            recompute: false,
        };
        Ok(Self {
            token_embedding: lookup("token_embedding.weight")?,
            positional_embedding: lookup("positional_embedding")?,
            transformer: Transformer::new("", config.layers, shape, sink, lookup)?,
            sink: sink.clone(),
            precision: None,
            ln_final: [lookup("ln_final.weight")?, lookup("ln_final.bias")?],
            text_projection: lookup("text_projection")?,
        })
    }

    /// What the activations are computed in; `None` for the parameters' own type.
    pub(super) fn set_precision(&mut self, precision: Option<DType>) {
        self.precision = precision;
    }

    /// Whether blocks run their forward pass again in the backward pass instead of keeping its results.
    pub(super) fn set_recompute(&mut self, recompute: bool) {
        self.transformer.set_recompute(recompute);
    }

    /// Features (B, E) of `input_ids` (B, T), before L2 normalisation. `eot_positions` holds the place of
    /// each caption's end-of-text token. T may be below the context length: with causal attention,
    /// cutting off what follows the longest caption changes nothing.
    ///
    /// # Errors
    /// When T is over the context length, or an id or position is out of range.
    pub fn forward(&self, input_ids: &Tensor, eot_positions: &[u32]) -> Result<Tensor> {
        let tokens = embedding(input_ids, &self.token_embedding, &self.positional_embedding, &self.sink)?;
        let tokens = match self.precision {
            Some(dtype) => tokens.to_dtype(dtype)?,
            None => tokens,
        };
        let pooled = self.transformer.forward_at(tokens, eot_positions)?;
        let pooled = layer_norm(&pooled, &self.ln_final[0], &self.ln_final[1], LAYER_NORM_EPS)?;
        linear(&pooled, &self.text_projection.t()?, None)
    }
}
