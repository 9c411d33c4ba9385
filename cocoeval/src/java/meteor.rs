//! METEOR by `meteor-1.5.jar`, spoken to over its standard input and output as pycocoevalcap does.
//!
//! Denkowski and Lavie, "Meteor Universal: Language Specific Translation Evaluation for Any Target Language", 2014. For
//! each image a line `SCORE ||| reference ||| … ||| hypothesis` is answered by a line of statistics; then one line
//! `EVAL ||| statistics ||| …` by the score of each image and that of all together. Left out: METEOR itself.

use serde::Serialize;

use super::{JavaProgram, process::Process};
use crate::{CocoevalError, TokenizedImage};

/// What METEOR says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeteorScores {
    /// Of all images together, from 0 to 1.
    pub corpus: f64,
    /// By image, in the order of the images that were given.
    pub images: Vec<f64>,
}

/// Scores tokenised captions (see [`tokenized`](crate::tokenized)).
///
/// # Errors
/// [`JavaStart`](CocoevalError::JavaStart), [`Java`](CocoevalError::Java) where the program ends early or answers with
/// something else than it should, [`JavaTimeout`](CocoevalError::JavaTimeout).
pub fn meteor(program: &JavaProgram, images: &[TokenizedImage]) -> Result<MeteorScores, CocoevalError> {
    let arguments = ["-", "-", "-stdio", "-l", "en", "-norm"].map(std::ffi::OsStr::new);
    let mut statistics = Vec::with_capacity(images.len());
    let mut process = Process::start("METEOR", program, &arguments)?;
    let feeder = process.feeder();
    feeder.send(images.iter().map(score_line).collect());
    for _ in images {
        statistics.push(process.line()?.trim().to_owned());
    }
    let mut eval = String::from("EVAL");
    for statistic in &statistics {
        eval.push_str(" ||| ");
        eval.push_str(statistic);
    }
    feeder.send(vec![eval]);
    let mut next = || {
        let line = process.line()?;
        line.trim()
            .parse::<f64>()
            .map_err(|_| process.ended(&format!("answered {line:?}, which is no number")))
    };
    let scores = images.iter().map(|_| next()).collect::<Result<_, _>>()?;
    Ok(MeteorScores { images: scores, corpus: next()? })
}

/// The question for one image. What would separate fields is taken out of the hypothesis, as pycocoevalcap does.
fn score_line(image: &TokenizedImage) -> String {
    let hypothesis = image.hypothesis.replace("|||", "").replace("  ", " ");
    format!("SCORE ||| {} ||| {hypothesis}", image.references.join(" ||| "))
}
