//! `trainer train`: resolves the configuration, handles signals, trains.

use crate::cli::TrainArguments;
use crate::commands::report;
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use trainer::config::Config;
use trainer::fit::{self, Job, Outcome};

/// What a shell gives a program that Ctrl-C ended; here the checkpoint is saved.
const STOPPED: u8 = 130;

/// Trains to the end, or to a signal.
pub(crate) fn run(arguments: &TrainArguments) -> Result<ExitCode> {
    let config = Config::load(&arguments.config, &arguments.overrides)?;
    let run = run_folder(arguments)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(STOPPED));
        }
    })
    .context("could not watch for Ctrl-C")?;
    let mut progress = Progress::new(Arc::clone(&stop));
    let job =
        Job { config: &config, data: &arguments.data, run: &run, resume: arguments.resume, stop: &stop };
    let outcome = fit::train(job, &mut progress);
    progress.close();
    match outcome? {
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

/// The run's folder: named by `--run`, else by the configuration's file.
fn run_folder(arguments: &TrainArguments) -> Result<PathBuf> {
    let name = match &arguments.run {
        Some(name) => name.clone(),
        None => arguments.config.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        bail!(
            "`--run {name}` is not a run's name: letters, digits, `-`, `_` and `.` make one, not beginning with `.`"
        );
    }
    Ok(arguments.runs_dir.join(name))
}
