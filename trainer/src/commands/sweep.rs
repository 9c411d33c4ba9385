//! `trainer sweep`: trains every combination of a configuration's lists, and compares them.

use super::train::{STOPPED, parent, run_name, stem, stop_flag, watched};
use super::{report, run_folder};
use crate::cli::experiments::SweepArguments;
use crate::progress::Progress;
use anyhow::Result;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use trainer::config::{Config, Monitor, Point};
use trainer::fit::{Outcome, Preflight};
use trainer::ledger::{Entry, Ledger, Parent, Summary};
use trainer::metrics;
use trainer::sweep::{self, Standing};

/// A run of the sweep.
struct Planned {
    name: String,
    folder: PathBuf,
    point: Point,
    standing: Standing,
    /// Why it failed, if it did.
    failed: Option<String>,
}

impl Planned {
    /// Where the run stands, in one word.
    fn status(&self) -> &'static str {
        if self.failed.is_some() { "failed" } else { self.standing.word() }
    }

    /// What is tried: `optim.lr=0.0001 train.seed=0`.
    fn tried(&self) -> String {
        self.point.tried.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }
}

/// Trains what is not finished, then prints the table.
pub(crate) fn run(arguments: &SweepArguments) -> Result<ExitCode> {
    let mut planned = plan(arguments)?;
    if arguments.dry_run {
        print_plan(arguments, &planned);
        return Ok(ExitCode::SUCCESS);
    }
    let stop = stop_flag()?;
    let count = planned.len();
    for number in 0..count {
        if planned[number].standing == Standing::Finished {
            continue;
        }
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let parent = match (&arguments.parent, number) {
            (None, 0) => Parent::Latest,
            (None, _) => Parent::Given { name: planned[0].name.clone(), folder: planned[0].folder.clone() },
            (Some(given), _) => parent(Some(given), &arguments.runs_dir, &planned[number].folder)?,
        };
        let run = &planned[number];
        let is_new = run.standing == Standing::New;
        let entry = Entry {
            config: &run.point.config,
            stem: stem(&arguments.config),
            run: &run.folder,
            resume: !is_new,
            parent,
            note: arguments.note.clone().filter(|_| is_new),
        };
        let progress = Progress::new(Arc::clone(&stop));
        progress.heading(&format!("run {} of {count}: {}", number + 1, run.name));
        match watched(entry, &arguments.data, progress, &stop) {
            Ok(Outcome::Finished { .. } | Outcome::StoppedEarly { .. }) => {
                planned[number].standing = Standing::Finished;
            }
            Ok(Outcome::Stopped { .. }) => {
                planned[number].standing = Standing::Unfinished;
                break;
            }
            // The others may do better; all failures are told at the end.
            Err(error) => planned[number].failed = Some(format!("{:#}", anyhow::Error::from(error))),
        }
    }
    print_results(arguments, &planned);
    if planned.iter().any(|run| run.failed.is_some()) {
        return Ok(ExitCode::from(1));
    }
    let is_stopped = planned.iter().any(|run| run.standing != Standing::Finished);
    Ok(if is_stopped { ExitCode::from(STOPPED) } else { ExitCode::SUCCESS })
}

/// All runs, each found able to begin: a mistake in the last is told before the first.
fn plan(arguments: &SweepArguments) -> Result<Vec<Planned>> {
    let points = Config::load_sweep(&arguments.config, &arguments.overrides)?;
    let stem = stem(&arguments.config);
    let prefix = run_name(arguments.run.as_deref().unwrap_or(&stem))?;
    if let Some(parent) = &arguments.parent {
        trainer::run::read_config(&run_folder(parent, &arguments.runs_dir))?;
    }
    // A damaged ledger holds nothing up: what is finished is then found by going on with it.
    let rows = Ledger::of(&arguments.runs_dir).read().unwrap_or_default();
    let named = sweep::names(prefix, &points).into_iter().zip(points);
    let (mut planned, mut preflight) = (Vec::new(), Preflight::default());
    for (name, point) in named {
        let folder = arguments.runs_dir.join(&name);
        let standing = sweep::standing(&folder, &point.config, &rows)?;
        if standing != Standing::Finished {
            preflight.check(&point.config, &arguments.data, &folder)?;
        }
        planned.push(Planned { name, folder, point, standing, failed: None });
    }
    Ok(planned)
}

fn print_plan(arguments: &SweepArguments, planned: &[Planned]) {
    if arguments.json {
        let runs: Vec<Value> = planned.iter().map(described).collect();
        report::json(&json!({ "runs": runs }));
        return;
    }
    let rows = planned.iter().map(|run| vec![run.name.clone(), run.status().to_owned(), run.tried()]);
    report::columns(&["run", "status", "tried"], &[], rows.collect());
}

fn described(run: &Planned) -> Value {
    let tried: serde_json::Map<String, Value> =
        run.point.tried.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({ "run": run.name, "status": run.status(), "error": run.failed, "tried": tried })
}

/// All runs by what `train.monitor` says of their best evaluation, the best first.
fn print_results(arguments: &SweepArguments, planned: &[Planned]) {
    let mut found: Vec<(&Planned, Summary)> = planned
        .iter()
        // A run whose rows cannot be read has none to show.
        .map(|run| {
            let rows = metrics::read(&run.folder).unwrap_or_default();
            (run, Summary::of(&rows, run.point.config.train.monitor))
        })
        .collect();
    let score = |summary: &Summary| summary.score.map_or(f64::NEG_INFINITY, |score| score.best);
    found.sort_by(|a, b| score(&b.1).total_cmp(&score(&a.1)).then_with(|| a.0.name.cmp(&b.0.name)));
    if arguments.json {
        let runs = found.iter().map(|(run, summary)| {
            let mut value = described(run);
            value["monitor"] = json!(run.point.config.train.monitor.name());
            value["figures"] = json!(summary);
            value
        });
        report::json(&json!({ "runs": runs.collect::<Vec<_>>() }));
        return;
    }
    let rows = found.iter().map(|(run, summary)| {
        let mut row = vec![run.name.clone(), run.status().to_owned(), summary.step.to_string()];
        let score = summary.score.map(|score| score.best);
        row.push(match run.point.config.train.monitor {
            Monitor::ValLoss => report::number(score.map(|score| -score)),
            Monitor::RecallAt1 | Monitor::RecallAt5 | Monitor::RecallAt10 => report::percent(score),
            Monitor::Cider | Monitor::Bleu4 | Monitor::ImageProximity | Monitor::TextProximity => {
                report::number(score)
            }
        });
        row.extend(report::best(summary));
        row.push(run.tried());
        row
    });
    // Runs may be told apart by what they are monitored by.
    let monitor = planned.first().map_or("score", |run| run.point.config.train.monitor.name());
    let is_one = planned.iter().all(|run| run.point.config.train.monitor.name() == monitor);
    let monitor = if is_one { monitor } else { "train.monitor" };
    let header = ["run", "status", "step", monitor, "loss", "val loss", "i→t R@1", "t→i R@1", "tried"];
    report::columns(&header, &[2, 3, 4, 5, 6, 7], rows.collect());
    for run in planned {
        if let Some(error) = &run.failed {
            report::line(&format!("{} failed: {error}", run.name));
        }
    }
    if planned.iter().any(|run| run.standing != Standing::Finished && run.failed.is_none()) {
        report::line("stopped; give the same command to go on");
    }
}
