//! One file a command; each is a plain function of its arguments that prints its result.

pub(crate) mod baseline;
pub(crate) mod bench;
pub(crate) mod caption;
pub(crate) mod diff;
pub(crate) mod embed;
pub(crate) mod eval;
mod eval_captions;
pub(crate) mod export;
mod outputs;
pub(crate) mod periodicity;
pub(crate) mod plot;
pub(crate) mod probe;
pub(crate) mod report;
pub(crate) mod runs;
pub(crate) mod score;
pub(crate) mod search;
pub(crate) mod sweep;
pub(crate) mod train;
pub(crate) mod worst;
pub(crate) mod zeroshot;

use crate::cli::trained::{RunArguments, SamplesArguments};
use anyhow::Context;
use std::path::{Path, PathBuf};
use trainer::trained::Trained;

/// The folder of a run that is named or given as a path.
fn run_folder(run: &str, runs_dir: &Path) -> PathBuf {
    let named = runs_dir.join(run);
    if named.join("config.toml").is_file() || !Path::new(run).is_dir() { named } else { PathBuf::from(run) }
}

/// The trained model that a command asks.
fn open(run: &RunArguments) -> anyhow::Result<Trained> {
    Ok(Trained::open(&run_folder(&run.run, &run.runs_dir))?)
}

/// The images that a command looks at.
struct Samples {
    split: String,
    loader: loader::Loader,
    limit: Option<usize>,
}

fn samples(trained: &Trained, given: &SamplesArguments) -> anyhow::Result<Samples> {
    let limit = given.limit.map(usize::try_from).transpose().context("--limit is too large")?;
    let (split, loader) = trained.open_data(&given.data, given.split.as_deref())?;
    Ok(Samples { split, loader, limit })
}
