//! The ledger of experiments: `runs/experiments.csv`, a row for each run of a folder of runs.
//!
//! Runs enter themselves ([`Entered`]) and keep their cells up to date; notes, further columns and further rows
//! are people's, and stay. The file is replaced as a whole under a lock, so that runs that train at once and
//! kills at any moment lose nothing. A ledger that cannot be kept never ends a run. Leaves out printing.

mod difference;
mod entered;
mod git;
mod summary;
mod table;
mod time;

pub use difference::{Difference, differences, in_words};
pub use entered::{Entered, Entry, Parent};
pub use summary::{Span, Summary, figure};

use crate::error::{Error, Result};
use crate::fsync;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use table::Table;

/// The file in the folder of all runs.
pub const FILE: &str = "experiments.csv";

/// The columns of a new ledger.
pub const COLUMNS: [&str; 21] = [
    "id",
    "name",
    "config",
    "started",
    "updated",
    "status",
    "parent",
    "difference",
    "commit",
    "data",
    "step",
    "steps",
    "loss",
    "loss_best",
    "val_loss",
    "val_loss_best",
    "image_to_text_r1",
    "image_to_text_r1_best",
    "text_to_image_r1",
    "text_to_image_r1_best",
    "notes",
];

/// How long a run waits for others to be done with the ledger; each needs some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A row of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Experiment {
    cells: BTreeMap<String, String>,
}

impl Experiment {
    /// A row with these cells.
    pub fn new(cells: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { cells: cells.into_iter().collect() }
    }

    /// A cell by its column; empty where there is none.
    pub fn get(&self, column: &str) -> &str {
        self.cells.get(column).map_or("", String::as_str)
    }

    /// A cell as a number; none where it is empty or no number.
    pub fn number(&self, column: &str) -> Option<f64> {
        self.get(column).parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// The cells of the columns that are not the ledger's own, by column.
    pub fn further(&self) -> impl Iterator<Item = (&str, &str)> {
        let further = self.cells.iter().filter(|(column, _)| !COLUMNS.contains(&column.as_str()));
        further.map(|(column, cell)| (column.as_str(), cell.as_str()))
    }
}

/// The ledger of a folder of runs.
#[derive(Debug, Clone)]
pub struct Ledger {
    path: PathBuf,
    patience: Duration,
}

impl Ledger {
    /// The ledger in `runs`, whether it is there yet or not.
    pub fn of(runs: &Path) -> Self {
        Self { path: runs.join(FILE), patience: PATIENCE }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All rows, in the order of the file; none where there is no ledger.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::DamagedFile`] for a file that is no ledger.
    pub fn read(&self) -> Result<Vec<Experiment>> {
        let table = self.table()?;
        let row = |row: usize| {
            let header = table.header().iter();
            Experiment::new(header.map(|column| (column.clone(), table.get(row, column).to_owned())))
        };
        Ok((0..table.len()).map(row).collect())
    }

    fn table(&self) -> Result<Table> {
        if !self.path.exists() {
            return Ok(Table::default());
        }
        let bytes = fs_err::read(&self.path).map_err(Error::io("read the ledger of experiments"))?;
        if bytes.is_empty() {
            return Ok(Table::default());
        }
        Table::parse(&bytes, &["id", "name"])
            .map_err(|reason| Error::DamagedFile { path: self.path.clone(), reason })
    }

    /// Changes the table and puts it in the file's place, while no other process does.
    fn change<R>(&self, change: impl FnOnce(&mut Table) -> R) -> Result<R> {
        let _lock = self.lock()?;
        let mut table = self.table()?;
        COLUMNS.iter().for_each(|column| table.add_column(column));
        let result = change(&mut table);
        let bytes =
            table.to_bytes().map_err(|reason| Error::DamagedFile { path: self.path.clone(), reason })?;
        fsync::replace(&self.path, &bytes).map_err(Error::io("write the ledger of experiments"))?;
        Ok(result)
    }

    /// A lock that ends with the file that is returned, also when the process is killed.
    fn lock(&self) -> Result<fs_err::File> {
        let doing = "lock the ledger of experiments";
        let file =
            fs_err::File::create(self.path.with_file_name(".experiments.lock")).map_err(Error::io(doing))?;
        let begun = Instant::now();
        loop {
            match file.file().try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if begun.elapsed() < self.patience => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    let source = std::io::Error::other("another process holds it");
                    return Err(Error::Io { doing, source });
                }
                Err(TryLockError::Error(source)) => return Err(Error::Io { doing, source }),
            }
        }
    }
}

#[cfg(test)]
mod tests;
