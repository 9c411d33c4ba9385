//! The arguments of what is asked about several runs, and their help.

use super::trained::RunArguments;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(crate) const PLOT_HELP: &str = "\
Examples:
  trainer plot demo                           # the pictures in runs/demo/plots, anew
  trainer plot demo hot cold --out lr.png     # loss, validation loss and recall of three runs in one picture";

/// What `plot` takes.
#[derive(Debug, Args)]
pub(crate) struct PlotArguments {
    /// Runs: names below the folder of all runs, or runs' folders.
    #[arg(value_name = "NAME|DIR", required_unless_present = "run")]
    pub(crate) runs: Vec<String>,
    /// A run, as without --run.
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) run: Option<String>,
    /// The folder of all runs.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs_dir: PathBuf,
    /// The picture of several runs [default: comparison.png in the folder of all runs].
    #[arg(long, value_name = "FILE.png")]
    pub(crate) out: Option<PathBuf>,
}

pub(crate) const RUNS_HELP: &str = "\
Examples:
  trainer runs
  trainer runs --sort r1
  trainer runs --runs-dir elsewhere --sort val-loss --json

The rows are those of experiments.csv in the folder of all runs, and the runs whose folders are there
without a row. Figures are the best of a run, losses in nats, recall on the validation split.";

/// What `runs` is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortKey {
    /// The time of the beginning, the newest last.
    Started,
    /// The name.
    Name,
    /// The status.
    Status,
    /// Steps made, the most first.
    Step,
    /// Training loss, the lowest first.
    Loss,
    /// Validation loss, the lowest first.
    ValLoss,
    /// Recall at 1, the mean of both directions, the highest first.
    R1,
}

/// What `runs` takes.
#[derive(Debug, Args)]
pub(crate) struct RunsArguments {
    /// The folder of all runs.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs_dir: PathBuf,
    /// What the table is sorted by; runs without the figure come last.
    #[arg(long, value_name = "KEY", default_value = "started")]
    pub(crate) sort: SortKey,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) const DIFF_HELP: &str = "\
Examples:
  trainer diff demo hot
  trainer diff runs/demo elsewhere/demo --json

Exit codes: 0 the same configuration and data set; 1 a difference; 2 it could not compare.";

/// What `diff` takes.
#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// A run: a name below the folder of all runs, or a run's folder.
    #[arg(value_name = "A")]
    pub(crate) a: String,
    /// The run that it is compared with.
    #[arg(value_name = "B")]
    pub(crate) b: String,
    /// The folder of all runs.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs_dir: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) const SWEEP_HELP: &str = "\
Examples:
  trainer sweep --config configs/demo_sweep.toml --data data/demo --dry-run
  trainer sweep --config configs/demo_sweep.toml --data data/demo

The configuration has a section with a list for each key that is tried:
  [sweep]
  optim.lr = [1e-4, 3e-4, 1e-3]
  train.seed = [0, 1]
Every combination becomes a run of its own, named NAME-lr1e-4-seed0 and so on. The same command again goes
on where it was stopped: finished runs are left, the others resumed. The table at the end is sorted by
train.monitor.

Exit codes: 0 all runs are finished; 1 a run failed; 2 the sweep could not begin; 130 stopped by a signal.";

/// What `sweep` takes.
#[derive(Debug, Args)]
pub(crate) struct SweepArguments {
    /// The configuration, a TOML file with a section [sweep].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The data set, a folder made by `prep`.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The beginning of the runs' names [default: the configuration's file name without .toml].
    #[arg(long, value_name = "NAME")]
    pub(crate) run: Option<String>,
    /// The folder of all runs.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs_dir: PathBuf,
    /// Override one key of all runs' configurations; may be given often.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// The run that runs/experiments.csv compares these with [default: the sweep's first].
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) parent: Option<String>,
    /// A note for the rows of new runs in runs/experiments.csv.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    /// List the runs and where they stand; train nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) const WORST_HELP: &str = "\
Examples:
  trainer worst --run demo --data data/shapes
  trainer worst --run demo --data data/shapes -k 32 --out hardest.png

The run must have been trained with train.sample_ledger = true. The loss of a sample is its own two terms,
averaged, when it was last learned from: one that was last seen early in a run was judged by a younger model.";

/// What `worst` takes.
#[derive(Debug, Args)]
pub(crate) struct WorstArguments {
    #[command(flatten)]
    pub(crate) run: RunArguments,
    /// The data set that the run was trained on.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// How many samples.
    #[arg(long, short = 'k', value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) count: u16,
    /// Draw the samples into this PNG.
    #[arg(long, value_name = "FILE.png")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}
