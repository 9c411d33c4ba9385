//! `trainer periodicity`: whether losses repeat with the epoch, as a table and sentences, JSON, and a picture.

use super::{report, run_folder};
use crate::cli::PeriodicityArguments;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainer::periodicity::log::LossLog;
use trainer::periodicity::verdict::{self, p_text};
use trainer::periodicity::{self, Options, Report, Verdict, picture};
use trainer::{Error, fsync};

/// Reads the logs, tests every condition and prints what was found; 1 where one has a period.
pub(crate) fn run(arguments: &PeriodicityArguments) -> Result<ExitCode> {
    let alpha = arguments.alpha;
    ensure!(alpha > 0.0 && alpha < 1.0, "`--alpha {alpha}` is not allowed: give a number between 0 and 1");
    if let Some(steps) = arguments.steps_per_epoch {
        let is_length = steps.is_finite() && steps >= 1.0;
        ensure!(is_length, "`--steps-per-epoch {steps}` is not allowed: give a number from 1 on");
    }
    let options = Options { draws: arguments.draws, seed: arguments.seed, alpha };
    let reports = conditions(arguments)?
        .iter()
        .map(|(name, logs)| periodicity::of_logs(name, logs, &options))
        .collect::<trainer::Result<Vec<_>>>()?;
    if let Some(out) = &arguments.out {
        draw(out, &reports)?;
    }
    if arguments.json {
        report::json(&json!({ "conditions": reports.iter().map(as_json).collect::<Vec<_>>() }));
    } else {
        print(&reports);
        if let Some(out) = &arguments.out {
            report::line(&format!("\n{}", out.display()));
        }
    }
    let is_period = reports.iter().any(|report| report.verdict == Verdict::Period);
    Ok(if is_period { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// The logs by condition, both in the order of the arguments.
fn conditions(arguments: &PeriodicityArguments) -> Result<Vec<(String, Vec<LossLog>)>> {
    let mut conditions: Vec<(String, Vec<LossLog>)> = Vec::new();
    for given in &arguments.logs {
        // A path may have `=` in it.
        let (name, path) = match given.split_once('=') {
            Some((name, path)) if !Path::new(given).exists() => (name, path),
            _ => ("all logs", given.as_str()),
        };
        let path = if Path::new(path).is_file() {
            PathBuf::from(path)
        } else {
            run_folder(path, &arguments.runs_dir)
        };
        let log = LossLog::read(&path, arguments.steps_per_epoch)?;
        match conditions.iter_mut().find(|(known, _)| known == name) {
            Some((_, logs)) => logs.push(log),
            None => conditions.push((name.to_owned(), vec![log])),
        }
    }
    Ok(conditions)
}

fn draw(out: &Path, reports: &[Report]) -> Result<()> {
    let png = picture::draw("Loss by position in the epoch", reports).and_then(|picture| picture.to_png());
    let png = png.map_err(|e| Error::Plot { path: out.to_path_buf(), reason: e.to_string() })?;
    fsync::replace(out, &png).context("could not write the picture")
}

fn print(reports: &[Report]) {
    for report in reports {
        if reports.len() > 1 {
            report::line(&format!("{}:", report.name));
        }
        report::line(&format!(
            "{:24} {:>6} {:>5} {:>9} {:>9} {:>8} {:>15} {:>9}",
            "", "epochs", "rows", "explained", "by chance", "p", "lag one epoch", "sawtooth"
        ));
        for log in &report.logs {
            let teeth = log.sawtooth.map_or_else(|| "-".to_owned(), |teeth| format!("{:+.3}", teeth.drop));
            let lags = log.autocorrelation;
            report::line(&format!(
                "{:24} {:>6} {:>5} {:>7.1} % {:>7.1} % {:>8.4} {:>6.2} ({:+.2} by) {:>9}",
                log.name,
                log.residuals.epochs,
                log.residuals.cells,
                100.0 * log.test.share,
                100.0 * log.test.null_mean,
                log.test.p,
                lags.at_one_epoch,
                lags.near_by,
                teeth,
            ));
        }
        if report.logs.len() > 1 {
            report::line(&format!("{:24} combined p {}", "", p_text(report.p)));
        }
        report::line(&format!("{}\n", verdict::words(report)));
    }
}

fn as_json(report: &Report) -> Value {
    let logs = report.logs.iter().map(|log| {
        json!({
            "name": log.name,
            "steps_per_epoch": log.steps_per_epoch,
            "epochs": log.residuals.epochs,
            "cells": log.residuals.cells,
            "share": log.test.share,
            "share_under_null": log.test.null_mean,
            "share_under_null_deviation": log.test.null_deviation,
            "excess": log.test.excess(),
            "p": log.test.p,
            "carried": log.carried,
            "autocorrelation": log.autocorrelation,
            "sawtooth": log.sawtooth.map(|s| json!({ "drop": s.drop, "boundaries": s.boundaries, "p": s.p })),
            "folded": picture::folded(log),
        })
    });
    json!({
        "name": report.name,
        "verdict": report.verdict.word(),
        "words": verdict::words(report),
        "p": report.p,
        "excess": report.excess,
        "sawtooth": { "drop": report.drop(), "p": report.sawtooth_p },
        "logs": logs.collect::<Vec<_>>(),
    })
}
