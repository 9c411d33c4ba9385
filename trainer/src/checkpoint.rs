//! Checkpoints: `checkpoints/step-NNNNNNNN/{model.safetensors, optimizer.safetensors, state.json}`.
//!
//! A checkpoint is written into a hidden folder, synced and renamed, so that a folder with its final name
//! is complete. `state.json` says what it belongs to and carries the digests of both weight files. Leaves
//! out what the tensors mean.

use crate::config::{Config, DataConfig, ModelConfig};
use crate::error::{Error, Result};
use crate::fsync;
use candle_core::{Device, Tensor};
use fs_err as fs;
use loader::LoaderState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// Version of a checkpoint's layout.
const VERSION: u32 = 2;

/// Named tensors, ordered by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Where a run stands and what it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of this layout.
    pub version: u32,
    /// Optimizer steps made.
    pub step: u64,
    /// Samples learned from.
    pub samples_seen: u64,
    /// Where the next batch comes from, and what was delivered before it.
    pub loader: LoaderState,
    /// The seed of weights, order and captions.
    pub seed: u64,
    /// The digest of the tokenizer's file.
    pub tokenizer: String,
    /// The digest of the resolved configuration.
    pub config: String,
    /// The sizes of the model.
    pub model: ModelConfig,
    /// Which samples are read, and how.
    pub data: DataConfig,
    /// BLAKE3 of both weight files, in hex.
    pub digests: BTreeMap<String, String>,
}

/// What a run is about to continue with, to be compared with a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The resolved configuration.
    pub config: &'a Config,
    /// The loader's state at its first batch.
    pub loader: &'a LoaderState,
    /// The digest of the tokenizer's file.
    pub tokenizer: &'a str,
}

impl State {
    /// The state of a run that has not made a step.
    pub fn begin(identity: Identity<'_>) -> Result<Self> {
        Ok(Self {
            version: VERSION,
            step: 0,
            samples_seen: 0,
            loader: identity.loader.clone(),
            seed: identity.config.train.seed,
            tokenizer: identity.tokenizer.to_owned(),
            config: blake3::hash(identity.config.to_toml()?.as_bytes()).to_hex().to_string(),
            model: identity.config.model.clone(),
            data: identity.config.data.clone(),
            digests: BTreeMap::new(),
        })
    }

    /// Refuses to continue under another data set, tokenizer, model, data view or seed.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the first difference and both values.
    pub fn check(&self, checkpoint: &Path, identity: Identity<'_>) -> Result<()> {
        let config = identity.config;
        let mismatch = |what: &str, found: String, expected: String| Error::Mismatch {
            checkpoint: checkpoint.to_path_buf(),
            what: what.to_owned(),
            found,
            expected,
        };
        if self.loader.fingerprint != identity.loader.fingerprint {
            let (found, expected) = (self.loader.fingerprint.clone(), identity.loader.fingerprint.clone());
            return Err(mismatch("the data set of fingerprint", found, expected));
        }
        if self.tokenizer != identity.tokenizer {
            return Err(mismatch(
                "the tokenizer of digest",
                self.tokenizer.clone(),
                identity.tokenizer.to_owned(),
            ));
        }
        let now = [flat("model", &config.model)?, flat("data", &config.data)?].concat();
        let then = [flat("model", &self.model)?, flat("data", &self.data)?].concat();
        for ((key, found), (_, expected)) in then.into_iter().zip(now) {
            // Evaluation, the preset's name and what a run began with do not change what is learned from here.
            let is_free = matches!(
                key.as_str(),
                "model.preset" | "model.weights" | "data.val_split" | "data.val_fraction"
            );
            if found != expected && !is_free {
                return Err(mismatch(&key, found, expected));
            }
        }
        if self.seed != config.train.seed {
            return Err(mismatch("train.seed", self.seed.to_string(), config.train.seed.to_string()));
        }
        Ok(())
    }
}

/// A section's keys with their values, in the order of the struct.
fn flat<T: Serialize>(prefix: &str, section: &T) -> Result<Vec<(String, String)>> {
    fn walk(prefix: &str, value: &serde_json::Value, out: &mut Vec<(String, String)>) {
        match value {
            serde_json::Value::Object(map) => {
                map.iter().for_each(|(key, value)| walk(&format!("{prefix}.{key}"), value, out));
            }
            value => out.push((prefix.to_owned(), value.to_string())),
        }
    }
    let value = serde_json::to_value(section)
        .map_err(|e| Error::DamagedFile { path: STATE.into(), reason: e.to_string() })?;
    let mut out = Vec::new();
    walk(prefix, &value, &mut out);
    Ok(out)
}

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

    /// Writes a checkpoint of `state`, then removes all but the newest `keep`; returns its folder.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Tensor`]; the earlier checkpoints are then still there.
    pub fn save(
        &self,
        mut state: State,
        model: &Tensors,
        optimizer: &Tensors,
        keep: usize,
    ) -> Result<PathBuf> {
        let name = format!("step-{:08}", state.step);
        let (temporary, path) = (self.folder.join(format!(".{name}.tmp")), self.folder.join(&name));
        let io = || Error::io("save a checkpoint");
        fs::create_dir_all(&self.folder).map_err(io())?;
        self.clear_hidden()?;
        fs::create_dir(&temporary).map_err(io())?;
        for (file, tensors) in [(MODEL, model), (OPTIMIZER, optimizer)] {
            let bytes = serialize(tensors)?;
            fsync::write_synced(&temporary.join(file), &bytes).map_err(io())?;
            state.digests.insert(file.to_owned(), blake3::hash(&bytes).to_hex().to_string());
        }
        let json = serde_json::to_vec_pretty(&state)
            .map_err(|e| Error::DamagedFile { path: path.join(STATE), reason: e.to_string() })?;
        fsync::write_synced(&temporary.join(STATE), &json).map_err(io())?;
        fsync::sync_folder(&temporary).map_err(io())?;
        if path.exists() {
            // The same step saved again, as at the end of a resumed run: the folder is exchanged.
            self.remove(&path)?;
        }
        fs::rename(&temporary, &path).map_err(io())?;
        fsync::sync_folder(&self.folder).map_err(io())?;
        let mut all = self.list()?;
        all.truncate(all.len().saturating_sub(keep.max(1)));
        for (_, old) in all {
            self.remove(&old)?;
        }
        Ok(path)
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

/// The state of a checkpoint, without its tensors.
///
/// # Errors
/// [`Error::Io`] and [`Error::DamagedFile`].
pub fn read_state(checkpoint: &Path) -> Result<State> {
    let path = checkpoint.join(STATE);
    let json = fs::read(&path).map_err(Error::io("read the checkpoint"))?;
    let state: State = serde_json::from_slice(&json)
        .map_err(|e| Error::DamagedFile { path: path.clone(), reason: e.to_string() })?;
    if state.version != VERSION {
        let reason = format!("it has version {}, and this program reads version {VERSION}", state.version);
        return Err(Error::DamagedFile { path, reason });
    }
    Ok(state)
}

/// The weights of a checkpoint.
///
/// # Errors
/// [`Error::Io`], [`Error::Tensor`], and [`Error::DamagedFile`] when a byte has changed.
pub fn read_model(checkpoint: &Path, state: &State, device: &Device) -> Result<Tensors> {
    read_tensors(checkpoint, MODEL, state, device)
}

/// The optimizer's moments of a checkpoint.
///
/// # Errors
/// As [`read_model`].
pub fn read_optimizer(checkpoint: &Path, state: &State, device: &Device) -> Result<Tensors> {
    read_tensors(checkpoint, OPTIMIZER, state, device)
}

fn read_tensors(checkpoint: &Path, file: &str, state: &State, device: &Device) -> Result<Tensors> {
    let path = checkpoint.join(file);
    let bytes = fs::read(&path).map_err(Error::io("read the checkpoint"))?;
    let found = blake3::hash(&bytes).to_hex().to_string();
    if state.digests.get(file) != Some(&found) {
        let reason = format!("its digest is {found}, and {STATE} says {:?}", state.digests.get(file));
        return Err(Error::DamagedFile { path, reason });
    }
    let tensors = candle_core::safetensors::load_buffer(&bytes, device)
        .map_err(Error::tensor("read the checkpoint"))?;
    Ok(tensors.into_iter().collect())
}

fn serialize(tensors: &Tensors) -> Result<Vec<u8>> {
    safetensors::serialize(tensors.iter(), None)
        .map_err(|e| Error::Tensor { doing: "save a checkpoint", source: candle_core::Error::wrap(e) })
}

#[cfg(test)]
mod tests;
