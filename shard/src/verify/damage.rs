//! What a check says: damages, and the report of all of them. It leaves out how they are found.

use serde::Serialize;

/// Damages that are listed for one file; more are counted.
pub const DAMAGES_LISTED_MAX: usize = 16;

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file, relative to the data set: `train/shard-000003.tar`.
    pub file: String,
    /// The sample, where one is hit.
    pub key: Option<String>,
    /// Where, in bytes from the start of the file, where there is such a place.
    pub offset: Option<u64>,
    /// Which promise.
    pub problem: String,
    /// What is promised.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(key) = &self.key {
            write!(f, ": sample {key}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ": byte {offset}")?;
        }
        write!(f, ": {}: expected {}, found {}", self.problem, self.expected, self.found)
    }
}

/// How much of a data set is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Every byte: nothing that changed passes.
    #[default]
    Full,
    /// Structure alone: the manifest and its digest, every file and its length, every byte of the indexes, the header
    /// in front of each member and the end of each archive. A changed byte of a picture, of a JSON, of padding or
    /// of a side table passes, as does a tar that was exchanged for one of the same layout.
    Quick,
}

/// What a check of a data set found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How much was read: `sound` promises no more than that.
    pub depth: Depth,
    /// The data set's fingerprint, where the manifest could be read.
    pub fingerprint: Option<String>,
    /// Shards checked.
    pub shards: u64,
    /// Samples checked.
    pub samples: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong, in the order of files.
    pub damages: Vec<Damage>,
    /// Damages beyond those listed.
    pub damages_omitted: u64,
}

impl Report {
    /// Whether every promise holds.
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty()
    }
}
