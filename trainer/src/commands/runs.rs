//! `trainer runs`: the ledger of experiments and the folders of runs, as one table.

use super::report;
use crate::cli::experiments::{RunsArguments, SortKey};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use trainer::ledger::{Experiment, Ledger, Summary, figure};
use trainer::{metrics, run};

/// The longest cell of words; the ledger has the whole of it.
const WORDS_MAX: usize = 60;

/// A row of the table.
struct Listed {
    row: Experiment,
    status: String,
    /// Whether the run's folder is there.
    has_folder: bool,
    /// Whether the ledger has it.
    in_ledger: bool,
}

/// Lists all runs.
pub(crate) fn run(arguments: &RunsArguments) -> Result<ExitCode> {
    let mut listed = list(&arguments.runs_dir)?;
    sort(&mut listed, arguments.sort);
    if arguments.json {
        let runs: Vec<Value> = listed.iter().map(described).collect();
        report::json(&json!({ "runs": runs }));
        return Ok(ExitCode::SUCCESS);
    }
    if listed.is_empty() {
        report::line(&format!("{} has no runs", arguments.runs_dir.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let rows = listed.iter().map(|run| {
        let of = |column: &str| run.row.get(column).to_owned();
        let step = match run.row.get("steps") {
            "" => of("step"),
            steps => format!("{}/{steps}", run.row.get("step")),
        };
        let nats = |column: &str| report::number(run.row.number(column));
        let percent = |column: &str| report::percent(run.row.number(column));
        vec![
            of("name"),
            // To the minute.
            of("started").chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect(),
            run.status.clone(),
            step,
            nats("loss_best"),
            nats("val_loss_best"),
            percent("image_to_text_r1_best"),
            percent("text_to_image_r1_best"),
            of("parent"),
            cut(run.row.get("difference")),
            cut(run.row.get("notes")),
        ]
    });
    let header = [
        "run",
        "started",
        "status",
        "step",
        "loss",
        "val loss",
        "i→t R@1",
        "t→i R@1",
        "parent",
        "difference",
        "notes",
    ];
    report::columns(&header, &[3, 4, 5, 6, 7], rows.collect());
    Ok(ExitCode::SUCCESS)
}

/// The rows of the ledger, then the runs that it does not have.
fn list(runs: &Path) -> Result<Vec<Listed>> {
    let ledger = Ledger::of(runs);
    let rows = ledger.read().context("could not list the runs")?;
    let mut newer = BTreeSet::new();
    let mut listed = Vec::new();
    // From behind: a folder belongs to the last row of its name.
    for row in rows.into_iter().rev() {
        let folder = runs.join(row.get("name"));
        let has_folder = newer.insert(row.get("name").to_owned()) && folder.join("config.toml").is_file();
        let status = match row.get("status") {
            "running" if !has_folder || !run::is_locked(&folder) => "interrupted",
            status => status,
        };
        let status = if has_folder { status.to_owned() } else { format!("{status}, no folder") };
        listed.push(Listed { row, status, has_folder, in_ledger: true });
    }
    listed.reverse();
    let entries = match fs_err::read_dir(runs) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>().context("could not list the runs")?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context("could not list the runs"),
    };
    let mut folders: Vec<String> =
        entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    folders.sort();
    for name in folders.into_iter().filter(|name| !newer.contains(name)) {
        let folder = runs.join(&name);
        if folder.join("config.toml").is_file() {
            listed.push(without_row(name, &folder));
        }
    }
    Ok(listed)
}

/// What a run's folder alone says of it.
fn without_row(name: String, folder: &Path) -> Listed {
    let monitor = run::read_config(folder).map(|config| config.train.monitor).unwrap_or_default();
    // A run whose rows cannot be read is listed without figures.
    let summary = Summary::of(&metrics::read(folder).unwrap_or_default(), monitor);
    let spans = [
        ("loss", summary.loss),
        ("val_loss", summary.val_loss),
        ("image_to_text_r1", summary.image_to_text_r1),
        ("text_to_image_r1", summary.text_to_image_r1),
    ];
    let mut cells = vec![("name".to_owned(), name), ("step".to_owned(), summary.step.to_string())];
    for (column, span) in spans {
        if let Some(span) = span {
            cells.push((column.to_owned(), figure(span.last)));
            cells.push((format!("{column}_best"), figure(span.best)));
        }
    }
    let status = if run::is_locked(folder) { "running" } else { "not in the ledger" };
    Listed { row: Experiment::new(cells), status: status.to_owned(), has_folder: true, in_ledger: false }
}

fn sort(listed: &mut [Listed], by: SortKey) {
    let number = |run: &Listed| match by {
        SortKey::Step => run.row.number("step").map(|step| -step),
        SortKey::Loss => run.row.number("loss_best"),
        SortKey::ValLoss => run.row.number("val_loss_best"),
        SortKey::R1 => {
            let recall = |column| run.row.number(column);
            recall("image_to_text_r1_best").zip(recall("text_to_image_r1_best")).map(|(a, b)| -(a + b))
        }
        SortKey::Started | SortKey::Name | SortKey::Status => None,
    };
    let text = |run: &Listed| match by {
        SortKey::Started => run.row.get("started").to_owned(),
        SortKey::Name => run.row.get("name").to_owned(),
        SortKey::Status => run.status.clone(),
        _ => String::new(),
    };
    // Stable: what is equal stays in the order of the ledger.
    listed.sort_by(|a, b| match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => text(a).cmp(&text(b)),
    });
}

/// The row with numbers as numbers, and null for what was not measured.
fn described(run: &Listed) -> Value {
    let text = |column: &str| match run.row.get(column) {
        "" => Value::Null,
        cell => json!(cell),
    };
    let mut value = json!({ "name": run.row.get("name"), "status": run.status });
    for column in ["id", "config", "started", "updated", "parent", "difference", "commit", "data", "notes"] {
        value[column] = text(column);
    }
    for column in ["step", "steps"] {
        value[column] = json!(run.row.get(column).parse::<u64>().ok());
    }
    for column in ["loss", "val_loss", "image_to_text_r1", "text_to_image_r1"] {
        for column in [column.to_owned(), format!("{column}_best")] {
            value[&column] = json!(run.row.number(&column));
        }
    }
    let further: serde_json::Map<String, Value> =
        run.row.further().map(|(column, cell)| (column.to_owned(), json!(cell))).collect();
    value["further"] = Value::Object(further);
    value["has_folder"] = json!(run.has_folder);
    value["in_ledger"] = json!(run.in_ledger);
    value
}

fn cut(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ");
    if text.chars().count() <= WORDS_MAX {
        return text;
    }
    text.chars().take(WORDS_MAX - 1).chain("…".chars()).collect()
}
