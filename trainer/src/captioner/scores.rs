//! What captions are worth: against references, by the tower, and how far they degenerate.
//!
//! Leaves out the metrics themselves, which are the crate `cocoeval`'s.

use super::{Caption, Captioned};
use crate::metrics::CaptionRow;
use cocoeval::{ImageId, TokenizedImage, evaluate_tokenized, tokenize_joined};
use rayon::prelude::*;
use serde::Serialize;

/// Mean and standard deviation of a cosine over captions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Proximity {
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
}

impl Proximity {
    /// Of some cosines; none of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        (!values.is_empty()).then(|| Self { mean, deviation: variance.sqrt() })
    }
}

/// The scores of each picture's first caption.
pub fn scores(pictures: &[Captioned]) -> CaptionRow {
    scores_of(pictures, &|picture| picture.captions.first())
}

/// The scores of the captions that `choose` takes; a picture without one counts as having said nothing, and one
/// without references is compared with none.
pub fn scores_of(
    pictures: &[Captioned],
    choose: &(dyn Fn(&Captioned) -> Option<&Caption> + Sync),
) -> CaptionRow {
    let chosen: Vec<Option<&Caption>> = pictures.iter().map(choose).collect();
    let compared: Vec<TokenizedImage> = pictures
        .par_iter()
        .zip(&chosen)
        .enumerate()
        .filter(|(_, (picture, _))| !picture.references.is_empty())
        .map(|(number, (picture, caption))| TokenizedImage {
            image_id: ImageId::from(number as i64),
            hypothesis: tokenize_joined(caption.map_or("", |caption| caption.text.as_str())),
            references: picture.references.iter().map(|text| tokenize_joined(text)).collect(),
        })
        .collect();
    let found = evaluate_tokenized(&compared, None);
    let all: Vec<&Caption> = chosen.iter().copied().flatten().collect();
    let count = all.len().max(1) as f64;
    let near: Vec<f64> = all.iter().filter_map(|caption| caption.image_proximity).collect();
    let texts: Vec<f64> = pictures.iter().filter_map(|picture| picture.text_proximity).collect();
    CaptionRow {
        cider: found.metrics.cider,
        bleu_4: found.metrics.bleu_4,
        rouge_l: found.metrics.rouge_l,
        image_proximity: Proximity::of(&near).map(|near| near.mean),
        text_proximity: Proximity::of(&texts).map(|near| near.mean),
        repeated_bigrams: found.degeneration.repeated[1],
        distinct_1: found.degeneration.distinct_1,
        length: all.iter().map(|caption| caption.tokens as f64).sum::<f64>() / count,
        embedding_norm: None,
        embedding_cosine: None,
        without_end: all.iter().filter(|caption| !caption.has_ended).count() as f64 / count,
    }
}
