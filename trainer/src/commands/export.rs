//! `trainer export`: a run's weights for open_clip or Hugging Face's transformers.

use super::{open, report};
use crate::cli::trained::{ExportArguments, LayoutChoice};
use anyhow::Result;
use serde_json::json;
use std::process::ExitCode;
use trainer::weights::{self, Layout};

/// Writes the weights and what the other program needs beside them, and lists the files.
pub(crate) fn run(arguments: &ExportArguments) -> Result<ExitCode> {
    let trained = open(&arguments.run)?;
    let layout = match arguments.layout {
        LayoutChoice::OpenClip => Layout::OpenClip,
        LayoutChoice::Hf => Layout::HuggingFace,
    };
    let exported = weights::export(&trained, layout, &arguments.out)?;
    if arguments.json {
        let mut value = json!(exported);
        value["layout"] = json!(layout);
        value["checkpoint"] = json!(trained.checkpoint);
        value["step"] = json!(trained.state.step);
        report::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    report::line(&format!("{}: {} tensors to", trained.checkpoint.display(), exported.tensors));
    let files = [Some(exported.weights), exported.description.clone(), Some(exported.tokenizer)];
    files.into_iter().flatten().for_each(|path| report::line(&format!("  {}", path.display())));
    if exported.description.is_none() {
        report::line("note: open_clip has no image tower of this kind, so there is no configuration for it");
    }
    Ok(ExitCode::SUCCESS)
}
