//! `trainer score`: captions against references, and against pictures by a CLIP.

use super::{outputs, report};
use crate::cli::caption::ScoreArguments;
use anyhow::{Context, Result, anyhow, bail};
use candle_core::Device;
use cocoeval::java::{JavaProgram, meteor, spice};
use cocoeval::{
    CocoevalError, DocumentFrequencies, Hypotheses, ImageId, Missing, References, Scores, evaluate_tokenized,
    tokenized,
};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainer::captioner::{ClipScores, Told, Tower, clip_scores};
use trainer::fsync;

/// Prints every score that was asked for.
pub(crate) fn run(arguments: &ScoreArguments) -> Result<ExitCode> {
    let read = [Some(&arguments.references), Some(&arguments.hypotheses), arguments.df.as_ref()];
    let read: Vec<&Path> = read.into_iter().flatten().map(PathBuf::as_path).collect();
    outputs::check(&[("--write-df", arguments.write_df.as_deref())], &read)?;
    let references = References::read(&arguments.references)?;
    let hypotheses = Hypotheses::read(&arguments.hypotheses)?;
    let missing = if arguments.skip_missing { Missing::Skip } else { Missing::Refuse };
    let frequencies = arguments.df.as_deref().map(DocumentFrequencies::read).transpose()?;
    let images = tokenized(&references, &hypotheses, missing).map_err(|error| {
        let of = format!("{} of {}", arguments.hypotheses.display(), arguments.references.display());
        match error {
            CocoevalError::MissingHypotheses { .. } => anyhow!("{of}: {error} (--skip-missing)"),
            CocoevalError::UnknownImages { .. } | CocoevalError::NothingToScore => anyhow!("{of}: {error}"),
            error => error.into(),
        }
    })?;
    let mut scores = evaluate_tokenized(&images, frequencies.as_ref());
    scores.missing = hypotheses.missing(&references);
    let meteor = match &arguments.meteor {
        Some(jar) => Some(meteor(&JavaProgram::meteor(&arguments.java, jar), &images)?.corpus),
        None => None,
    };
    // Asked for, it may still have no score: of an image without a proposition.
    let spice = match &arguments.spice {
        Some(jar) => Some(spice(&JavaProgram::spice(&arguments.java, jar), &images)?.corpus),
        None => None,
    };
    let clip = clip(arguments, &references, &hypotheses)?;
    if let Some(path) = &arguments.write_df {
        let counted = DocumentFrequencies::of(&references).to_json()?;
        fsync::replace(path, &counted).context("could not write the document frequencies")?;
    }
    if arguments.json {
        let mut found = json!(scores);
        if let Value::Object(found) = &mut found {
            if !arguments.per_image {
                found.remove("images");
            }
            found.extend(meteor.map(|score| ("METEOR".to_owned(), json!(score))));
            found.extend(spice.map(|score| ("SPICE".to_owned(), json!(score))));
            found.extend(clip.map(|clip| ("clip".to_owned(), json!(clip))));
        }
        report::json(&found);
        return Ok(ExitCode::SUCCESS);
    }
    if spice == Some(None) {
        report::line("SPICE: none, for an image has no score by it");
    }
    table(images.len(), &scores, meteor, spice.flatten(), clip.as_ref());
    Ok(ExitCode::SUCCESS)
}

/// What the tower says, where one is given.
fn clip(
    arguments: &ScoreArguments,
    references: &References,
    hypotheses: &Hypotheses,
) -> Result<Option<ClipScores>> {
    let (Some(path), Some(data)) = (&arguments.tower, &arguments.data) else { return Ok(None) };
    if path.is_dir() && !arguments.overrides.is_empty() {
        bail!("--set gives the sizes of a --tower that is a file, and {} is a run", path.display());
    }
    let tower = Tower::for_scores(path, &arguments.overrides, &Device::Cpu)
        .with_context(|| format!("`--tower {}` cannot score", path.display()))?;
    let mut told = HashMap::new();
    for (id, caption) in hypotheses.captions() {
        let key = match id {
            ImageId::Number(number) => number.to_string(),
            ImageId::Text(text) => text.clone(),
        };
        let Some(of) = references.get(id).filter(|references| !references.is_empty()) else { continue };
        told.insert(key, Told { caption, references: of });
    }
    Ok(Some(clip_scores(&tower, data, &arguments.split, &told, &Device::Cpu)?))
}

fn table(images: usize, scores: &Scores, meteor: Option<f64>, spice: Option<f64>, clip: Option<&ClipScores>) {
    let skipped = match scores.missing.len() {
        0 => String::new(),
        count => format!(", {count} without a caption are left out"),
    };
    report::line(&format!("{images} images{skipped}"));
    let mut rows: Vec<(String, f64)> = vec![
        ("BLEU-1".into(), scores.metrics.bleu_1),
        ("BLEU-2".into(), scores.metrics.bleu_2),
        ("BLEU-3".into(), scores.metrics.bleu_3),
        ("BLEU-4".into(), scores.metrics.bleu_4),
        ("ROUGE-L".into(), scores.metrics.rouge_l),
        ("CIDEr".into(), scores.metrics.cider),
    ];
    rows.extend(meteor.map(|score| ("METEOR".into(), score)));
    rows.extend(spice.map(|score| ("SPICE".into(), score)));
    if let Some(clip) = clip {
        rows.extend([
            ("CLIPScore".into(), clip.clip_score),
            ("RefCLIPScore".into(), clip.ref_clip_score),
            ("image proximity".into(), clip.image_proximity.mean),
            ("  its deviation".into(), clip.image_proximity.deviation),
            ("text proximity".into(), clip.text_proximity.mean),
            ("  its deviation".into(), clip.text_proximity.deviation),
            ("recall@1 of pictures".into(), clip.recall[0]),
            ("recall@5 of pictures".into(), clip.recall[1]),
            ("recall@10 of pictures".into(), clip.recall[2]),
        ]);
    }
    let bad = &scores.degeneration;
    rows.extend([
        ("distinct-1".into(), bad.distinct_1),
        ("distinct-2".into(), bad.distinct_2),
        ("repeated bigrams".into(), bad.repeated[1]),
        ("repeated 4-grams".into(), bad.repeated[3]),
        ("words a caption".into(), bad.mean_length),
    ]);
    let rows = rows.into_iter().map(|(name, value)| vec![name, format!("{value:.4}")]).collect();
    report::columns(&["score", "value"], &[1], rows);
}
