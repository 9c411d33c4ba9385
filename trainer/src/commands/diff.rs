//! `trainer diff`: two runs side by side.

use super::{report, run_folder};
use crate::cli::experiments::DiffArguments;
use anyhow::Result;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainer::checkpoint::{self, Checkpoints};
use trainer::config::Config;
use trainer::ledger::{Ledger, Span, Summary, differences};
use trainer::{metrics, run};

/// What is compared of a run.
struct Side {
    folder: PathBuf,
    config: Config,
    data: Option<String>,
    summary: Summary,
}

impl Side {
    fn open(given: &str, runs_dir: &Path) -> Result<Self> {
        let folder = run_folder(given, runs_dir);
        let config = run::read_config(&folder)?;
        let data = match Checkpoints::of_run(&folder).latest()? {
            Some(latest) => Some(checkpoint::read_state(&latest)?.loader.fingerprint),
            // Before its first checkpoint the ledger alone knows.
            None => from_ledger(&folder),
        };
        let summary = Summary::of(&metrics::read(&folder)?, config.train.monitor);
        Ok(Self { folder, config, data, summary })
    }
}

fn from_ledger(folder: &Path) -> Option<String> {
    let rows = Ledger::of(folder.parent()?).read().ok()?;
    let name = folder.file_name()?.to_string_lossy();
    let row = rows.iter().rev().find(|row| row.get("name") == name)?;
    Some(row.get("data").to_owned()).filter(|data| !data.is_empty())
}

/// Compares; 1 where configuration or data set differ.
pub(crate) fn run(arguments: &DiffArguments) -> Result<ExitCode> {
    let a = Side::open(&arguments.a, &arguments.runs_dir)?;
    let b = Side::open(&arguments.b, &arguments.runs_dir)?;
    let found = differences(&a.config, &b.config)?;
    let is_same_data = a.data == b.data;
    let is_same = found.is_empty() && is_same_data;
    if arguments.json {
        let side = |side: &Side| json!({ "run": side.folder, "data": side.data, "figures": side.summary });
        report::json(&json!({
            "same": is_same, "same_data": is_same_data, "config": found, "a": side(&a), "b": side(&b),
        }));
    } else {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let mut rows: Vec<Vec<String>> =
            found.iter().map(|d| vec![d.key.clone(), text(&d.before), text(&d.after)]).collect();
        if found.is_empty() {
            rows.push(vec!["configuration".into(), "the same".into(), "the same".into()]);
        }
        let data = |side: &Side| {
            side.data.as_deref().map_or_else(|| "-".to_owned(), |data| data.chars().take(16).collect())
        };
        rows.push(vec!["data set".to_owned(), data(&a), data(&b)]);
        rows.push(vec!["step".to_owned(), a.summary.step.to_string(), b.summary.step.to_string()]);
        rows.extend(figures(&a.summary, &b.summary));
        let [a, b] = [&a, &b].map(|side| side.folder.display().to_string());
        report::columns(&["", &a, &b], &[], rows);
    }
    Ok(if is_same { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// How a figure is shown.
type Show = fn(Option<f64>) -> String;

/// The last and the best figures, side by side.
fn figures(a: &Summary, b: &Summary) -> Vec<Vec<String>> {
    let rows: [(&str, [Option<Span>; 2], Show); 4] = [
        ("loss", [a.loss, b.loss], report::number),
        ("val loss", [a.val_loss, b.val_loss], report::number),
        ("image to text R@1", [a.image_to_text_r1, b.image_to_text_r1], report::percent),
        ("text to image R@1", [a.text_to_image_r1, b.text_to_image_r1], report::percent),
    ];
    let cells = rows.into_iter().flat_map(|(name, spans, show)| {
        let last = spans.map(|span| show(span.map(|span| span.last)));
        let best = spans.map(|span| show(span.map(|span| span.best)));
        [(format!("last {name}"), last), (format!("best {name}"), best)]
    });
    cells.map(|(name, [a, b])| vec![name, a, b]).collect()
}
