//! `trainer plot`: a run's curves from its rows.

use super::{report, run_folder};
use crate::cli::PlotArguments;
use anyhow::{Context, Result};
use std::process::ExitCode;
use trainer::{Error, metrics, plots};

/// Draws and lists the pictures.
pub(crate) fn run(arguments: &PlotArguments) -> Result<ExitCode> {
    let run = run_folder(&arguments.run, &arguments.runs_dir);
    let rows = metrics::read(&run).context("could not read the run")?;
    if rows.is_empty() {
        return Err(Error::NoRun { run, missing: "rows in metrics.jsonl" }.into());
    }
    for path in plots::draw(&run, &rows)? {
        report::line(&path.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}
