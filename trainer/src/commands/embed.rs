//! `trainer embed`: the features of a split as a Parquet file.

use super::{Samples, open, report, samples};
use crate::cli::trained::EmbedArguments;
use anyhow::Result;
use serde_json::json;
use std::process::ExitCode;
use trainer::table;

/// Writes the file and says what is in it.
pub(crate) fn run(arguments: &EmbedArguments) -> Result<ExitCode> {
    let trained = open(&arguments.run)?;
    let Samples { split, loader, limit } = samples(&trained, &arguments.samples)?;
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
