//! One file a command; each is a plain function of its arguments that prints its result.

pub(crate) mod baseline;
pub(crate) mod eval;
pub(crate) mod periodicity;
pub(crate) mod plot;
pub(crate) mod report;
pub(crate) mod train;

use std::path::{Path, PathBuf};

/// The folder of a run that is named or given as a path.
fn run_folder(run: &str, runs_dir: &Path) -> PathBuf {
    let named = runs_dir.join(run);
    if named.join("config.toml").is_file() || !Path::new(run).is_dir() { named } else { PathBuf::from(run) }
}
