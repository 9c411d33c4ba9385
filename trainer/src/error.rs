//! The one error of the library: what this layer was doing, with the cause in `source`.
//!
//! Leaves out exit codes and printing, which belong to the binary.

use std::path::{Path, PathBuf};

/// Everything that can go wrong in configuring, training and evaluating.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration is not allowed.
    #[error("`{key} = {value}` is not allowed: give {allowed}")]
    Config {
        /// Dotted path of the key, for example `optim.lr`.
        key: String,
        /// The value that was found, as TOML.
        value: String,
        /// What may stand there.
        allowed: String,
    },
    /// A key that the configuration does not have.
    #[error("`{key}` is not a key of the configuration; the nearest one is `{nearest}`")]
    UnknownKey {
        /// The key as given.
        key: String,
        /// The valid key with the smallest edit distance.
        nearest: String,
    },
    /// A configuration's section `[sweep]`, or a run of a sweep, that does not serve.
    #[error("{path}: {reason}")]
    Sweep {
        /// The configuration's file, or the run's folder.
        path: String,
        /// What is wrong, and what would help.
        reason: String,
    },
    /// A `--set` that is not `key=value`.
    #[error("`--set {given}` is not of the form key=value, for example optim.lr=3e-4")]
    BadOverride {
        /// The argument as given.
        given: String,
    },
    /// A configuration that is not TOML.
    #[error("{path} is not valid TOML")]
    Toml {
        /// The file, or the words `--set …`.
        path: String,
        /// What the parser says, with the line.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A file operation failed; the cause names the path.
    #[error("could not {doing}")]
    Io {
        /// What was being done, as "read the configuration".
        doing: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file that we wrote earlier does not parse.
    #[error("{path} is damaged: {reason}")]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor operation failed.
    #[error("could not {doing}")]
    Tensor {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: candle_core::Error,
    },
    /// The loader could not open or read the data set.
    #[error("could not {doing}")]
    Loader {
        /// What was being done.
        doing: String,
        /// The cause; it names the shard and the sample.
        #[source]
        source: Box<loader::Error>,
    },
    /// A tokenizer could not be trained, loaded or used.
    #[error("tokenizer {name}: {reason}")]
    Tokenizer {
        /// A path, a hub id, or "trained on the captions".
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// A file could not be had from the hub.
    #[error("could not fetch {file} of {repository}, which is no file or folder here, from {endpoint}")]
    Hub {
        /// The repository's id.
        repository: String,
        /// The file in it.
        file: String,
        /// The hub's address.
        endpoint: String,
        /// The cause; never contains the access token.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A checkpoint does not belong to what is being run.
    #[error(
        "{checkpoint} was trained with {what} {found}, but this run has {expected}; start a new run with another --run name, or go on with what it had (`--config {}` is the run's configuration as it was, --set keys and all)",
        kept_config(checkpoint).display()
    )]
    Mismatch {
        /// The checkpoint's folder.
        checkpoint: PathBuf,
        /// What differs: a data set fingerprint, a tokenizer, a key of the configuration.
        what: String,
        /// What the checkpoint has.
        found: String,
        /// What this run has.
        expected: String,
    },
    /// A run was changed after it was trained, so that its weights would be read as another model.
    #[error(
        "{checkpoint} was trained with {what} {found}, and its run has {expected} now: put back what was there"
    )]
    Changed {
        /// The checkpoint's folder.
        checkpoint: PathBuf,
        /// What differs: a key of the configuration, a tokenizer, a tower, a language model.
        what: String,
        /// What the checkpoint has.
        found: String,
        /// What the run has now.
        expected: String,
    },
    /// The disk has no room for a checkpoint.
    #[error(
        "a checkpoint needs {needed_bytes} bytes and {folder} has {free_bytes} free; nothing of it was written"
    )]
    Space {
        /// The folder of the run's checkpoints.
        folder: PathBuf,
        /// Bytes of one checkpoint.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// The run's folder exists and `--resume` was not given.
    #[error("the run {run} already exists; give --resume to go on with it, or another --run name")]
    RunExists {
        /// The run's folder.
        run: PathBuf,
    },
    /// There is no such run, or it has no checkpoint.
    #[error("{run} is not a run with {missing}")]
    NoRun {
        /// The folder that was looked at.
        run: PathBuf,
        /// What was not found, as "a complete checkpoint".
        missing: &'static str,
    },
    /// Another process is training this run.
    #[error("another process is training the run {run}")]
    RunLocked {
        /// The run's folder.
        run: PathBuf,
    },
    /// The loss or the gradient is not a number.
    #[error("step {step}: the {what} is {value}; the keys of the batch are in {saved}")]
    NotFinite {
        /// The optimizer step that was about to be made.
        step: u64,
        /// "loss" or "gradient norm".
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// The file with step, position and keys.
        saved: PathBuf,
    },
    /// The data set cannot serve this run.
    #[error("{data}: {reason}")]
    Data {
        /// The data set's folder.
        data: PathBuf,
        /// What is missing and what would help.
        reason: String,
    },
    /// Weights of another program do not fit the model, or the model does not fit their layout.
    #[error("{path}: {reason}")]
    Weights {
        /// The file of weights.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A loss log does not tell whether it has a period.
    #[error("cannot tell of {log} whether its loss has the period of an epoch: {reason}")]
    NoPeriod {
        /// The log's name.
        log: String,
        /// What is missing.
        reason: String,
    },
    /// A plot could not be drawn.
    #[error("could not draw {path}: {reason}")]
    Plot {
        /// The picture.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err` on file operations: `.map_err(Error::io("read the configuration"))`.
    pub fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// For `map_err` on tensor operations: `.map_err(Error::tensor("save the weights"))`.
    pub fn tensor(doing: &'static str) -> impl FnOnce(candle_core::Error) -> Self {
        move |source| Self::Tensor { doing, source }
    }

    /// For `map_err` on the loader: `.map_err(Error::loader("read a batch"))`.
    pub fn loader(doing: impl Into<String>) -> impl FnOnce(loader::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Loader { doing, source: Box::new(source) }
    }
}

/// The configuration kept in the run of `checkpoint`, `RUN/checkpoints/STEP`.
fn kept_config(checkpoint: &Path) -> PathBuf {
    let run = checkpoint.parent().and_then(Path::parent).unwrap_or(checkpoint);
    run.join("config.toml")
}
