//! `trainer train`: resolves the configuration, handles signals, trains.

use super::{report, run_folder};
use crate::cli::TrainArguments;
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use trainer::config::Config;
use trainer::fit::{self, Job, Outcome};
use trainer::ledger::{Entered, Entry, Parent};
use trainer::run;

/// What a shell gives a program that Ctrl-C ended; here the checkpoint is saved.
pub(super) const STOPPED: u8 = 130;

/// Trains to the end, or to a signal.
pub(crate) fn run(arguments: &TrainArguments) -> Result<ExitCode> {
    let config = Config::load(&arguments.config, &arguments.overrides)?;
    let stem = stem(&arguments.config);
    let name = run_name(arguments.run.as_deref().unwrap_or(&stem))?;
    let run = arguments.runs_dir.join(name);
    let parent = parent(arguments.parent.as_deref(), &arguments.runs_dir, &run)?;
    let note = arguments.note.clone();
    let stop = stop_flag()?;
    let entry = Entry { config: &config, stem, run: &run, resume: arguments.resume, parent, note };
    match watched(entry, &arguments.data, Progress::new(Arc::clone(&stop)), &stop)? {
        Outcome::Finished { step, plots } => {
            report::line(&format!("{}: all {step} steps are made", run.display()));
            plots.iter().for_each(|path| report::line(&format!("  {}", path.display())));
            Ok(ExitCode::SUCCESS)
        }
        Outcome::StoppedEarly { step, best, plots } => {
            report::line(&format!(
                "{}: ended after step {step}, as no evaluation was better than that of step {best} (train.patience)",
                run.display()
            ));
            plots.iter().for_each(|path| report::line(&format!("  {}", path.display())));
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped { step, checkpoint } => {
            report::line(&format!("stopped after step {step}; saved {}", checkpoint.display()));
            report::line("give the same command with --resume to go on");
            Ok(ExitCode::from(STOPPED))
        }
    }
}

/// The flag that Ctrl-C sets; a second one ends the program at once.
pub(super) fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(STOPPED));
        }
    })
    .context("could not watch for Ctrl-C")?;
    Ok(stop)
}

/// Trains a run that shows how it goes and keeps its row in the ledger.
pub(super) fn watched(
    entry: Entry<'_>,
    data: &Path,
    mut progress: Progress,
    stop: &AtomicBool,
) -> trainer::Result<Outcome> {
    let job = Job { config: entry.config, data, run: entry.run, resume: entry.resume, stop };
    let mut entered = Entered::new(&mut progress, entry);
    let outcome = fit::train(job, &mut entered);
    entered.end(&outcome);
    progress.close();
    outcome
}

/// The configuration's file name without its ending.
pub(super) fn stem(config: &Path) -> String {
    config.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A name for a run's folder, given or from the configuration's file.
pub(super) fn run_name(name: &str) -> Result<&str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        bail!(
            "`--run {name}` is not a run's name: letters, digits, `-`, `_` and `.` make one, not beginning with `.`"
        );
    }
    Ok(name)
}

/// The run of `--parent`.
pub(super) fn parent(given: Option<&str>, runs_dir: &Path, run: &Path) -> Result<Parent> {
    let Some(given) = given else { return Ok(Parent::Latest) };
    let folder = run_folder(given, runs_dir);
    run::read_config(&folder).with_context(|| format!("`--parent {given}` cannot be compared with"))?;
    let folder = fs_err::canonicalize(&folder)?;
    if fs_err::canonicalize(run).is_ok_and(|run| run == folder) {
        bail!("`--parent {given}` is the run itself: give another run, or leave --parent out");
    }
    let is_beside = fs_err::canonicalize(runs_dir).is_ok_and(|runs| folder.parent() == Some(&runs));
    let name = if is_beside { folder.file_name().map(PathBuf::from) } else { None };
    let name = name.unwrap_or_else(|| folder.clone()).display().to_string();
    Ok(Parent::Given { name, folder })
}
