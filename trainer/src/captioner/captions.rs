//! The captions of a view, and what they are worth.
//!
//! A picture's captions are written from what the tower saw of it; of several candidates the one is kept whose
//! embedding is nearest to the picture's. Leaves out how captions are compared with references, which is the crate
//! `cocoeval`'s.

use super::model::Writer;
use super::stored::Stored;
use super::tower::Tower;
use super::write::Writing;
use super::{CaptionBatch, CaptionModel};
use crate::config::{Config, Normalize};
use crate::data::Tensors;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use candle_core::{Device, Tensor};
use loader::Loader;
use serde::Serialize;

/// A caption that was written for a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Caption {
    /// The text.
    pub text: String,
    /// Its cosine to the picture, by the tower; none where the tower has no text side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_proximity: Option<f64>,
    /// The sum of its tokens' log-probabilities, in nats.
    pub log_prob: f64,
    /// Its tokens.
    pub tokens: usize,
    /// Whether it came to its end by itself.
    pub has_ended: bool,
    /// Its place among the picture's captions as they were written.
    pub number: usize,
}

/// A picture with its captions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Captioned {
    /// The sample's key, or the file.
    pub key: String,
    /// What was written: in the order of writing, or re-ranked, the nearest to the picture first.
    pub captions: Vec<Caption>,
    /// The largest cosine of the first caption to a reference, by the tower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_proximity: Option<f64>,
    /// What people wrote.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// The picture as the tower saw it, where pictures were asked for.
    #[serde(skip)]
    pub thumbnail: Option<Thumbnail>,
}

/// A square picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// Red, green, blue, row by row.
    pub rgb: Vec<u8>,
    /// Pixels a side.
    pub size: usize,
}

/// The mean loss of a view's references.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceLoss {
    sum: f64,
    tokens: usize,
}

impl ReferenceLoss {
    /// Nats a token; none without a token.
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.sum / self.tokens as f64)
    }
}

/// What captions are written with.
#[derive(Clone, Copy)]
pub(crate) struct Author<'a> {
    pub(crate) config: &'a Config,
    pub(crate) model: &'a CaptionModel,
    pub(crate) tower: &'a Tower,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) device: &'a Device,
    /// Whether a picture's captions are put in the order of their proximity.
    pub(crate) reranks: bool,
    /// How many pictures are kept beside their captions.
    pub(crate) thumbnails: usize,
    /// What the tower saw of the split, where that is stored.
    pub(crate) stored: Option<&'a Stored>,
}

impl Author<'_> {
    /// Tokens of a caption at most.
    fn room(&self) -> usize {
        match self.config.decode.max_length {
            0 => self.config.caption.context_length - 2,
            most => most,
        }
    }

    /// The network as it is now, ready to write.
    pub(crate) fn writer(&self) -> Result<Writer<'_>> {
        self.model
            .writer(self.tokenizer.markers().0)
            .map_err(Error::tensor("make the captioner ready to write"))
    }

    /// Writes captions for pictures that the tower saw, the best first.
    pub(crate) fn write(
        &self,
        writer: &Writer<'_>,
        seen: &super::tower::Seen,
        keys: &[&str],
    ) -> Result<Vec<Vec<Caption>>> {
        let writing =
            Writing { decode: &self.config.decode, room: self.room(), markers: self.tokenizer.markers() };
        let written = writer.write(&seen.features, keys, &writing);
        let written = written.map_err(Error::tensor("write captions"))?;
        let mut all: Vec<Vec<Caption>> = Vec::with_capacity(written.len());
        for written in written {
            let captions = written.into_iter().enumerate().map(|(number, written)| {
                Ok(Caption {
                    text: self.tokenizer.decode(&written.tokens)?,
                    image_proximity: None,
                    log_prob: written.log_prob,
                    tokens: written.tokens.len(),
                    has_ended: written.has_ended,
                    number,
                })
            });
            all.push(captions.collect::<Result<_>>()?);
        }
        let texts: Vec<&str> = all.iter().flatten().map(|caption| caption.text.as_str()).collect();
        if let Some(texts) = self.tower.text_features(&texts)? {
            let images = seen.embedding.to_vec2::<f32>().map_err(Error::tensor("read features back"))?;
            let mut rows = texts.values.chunks_exact(texts.width.max(1));
            for (captions, image) in all.iter_mut().zip(&images) {
                for caption in captions.iter_mut() {
                    caption.image_proximity = rows.next().map(|text| cosine(text, image));
                }
                if self.reranks {
                    let proximity = |caption: &Caption| caption.image_proximity.unwrap_or(f64::NEG_INFINITY);
                    captions.sort_by(|a, b| proximity(b).total_cmp(&proximity(a)));
                }
            }
        }
        Ok(all)
    }

    /// Writes captions for the first `limit` samples (all for `None`) of a loader that was opened for evaluation, and
    /// shows each picture to `visit`.
    pub(crate) fn caption(
        &self,
        loader: &Loader,
        limit: Option<usize>,
        visit: &mut dyn FnMut(Captioned) -> Result<()>,
    ) -> Result<ReferenceLoss> {
        let view = tower_view(self.config, self.tower);
        let tensors = Tensors::new(&view, loader, self.tokenizer, self.device)?;
        let (mut done, mut loss) = (0, ReferenceLoss::default());
        let writer = self.writer()?;
        for batch in loader.epoch(0).map_err(Error::loader("begin to read the images"))? {
            let batch = batch.map_err(Error::loader("read a batch of images"))?;
            let count = batch.valid_count().min(limit.unwrap_or(usize::MAX) - done);
            if count == 0 {
                break;
            }
            let wanted = self.thumbnails.saturating_sub(done).min(count);
            // Pixels are brought to the tower's size where somebody looks at them.
            let pixel_values = match self.stored {
                Some(_) if wanted == 0 => None,
                _ => Some(tensors.pixels(&batch, count)?),
            };
            let seen = match (self.stored, &pixel_values) {
                (None, Some(pixel_values)) => self.tower.see(pixel_values)?,
                (Some(stored), _) => {
                    let samples: Vec<u64> = (0..count).map(|i| batch.sample(i)).collect();
                    stored.see(&samples, self.device)?
                }
                (None, None) => break,
            };
            let keys: Vec<&str> = (0..count).map(|i| batch.key(i)).collect();
            let written = self.write(&writer, &seen, &keys)?;
            let references: Vec<Vec<String>> =
                (0..count).map(|i| batch.captions(i).map(str::to_owned).collect()).collect();
            self.add_loss(&seen.features, &references, &mut loss)?;
            let proximities = self.text_proximities(&written, &references)?;
            let shown = match &pixel_values {
                Some(pixel_values) => thumbnails(pixel_values, wanted, view.data.normalize)?,
                None => Vec::new(),
            };
            let mut shown = shown.into_iter();
            for (((key, references), captions), text_proximity) in
                keys.iter().zip(references).zip(written).zip(proximities)
            {
                let (key, thumbnail) = ((*key).to_owned(), shown.next());
                visit(Captioned { key, captions, text_proximity, references, thumbnail })?;
            }
            done += count;
        }
        Ok(loss)
    }

    /// Adds the loss of references.
    fn add_loss(
        &self,
        features: &Tensor,
        references: &[Vec<String>],
        total: &mut ReferenceLoss,
    ) -> Result<()> {
        let most = references.iter().map(Vec::len).max().unwrap_or(0);
        for number in 0..most {
            let with: Vec<usize> = (0..references.len()).filter(|i| references[*i].len() > number).collect();
            let texts: Vec<&str> = with.iter().map(|i| references[*i][number].as_str()).collect();
            let rows: Vec<u32> = with.iter().map(|i| *i as u32).collect();
            let count = rows.len();
            let rows = Tensor::from_vec(rows, count, self.device)
                .and_then(|rows| features.index_select(&rows, 0))
                .map_err(Error::tensor("measure the loss"))?;
            let length = self.config.caption.context_length;
            let batch = CaptionBatch::new(rows, &texts, self.tokenizer, length, self.device, 0)?;
            let loss = self.model.loss(&batch).map_err(Error::tensor("measure the loss"))?;
            total.sum += loss.each.iter().map(|loss| f64::from(*loss)).sum::<f64>();
            total.tokens += loss.each.len();
        }
        Ok(())
    }

    fn text_proximities(
        &self,
        written: &[Vec<Caption>],
        references: &[Vec<String>],
    ) -> Result<Vec<Option<f64>>> {
        let first: Vec<&str> = written
            .iter()
            .map(|captions| captions.first().map_or("", |caption| caption.text.as_str()))
            .collect();
        let flat: Vec<&str> = references.iter().flatten().map(String::as_str).collect();
        let (Some(ours), Some(theirs)) =
            (self.tower.text_features(&first)?, self.tower.text_features(&flat)?)
        else {
            return Ok(vec![None; written.len()]);
        };
        let mut rows = theirs.values.chunks_exact(theirs.width.max(1));
        let best = ours.values.chunks_exact(ours.width.max(1)).zip(references).map(|(ours, references)| {
            let cosines = rows.by_ref().take(references.len()).map(|theirs| cosine(ours, theirs));
            cosines.fold(None, |best: Option<f64>, cosine| Some(best.map_or(cosine, |best| best.max(cosine))))
        });
        Ok(best.collect())
    }
}

/// A configuration whose pictures are the tower's.
pub(crate) fn tower_view(config: &Config, tower: &Tower) -> Config {
    let mut view = config.clone();
    view.model = tower.config.model.clone();
    view.data.normalize = tower.config.data.normalize;
    view
}

/// The first `count` of normalised pictures (B, 3, size, size), as bytes.
pub(super) fn thumbnails(
    pixel_values: &Tensor,
    count: usize,
    normalize: Normalize,
) -> Result<Vec<Thumbnail>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let read = || {
        let size = pixel_values.dim(3)?;
        Ok((size, pixel_values.narrow(0, 0, count)?.flatten_all()?.to_vec1::<f32>()?))
    };
    let (size, values) = read().map_err(Error::tensor("read pictures back"))?;
    let (mean, std) = normalize.mean_std();
    let area = size * size;
    let byte = |planes: &[f32], place: usize| {
        let channel = place % 3;
        let value = planes[channel * area + place / 3] * std[channel] + mean[channel];
        (value * 255.0).round().clamp(0.0, 255.0) as u8
    };
    let picture = |planes: &[f32]| Thumbnail { rgb: (0..3 * area).map(|i| byte(planes, i)).collect(), size };
    Ok(values.chunks_exact(3 * area).map(picture).collect())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}
