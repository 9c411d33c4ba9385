//! SPICE by `spice-1.0.jar`, which reads and writes files, as pycocoevalcap runs it.
//!
//! Anderson et al., "SPICE: Semantic Propositional Image Caption Evaluation", 2016. Beside the jar lie a folder `lib`
//! and the models of Stanford CoreNLP 3.6.0, which its users download. This module was tested against a stand-in for
//! the program, not the program. Left out: SPICE itself, and its cache between runs.

use std::{collections::BTreeMap, ffi::OsStr};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{JavaProgram, process::Process};
use crate::{CocoevalError, ImageId, TokenizedImage};

/// Precision, recall and F-score of one kind of proposition. None where there is nothing to compare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SpiceTuple {
    /// Precision.
    pub pr: Option<f64>,
    /// Recall.
    pub re: Option<f64>,
    /// Their harmonic mean.
    pub f: Option<f64>,
}

/// What SPICE says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpiceScores {
    /// Mean F-score over all propositions of the images; none where that of an image is none.
    pub corpus: Option<f64>,
    /// By image, in the order of the images that were given, and by kind: `All`, `Object`, `Relation`, ….
    pub images: Vec<BTreeMap<String, SpiceTuple>>,
}

#[derive(Deserialize)]
struct Answer {
    image_id: ImageId,
    scores: BTreeMap<String, BTreeMap<String, Value>>,
}

/// Scores tokenised captions (see [`tokenized`](crate::tokenized)). The program's files lie in a temporary folder that is
/// removed afterwards.
///
/// # Errors
/// [`Io`](CocoevalError::Io) where its files cannot be written or read, [`JavaStart`](CocoevalError::JavaStart),
/// [`Java`](CocoevalError::Java) where the program fails or writes something else than it should,
/// [`JavaTimeout`](CocoevalError::JavaTimeout).
pub fn spice(program: &JavaProgram, images: &[TokenizedImage]) -> Result<SpiceScores, CocoevalError> {
    let io = |source| CocoevalError::Io { doing: "exchange files with SPICE", source };
    let folder = tempfile::tempdir().map_err(io)?;
    let path = |name| folder.path().join(name);
    let (input, output, cache) = (path("in.json"), path("out.json"), path("cache"));
    fs_err::create_dir(&cache).map_err(io)?;
    let questions: Vec<Value> = images
        .iter()
        .map(|image| json!({"image_id": image.image_id, "test": image.hypothesis, "refs": image.references}))
        .collect();
    fs_err::write(&input, Value::Array(questions).to_string()).map_err(io)?;
    let arguments = [
        input.as_os_str(),
        OsStr::new("-cache"),
        cache.as_os_str(),
        OsStr::new("-out"),
        output.as_os_str(),
        OsStr::new("-subset"),
        OsStr::new("-silent"),
    ];
    let mut process = Process::start("SPICE", program, &arguments)?;
    let status = process.wait()?;
    if !status.success() {
        return Err(process.ended(&format!("failed ({status})")));
    }
    let bytes = fs_err::read(&output).map_err(io)?;
    let answers: Vec<Answer> = serde_json::from_slice(&bytes)
        .map_err(|error| process.ended(&format!("wrote something else than scores ({error})")))?;
    let mut by_image: BTreeMap<ImageId, _> =
        answers.into_iter().map(|answer| (answer.image_id, answer.scores)).collect();
    let mut scores = Vec::with_capacity(images.len());
    for image in images {
        let found = by_image.remove(&image.image_id);
        let found =
            found.ok_or_else(|| process.ended(&format!("gave no score for image {}", image.image_id)))?;
        scores.push(found.into_iter().map(|(kind, values)| (kind, tuple(&values))).collect());
    }
    Ok(SpiceScores { corpus: mean(&scores), images: scores })
}

fn tuple(values: &BTreeMap<String, Value>) -> SpiceTuple {
    let of = |name| values.get(name).and_then(Value::as_f64);
    SpiceTuple { pr: of("pr"), re: of("re"), f: of("f") }
}

fn mean(images: &[BTreeMap<String, SpiceTuple>]) -> Option<f64> {
    let all: Option<Vec<f64>> = images.iter().map(|image| image.get("All")?.f).collect();
    let all = all.filter(|all| !all.is_empty())?;
    Some(all.iter().sum::<f64>() / all.len() as f64)
}
