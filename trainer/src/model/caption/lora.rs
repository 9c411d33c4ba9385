//! The LoRA captioner: a picture's features become the first tokens of a frozen language model, whose layers have
//! low-rank corrections that are learned (Hu et al. 2022).
//!
//! `[mapper(features), embedding(caption)] → frozen blocks with corrections → frozen output layer`. Mapper and
//! corrections are all that is learned and saved. Left out: the search for captions.

use super::mapper::{self, Mapper, MapperSizes};
use crate::config::{LmConfig, LoraTargets};
use crate::init::Init;
use crate::lm::LanguageModel;
use crate::model::params::{ParamSpec, Params};
use crate::ops::{
    GradSink, LmBlockParams, Lora, LoraPass, OutputLayer, Target, TokenLoss, lm_blocks, lm_norm, token_loss,
};
use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor};
use std::sync::Arc;

/// A LoRA captioner and its parameters.
#[derive(Clone, Debug)]
pub struct LoraCaptioner {
    mapper_sizes: MapperSizes,
    lora: LmConfig,
    lm: Arc<LanguageModel>,
    params: Params,
    mapper: Mapper,
    blocks: Vec<LmBlockParams>,
    sink: GradSink,
    recompute: bool,
    /// Whether corrections are dropped out: in training.
    learns: bool,
}

impl LoraTargets {
    /// Whether the layer of this name is corrected.
    fn has(self, layer: &str) -> bool {
        let is_attention = matches!(layer, "q" | "k" | "v" | "out");
        match self {
            Self::Attention => is_attention,
            Self::Ffn => !is_attention,
            Self::All => true,
        }
    }
}

/// The name of a correction's parameter.
fn name(layer: usize, linear: &str, part: &str) -> String {
    format!("layers.{layer}.{linear}.lora_{part}")
}

impl LoraCaptioner {
    /// Every parameter that is learned over `lm`, in order.
    pub fn specs(mapper_sizes: &MapperSizes, lora: &LmConfig, lm: &LanguageModel) -> Result<Vec<ParamSpec>> {
        let mut specs = mapper::specs(mapper_sizes);
        for (number, block) in lm.blocks.iter().enumerate() {
            for (linear, layer) in block.linears().filter(|(linear, _)| lora.targets.has(linear)) {
                let (outputs, inputs) = layer.weight.dims2()?;
                // As published: the product is 0 at first.
                let bound = Init::Uniform((inputs as f64).sqrt().recip());
                specs.push(ParamSpec::new(name(number, linear, "a"), &[lora.rank, inputs], bound));
                specs.push(ParamSpec::new(
                    name(number, linear, "b"),
                    &[outputs, lora.rank],
                    Init::Constant(0.0),
                ));
            }
        }
        Ok(specs)
    }

    /// Builds a captioner with initial values that depend on `seed` and the sizes alone.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn new(
        mapper_sizes: &MapperSizes,
        lora: &LmConfig,
        lm: Arc<LanguageModel>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let params = Params::create(Self::specs(mapper_sizes, lora, &lm)?, seed, device)?;
        Self::over(mapper_sizes, lora, lm, params, true)
    }

    fn over(
        mapper_sizes: &MapperSizes,
        lora: &LmConfig,
        lm: Arc<LanguageModel>,
        params: Params,
        learns: bool,
    ) -> Result<Self> {
        let lookup = |name: &str| params.tensor(name, learns);
        let device = lm.tokens.device();
        let sink = if learns { GradSink::new(device)? } else { GradSink::detached(device)? };
        let mut blocks = lm.blocks.clone();
        for (number, block) in blocks.iter_mut().enumerate() {
            for (linear, layer) in block.linears_mut().filter(|(linear, _)| lora.targets.has(linear)) {
                let (a, b) = (lookup(&name(number, linear, "a"))?, lookup(&name(number, linear, "b"))?);
                layer.lora = Some(Lora { a, b });
            }
        }
        Ok(Self {
            mapper: Mapper::new(mapper_sizes, &sink, &lookup)?,
            mapper_sizes: mapper_sizes.clone(),
            lora: lora.clone(),
            lm,
            params,
            blocks,
            sink,
            recompute: false,
            learns,
        })
    }

    /// A captioner over the same parameters whose blocks run forward again in the backward pass, if `recompute`.
    #[must_use]
    pub fn recomputing(mut self, recompute: bool) -> Self {
        self.recompute = recompute;
        self.mapper.set_recompute(recompute);
        self
    }

    /// A captioner over the same parameters, later updates included, that records nothing for a backward pass.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn for_inference(&self) -> Result<Self> {
        Self::over(&self.mapper_sizes, &self.lora, Arc::clone(&self.lm), self.params.clone(), false)
    }

    /// A captioner of the same values in memory of its own; the frozen model is shared.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn copied(&self) -> Result<Self> {
        Self::over(&self.mapper_sizes, &self.lora, Arc::clone(&self.lm), self.params.copied()?, false)
    }

    /// The parameters that are learned, in order.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The frozen language model.
    pub fn lm(&self) -> &LanguageModel {
        &self.lm
    }

    /// The frozen blocks with their corrections.
    pub fn blocks(&self) -> &[LmBlockParams] {
        &self.blocks
    }

    /// What corrections are multiplied by.
    pub fn scale(&self) -> f32 {
        (self.lora.alpha / self.lora.rank as f64) as f32
    }

    /// Tokens that a picture becomes.
    pub fn prefix_tokens(&self) -> usize {
        self.mapper_sizes.tokens()
    }

    /// The first tokens (B, k, D) of image features (B, rows, inputs), at their positions.
    ///
    /// # Errors
    /// When the features are of another shape.
    pub fn prefix(&self, features: &Tensor) -> Result<Tensor> {
        let prefix = self.mapper.forward(features)?;
        match &self.lm.positions {
            Some(positions) => prefix.broadcast_add(&positions.narrow(0, 0, prefix.dim(1)?)?),
            None => Ok(prefix),
        }
    }

    /// The mean cross-entropy of `targets`, whose rows count through `input_ids` (B, T); `seed` draws what is dropped
    /// out.
    ///
    /// # Errors
    /// When shapes do not fit, or an id, a target or a position does not exist.
    pub fn loss(
        &self,
        features: &Tensor,
        input_ids: &Tensor,
        targets: &[Target],
        seed: u64,
    ) -> Result<TokenLoss> {
        let prefix = self.prefix(features)?;
        let (first, tokens) = (prefix.dim(1)?, input_ids.dim(1)?);
        let caption = self.lm.embed(input_ids, first)?;
        let rows = Tensor::cat(&[&prefix, &caption], 1)?;
        let dropout = if self.learns { self.lora.dropout as f32 } else { 0.0 };
        let pass = LoraPass { scale: self.scale(), dropout, seed };
        let hidden = lm_blocks(&rows, &self.blocks, &self.lm.shape(self.recompute), &pass, &self.sink)?;
        let hidden = lm_norm(&hidden, &self.lm.norm, self.lm.sizes.eps as f32)?;
        let place = |row: usize| (row / tokens * (first + tokens) + first + row % tokens) as u32;
        let targets: Vec<Target> =
            targets.iter().map(|t| Target { row: place(t.row as usize), class: t.class }).collect();
        let output = OutputLayer { weight: self.lm.output.clone(), bias: None };
        token_loss(&hidden, &output, &targets, &self.sink)
    }

    /// Runs the backward pass of a loss of this model: the gradients of every parameter.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        self.sink.backward(loss)
    }
}
