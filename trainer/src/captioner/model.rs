//! The families of captioners behind one face: a loss to learn, and captions to write.

use super::CaptionBatch;
use super::prefix::PrefixWriter;
use super::tower::Tower;
use super::write::{Writing, Written, write};
use crate::config::{Config, Family};
use crate::model::Params;
use crate::model::caption::{MapperSizes, PrefixDecoder, PrefixSizes};
use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, bail};

/// A captioner's network.
#[derive(Clone, Debug)]
pub enum CaptionModel {
    /// Image features as the first tokens of a small decoder.
    Prefix(PrefixDecoder),
}

/// The loss of a batch.
pub(crate) struct BatchLoss {
    /// A scalar, in nats.
    pub(crate) mean: Tensor,
    /// Each target's own loss.
    pub(crate) each: Vec<f32>,
}

impl CaptionModel {
    /// The network that a configuration asks for, over what `tower` gives.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn new(config: &Config, tower: &Tower, vocab_size: usize, device: &Device) -> Result<Self> {
        let (caption, train) = (&config.caption, &config.train);
        let (rows, inputs) = tower.shape();
        let mapper = MapperSizes {
            config: caption.mapper.clone(),
            features: caption.features,
            rows,
            inputs,
            width: caption.decoder.width,
        };
        match caption.family {
            Family::None => bail!("caption.family = \"none\" has no network"),
            Family::Prefix => {
                let sizes = PrefixSizes {
                    mapper,
                    decoder: caption.decoder.clone(),
                    context_length: caption.context_length,
                    vocab_size,
                };
                Ok(Self::Prefix(PrefixDecoder::new(&sizes, train.seed, device)?.recomputing(train.recompute)))
            }
        }
    }

    /// The parameters, in order.
    pub fn params(&self) -> &Params {
        match self {
            Self::Prefix(model) => model.params(),
        }
    }

    /// The same parameters without a record for a backward pass.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn for_inference(&self) -> Result<Self> {
        match self {
            Self::Prefix(model) => model.for_inference().map(Self::Prefix),
        }
    }

    /// The same values in memory of their own, without a record.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub fn copied(&self) -> Result<Self> {
        match self {
            Self::Prefix(model) => model.copied().map(Self::Prefix),
        }
    }

    /// The loss of a batch.
    pub(crate) fn loss(&self, batch: &CaptionBatch) -> Result<BatchLoss> {
        match self {
            Self::Prefix(model) => {
                let loss = model.loss(&batch.features, &batch.input_ids, &batch.targets)?;
                Ok(BatchLoss { mean: loss.mean, each: loss.each })
            }
        }
    }

    /// Runs the backward pass of a loss of this model.
    pub(crate) fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        match self {
            Self::Prefix(model) => model.backward(loss),
        }
    }

    /// Captions for each picture of `features`, whose `keys` seed what is drawn.
    pub(crate) fn write(
        &self,
        features: &Tensor,
        keys: &[&str],
        writing: &Writing<'_>,
    ) -> Result<Vec<Vec<Written>>> {
        match self {
            Self::Prefix(model) => {
                let writer = PrefixWriter::new(model, writing.markers.0)?;
                write(&writer, features, keys, writing)
            }
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
        let tables = of(&|name| name == "token_embedding.weight");
        let output = of(&|name| name == "output.weight");
        let mapper = of(&|name| name.starts_with("mapper."));
        let words = if output > 0.0 {
            format!("{tables:.0}% in the token embedding, {output:.0}% in the output layer")
        } else {
            format!("{tables:.0}% in the token embedding, which is the output layer too")
        };
        let family = match self {
            Self::Prefix(_) => Family::Prefix,
        };
        format!("{:.1} M parameters ({}): {words}, {mapper:.0}% in the mapper", all / 1e6, family.name())
    }
}
