//! The prefix captioner: a picture's features become the first tokens of a small causal decoder.
//!
//! `[mapper(features), words(caption)] → pre-norm blocks → layer norm → output layer`. Words are rows of a learned table,
//! or what a frozen language model makes of the caption so far, its hidden states, brought to the decoder's width.
//! Positions are learned for the caption's tokens; those of the prefix have theirs from the mapper. Left out: cross
//! attention, and the search for captions.

use super::mapper::{self, Mapper, MapperSizes};
use crate::config::DecoderConfig;
use crate::init::Init;
use crate::lm::LanguageModel;
use crate::model::params::{ParamSpec, Params};
use crate::model::transformer::{BlockInit, LAYER_NORM_EPS, Transformer, specs as block_specs};
use crate::ops::{
    Activation, BlockParams, BlockShape, GradSink, LoraPass, OutputLayer, Target, TokenLoss, embedding,
    layer_norm, linear, token_loss,
};
use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor};
use std::sync::Arc;

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

/// Where a caption's tokens come from.
#[derive(Clone, Debug)]
pub(crate) enum Words {
    /// A learned table (V, D).
    Table(Tensor),
    /// The hidden states of a frozen model, brought to the decoder's width by `proj` (D, W).
    Frozen { lm: Arc<LanguageModel>, proj: Tensor },
}

/// A prefix captioner and its parameters.
#[derive(Clone, Debug)]
pub struct PrefixDecoder {
    sizes: PrefixSizes,
    params: Params,
    mapper: Mapper,
    words: Words,
    positional_embedding: Tensor,
    transformer: Transformer,
    ln_final: [Tensor; 2],
    /// From the decoder's width to that of the frozen model, whose output layer is used.
    output_proj: Option<Tensor>,
    output: OutputLayer,
    sink: GradSink,
}

/// Hidden units of a feed-forward layer over its width.
const MLP_RATIO: usize = 4;

impl PrefixDecoder {
    /// Every parameter of a captioner of these sizes, in order.
    pub fn specs(sizes: &PrefixSizes, lm: Option<&LanguageModel>) -> Vec<ParamSpec> {
        let PrefixSizes { mapper, decoder, context_length, vocab_size } = sizes;
        let width = decoder.width;
        let mut specs = mapper::specs(mapper);
        match lm {
            Some(lm) => {
                let bound = Init::Uniform((lm.sizes.width as f64).sqrt().recip());
                specs.push(ParamSpec::new("words_proj.weight", &[width, lm.sizes.width], bound));
            }
            None => {
                specs.push(ParamSpec::new(
                    "token_embedding.weight",
                    &[*vocab_size, width],
                    Init::Normal(0.02),
                ));
            }
        }
        specs.push(ParamSpec::new("positional_embedding", &[*context_length, width], Init::Normal(0.01)));
        specs.extend(block_specs("", decoder.layers, width, MLP_RATIO * width, BlockInit::Scaled));
        specs.push(ParamSpec::new("ln_final.weight", &[width], Init::Constant(1.0)));
        specs.push(ParamSpec::new("ln_final.bias", &[width], Init::Constant(0.0)));
        match lm {
            _ if !decoder.tied => {
                specs.push(ParamSpec::new("output.weight", &[*vocab_size, width], Init::Normal(0.02)));
            }
            Some(lm) => {
                let bound = Init::Uniform((width as f64).sqrt().recip());
                specs.push(ParamSpec::new("output_proj.weight", &[lm.sizes.width, width], bound));
            }
            None => {}
        }
        specs
    }

    /// Builds a captioner with initial values that depend on `seed` and the sizes alone; its words are those of `lm`,
    /// if there is one, else a table of its own.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn new(
        sizes: &PrefixSizes,
        lm: Option<Arc<LanguageModel>>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let params = Params::create(Self::specs(sizes, lm.as_deref()), seed, device)?;
        Self::over(sizes, lm, params, true)
    }

    fn over(
        sizes: &PrefixSizes,
        lm: Option<Arc<LanguageModel>>,
        params: Params,
        learns: bool,
    ) -> Result<Self> {
        let lookup = |name: &str| params.tensor(name, learns);
        let positional_embedding = lookup("positional_embedding")?;
        let device = positional_embedding.device();
        let sink = if learns { GradSink::new(device)? } else { GradSink::detached(device)? };
        let shape = BlockShape {
            heads: sizes.decoder.heads,
            causal: true,
            activation: Activation::Gelu,
            eps: LAYER_NORM_EPS,
            recompute: false,
        };
        let (words, table) = match lm {
            Some(lm) => {
                let table = lm.output.clone();
                (Words::Frozen { lm, proj: lookup("words_proj.weight")? }, table)
            }
            None => {
                let table = lookup("token_embedding.weight")?;
                (Words::Table(table.clone()), table)
            }
        };
        let is_tied = sizes.decoder.tied;
        let output_proj = match &words {
            Words::Frozen { .. } if is_tied => Some(lookup("output_proj.weight")?),
            _ => None,
        };
        let weight = if is_tied { table } else { lookup("output.weight")? };
        Ok(Self {
            mapper: Mapper::new(&sizes.mapper, &sink, &lookup)?,
            positional_embedding,
            transformer: Transformer::new("", sizes.decoder.layers, shape, &sink, &lookup)?,
            ln_final: [lookup("ln_final.weight")?, lookup("ln_final.bias")?],
            output_proj,
            output: OutputLayer { weight, bias: None },
            words,
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
        Self::over(&self.sizes, self.lm(), self.params.clone(), false)
    }

    /// The frozen language model, if there is one.
    fn lm(&self) -> Option<Arc<LanguageModel>> {
        match &self.words {
            Words::Table(_) => None,
            Words::Frozen { lm, .. } => Some(Arc::clone(lm)),
        }
    }

    /// A captioner of the same values in memory of its own, for an average of the weights; it records nothing.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn copied(&self) -> Result<Self> {
        Self::over(&self.sizes, self.lm(), self.params.copied()?, false)
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

    /// The last normalisation, what brings its rows to the output layer's width, and the output layer.
    pub(crate) fn head(&self) -> (&[Tensor; 2], Option<&Tensor>, &OutputLayer) {
        (&self.ln_final, self.output_proj.as_ref(), &self.output)
    }

    /// Where tokens come from, and the table of positions.
    pub(crate) fn tables(&self) -> (&Words, &Tensor) {
        (&self.words, &self.positional_embedding)
    }

    /// The first tokens (B, k, D) of image features (B, rows, inputs).
    ///
    /// # Errors
    /// When the features are of another shape.
    pub fn prefix(&self, features: &Tensor) -> Result<Tensor> {
        self.mapper.forward(features)
    }

    /// Hidden states (B, T, D) of the caption's tokens behind the last normalisation, for image features (B, rows, inputs)
    /// and `input_ids` (B, T).
    ///
    /// # Errors
    /// When shapes do not fit, or an id or place is out of range.
    pub fn hidden(&self, features: &Tensor, input_ids: &Tensor) -> Result<Tensor> {
        let prefix = self.prefix(features)?;
        let caption = match &self.words {
            Words::Table(table) => embedding(input_ids, table, &self.positional_embedding, &self.sink)?,
            Words::Frozen { lm, proj } => {
                let plain = LoraPass { scale: 0.0, dropout: 0.0, seed: 0 };
                let detached = GradSink::detached(input_ids.device())?;
                let states = lm.forward(&lm.embed(input_ids, 0)?, &plain, &detached)?;
                let positions = self.positional_embedding.narrow(0, 0, input_ids.dim(1)?)?;
                linear(&states, proj, None)?.broadcast_add(&positions)?
            }
        };
        let (first, count) = (prefix.dim(1)?, caption.dim(1)?);
        let x = self.transformer.forward_rows(Tensor::cat(&[&prefix, &caption], 1)?, first, count)?;
        layer_norm(&x, &self.ln_final[0], &self.ln_final[1], LAYER_NORM_EPS)
    }

    /// The mean cross-entropy of `targets`, whose rows count through `input_ids` (B, T).
    ///
    /// # Errors
    /// As [`hidden`](Self::hidden), and when a target does not exist.
    pub fn loss(&self, features: &Tensor, input_ids: &Tensor, targets: &[Target]) -> Result<TokenLoss> {
        let hidden = self.hidden(features, input_ids)?;
        let hidden = match &self.output_proj {
            Some(proj) => linear(&hidden, proj, None)?,
            None => hidden,
        };
        token_loss(&hidden, &self.output, targets, &self.sink)
    }

    /// Runs the backward pass of a loss of this model: the gradients of every parameter.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        self.sink.backward(loss)
    }
}
