//! Checkpoints: `checkpoints/step-NNNNNNNN/{model.safetensors, optimizer.safetensors, state.json}`, with
//! `ema.safetensors` when weights are averaged and `samples.arrow` when samples are followed.
//!
//! `state.json` says what a checkpoint belongs to and carries the digests of its weight files. How checkpoints
//! are written, kept and removed is in `store`. Leaves out what the tensors mean.

mod room;
mod store;

pub use store::{Best, Checkpoints, Weights};

use crate::config::{Config, DataConfig, LossConfig, ModelConfig};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use candle_core::{Device, Tensor};
use fs_err as fs;
use loader::LoaderState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const AVERAGED: &str = "ema.safetensors";
const SAMPLES: &str = "samples.arrow";
const STATE: &str = "state.json";

/// Version of a checkpoint's layout.
const VERSION: u32 = 3;

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
    /// The loss that is made small.
    pub loss: LossConfig,
    /// Further keys of the configuration that a run keeps for its life, with their values.
    pub fixed: BTreeMap<String, String>,
    /// BLAKE3 of the weight files, in hex.
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
    /// Digests of what the run reads beside the data set and never learns, by name.
    pub frozen: &'a BTreeMap<String, String>,
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
            loss: identity.config.loss.clone(),
            fixed: fixed(identity)?,
            digests: BTreeMap::new(),
        })
    }

    /// Refuses to continue under another data set, tokenizer, model, data view, loss, optimizer or seed.
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
        let keys = |model, data, loss, fixed| -> Result<BTreeMap<String, String>> {
            let sections = [flat("model", model)?, flat("data", data)?, flat("loss", loss)?].concat();
            // Evaluation, the preset's name and what a run began with do not change what is learned from here.
            let is_free = |key: &str| {
                matches!(key, "model.preset" | "model.weights" | "data.val_split" | "data.val_fraction")
                    || is_place(key)
            };
            Ok(sections.into_iter().chain(fixed).filter(|(key, _)| !is_free(key)).collect())
        };
        let now = keys(&config.model, &config.data, &config.loss, fixed(identity)?)?;
        let then = keys(&self.model, &self.data, &self.loss, self.fixed.clone())?;
        if let Some((key, found, expected)) = first_difference(now, then) {
            return Err(mismatch(&key, found, expected));
        }
        if self.seed != config.train.seed {
            return Err(mismatch("train.seed", self.seed.to_string(), config.train.seed.to_string()));
        }
        Ok(())
    }

    /// Refuses to read the weights as another model than was trained: with other sizes, heads or scales, another
    /// normalisation of pictures or another tokenizer.
    ///
    /// # Errors
    /// [`Error::Changed`] naming the first difference and both values.
    pub fn check_read(&self, checkpoint: &Path, config: &Config, tokenizer: &Tokenizer) -> Result<()> {
        let keys = |model: &ModelConfig| -> Result<BTreeMap<String, String>> {
            let is_read = |key: &str| !matches!(key, "model.preset" | "model.weights");
            Ok(flat("model", model)?.into_iter().filter(|(key, _)| is_read(key)).collect())
        };
        let (mut now, mut then) = (keys(&config.model)?, keys(&self.model)?);
        now.extend(caption_keys(config)?);
        let of_caption = self.fixed.iter().filter(|(key, _)| key.starts_with("caption.") && !is_place(key));
        then.extend(of_caption.map(|(key, value)| (key.clone(), value.clone())));
        if !config.caption.is_on() {
            // A captioner's pictures are normalised as its tower says.
            let normalize =
                |data: &DataConfig| ("data.normalize".to_owned(), format!("{:?}", data.normalize));
            now.extend([normalize(&config.data)]);
            then.extend([normalize(&self.data)]);
        }
        let what = "the tokenizer of digest".to_owned();
        now.insert(what.clone(), tokenizer.digest());
        then.insert(what, self.tokenizer.clone());
        match first_difference(now, then) {
            None => Ok(()),
            Some((what, found, expected)) => {
                Err(Error::Changed { checkpoint: checkpoint.to_path_buf(), what, found, expected })
            }
        }
    }

    /// Refuses to write with another frozen part than the checkpoint was trained with, of those that it names.
    ///
    /// # Errors
    /// [`Error::Changed`] naming the part and both digests.
    pub fn check_frozen(&self, checkpoint: &Path, frozen: &BTreeMap<String, String>) -> Result<()> {
        for (what, expected) in frozen {
            if let Some(found) = self.fixed.get(what).filter(|found| *found != expected) {
                return Err(Error::Changed {
                    checkpoint: checkpoint.to_path_buf(),
                    what: what.clone(),
                    found: found.clone(),
                    expected: expected.clone(),
                });
            }
        }
        Ok(())
    }
}

/// Whether a key of `[caption]` says where something lies that is known by its digest.
fn is_place(key: &str) -> bool {
    key.starts_with("caption.tower") || matches!(key, "caption.lm.source" | "caption.lm.tokenizer")
}

/// Keys of other sections whose change would make another run of it: what the moments, the averaged weights
/// and the count of steps mean.
fn fixed(identity: Identity<'_>) -> Result<BTreeMap<String, String>> {
    let (optim, train) = (&identity.config.optim, &identity.config.train);
    let entries = [
        ("optim.kind", format!("{:?}", optim.kind).to_lowercase()),
        ("optim.accum_steps", optim.accum_steps.to_string()),
        ("train.freeze", format!("{:?}", train.freeze)),
        ("train.ema_decay", train.ema_decay.to_string()),
    ];
    let caption = caption_keys(identity.config)?;
    let frozen = identity.frozen.iter().map(|(what, value)| (what.clone(), value.clone()));
    Ok(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).chain(caption).chain(frozen).collect())
}

/// The keys of a captioner, without places.
fn caption_keys(config: &Config) -> Result<Vec<(String, String)>> {
    let caption = &config.caption;
    let mut keys = if caption.is_on() { flat("caption", caption)? } else { Vec::new() };
    keys.retain(|(key, _)| !is_place(key));
    Ok(keys)
}

/// The first key, in alphabetical order, that differs: its name, its value then and its value now.
fn first_difference(
    mut now: BTreeMap<String, String>,
    then: BTreeMap<String, String>,
) -> Option<(String, String, String)> {
    // A section is written without what is as usual, so either side may have a key alone. What is no key was not
    // recorded by earlier programs.
    let is_key = |name: &str| name.contains('.');
    let usual = |name: &str| if is_key(name) { "its default" } else { "none" }.to_owned();
    let keys = now.keys().filter(|name| is_key(name));
    let mut all: BTreeMap<String, String> = keys.map(|key| (key.clone(), usual(key))).collect();
    all.extend(then);
    all.into_iter().find_map(|(key, found)| {
        let expected = now.remove(&key).unwrap_or_else(|| usual(&key));
        (found != expected).then_some((key, found, expected))
    })
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

/// The state of a checkpoint, without its tensors.
///
/// # Errors
/// [`Error::Io`] and [`Error::DamagedFile`].
pub fn read_state(checkpoint: &Path) -> Result<State> {
    let path = checkpoint.join(STATE);
    let json = fs::read(&path).map_err(Error::io("read the checkpoint"))?;
    let damaged = |reason: String| Error::DamagedFile { path: path.clone(), reason };
    // The version first: another one has other fields.
    let state: serde_json::Value = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
    if state["version"] != VERSION {
        let version = &state["version"];
        return Err(damaged(format!("it has version {version}, and this program reads version {VERSION}")));
    }
    serde_json::from_value(state).map_err(|e| damaged(e.to_string()))
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

/// The averaged weights of a checkpoint; none if it was made without.
///
/// # Errors
/// As [`read_model`].
pub fn read_averaged(checkpoint: &Path, state: &State, device: &Device) -> Result<Option<Tensors>> {
    if !state.digests.contains_key(AVERAGED) {
        return Ok(None);
    }
    read_tensors(checkpoint, AVERAGED, state, device).map(Some)
}

/// The weights that are to be evaluated: the averaged ones if there are any, else the model's.
///
/// # Errors
/// As [`read_model`].
pub fn read_evaluated(checkpoint: &Path, state: &State, device: &Device) -> Result<Tensors> {
    match read_averaged(checkpoint, state, device)? {
        Some(averaged) => Ok(averaged),
        None => read_model(checkpoint, state, device),
    }
}

/// The ledger of samples of a checkpoint, as its file has it; none if it was made without.
///
/// # Errors
/// [`Error::Io`], and [`Error::DamagedFile`] when a byte has changed.
pub fn read_samples(checkpoint: &Path, state: &State) -> Result<Option<Vec<u8>>> {
    if !state.digests.contains_key(SAMPLES) {
        return Ok(None);
    }
    read_checked(checkpoint, SAMPLES, state).map(Some)
}

fn read_tensors(checkpoint: &Path, file: &str, state: &State, device: &Device) -> Result<Tensors> {
    let bytes = read_checked(checkpoint, file, state)?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, device).map_err(|e| Error::DamagedFile {
        path: checkpoint.join(file),
        reason: format!("it is no safetensors file: {e}"),
    })?;
    Ok(tensors.into_iter().collect())
}

/// A file of a checkpoint, compared with its digest.
fn read_checked(checkpoint: &Path, file: &str, state: &State) -> Result<Vec<u8>> {
    let path = checkpoint.join(file);
    let bytes = fs::read(&path).map_err(Error::io("read the checkpoint"))?;
    let found = blake3::hash(&bytes).to_hex().to_string();
    if state.digests.get(file) != Some(&found) {
        let listed = state.digests.get(file).map_or("nothing of it", String::as_str);
        let reason = format!("its digest is {found}, and {STATE} says {listed}");
        return Err(Error::DamagedFile { path, reason });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
