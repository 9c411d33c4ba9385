//! A run that enters itself: passes on what a run tells its [`Reporter`], and keeps the run's row meanwhile.
//!
//! Leaves out the ledger's file, and the table of all runs.

use super::table::Table;
use super::{Ledger, Summary, differences, git, in_words, time};
use crate::checkpoint::State;
use crate::config::Config;
use crate::error::Result;
use crate::fit::{Outcome, Reporter};
use crate::metrics::{self, TrainRow, ValRow};
use crate::run;
use std::path::{Path, PathBuf};

/// The run that another is compared with.
#[derive(Debug, Clone, Default)]
pub enum Parent {
    /// The run of the same configuration file that was begun last and is still there; none before the second.
    #[default]
    Latest,
    /// This one.
    Given {
        /// What stands in the ledger.
        name: String,
        /// Its folder.
        folder: PathBuf,
    },
}

/// What a run enters.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// The resolved configuration.
    pub config: &'a Config,
    /// The configuration file's name without `.toml`, by which a run finds its parent.
    pub stem: String,
    /// The run's folder; the ledger lies beside it.
    pub run: &'a Path,
    /// Whether an existing run is continued: then its row is.
    pub resume: bool,
    /// What it is compared with.
    pub parent: Parent,
    /// A sentence for the notes; added to those that are there.
    pub note: Option<String>,
}

/// A reporter that keeps a run's row of the ledger, and tells `inner` everything.
pub struct Entered<'a> {
    inner: &'a mut dyn Reporter,
    entry: Entry<'a>,
    ledger: Ledger,
    summary: Summary,
    /// The row's id and the cells that this run has written, once it has begun.
    row: Option<(String, Vec<(&'static str, String)>)>,
    /// Whether it was said that the ledger cannot be kept.
    told: bool,
}

impl std::fmt::Debug for Entered<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entered").field("entry", &self.entry).field("row", &self.row).finish_non_exhaustive()
    }
}

impl<'a> Entered<'a> {
    /// Around the reporter of a run that has not begun.
    pub fn new(inner: &'a mut dyn Reporter, entry: Entry<'a>) -> Self {
        let ledger = Ledger::of(entry.run.parent().unwrap_or(Path::new(".")));
        Self { inner, entry, ledger, summary: Summary::default(), row: None, told: false }
    }

    /// Enters how the run ended. One that never began has no row of its own and changes none.
    pub fn end(mut self, outcome: &Result<Outcome>) {
        if let Ok(
            Outcome::Finished { step, .. }
            | Outcome::StoppedEarly { step, .. }
            | Outcome::Stopped { step, .. },
        ) = outcome
        {
            self.summary.step = *step;
        }
        let status = match outcome {
            Ok(Outcome::Finished { .. } | Outcome::StoppedEarly { .. }) => "finished",
            Ok(Outcome::Stopped { .. }) => "stopped",
            Err(_) => "failed",
        };
        self.update(status);
    }

    fn name(&self) -> String {
        self.entry.run.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The run's first row, or its row from before it was stopped.
    fn enter(&mut self, state: &State, total: u64) {
        let name = self.name();
        let now = metrics::now();
        let rows = metrics::read(self.entry.run).unwrap_or_default();
        self.summary = Summary::of(&rows, self.entry.config.train.monitor);
        self.summary.step = state.step;
        let commit = git::commit(Path::new(".")).unwrap_or_default();
        let new_id = format!("{name} {now} {}", std::process::id());
        let new_id = blake3::hash(new_id.as_bytes()).to_hex()[..8].to_owned();
        let mut cells = vec![
            ("name", name.clone()),
            ("config", self.entry.stem.clone()),
            ("updated", time::text(now)),
            ("status", "running".to_owned()),
            ("commit", commit),
            ("data", state.loader.fingerprint.clone()),
            ("steps", total.to_string()),
        ];
        cells.extend(self.summary.cells());
        let entry = &self.entry;
        let entered = self.ledger.change(|table| {
            let known = if entry.resume { table.find_last("name", &name) } else { None };
            let row = known.unwrap_or_else(|| table.push());
            let own = |column: &str, new: String| match table.get(row, column) {
                "" => new,
                cell => cell.to_owned(),
            };
            cells.push(("id", own("id", new_id.clone())));
            cells.push(("started", own("started", time::text(now))));
            cells.extend(ancestry(table, row, entry, &name));
            cells.iter().for_each(|(column, cell)| table.set(row, column, cell));
            if let Some(note) = &entry.note {
                let notes = table.get(row, "notes").to_owned();
                let notes = if notes.is_empty() { note.clone() } else { format!("{notes}; {note}") };
                table.set(row, "notes", &notes);
            }
            table.get(row, "id").to_owned()
        });
        let id = match entered {
            Ok(id) => id,
            Err(error) => {
                self.tell(&error);
                new_id
            }
        };
        self.row = Some((id, cells));
    }

    /// Brings the row up to date, and puts it back where it was removed meanwhile.
    fn update(&mut self, status: &str) {
        let Some((id, cells)) = &mut self.row else { return };
        let mut new = self.summary.cells();
        new.push(("status", status.to_owned()));
        new.push(("updated", time::text(metrics::now())));
        for (column, cell) in &new {
            match cells.iter_mut().find(|(known, _)| known == column) {
                Some((_, known)) => known.clone_from(cell),
                None => cells.push((*column, cell.clone())),
            }
        }
        let updated = self.ledger.change(|table| match table.find_last("id", id) {
            Some(row) => new.iter().for_each(|(column, cell)| table.set(row, column, cell)),
            None => {
                let row = table.push();
                cells.iter().for_each(|(column, cell)| table.set(row, column, cell));
                table.set(row, "id", id);
            }
        });
        if let Err(error) = updated {
            self.tell(&error);
        }
    }

    /// Says once that the ledger cannot be kept; the run goes on.
    fn tell(&mut self, error: &crate::Error) {
        // Nobody trains to wait for a lock at every evaluation.
        self.ledger.patience = std::time::Duration::ZERO;
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
        self.inner.note(&format!("the run is not in the ledger of experiments: {error}{cause}"));
    }
}

/// The cells `parent` and `difference` of a run's row.
fn ancestry(table: &Table, row: usize, entry: &Entry<'_>, name: &str) -> Vec<(&'static str, String)> {
    let runs = entry.run.parent().unwrap_or(Path::new("."));
    let (parent, config) = match &entry.parent {
        Parent::Given { name, folder } => (name.clone(), run::read_config(folder).ok()),
        Parent::Latest => match table.get(row, "parent") {
            "" => match latest(table, runs, &entry.stem, name) {
                Some((parent, config)) => (parent, Some(config)),
                None => return Vec::new(),
            },
            // A run that is gone on with keeps its parent.
            parent => (parent.to_owned(), run::read_config(&runs.join(parent)).ok()),
        },
    };
    let difference = config.and_then(|config| differences(&config, entry.config).ok());
    let difference = difference.map(|found| ("difference", in_words(&found)));
    std::iter::once(("parent", parent)).chain(difference).collect()
}

/// The run that was begun last among those of the same configuration file whose folder is there.
fn latest(table: &Table, runs: &Path, stem: &str, name: &str) -> Option<(String, Config)> {
    let mut rows: Vec<usize> = (0..table.len())
        .filter(|row| table.get(*row, "config") == stem && !matches!(table.get(*row, "name"), "" | ".."))
        .filter(|row| table.get(*row, "name") != name)
        .collect();
    // People sort tables; of the same second the later row is the later run.
    rows.sort_by_key(|row| table.get(*row, "started").to_owned());
    rows.into_iter().rev().find_map(|row| {
        let name = table.get(row, "name");
        Some((name.to_owned(), run::read_config(&runs.join(name)).ok()?))
    })
}

impl Reporter for Entered<'_> {
    fn begin(&mut self, state: &State, total: u64, model: &str) {
        self.inner.begin(state, total, model);
        self.enter(state, total);
    }

    fn step(&mut self, row: &TrainRow, total: u64, is_logged: bool) {
        if is_logged {
            self.summary.train(row);
        }
        self.inner.step(row, total, is_logged);
    }

    fn evaluated(&mut self, row: &ValRow) {
        self.inner.evaluated(row);
        self.summary.val(row, self.entry.config.train.monitor);
        self.update("running");
    }

    fn saved(&mut self, checkpoint: &Path) {
        self.inner.saved(checkpoint);
    }

    fn note(&mut self, note: &str) {
        self.inner.note(note);
    }

    fn warned(&mut self, message: &str) {
        self.inner.warned(message);
    }
}
