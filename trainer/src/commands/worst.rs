//! `trainer worst`: the samples whose loss is highest, as a table and a sheet.

use super::{report, run_folder};
use crate::cli::experiments::WorstArguments;
use anyhow::{Result, bail};
use serde_json::json;
use std::process::ExitCode;
use trainer::checkpoint::{self, Checkpoints};
use trainer::samples::{self, Sample};
use trainer::{Error, data, run, search};

/// Lists and draws the hardest samples of a run's newest checkpoint.
pub(crate) fn run(arguments: &WorstArguments) -> Result<ExitCode> {
    let folder = run_folder(&arguments.run.run, &arguments.run.runs_dir);
    let config = run::read_config(&folder)?;
    let latest = Checkpoints::of_run(&folder).latest()?;
    let latest = latest.ok_or(Error::NoRun { run: folder.clone(), missing: "a complete checkpoint" })?;
    let state = checkpoint::read_state(&latest)?;
    let Some(known) = samples::read(&latest, &state)? else {
        bail!("{} has no ledger of samples: train with --set train.sample_ledger=true", latest.display());
    };
    let loader = data::open_train(&config, &arguments.data)?;
    if loader.fingerprint() != state.loader.fingerprint {
        bail!(
            "{} has the fingerprint {}, and the run was trained on {}: give the data set of the run",
            arguments.data.display(),
            loader.fingerprint(),
            state.loader.fingerprint
        );
    }
    let followed: u64 = known.iter().map(|sample| u64::from(sample.times_seen)).sum();
    let (count, split) = (known.len(), &config.data.split);
    let mean = known.iter().map(|s| f64::from(s.last_loss)).sum::<f64>() / count.max(1) as f64;
    let hardest = samples::hardest(known, usize::from(arguments.count));
    let mut shown: Vec<(Sample, Vec<String>)> = Vec::new();
    for sample in hardest {
        let captions =
            loader.sample_captions(sample.sample).map_err(Error::loader("read a sample's captions"))?;
        let captions = captions.map(str::to_owned).collect();
        shown.push((sample, captions));
    }
    if let Some(out) = &arguments.out {
        let heading = format!("Hardest samples of {}", folder.display());
        let mut sheet = search::hardest(&arguments.data, split, heading, &shown)?;
        sheet.subheading =
            format!("loss when last seen, by {}; mean of {count} samples {mean:.3}", latest.display());
        sheet.draw()?.write_png(out)?;
    }
    if arguments.json {
        let rows = shown.iter().map(|(sample, captions)| {
            let mut value = json!(sample);
            value["captions"] = json!(captions);
            value
        });
        report::json(&json!({
            "checkpoint": latest, "step": state.step, "split": split, "samples_seen": count,
            "samples_before_the_ledger": state.samples_seen.saturating_sub(followed), "mean_loss": mean, "out": arguments.out, "samples": rows.collect::<Vec<_>>(),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    report::line(&format!("{}: {count} samples of {split} seen, mean last loss {mean:.4}", latest.display()));
    if followed < state.samples_seen {
        let missed = state.samples_seen - followed;
        report::line(&format!("note: {missed} samples were learned from before the ledger was begun"));
    }
    let rows = shown.iter().map(|(sample, captions)| {
        vec![
            format!("{:.4}", sample.last_loss),
            sample.times_seen.to_string(),
            sample.key.clone(),
            captions.first().cloned().unwrap_or_default(),
        ]
    });
    report::columns(&["loss", "seen", "key", "caption"], &[0, 1], rows.collect());
    if let Some(out) = &arguments.out {
        report::line(&format!("drawn in {}", out.display()));
    }
    Ok(ExitCode::SUCCESS)
}
