//! `trainer baseline`: what colour histograms reach on a split.

use super::report;
use crate::cli::BaselineArguments;
use anyhow::{Context, Result};
use serde_json::json;
use std::process::ExitCode;
use trainer::baseline;

/// Learns on the training split and prints recall both ways.
pub(crate) fn run(arguments: &BaselineArguments) -> Result<ExitCode> {
    let limit = arguments.limit.map(usize::try_from).transpose().context("--limit is too large")?;
    let outcome = baseline::measure(&arguments.data, &arguments.train_split, &arguments.split, limit)?;
    if arguments.json {
        let mut value = report::retrieval(&outcome.retrieval);
        value["method"] = json!("ridge regression from colour histograms to tf-idf");
        value["train_samples"] = json!(outcome.train_samples);
        value["words"] = json!(outcome.words);
        value["lambda"] = json!(outcome.lambda);
        report::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    report::line(&format!(
        "ridge regression from colour histograms to {} words, learned on {} samples (lambda {})",
        outcome.words, outcome.train_samples, outcome.lambda
    ));
    report::table(&outcome.retrieval);
    Ok(ExitCode::SUCCESS)
}
