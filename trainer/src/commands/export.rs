//! `trainer export`: a run's weights for open_clip, Hugging Face's transformers or PEFT.

use super::{open, outputs, report, run_folder};
use crate::cli::trained::{ExportArguments, LayoutChoice};
use anyhow::Result;
use serde_json::json;
use std::process::ExitCode;
use trainer::captioner::{Captioner, export_merged, export_peft};
use trainer::weights::{self, Layout};

/// Writes the weights and what the other program needs beside them, and lists the files.
pub(crate) fn run(arguments: &ExportArguments) -> Result<ExitCode> {
    let layout = match arguments.layout {
        LayoutChoice::OpenClip => Layout::OpenClip,
        LayoutChoice::Hf => Layout::HuggingFace,
        LayoutChoice::Peft | LayoutChoice::Merged => return corrections(arguments),
    };
    let folder = run_folder(&arguments.run.run, &arguments.run.runs_dir);
    outputs::check(&[("--out", Some(&arguments.out))], &[&folder])?;
    let trained = open(&arguments.run)?;
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

/// A LoRA captioner's corrections, alone or merged.
fn corrections(arguments: &ExportArguments) -> Result<ExitCode> {
    let folder = run_folder(&arguments.run.run, &arguments.run.runs_dir);
    let captioner = Captioner::open(&folder, &[])?;
    let is_alone = arguments.layout == LayoutChoice::Peft;
    let exported = if is_alone {
        export_peft(&captioner, &arguments.out)?
    } else {
        export_merged(&captioner, &arguments.out)?
    };
    if arguments.json {
        let mut value = json!(exported);
        value["layout"] = json!(if is_alone { "peft" } else { "merged" });
        value["checkpoint"] = json!(captioner.checkpoint);
        value["step"] = json!(captioner.state.step);
        report::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    report::line(&format!("{}: {} tensors to", captioner.checkpoint.display(), exported.tensors));
    exported.files.iter().for_each(|path| report::line(&format!("  {}", path.display())));
    Ok(ExitCode::SUCCESS)
}
