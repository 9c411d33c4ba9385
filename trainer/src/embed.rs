//! All images and captions of a view as features, and the recall between them.
//!
//! Leaves out training; it needs a model, a tokenizer and a loader opened for evaluation.

use crate::config::{Config, LossConfig};
use crate::data::Tensors;
use crate::error::{Error, Result};
use crate::loss::pair_loss;
use crate::model::{Clip, ClipOutput};
use crate::retrieval::{self, Features, Retrieval};
use crate::tokenizer::Tokenizer;
use candle_core::{Device, Tensor};
use loader::{Batch, Loader};

/// Captions that pass through the text tower at once.
const CAPTIONS_AT_ONCE: usize = 256;

/// A view's features: images, captions, and whose each caption is.
#[derive(Debug, Default)]
pub struct Embedded {
    /// One row an image, of length 1.
    pub images: Features,
    /// One row a caption, of length 1.
    pub captions: Features,
    /// The image of each caption.
    pub owner: Vec<usize>,
}

/// Embeds the first `limit` samples (all for `None`) of a loader from [`open_eval`](crate::data::open_eval).
///
/// # Errors
/// [`Error::Loader`] naming a damaged sample, [`Error::Tensor`], [`Error::Tokenizer`].
pub fn embed(
    model: &Clip,
    config: &Config,
    loader: &Loader,
    tokenizer: &Tokenizer,
    device: &Device,
    limit: Option<usize>,
) -> Result<Embedded> {
    let tensors = Tensors::new(config, loader, tokenizer, device)?;
    let mut embedded = Embedded::default();
    let mut waiting: Vec<String> = Vec::new();
    each_batch(model, &tensors, loader, limit, &mut |batch, count, features| {
        let first = embedded.images.len();
        embedded.images.width = features.width;
        embedded.images.values.extend(features.values);
        for i in 0..count {
            for caption in batch.captions(i) {
                waiting.push(caption.to_owned());
                embedded.owner.push(first + i);
            }
        }
        while waiting.len() >= CAPTIONS_AT_ONCE {
            let rest = waiting.split_off(CAPTIONS_AT_ONCE);
            embed_captions(model, &tensors, &waiting, &mut embedded.captions)?;
            waiting = rest;
        }
        Ok(())
    })?;
    if !waiting.is_empty() {
        embed_captions(model, &tensors, &waiting, &mut embedded.captions)?;
    }
    Ok(embedded)
}

/// Embeds the images of the first `limit` samples (all for `None`) and shows `visit` each batch: the batch, how
/// many of its samples count, and their features of length 1. Returns how many samples there were.
pub(crate) fn each_batch(
    model: &Clip,
    tensors: &Tensors<'_>,
    loader: &Loader,
    limit: Option<usize>,
    visit: &mut dyn FnMut(&Batch, usize, Features) -> Result<()>,
) -> Result<usize> {
    let mut done = 0;
    for batch in loader.epoch(0).map_err(Error::loader("begin to read the images"))? {
        let batch = batch.map_err(Error::loader("read a batch of images"))?;
        let count = batch.valid_count().min(limit.unwrap_or(usize::MAX) - done);
        if count == 0 {
            break;
        }
        let rows =
            model.encode_image(&tensors.pixels(&batch, count)?).map_err(Error::tensor("embed images"))?;
        let mut features = Features::default();
        append(&mut features, &rows)?;
        visit(&batch, count, features)?;
        done += count;
    }
    Ok(done)
}

fn embed_captions(
    model: &Clip,
    tensors: &Tensors<'_>,
    captions: &[String],
    into: &mut Features,
) -> Result<()> {
    let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
    let (input_ids, eot_positions) = tensors.captions(&captions)?;
    let features = model.encode_text(&input_ids, &eot_positions).map_err(Error::tensor("embed captions"))?;
    append(into, &features)
}

/// Adds the rows of a (rows, width) tensor, each brought to length 1.
pub(crate) fn append(features: &mut Features, rows: &Tensor) -> Result<()> {
    let rows = rows.to_vec2::<f32>().map_err(Error::tensor("read features back"))?;
    for row in rows {
        features.width = row.len();
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        features.values.extend(row.into_iter().map(|v| v / norm));
    }
    Ok(())
}

impl Embedded {
    /// Recall both ways over everything that was embedded.
    ///
    /// # Errors
    /// [`Error::Tensor`] when features do not fit together, as after a view without captions.
    pub fn recall(&self) -> Result<Retrieval> {
        retrieval::recall(&self.images, &self.captions, &self.owner)
    }

    /// The mean contrastive loss over whole batches of `batch_size` images, each with its first caption, in nats; none
    /// with fewer images.
    ///
    /// The batches are dealt by a fixed permutation, so that a data set listed by class has fair ones too, and are the
    /// same at every evaluation.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn loss(&self, model: &Clip, loss: &LossConfig, batch_size: usize) -> Result<Option<f32>> {
        let scalars = || {
            let bias = model.logit_bias().map(|bias| bias.detach().to_device(&Device::Cpu));
            Ok((model.logit_scale()?.detach().to_device(&Device::Cpu)?, bias.transpose()?))
        };
        // Smoothing is training's: without it, losses of differently smoothed runs compare.
        let loss = LossConfig { label_smoothing: 0.0, ..loss.clone() };
        scalars()
            .and_then(|(scale, bias)| self.batch_loss(&scale, bias.as_ref(), &loss, batch_size))
            .map_err(Error::tensor("measure the loss"))
    }

    fn batch_loss(
        &self,
        logit_scale: &Tensor,
        logit_bias: Option<&Tensor>,
        loss: &LossConfig,
        batch_size: usize,
    ) -> candle_core::Result<Option<f32>> {
        let mut first = vec![None; self.images.len()];
        for (caption, &image) in self.owner.iter().enumerate().rev() {
            first[image] = Some(caption);
        }
        let mut pairs: Vec<(usize, usize)> =
            first.iter().enumerate().filter_map(|(image, caption)| Some((image, (*caption)?))).collect();
        pairs.sort_by_key(|(image, _)| (drawn(0, *image as u64), *image));
        let (mut sum, mut count) = (0.0, 0u32);
        for batch in pairs.chunks_exact(batch_size.max(1)) {
            let side = |features: &Features, rows: Vec<usize>| {
                let values =
                    rows.iter().flat_map(|row| &features.values[row * features.width..][..features.width]);
                Tensor::from_vec(
                    values.copied().collect::<Vec<f32>>(),
                    (rows.len(), features.width),
                    &Device::Cpu,
                )
            };
            let output = ClipOutput {
                image_features: side(&self.images, batch.iter().map(|pair| pair.0).collect())?,
                text_features: side(&self.captions, batch.iter().map(|pair| pair.1).collect())?,
                logit_scale: logit_scale.clone(),
                logit_bias: logit_bias.cloned(),
            };
            sum += f64::from(pair_loss(&output, loss)?.to_scalar::<f32>()?);
            count += 1;
        }
        Ok((count > 0).then(|| (sum / f64::from(count)) as f32))
    }

    /// The control: deals each image's captions to another image, by a permutation drawn from `seed`.
    pub fn shuffle_captions(&mut self, seed: u64) {
        let count = self.images.len();
        let mut to: Vec<usize> = (0..count).collect();
        for i in (1..count).rev() {
            // The remainder's bias is below 2^-40 for any number of images.
            let draw = u64::from_le_bytes(drawn(seed, i as u64)) % (i as u64 + 1);
            to.swap(i, draw as usize);
        }
        self.owner.iter_mut().for_each(|owner| *owner = to[*owner]);
    }
}

/// Eight bytes of BLAKE3(seed, i).
fn drawn(seed: u64, i: u64) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_derive_key("trainer v1 shuffled captions");
    hasher.update(&seed.to_le_bytes()).update(&i.to_le_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_that_of_whole_batches_dealt_afresh_with_first_captions() {
        // 10 images on the unit circle with two captions each: the first equal to its image, the second opposite.
        let angle = |i: usize| i as f32 * 0.6;
        let point = |a: f32| [a.cos(), a.sin()];
        let embedded = Embedded {
            images: Features { values: (0..10).flat_map(|i| point(angle(i))).collect(), width: 2 },
            captions: Features {
                values: (0..10)
                    .flat_map(|i| [point(angle(i)), point(angle(i) + std::f32::consts::PI)].concat())
                    .collect(),
                width: 2,
            },
            owner: (0..20).map(|caption| caption / 2).collect(),
        };
        let loss = |scale: f32, batch| {
            let scale = Tensor::new(scale, &Device::Cpu).unwrap();
            embedded.batch_loss(&scale, None, &LossConfig::default(), batch).unwrap()
        };
        // Without temperature every pair is as good as any other.
        assert!((loss(0.0, 5).unwrap() - 5f32.ln()).abs() < 1e-5);
        assert!(loss(50.0, 5).unwrap() < 0.1, "{:?}", loss(50.0, 5));
        assert_eq!(loss(50.0, 11), None);
        assert_eq!(loss(7.0, 4), loss(7.0, 4));
    }

    #[test]
    fn shuffling_captions_is_a_permutation_by_the_seed() {
        let begin = || Embedded {
            images: Features { values: vec![0.0; 100], width: 1 },
            captions: Features { values: vec![0.0; 200], width: 1 },
            owner: (0..200).map(|c| c / 2).collect(),
        };
        let (mut one, mut same, mut other) = (begin(), begin(), begin());
        one.shuffle_captions(1);
        same.shuffle_captions(1);
        other.shuffle_captions(2);
        assert_eq!(one.owner, same.owner);
        assert_ne!(one.owner, other.owner);
        let mut sorted = one.owner.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, begin().owner);
        let stayed = one.owner.iter().zip(begin().owner).filter(|(a, b)| **a == *b).count();
        assert!(stayed < 20, "{stayed}");
    }
}
