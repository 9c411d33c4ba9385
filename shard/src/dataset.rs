//! A data set as a folder: its manifest and its splits' shards. It leaves out any order of samples.

use std::path::{Path, PathBuf};

use crate::{Error, Manifest, Result, ShardReader, SplitEntry};

/// A finished data set.
#[derive(Debug, Clone)]
pub struct Dataset {
    dir: PathBuf,
    manifest: Manifest,
}

impl Dataset {
    /// Reads and checks `dir/dataset.json`; no shard is opened.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref().to_path_buf();
        let manifest = Manifest::read(&dir)?;
        Ok(Self { dir, manifest })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The identity of its samples.
    pub fn fingerprint(&self) -> &str {
        &self.manifest.fingerprint
    }

    /// The split's entry in the manifest.
    ///
    /// # Errors
    /// `NoSuchSplit`, naming those there are.
    pub fn split(&self, name: &str) -> Result<&SplitEntry> {
        self.manifest.splits.iter().find(|split| split.name == name).ok_or_else(|| Error::NoSuchSplit {
            path: self.dir.clone(),
            name: name.to_owned(),
            known: self.manifest.splits.iter().map(|split| split.name.clone()).collect(),
        })
    }

    /// Maps all shards of a split, in order.
    ///
    /// # Errors
    /// As [`Dataset::split`] and [`ShardReader::open`].
    pub fn open_split(&self, name: &str) -> Result<Vec<ShardReader>> {
        let split = self.split(name)?;
        let dir = self.dir.join(&split.name);
        split.shards.iter().map(|entry| ShardReader::open(&dir, entry, &self.manifest.image)).collect()
    }
}
