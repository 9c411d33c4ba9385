//! All metrics of a set of captions at once.
//!
//! Captions are tokenised and scored by several threads, words are numbered and sums are taken in the order of the
//! references, so the same files give the same bits on any number of threads. Left out: METEOR and SPICE, which are
//! programs of their own (see [`java`](crate::java)); [`tokenized`] hands over what they read.

use rayon::prelude::*;
use serde::Serialize;

use crate::{
    CocoevalError, Degeneration, DocumentFrequencies, Hypotheses, ImageId, References,
    bleu::BleuCounts,
    cider::Cider,
    degeneration::degeneration_of,
    frequencies::GramFrequencies,
    ngrams::Grams,
    rouge::Rouge,
    tokenizer::tokenize_joined,
    vocabulary::{Vocabulary, Words},
};

/// What to do where an image has references but no hypothesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// Refuse: a score over a part of the images is not the score of the set.
    #[default]
    Refuse,
    /// Score the images that have a hypothesis, and list the others in the result. Document frequencies are of the
    /// scored images alone, as in pycocoevalcap when it is given the ids of the results.
    Skip,
}

/// How to score.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What to do about images without a hypothesis.
    pub missing: Missing,
    /// Document frequencies for CIDEr; by default those of the references that are scored.
    pub frequencies: Option<DocumentFrequencies>,
}

/// The metrics of one image or of a set, under the names that pycocoevalcap gives them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Metrics {
    /// BLEU by single words, from 0 to 1.
    #[serde(rename = "Bleu_1")]
    pub bleu_1: f64,
    /// BLEU by runs of up to two words.
    #[serde(rename = "Bleu_2")]
    pub bleu_2: f64,
    /// BLEU by runs of up to three words.
    #[serde(rename = "Bleu_3")]
    pub bleu_3: f64,
    /// BLEU by runs of up to four words.
    #[serde(rename = "Bleu_4")]
    pub bleu_4: f64,
    /// ROUGE-L, from 0 to 1; of a set, the mean of its images.
    #[serde(rename = "ROUGE_L")]
    pub rouge_l: f64,
    /// CIDEr, from 0 to 10; of a set, the mean of its images.
    #[serde(rename = "CIDEr")]
    pub cider: f64,
}

/// The metrics of one image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageScores {
    /// The image.
    pub image_id: ImageId,
    /// Its metrics.
    #[serde(flatten)]
    pub metrics: Metrics,
}

/// The result of [`evaluate`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Metrics of the whole set. BLEU is that of all runs of words together, not a mean of the images'.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// How repetitive the hypotheses are.
    pub degeneration: Degeneration,
    /// Metrics by image, in the order of the references.
    pub images: Vec<ImageScores>,
    /// Images that have references but no hypothesis; empty where these are refused.
    pub missing: Vec<ImageId>,
}

/// One image's captions, tokenised and joined by single spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizedImage {
    /// The image.
    pub image_id: ImageId,
    /// The hypothesis.
    pub hypothesis: String,
    /// The references, at least one.
    pub references: Vec<String>,
}

/// Tokenises what is to be scored, in the order of the references.
///
/// # Errors
/// [`UnknownImages`](CocoevalError::UnknownImages), [`MissingHypotheses`](CocoevalError::MissingHypotheses) where
/// `missing` refuses them, [`NothingToScore`](CocoevalError::NothingToScore).
pub fn tokenized(
    references: &References,
    hypotheses: &Hypotheses,
    missing: Missing,
) -> Result<Vec<TokenizedImage>, CocoevalError> {
    hypotheses.check_known(references)?;
    let without = hypotheses.missing(references);
    if let (Missing::Refuse, Some(image)) = (missing, without.first()) {
        let of = references.images().len();
        return Err(CocoevalError::MissingHypotheses { count: without.len(), of, image: image.clone() });
    }
    let images: Vec<TokenizedImage> = references
        .images()
        .par_iter()
        .filter_map(|image| {
            let hypothesis = hypotheses.get(&image.id)?;
            Some(TokenizedImage {
                image_id: image.id.clone(),
                hypothesis: tokenize_joined(hypothesis),
                references: image.captions.iter().map(|caption| tokenize_joined(caption)).collect(),
            })
        })
        .collect();
    if images.is_empty() { Err(CocoevalError::NothingToScore) } else { Ok(images) }
}

/// Scores hypotheses against references with every metric that needs no other program.
///
/// # Errors
/// Those of [`tokenized`].
///
/// ```
/// use cocoeval::{Hypotheses, Options, References, evaluate};
///
/// let references = References::new([(1.into(), vec!["A dog runs on the beach.", "A brown dog is running."])]);
/// let hypotheses = Hypotheses::new([(1.into(), "a dog runs on the beach")]);
/// let scores = evaluate(&references, &hypotheses, &Options::default())?;
/// assert!(scores.metrics.bleu_4 > 0.999 && scores.metrics.rouge_l > 0.999);
/// # Ok::<(), cocoeval::CocoevalError>(())
/// ```
pub fn evaluate(
    references: &References,
    hypotheses: &Hypotheses,
    options: &Options,
) -> Result<Scores, CocoevalError> {
    let images = tokenized(references, hypotheses, options.missing)?;
    let mut scores = evaluate_tokenized(&images, options.frequencies.as_ref());
    scores.missing = hypotheses.missing(references);
    Ok(scores)
}

/// Scores captions that were tokenised before, `frequencies` being those of CIDEr if not the references' own.
pub fn evaluate_tokenized(images: &[TokenizedImage], frequencies: Option<&DocumentFrequencies>) -> Scores {
    let mut vocabulary = Vocabulary::default();
    let words: Vec<(Words, Vec<Words>)> = images
        .iter()
        .map(|image| {
            let hypothesis = vocabulary.words_of(&image.hypothesis);
            (hypothesis, image.references.iter().map(|of| vocabulary.words_of(of)).collect())
        })
        .collect();
    let frequencies = match frequencies {
        Some(file) => GramFrequencies::from_words(file, &vocabulary),
        None => GramFrequencies::of(words.len(), |image| &words[image].1).without_rare(),
    };
    let scored: Vec<(BleuCounts, Metrics)> = words
        .par_iter()
        .map_init(Scorer::default, |scorer, (hypothesis, references)| {
            scorer.score(hypothesis, references, &frequencies)
        })
        .collect();
    let mut counts = BleuCounts::default();
    scored.iter().for_each(|(of, _)| counts.add(of));
    let mean = |of: fn(&Metrics) -> f64| {
        scored.iter().map(|(_, metrics)| of(metrics)).sum::<f64>() / scored.len().max(1) as f64
    };
    Scores {
        metrics: metrics(&counts, mean(|metrics| metrics.rouge_l), mean(|metrics| metrics.cider)),
        degeneration: degeneration_of(words.iter().map(|(hypothesis, _)| hypothesis.split())),
        images: images
            .iter()
            .zip(&scored)
            .map(|(image, &(_, metrics))| ImageScores { image_id: image.image_id.clone(), metrics })
            .collect(),
        missing: Vec::new(),
    }
}

fn metrics(counts: &BleuCounts, rouge_l: f64, cider: f64) -> Metrics {
    let [bleu_1, bleu_2, bleu_3, bleu_4] = counts.scores();
    Metrics { bleu_1, bleu_2, bleu_3, bleu_4, rouge_l, cider }
}

/// Scores single images; keeps its memory between them.
#[derive(Debug, Default)]
struct Scorer {
    hypothesis: Grams,
    references: Vec<Grams>,
    cider: Cider,
    rouge: Rouge,
}

impl Scorer {
    fn score(
        &mut self,
        hypothesis: &Words,
        references: &[Words],
        frequencies: &GramFrequencies,
    ) -> (BleuCounts, Metrics) {
        self.hypothesis.count(hypothesis.split());
        if self.references.len() < references.len() {
            self.references.resize_with(references.len(), Grams::default);
        }
        let grams = &mut self.references[..references.len()];
        for (grams, words) in grams.iter_mut().zip(references) {
            grams.count(words.split());
        }
        let counts = BleuCounts::of(&self.hypothesis, grams);
        let cider = self.cider.score(&self.hypothesis, grams, frequencies);
        let rouge_l = self.rouge.score(hypothesis.spaced(), references.iter().map(Words::spaced));
        (counts, metrics(&counts, rouge_l, cider))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (References, Hypotheses) {
        let references = References::new([(1.into(), vec!["A dog."]), (2.into(), vec!["A cat."])]);
        (references, Hypotheses::new([(1.into(), "a dog")]))
    }

    #[test]
    fn a_missing_hypothesis_is_the_callers_choice() {
        let (references, hypotheses) = two();
        let refused = evaluate(&references, &hypotheses, &Options::default()).unwrap_err();
        assert!(refused.to_string().starts_with("1 of 2 images have no hypothesis, the first is image 2;"));
        let options = Options { missing: Missing::Skip, ..Options::default() };
        let scores = evaluate(&references, &hypotheses, &options).unwrap();
        assert_eq!((scores.images.len(), scores.missing), (1, vec![2.into()]));
        assert_eq!(scores.metrics.cider, 0.0, "of one image, every run of words is in all images");
        let none = evaluate(&references, &Hypotheses::default(), &options).unwrap_err();
        assert!(matches!(none, CocoevalError::NothingToScore));
    }

    #[test]
    fn frequencies_of_a_larger_set() {
        let (references, hypotheses) = two();
        let df = [("a", 10), ("dog", 5), ("a dog", 4), ("unheard of", 1)];
        let df = df.map(|(words, images)| (words.to_owned(), images)).into();
        let options =
            Options { missing: Missing::Skip, frequencies: Some(DocumentFrequencies { images: 10, df }) };
        let cider = evaluate(&references, &hypotheses, &options).unwrap().metrics.cider;
        assert!(
            (cider - 5.0).abs() < 1e-12,
            "one and two words agree, of three and four there are none: {cider}"
        );
    }

    #[test]
    fn names_are_those_of_pycocoevalcap() {
        let (references, hypotheses) = two();
        let options = Options { missing: Missing::Skip, ..Options::default() };
        let scores = serde_json::to_value(evaluate(&references, &hypotheses, &options).unwrap()).unwrap();
        for name in ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"] {
            assert!(scores[name].is_f64() && scores["images"][0][name].is_f64(), "{scores}");
        }
        assert_eq!(scores["images"][0]["image_id"], 1);
    }
}
