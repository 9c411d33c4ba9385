//! The crate's one error. It says what this layer was doing and with which numbers; the cause below it is
//! its `source`. It leaves out exit codes and advice on command lines: those belong to the programs.

use std::path::{Path, PathBuf};

/// What can go wrong when shards are written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused; a retry may help.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done: `read`, `write`, `map`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Bytes are not what the format promises; quarantine or rebuild the file.
    #[error(transparent)]
    Corrupt(Box<Corruption>),
    /// A folder without `dataset.json`.
    #[error(
        "{} has no dataset.json: it is not a data set, or the prep that wrote it has not finished \
         (run the same prep command again)",
        path.display()
    )]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error(
        "{} has format version {found}, and this program reads up to {supported}: use a newer version",
        path.display()
    )]
    Unsupported {
        /// The file that says so.
        path: PathBuf,
        /// Its version.
        found: String,
        /// The highest version that this crate reads.
        supported: String,
    },
    /// The data set has no split of that name.
    #[error("{} has no split {name:?}; it has {}", path.display(), known.join(", "))]
    NoSuchSplit {
        /// The data set.
        path: PathBuf,
        /// The split asked for.
        name: String,
        /// The splits there are.
        known: Vec<String>,
    },
    /// A value that the format cannot hold.
    #[error("{what} {value:?} does not fit the format: {rule}")]
    Unfit {
        /// Which value: `key`, `split`, …
        what: &'static str,
        /// The value, cut to a readable length.
        value: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// Another program adds side tables to the data set.
    #[error("another program is adding side tables to {}; run this again when it is done", dir.display())]
    Busy {
        /// The data set's folder.
        dir: PathBuf,
    },
    /// Arrow's own library refused.
    #[error("cannot encode or decode the Arrow table {}", path.display())]
    Arrow {
        /// The table's file.
        path: PathBuf,
        /// Arrow's reason.
        #[source]
        source: arrow_schema::ArrowError,
    },
}

/// A broken promise of the format, with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}{}: byte {offset}: {problem}: expected {expected}, found {found}",
    path.display(),
    key.as_ref().map(|key| format!(": sample {key}")).unwrap_or_default()
)]
pub struct Corruption {
    /// The damaged file.
    pub path: PathBuf,
    /// The sample whose bytes are hit, where one is known.
    pub key: Option<String>,
    /// Where the damage starts, in bytes from the start of the file.
    pub offset: u64,
    /// Which promise is broken.
    pub problem: String,
    /// What the format, the index or the manifest promises.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the bytes themselves are wrong (`verify` would name them too).
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt(_))
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    pub(crate) fn unfit(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self::Unfit { what, value: value.chars().take(80).collect(), rule }
    }

    /// A `Corrupt` without a sample.
    pub(crate) fn corrupt(
        path: &Path,
        offset: u64,
        problem: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Corrupt(Box::new(Corruption {
            path: path.to_path_buf(),
            key: None,
            offset,
            problem: problem.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }))
    }

    /// Names the sample that a `Corrupt` hit; other errors stay as they are.
    pub(crate) fn at_key(mut self, name: &str) -> Self {
        if let Self::Corrupt(corruption) = &mut self {
            corruption.key = Some(name.to_owned());
        }
        self
    }
}
