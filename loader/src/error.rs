//! The crate's one error. It says which sample, shard and bytes, or which setting, with the numbers that a person
//! needs to act; the cause below it is its `source`. Left out: exit codes, which belong to the programs.

use std::path::PathBuf;

/// Where a sample lies: what an error about one names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tar file.
    pub shard: PathBuf,
    /// The sample's key.
    pub key: String,
    /// First byte of the image's payload, from the start of the tar.
    pub offset: u64,
    /// Length of the payload in bytes.
    pub bytes: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = self.offset.saturating_add(self.bytes);
        write!(f, "{}: sample {}: bytes {}..{end}", self.shard.display(), self.key, self.offset)
    }
}

/// What can go wrong between a data set and a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data set cannot be opened, or an index row breaks the format. The message names file, sample and byte.
    #[error(transparent)]
    Shard(#[from] shard::Error),
    /// A sample's bytes are not what its index row promises; quarantine or rebuild the shard.
    #[error("{place}: {what}: expected {expected}, found {found}")]
    Corrupt {
        /// The sample and its bytes.
        place: Box<Place>,
        /// Which promise is broken.
        what: &'static str,
        /// What the index or the manifest promises.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A stored JPEG does not decode although its checksum is right.
    #[error("{place}: cannot decode the JPEG")]
    Decode {
        /// The sample and its bytes.
        place: Box<Place>,
        /// The decoder's reason.
        #[source]
        source: zune_jpeg::errors::DecodeErrors,
    },
    /// Reading a sample panicked: a bug, relayed instead of ending the epoch early.
    #[error("{place}: a worker panicked: {message}")]
    SamplePanic {
        /// The sample and its bytes.
        place: Box<Place>,
        /// The panic's message.
        message: String,
    },
    /// Reading an index row panicked: a bug as well.
    #[error("{}: row {row}: a worker panicked: {message}", index.display())]
    RowPanic {
        /// The index file.
        index: PathBuf,
        /// The row's number in it.
        row: usize,
        /// The panic's message.
        message: String,
    },
    /// A worker panicked between samples.
    #[error("a worker panicked while it made batch {batch}: {message}")]
    WorkerPanic {
        /// The batch's number in its epoch.
        batch: u64,
        /// The panic's message.
        message: String,
    },
    /// A setting, or several together, that cannot work.
    #[error("{problem}")]
    Config {
        /// Which and why.
        problem: String,
    },
    /// A data set that is sound and that this version does not read.
    #[error("split {split:?}: {what} is not supported")]
    Unsupported {
        /// The split.
        split: String,
        /// What it holds.
        what: String,
    },
    /// A URL was given to a program that was built without the feature `remote`.
    #[error(
        "{url} lies in an object store, and this program was built without the feature `remote`, which reads them: \
         build it with --features remote"
    )]
    WithoutRemote {
        /// The address.
        url: String,
    },
    /// An object that the data set's opening needs cannot be had, or an address makes no sense.
    #[error("{url}: {reason}")]
    Remote {
        /// Where it lies, without users, passwords and signatures.
        url: String,
        /// What the store, or the way to it, said.
        reason: String,
    },
    /// A sample in an object store cannot be had.
    #[error("{place}: cannot fetch it: {reason}")]
    Fetch {
        /// The sample and its bytes; the shard is its address.
        place: Box<Place>,
        /// What the store, or the way to it, said last.
        reason: String,
    },
    /// The cache cannot hold what one batch needs.
    #[error(
        "the cache may have {limit_bytes} bytes, and a batch needs {needed_bytes}: allow it so many at least, better \
         several times that, or take smaller batches"
    )]
    CacheTooSmall {
        /// Bytes of the samples of one batch, in whole pages.
        needed_bytes: u64,
        /// Bytes that were allowed.
        limit_bytes: u64,
    },
    /// The disk of the cache refused.
    #[error("cannot {action} {} in the cache", path.display())]
    Cache {
        /// What was being done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The thread that fetches panicked: a bug, relayed instead of ending the epoch early.
    #[error("the thread that fetches samples panicked: {message}")]
    FetchPanic {
        /// The panic's message.
        message: String,
    },
    /// A split, or a view of one, without samples.
    #[error("split {split:?} of {} has no samples", path.display())]
    EmptySplit {
        /// The data set.
        path: PathBuf,
        /// The split.
        split: String,
    },
    /// A selection that leaves no sample.
    #[error("no sample of split {split:?} of {} is selected by: {selection}", path.display())]
    EmptySelection {
        /// The data set.
        path: PathBuf,
        /// The split.
        split: String,
        /// The conditions, in words.
        selection: String,
    },
    /// Samples that must not meet, and more of them than batches.
    #[error(
        "{samples} samples must not meet in a batch, sample {sample} one of them, and an epoch has {batches} full batches: \
         take smaller batches or smaller groups"
    )]
    TooLargeGroup {
        /// One of them.
        sample: u64,
        /// How many an epoch has.
        samples: u64,
        /// How many full batches.
        batches: u64,
    },
    /// A position inside a batch, or past the epoch.
    #[error(
        "cannot start at position {position}: an epoch of {len} samples in batches of {batch_size} starts at \
         multiples of {batch_size}"
    )]
    Position {
        /// The position asked for.
        position: u64,
        /// Samples in a global batch.
        batch_size: u64,
        /// Samples in an epoch.
        len: u64,
    },
    /// A sample number past the split's end.
    #[error("sample {sample} is past the {len} samples of the split")]
    NoSuchSample {
        /// The number asked for.
        sample: u64,
        /// Samples in the split.
        len: u64,
    },
    /// A state that was saved over other data.
    #[error("the state was saved on the data with fingerprint {expected}, and this data has {found}")]
    OtherData {
        /// The state's fingerprint.
        expected: String,
        /// The opened data set's.
        found: String,
    },
    /// A state that was saved with another seed.
    #[error("the state was saved with seed {expected}, and this loader has seed {found}")]
    OtherSeed {
        /// The state's seed.
        expected: u64,
        /// The loader's.
        found: u64,
    },
    /// A state that was saved under another order or selection.
    #[error("the state was saved with {what} {expected:?}, and this loader has {found:?}")]
    OtherOrder {
        /// Which of them.
        what: &'static str,
        /// The state's.
        expected: String,
        /// The loader's.
        found: String,
    },
    /// A state that is no JSON of a state.
    #[error("cannot read the loader's state")]
    State(#[source] serde_json::Error),
    /// The system refused a worker thread.
    #[error("cannot start a worker thread")]
    Spawn(#[source] std::io::Error),
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the data themselves are wrong, so that the shard needs repair and a retry will not help.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Shard(error) => error.is_corrupt(),
            Self::Corrupt { .. } | Self::Decode { .. } => true,
            _ => false,
        }
    }

    /// Whether one sample is the trouble, which another may stand in for.
    pub(crate) fn is_sample(&self) -> bool {
        self.is_corrupt() || matches!(self, Self::SamplePanic { .. } | Self::RowPanic { .. })
    }

    #[cfg(feature = "remote")]
    pub(crate) fn cache(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl Fn(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Cache { action, path: path.clone(), source }
    }

    pub(crate) fn config(problem: impl Into<String>) -> Self {
        Self::Config { problem: problem.into() }
    }
}

/// The words of a caught panic.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
