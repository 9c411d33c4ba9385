//! The data sets that a loader draws from. Left out: opening them ([`crate::Loader`]).

use std::path::PathBuf;

use crate::select::Selection;

/// One data set of a loader: a split of it, which of its samples take part, and how often it is drawn from.
#[derive(Clone, Debug)]
pub struct Part {
    /// The data set's folder; with the feature `remote` also its URL: `s3://…`, `https://…`, `hf://datasets/…`.
    pub dir: PathBuf,
    /// Which split.
    pub split: String,
    /// Which of its samples take part.
    pub selection: Selection,
    /// Its share of an epoch, relative to the others'; none, or one for each data set.
    pub weight: Option<f64>,
}

impl Part {
    /// The split `train` of the data set in `dir`, whole.
    pub fn new(dir: impl Into<PathBuf>) -> Part {
        Part { dir: dir.into(), split: "train".to_owned(), selection: Selection::default(), weight: None }
    }

    /// The same with another split.
    #[must_use]
    pub fn split(self, split: impl Into<String>) -> Part {
        Part { split: split.into(), ..self }
    }

    /// The same with these samples alone.
    #[must_use]
    pub fn selection(self, selection: Selection) -> Part {
        Part { selection, ..self }
    }

    /// The same with a share of its own.
    #[must_use]
    pub fn weight(self, weight: f64) -> Part {
        Part { weight: Some(weight), ..self }
    }
}

/// How an epoch draws from one of a loader's data sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draws {
    /// The data set's folder or address.
    pub dir: PathBuf,
    /// Samples of it that take part.
    pub samples: u64,
    /// How many of them, repeats counted, an epoch delivers.
    pub draws: u64,
}

/// Where a sample comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The number of its data set among those of the loader.
    pub part: usize,
    /// The number of its shard, counted through all data sets.
    pub shard: usize,
    /// Its row in its data set's source.
    pub source_row: u64,
}
