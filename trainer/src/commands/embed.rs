//! `trainer embed`: the features of a split as a Parquet file, or of a data set as side tables of its shards.

use super::{Samples, open, outputs, report, run_folder, samples};
use crate::cli::trained::EmbedArguments;
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::process::ExitCode;
use trainer::captioner::{StoredTable, Tower, store};
use trainer::{run, table};

/// Writes the features and says what is in them.
pub(crate) fn run(arguments: &EmbedArguments) -> Result<ExitCode> {
    if arguments.side_table {
        return side_tables(arguments);
    }
    let out = arguments.out.as_deref().context("--out is missing")?;
    if arguments.features.is_some() || arguments.skip_blocks.is_some() {
        bail!("--features and --skip-blocks are of --side-table; {} has embeddings", out.display());
    }
    outputs::check(&[("--out", Some(out))], &[&arguments.samples.data])?;
    let trained = open(&arguments.run)?;
    let Samples { split, loader, limit } = samples(&trained, &arguments.samples)?;
    let written = table::write(&trained, &loader, &split, out, limit)?;
    if arguments.json {
        let mut value = json!(written);
        value["out"] = json!(out);
        value["split"] = json!(split);
        value["checkpoint"] = json!(trained.checkpoint);
        value["step"] = json!(trained.state.step);
        report::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let table::Written { images, captions, width } = written;
    let out = out.display();
    report::line(&format!("{out}: {images} images and {captions} captions, {width} numbers each"));
    Ok(ExitCode::SUCCESS)
}

/// What the run's CLIP sees, beside the shards of every split that was asked for.
fn side_tables(arguments: &EmbedArguments) -> Result<ExitCode> {
    let folder = run_folder(&arguments.run.run, &arguments.run.runs_dir);
    let config = run::read_config(&folder)?;
    let features = match &arguments.features {
        Some(features) => features.as_str(),
        None => "patches",
    };
    let device = config.train.open_device()?;
    if features == "vector" && arguments.skip_blocks.is_some() {
        bail!("--skip-blocks is of patches; a vector has come through all blocks");
    }
    let skip = arguments.skip_blocks.unwrap_or(1);
    let set = [format!("caption.features={features}"), format!("caption.skip_blocks={skip}")];
    let tower = Tower::for_scores(&folder, &set, &device)?;
    let data = &arguments.samples.data;
    let dataset = shard::Dataset::open(data)?;
    let splits: Vec<(String, u64)> = dataset
        .manifest()
        .splits
        .iter()
        .filter(|entry| arguments.samples.split.as_ref().is_none_or(|split| *split == entry.name))
        .map(|entry| (entry.name.clone(), entry.shards.iter().map(|shard| shard.samples).sum()))
        .collect();
    if splits.is_empty() {
        let names: Vec<&str> = dataset.manifest().splits.iter().map(|entry| entry.name.as_str()).collect();
        let wanted = arguments.samples.split.as_deref().unwrap_or_default();
        bail!("{} has no split {wanted:?}, but {}", data.display(), names.join(", "));
    }
    let mut written: Vec<StoredTable> = Vec::new();
    for (split, images) in splits {
        let bar = ProgressBar::new(images);
        let style = ProgressStyle::with_template("{msg} {pos}/{len} {per_sec} ETA {eta} {wide_bar}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(split.clone());
        let stored = store(&tower, data, &split, &device, &mut |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        written.push(stored?);
    }
    if arguments.json {
        report::json(&json!(written));
        return Ok(ExitCode::SUCCESS);
    }
    for StoredTable { table, split, images, numbers } in written {
        report::line(&format!("{split}: {table}, {images} images, {numbers} numbers each"));
    }
    Ok(ExitCode::SUCCESS)
}
