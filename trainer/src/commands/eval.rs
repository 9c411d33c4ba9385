//! `trainer eval`: recall of a run's newest checkpoint on a split, or a captioner's captions.

use super::{Samples, eval_captions, open, report, run_folder, samples};
use crate::cli::EvalArguments;
use anyhow::{Result, bail};
use serde_json::json;
use std::process::ExitCode;
use trainer::embed;
use trainer::run;
use trainer::trained::Trained;

/// Embeds the split and prints recall both ways.
pub(crate) fn run(arguments: &EvalArguments) -> Result<ExitCode> {
    let folder = run_folder(&arguments.run.run, &arguments.run.runs_dir);
    if run::read_config(&folder)?.caption.is_on() {
        return eval_captions::run(arguments, &folder);
    }
    let of_captions = [
        ("--n", arguments.n.is_some()),
        ("--set", !arguments.overrides.is_empty()),
        ("--results", arguments.results.is_some()),
        ("--html", arguments.html.is_some()),
    ];
    if let Some((option, _)) = of_captions.into_iter().find(|(_, is_given)| *is_given) {
        bail!("{option} is for captioners, and {} trained a CLIP", folder.display());
    }
    let trained = open(&arguments.run)?;
    let Trained { config, tokenizer, checkpoint, state, device, clip } = &trained;
    let Samples { split, loader, limit } = samples(&trained, &arguments.samples)?;
    let is_same_data = loader.fingerprint() == state.loader.fingerprint;
    let mut embedded = embed::embed(clip, config, &loader, tokenizer, device, limit)?;
    if arguments.shuffle_captions {
        embedded.shuffle_captions(config.train.seed);
    }
    let found = embedded.recall()?;
    if arguments.json {
        let mut value = report::retrieval(&found);
        value["checkpoint"] = json!(checkpoint);
        value["step"] = json!(state.step);
        value["split"] = json!(split);
        value["trained_on_this_data_set"] = json!(is_same_data);
        value["shuffled_captions"] = json!(arguments.shuffle_captions);
        report::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    report::line(&format!("{} on {} / {split}", checkpoint.display(), arguments.samples.data.display()));
    if !is_same_data {
        report::line(&other_data(loader.fingerprint(), &state.loader.fingerprint));
    }
    if arguments.shuffle_captions {
        report::line("control: the captions are dealt to other images");
    }
    report::table(&found);
    Ok(ExitCode::SUCCESS)
}

/// What is told of a data set that the run was not trained on.
pub(super) fn other_data(found: &str, trained_on: &str) -> String {
    format!(
        "note: this is not the data set that it was trained on (fingerprint {found}, trained on {trained_on})"
    )
}
