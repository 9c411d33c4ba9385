//! `trainer embed`: the features of a split as a Parquet file.

use super::{open, report};
use crate::cli::trained::EmbedArguments;
use anyhow::{Context, Result};
use serde_json::json;
use std::process::ExitCode;
use trainer::table;

/// Writes the file and says what is in it.
pub(crate) fn run(arguments: &EmbedArguments) -> Result<ExitCode> {
    let limit = arguments.limit.map(usize::try_from).transpose().context("--limit is too large")?;
    let trained = open(&arguments.run)?;
    let (split, loader) = trained.open_data(&arguments.data, arguments.split.as_deref())?;
    let written = table::write(&trained, &loader, &split, &arguments.out, limit)?;
    if arguments.json {
        let mut value = json!(written);
        value["out"] = json!(arguments.out);
        value["split"] = json!(split);
        value["checkpoint"] = json!(trained.checkpoint);
        value["step"] = json!(trained.state.step);
        report::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let table::Written { images, captions, width } = written;
    let out = arguments.out.display();
    report::line(&format!("{out}: {images} images and {captions} captions, {width} numbers each"));
    Ok(ExitCode::SUCCESS)
}
