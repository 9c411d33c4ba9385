//! Captions against their pictures by a CLIP: CLIPScore and RefCLIPScore (Hessel et al. 2021), proximities, and the
//! recall of pictures by their captions.
//!
//! `CLIPScore = 2.5·max(cos(image, "A photo depicts " + caption), 0)`; RefCLIPScore is the harmonic mean of that with
//! `max(max over references cos(caption, reference), 0)`, both texts behind the same words. Proximities are plain cosines
//! without them. Leaves out where captions come from.

use super::{Proximity, Tower, tower_view};
use crate::config::{Config, DataConfig};
use crate::data::{self, Tensors};
use crate::error::{Error, Result};
use crate::retrieval::{self, Features};
use candle_core::Device;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

/// What both texts begin with, as published.
const PROMPT: &str = "A photo depicts ";

/// The factor of CLIPScore, as published.
const WEIGHT: f64 = 2.5;

/// What a CLIP says of captions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClipScores {
    /// Captions that were compared with their picture.
    pub images: usize,
    /// The mean CLIPScore.
    pub clip_score: f64,
    /// The mean RefCLIPScore.
    pub ref_clip_score: f64,
    /// Cosines of captions to their pictures.
    pub image_proximity: Proximity,
    /// Cosines of captions to their nearest reference.
    pub text_proximity: Proximity,
    /// Share of captions whose picture is among the 1, 5 and 10 nearest.
    pub recall: [f64; 3],
}

/// A picture's caption and what people wrote.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The caption.
    pub caption: &'a str,
    /// The references; at least one.
    pub references: &'a [String],
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Compares the captions of the pictures of `data`, by key.
///
/// # Errors
/// [`Error::Data`] when a caption has no picture there, [`Error::Config`] for a tower without a text side,
/// [`Error::Loader`], [`Error::Tensor`], [`Error::Tokenizer`].
pub fn clip_scores(
    tower: &Tower,
    data: &Path,
    split: &str,
    told: &HashMap<String, Told<'_>>,
    device: &Device,
) -> Result<ClipScores> {
    let base = Config {
        data: DataConfig { val_split: split.to_owned(), ..DataConfig::default() },
        ..Config::default()
    };
    let view = tower_view(&base, tower);
    let loader = data::open_eval(&view, data, split, 1.0)?;
    let Some(tokenizer) = tower.tokenizer() else { return Err(no_text()) };
    let tensors = Tensors::new(&view, &loader, tokenizer, device)?;
    let width = tower.config.model.embed_dim;
    let mut images = Features { width, ..Features::default() };
    let mut found: Vec<Told<'_>> = Vec::new();
    for batch in loader.epoch(0).map_err(Error::loader("begin to read the images"))? {
        let batch = batch.map_err(Error::loader("read a batch of images"))?;
        let count = batch.valid_count();
        let wanted: Vec<usize> = (0..count).filter(|i| told.contains_key(batch.key(*i))).collect();
        if wanted.is_empty() {
            continue;
        }
        let seen = tower.see(&tensors.pixels(&batch, count)?)?;
        let rows = seen.embedding.to_vec2::<f32>().map_err(Error::tensor("read features back"))?;
        for i in wanted {
            images.values.extend_from_slice(&rows[i]);
            found.extend(told.get(batch.key(i)).copied());
        }
    }
    if found.len() < told.len() {
        let reason = format!(
            "{} of {} captions have no picture in the split {split:?}: image ids must be the data set's keys",
            told.len() - found.len(),
            told.len()
        );
        return Err(Error::Data { data: data.to_path_buf(), reason });
    }
    compare(tower, &images, &found)
}

fn no_text() -> Error {
    Error::Config {
        key: "caption.tower_tokenizer".into(),
        value: "\"\"".into(),
        allowed: "the tokenizer of the tower's text side, which captions are compared by".into(),
    }
}

fn compare(tower: &Tower, images: &Features, found: &[Told<'_>]) -> Result<ClipScores> {
    let text = |texts: &[String]| tower.text_features(texts)?.ok_or_else(no_text);
    let with = |prompt: &str| -> Result<(Features, Features)> {
        let captions: Vec<String> = found.iter().map(|told| format!("{prompt}{}", told.caption)).collect();
        let references: Vec<String> =
            found.iter().flat_map(|told| told.references).map(|text| format!("{prompt}{text}")).collect();
        Ok((text(&captions)?, text(&references)?))
    };
    let nearest = |captions: &Features, references: &Features| -> Vec<f64> {
        let mut rows = (0..references.len()).map(|row| references.row(row));
        let of = |(place, told): (usize, &Told<'_>)| {
            let rows = rows.by_ref().take(told.references.len());
            rows.map(|row| dot(captions.row(place), row)).fold(f64::NEG_INFINITY, f64::max)
        };
        found.iter().enumerate().map(of).collect()
    };
    let near_image = |captions: &Features| -> Vec<f64> {
        (0..found.len()).map(|i| dot(captions.row(i), images.row(i))).collect()
    };
    let (prompted, references) = with(PROMPT)?;
    let scores: Vec<f64> = near_image(&prompted).into_iter().map(|cos| WEIGHT * cos.max(0.0)).collect();
    let by_reference = nearest(&prompted, &references);
    let harmonic = |(score, near): (&f64, &f64)| {
        let near = near.max(0.0);
        if score + near > 0.0 { 2.0 * score * near / (score + near) } else { 0.0 }
    };
    let both: Vec<f64> = scores.iter().zip(&by_reference).map(harmonic).collect();
    let (plain, references) = with("")?;
    let owner: Vec<usize> = (0..found.len()).collect();
    let recall = retrieval::recall(images, &plain, &owner)?;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let nothing = Proximity { mean: 0.0, deviation: 0.0 };
    Ok(ClipScores {
        images: found.len(),
        clip_score: mean(&scores),
        ref_clip_score: mean(&both),
        image_proximity: Proximity::of(&near_image(&plain)).unwrap_or(nothing),
        text_proximity: Proximity::of(&nearest(&plain, &references)).unwrap_or(nothing),
        recall: recall.text_to_image.shares(),
    })
}
