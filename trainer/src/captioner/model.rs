//! The families of captioners behind one face: a loss to learn, and captions to write.

use super::CaptionBatch;
use super::diffusion;
use super::lm::LoraWriter;
use super::prefix::PrefixWriter;
use super::tower::SeenShape;
use super::write::{NextToken, Writing, Written, write};
use crate::config::{Config, Embeddings, Family};
use crate::lm::LanguageModel;
use crate::model::Params;
use crate::model::caption::{
    DiffusionCaptioner, DiffusionSizes, DiffusionTold as Told, LoraCaptioner, MapperSizes, PrefixDecoder,
    PrefixSizes,
};
use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, bail};
use std::sync::Arc;

/// A captioner's network.
#[derive(Clone, Debug)]
pub enum CaptionModel {
    /// Image features as the first tokens of a small decoder.
    Prefix(PrefixDecoder),
    /// Image features as the first tokens of a frozen language model with corrections.
    Lora(LoraCaptioner),
    /// Noise that is taken off a whole caption.
    Diffusion(DiffusionCaptioner),
}

/// A network ready to write, with what it needs laid out once for many pictures.
pub(crate) enum Writer<'a> {
    /// Token by token.
    Tokens(Box<dyn NextToken + 'a>),
    /// All tokens at once.
    Whole(&'a DiffusionCaptioner),
}

impl Writer<'_> {
    /// Captions for each picture of `features`, whose `keys` seed what is drawn.
    pub(crate) fn write(
        &self,
        features: &Tensor,
        keys: &[&str],
        writing: &Writing<'_>,
    ) -> Result<Vec<Vec<Written>>> {
        if features.dim(0)? != keys.len() {
            bail!("{:?} features for {} pictures", features.shape(), keys.len())
        }
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Tokens(model) => write(model.as_ref(), features, keys, writing),
            Self::Whole(model) => diffusion::write(model, features, keys, writing),
        }
    }
}

/// The loss of a batch.
pub(crate) struct BatchLoss {
    /// A scalar, in nats.
    pub(crate) mean: Tensor,
    /// Each target's own loss; the batch's for each of a family whose targets have none.
    pub(crate) each: Vec<f32>,
}

impl CaptionModel {
    /// The network that a configuration asks for, over what a tower gives, with the frozen language model of a family
    /// that has one.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn new(
        config: &Config,
        seen: SeenShape,
        lm: Option<Arc<LanguageModel>>,
        vocab_size: usize,
        device: &Device,
    ) -> Result<Self> {
        let (caption, train) = (&config.caption, &config.train);
        let SeenShape { rows, inputs, embed_dim } = seen;
        let mapper = MapperSizes {
            config: caption.mapper.clone(),
            features: caption.features,
            rows,
            inputs,
            width: match (&lm, caption.family) {
                (Some(lm), Family::Lora) => lm.sizes.width,
                (_, Family::Diffusion) => caption.diffusion.width,
                _ => caption.decoder.width,
            },
        };
        let tokens = mapper.tokens() + caption.context_length;
        if let Some(positions) = lm.as_ref().and_then(|lm| lm.positions.as_ref()) {
            let (rows, needed) = (
                positions.dim(0)?,
                if caption.family == Family::Lora { tokens } else { caption.context_length },
            );
            if needed > rows {
                bail!(
                    "{needed} tokens of picture and caption, and the language model has {rows} positions: lower caption.context_length or caption.mapper.tokens"
                )
            }
        }
        match caption.family {
            Family::None => bail!("caption.family = \"none\" has no network"),
            Family::Diffusion => {
                let sizes = DiffusionSizes {
                    mapper,
                    config: caption.diffusion.clone(),
                    text_dim: embed_dim,
                    context_length: caption.context_length,
                    vocab_size,
                };
                let model = DiffusionCaptioner::new(&sizes, train.seed, device)?;
                Ok(Self::Diffusion(model.recomputing(train.recompute)))
            }
            Family::Lora => {
                let Some(lm) = lm else { bail!("caption.family = \"lora\" without a language model") };
                let model = LoraCaptioner::new(&mapper, &caption.lm, lm, train.seed, device)?;
                Ok(Self::Lora(model.recomputing(train.recompute)))
            }
            Family::Prefix | Family::PrefixLm => {
                let sizes = PrefixSizes {
                    mapper,
                    decoder: caption.decoder.clone(),
                    context_length: caption.context_length,
                    vocab_size,
                };
                let model = PrefixDecoder::new(&sizes, lm, train.seed, device)?;
                Ok(Self::Prefix(model.recomputing(train.recompute)))
            }
        }
    }

    /// The parameters, in order.
    pub fn params(&self) -> &Params {
        match self {
            Self::Prefix(model) => model.params(),
            Self::Lora(model) => model.params(),
            Self::Diffusion(model) => model.params(),
        }
    }

    /// The same parameters without a record for a backward pass.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn for_inference(&self) -> Result<Self> {
        match self {
            Self::Prefix(model) => model.for_inference().map(Self::Prefix),
            Self::Lora(model) => model.for_inference().map(Self::Lora),
            Self::Diffusion(model) => model.for_inference().map(Self::Diffusion),
        }
    }

    /// The same values in memory of their own, without a record.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub fn copied(&self) -> Result<Self> {
        match self {
            Self::Prefix(model) => model.copied().map(Self::Prefix),
            Self::Lora(model) => model.copied().map(Self::Lora),
            Self::Diffusion(model) => model.copied().map(Self::Diffusion),
        }
    }

    /// The loss of a batch.
    pub(crate) fn loss(&self, batch: &CaptionBatch) -> Result<BatchLoss> {
        let loss = match self {
            Self::Prefix(model) => model.loss(&batch.features, &batch.input_ids, &batch.targets)?,
            Self::Lora(model) => model.loss(&batch.features, &batch.input_ids, &batch.targets, batch.seed)?,
            Self::Diffusion(model) => {
                let CaptionBatch { features, text, input_ids, targets, end, seed } = batch;
                let told = Told { features, text: text.as_ref() };
                let terms = model.loss(told, input_ids, targets, *end, *seed)?;
                let value = terms.loss.to_scalar::<f32>()?;
                return Ok(BatchLoss { mean: terms.loss, each: vec![value; targets.len()] });
            }
        };
        Ok(BatchLoss { mean: loss.mean, each: loss.each })
    }

    /// Runs the backward pass of a loss of this model.
    pub(crate) fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        match self {
            Self::Prefix(model) => model.backward(loss),
            Self::Lora(model) => model.backward(loss),
            Self::Diffusion(model) => model.backward(loss),
        }
    }

    /// The network as it is now, ready to write; `start` begins every caption.
    pub(crate) fn writer(&self, start: u32) -> Result<Writer<'_>> {
        match self {
            Self::Diffusion(model) => Ok(Writer::Whole(model)),
            Self::Lora(model) => Ok(Writer::Tokens(Box::new(LoraWriter::new(model, start)?))),
            Self::Prefix(model) => Ok(Writer::Tokens(Box::new(PrefixWriter::new(model, start)?))),
        }
    }

    /// Of embeddings that a diffusion learns: the mean norm of a token's row, and the mean cosine of two tokens'.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn embeddings(&self) -> Result<Option<(f64, f64)>> {
        match self {
            Self::Diffusion(model) if model.sizes().config.embeddings == Embeddings::Trained => {
                model.spread().map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The network in a few words, and where its parameters are.
    pub fn describe(&self) -> String {
        let params = self.params();
        let all = params.scalar_count() as f64;
        let of = |is_part: &dyn Fn(&str) -> bool| {
            let count: usize = params.iter().filter(|p| is_part(&p.name)).map(|p| p.var.elem_count()).sum();
            100.0 * count as f64 / all
        };
        let mut parts = vec![(of(&|name| name.starts_with("mapper.")), "in the mapper")];
        let table = of(&|name| name == "token_embedding.weight");
        let output = of(&|name| name == "output.weight");
        if table > 0.0 && output == 0.0 {
            parts.push((table, "in the token embedding, which is the output layer too"));
        } else {
            parts.extend([(table, "in the token embedding"), (output, "in the output layer")]);
        }
        parts.push((of(&|name| name.contains(".lora_")), "in corrections of the language model"));
        parts.push((of(&|name| name.starts_with("transformer.")), "in the decoder's blocks"));
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(share, _)| *share > 0.0)
            .map(|(share, words)| format!("{share:.0}% {words}"))
            .collect();
        format!("{:.1} M learned parameters: {}", all / 1e6, parts.join(", "))
    }
}
