//! `trainer plot`: a run's curves from its rows, or the curves of several runs in one picture.

use super::{report, run_folder};
use crate::cli::experiments::PlotArguments;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainer::metrics::Row;
use trainer::{Error, metrics, plots};

/// Draws and lists the pictures.
pub(crate) fn run(arguments: &PlotArguments) -> Result<ExitCode> {
    let given: Vec<&String> = arguments.run.iter().chain(&arguments.runs).collect();
    let mut runs: Vec<(PathBuf, Vec<Row>)> = Vec::new();
    for run in &given {
        let run = run_folder(run, &arguments.runs_dir);
        let rows = read(&run)?;
        runs.push((run, rows));
    }
    let drawn = match (runs.as_slice(), &arguments.out) {
        ([(run, rows)], None) => plots::draw(run, rows)?,
        (runs, out) => {
            let out = out.clone().unwrap_or_else(|| arguments.runs_dir.join("comparison.png"));
            let named: Vec<(&str, &[Row])> =
                given.iter().zip(runs).map(|(name, (_, rows))| (name.as_str(), rows.as_slice())).collect();
            plots::compare(&named, &out)?;
            vec![out]
        }
    };
    drawn.iter().for_each(|path| report::line(&path.display().to_string()));
    Ok(ExitCode::SUCCESS)
}

fn read(run: &Path) -> Result<Vec<Row>> {
    let rows = metrics::read(run).context("could not read the run")?;
    if rows.is_empty() {
        return Err(Error::NoRun { run: run.to_path_buf(), missing: "rows in metrics.jsonl" }.into());
    }
    Ok(rows)
}
