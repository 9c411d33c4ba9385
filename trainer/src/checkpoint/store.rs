//! The folder of a run's checkpoints: how one is written, which are kept.
//!
//! A checkpoint is written into a hidden folder, synced and renamed, so that a folder with its final name is
//! complete. Its size is known before, and compared with what the disk has left. `best.json` names the
//! checkpoint of the best evaluation, which is kept beside the newest. Leaves out what is in them.

use super::room::free_bytes;
use super::{AVERAGED, MODEL, OPTIMIZER, SAMPLES, STATE, State, Tensors};
use crate::error::{Error, Result};
use crate::fsync;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const BEST: &str = "best.json";

/// Room beside the tensors: state.json, which grows with the order's history, and the folder itself.
const SLACK_BYTES: u64 = 1 << 20;

/// What a checkpoint holds besides its state.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// The weights.
    pub model: &'a Tensors,
    /// The optimizer's moments.
    pub optimizer: &'a Tensors,
    /// The averaged weights.
    pub averaged: Option<&'a Tensors>,
    /// The file of the ledger of samples.
    pub samples: Option<&'a [u8]>,
}

impl Weights<'_> {
    fn files(&self) -> impl Iterator<Item = (&'static str, &Tensors)> {
        [(MODEL, self.model), (OPTIMIZER, self.optimizer)]
            .into_iter()
            .chain(self.averaged.map(|averaged| (AVERAGED, averaged)))
    }

    /// Bytes that a checkpoint of these takes at most.
    pub fn bytes(&self) -> u64 {
        let tensor = |(name, tensor): (&String, &candle_core::Tensor)| {
            // A header's entry is the name, the shape, two offsets and some words.
            (tensor.elem_count() * tensor.dtype().size_in_bytes() + name.len() + 256) as u64
        };
        let samples = self.samples.map_or(0, |samples| samples.len() as u64);
        self.files().map(|(_, tensors)| tensors.iter().map(tensor).sum::<u64>()).sum::<u64>()
            + samples
            + SLACK_BYTES
    }
}

/// The checkpoint of the best evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its step.
    pub step: u64,
    /// What `train.monitor` was.
    pub monitor: String,
    /// What the evaluation was worth by it.
    pub value: f64,
}

/// What writing asks of the system, so that tests can take its place.
struct Disk<'a> {
    free_bytes: &'a dyn Fn(&Path) -> Option<u64>,
    write: &'a dyn Fn(&Path, &[u8]) -> std::io::Result<()>,
}

const REAL: Disk<'static> = Disk { free_bytes: &free_bytes, write: &fsync::write_synced };

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// The checkpoints below a run's folder.
    pub fn of_run(run: &Path) -> Self {
        Self { folder: run.join("checkpoints") }
    }

    /// The complete checkpoints with their steps, the oldest first.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        if !self.folder.exists() {
            return Ok(found);
        }
        for entry in fs::read_dir(&self.folder).map_err(Error::io("list the checkpoints"))? {
            let path = entry.map_err(Error::io("list the checkpoints"))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let step = name.strip_prefix("step-").and_then(|digits| digits.parse().ok());
            if let Some(step) = step.filter(|_| path.join(STATE).is_file()) {
                found.push((step, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The newest complete checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn latest(&self) -> Result<Option<PathBuf>> {
        Ok(self.list()?.pop().map(|(_, path)| path))
    }

    /// The checkpoint of the best evaluation, if one is marked and still there.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::DamagedFile`].
    pub fn best(&self) -> Result<Option<(Best, PathBuf)>> {
        let path = self.folder.join(BEST);
        if !path.is_file() {
            return Ok(None);
        }
        let json = fs::read(&path).map_err(Error::io("read which checkpoint is the best"))?;
        let best: Best = serde_json::from_slice(&json)
            .map_err(|e| Error::DamagedFile { path: path.clone(), reason: e.to_string() })?;
        let folder = self.folder.join(name(best.step));
        Ok(folder.join(STATE).is_file().then_some((best, folder)))
    }

    /// Marks a checkpoint as the best, then removes all others but the newest `keep` of all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn mark_best(&self, best: &Best, keep: usize) -> Result<()> {
        let path = self.folder.join(BEST);
        let json = serde_json::to_vec_pretty(best)
            .map_err(|e| Error::DamagedFile { path: path.clone(), reason: e.to_string() })?;
        fsync::replace(&path, &json).map_err(Error::io("mark the best checkpoint"))?;
        self.prune(keep)
    }

    /// Refuses where the disk has no room for a checkpoint of `bytes`.
    ///
    /// # Errors
    /// [`Error::Space`] with both numbers.
    pub fn require_room(&self, bytes: u64) -> Result<()> {
        self.require(bytes, &REAL)
    }

    fn require(&self, needed_bytes: u64, disk: &Disk<'_>) -> Result<()> {
        match (disk.free_bytes)(&self.folder) {
            Some(free_bytes) if free_bytes < needed_bytes => {
                Err(Error::Space { folder: self.folder.clone(), needed_bytes, free_bytes })
            }
            _ => Ok(()),
        }
    }

    /// Writes a checkpoint of `state`, then removes all but the newest `keep` and the best; returns its folder.
    ///
    /// # Errors
    /// [`Error::Space`] before anything is written; [`Error::Io`] and [`Error::Tensor`]. The earlier checkpoints
    /// are then still there, and nothing of the new one is.
    pub fn save(&self, state: State, weights: &Weights<'_>, keep: usize) -> Result<PathBuf> {
        self.save_on(&REAL, state, weights, keep)
    }

    fn save_on(&self, disk: &Disk<'_>, state: State, weights: &Weights<'_>, keep: usize) -> Result<PathBuf> {
        let name = name(state.step);
        let (temporary, path) = (self.folder.join(format!(".{name}.tmp")), self.folder.join(&name));
        let io = || Error::io("save a checkpoint");
        if self.folder.exists() {
            self.clear_hidden()?;
        }
        self.require(weights.bytes(), disk)?;
        fs::create_dir_all(&self.folder).map_err(io())?;
        if let Err(error) = write(disk, &temporary, state, weights) {
            // A disk that is full stays as full as it was.
            drop(fs::remove_dir_all(&temporary));
            return Err(error);
        }
        if path.exists() {
            // The same step saved again, as at the end of a resumed run: the folder is exchanged.
            self.remove(&path)?;
        }
        fs::rename(&temporary, &path).map_err(io())?;
        fsync::sync_folder(&self.folder).map_err(io())?;
        self.prune(keep)?;
        Ok(path)
    }

    /// Removes all but the newest `keep` and the best.
    fn prune(&self, keep: usize) -> Result<()> {
        let best = self.best()?.map(|(best, _)| best.step);
        let mut old = self.list()?;
        old.truncate(old.len().saturating_sub(keep.max(1)));
        old.retain(|(step, _)| Some(*step) != best);
        old.iter().try_for_each(|(_, old)| self.remove(old))
    }

    /// Hides a checkpoint before removing it, so that a half-removed one is never taken for complete.
    fn remove(&self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hidden = self.folder.join(format!(".{name}.old"));
        fs::rename(path, &hidden).map_err(Error::io("remove an old checkpoint"))?;
        fs::remove_dir_all(&hidden).map_err(Error::io("remove an old checkpoint"))
    }

    /// Removes what a kill left half-written.
    fn clear_hidden(&self) -> Result<()> {
        let io = || Error::io("clear the checkpoints' folder");
        for entry in fs::read_dir(&self.folder).map_err(io())? {
            let entry = entry.map_err(io())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".step-") {
                fs::remove_dir_all(entry.path()).map_err(io())?;
            }
        }
        Ok(())
    }
}

/// The name of a checkpoint's folder.
fn name(step: u64) -> String {
    format!("step-{step:08}")
}

/// Writes everything of a checkpoint into a new folder.
fn write(disk: &Disk<'_>, folder: &Path, mut state: State, weights: &Weights<'_>) -> Result<()> {
    let io = || Error::io("save a checkpoint");
    fs::create_dir(folder).map_err(io())?;
    for (file, tensors) in weights.files() {
        let bytes = serialize(tensors)?;
        (disk.write)(&folder.join(file), &bytes).map_err(io())?;
        state.digests.insert(file.to_owned(), blake3::hash(&bytes).to_hex().to_string());
    }
    if let Some(bytes) = weights.samples {
        (disk.write)(&folder.join(SAMPLES), bytes).map_err(io())?;
        state.digests.insert(SAMPLES.to_owned(), blake3::hash(bytes).to_hex().to_string());
    }
    let path = folder.join(STATE);
    let json = serde_json::to_vec_pretty(&state)
        .map_err(|e| Error::DamagedFile { path: path.clone(), reason: e.to_string() })?;
    (disk.write)(&path, &json).map_err(io())?;
    fsync::sync_folder(folder).map_err(io())
}

fn serialize(tensors: &Tensors) -> Result<Vec<u8>> {
    safetensors::serialize(tensors.iter(), None)
        .map_err(|e| Error::Tensor { doing: "save a checkpoint", source: candle_core::Error::wrap(e) })
}

#[cfg(test)]
mod tests;
