//! The crate's one error. It leaves out damage found by `verify`, which is an answer and not an error, and pictures
//! that cannot be used, which are left out and counted (`source::Rejection`).

use std::path::{Path, PathBuf};

/// Why prep could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value on the command line does not fit; nothing was done.
    #[error("{0}")]
    Config(String),
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read`, `write`, `list`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A source does not have the layout that its name promises.
    #[error("{} is not a {dataset} source: {problem}", path.display())]
    Layout {
        /// The source asked for.
        dataset: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// What is missing or wrong, and what is expected.
        problem: String,
    },
    /// A source file that lists samples cannot be parsed.
    #[error("{}: {what}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What was being parsed.
        what: &'static str,
        /// The parser's reason, with its place.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No sample of the source can be used.
    #[error("no usable sample in {source_name}: {reasons}; nothing was written")]
    NoSamples {
        /// The source.
        source_name: String,
        /// How many were left out, by reason.
        reasons: String,
    },
    /// More samples are left out than the user allows.
    #[error(
        "stopped: {left_out} of {done} samples are left out, above --max-bad {bad_max}: {reasons}; mend the source, or \
         allow more with --max-bad"
    )]
    TooManyBad {
        /// Left out so far.
        left_out: u64,
        /// Looked at so far.
        done: u64,
        /// The share that is allowed.
        bad_max: f64,
        /// How many, by reason.
        reasons: String,
    },
    /// The output folder holds something else.
    #[error("{}: {problem}", path.display())]
    Output {
        /// The folder.
        path: PathBuf,
        /// What is there and what can be done.
        problem: String,
    },
    /// The format refused.
    #[error(transparent)]
    Shard(#[from] shard::Error),
    /// A picture for people could not be made.
    #[error(transparent)]
    Picture(#[from] picture::PictureError),
    /// A download was refused, or did not come through after all attempts.
    #[error("cannot download {url}: {problem}")]
    Download {
        /// The address, without user and query, which may be secret.
        url: String,
        /// What the server or the connection did, and what can be done.
        problem: String,
        /// The reason below.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// What was downloaded is not what was published, every time.
    #[error("{url} brings other bytes than published: expected {expected}, found {found}; {} was not written", path.display())]
    Mismatch {
        /// The address, without user and query.
        url: String,
        /// Where the file would have gone.
        path: PathBuf,
        /// The length or digest published.
        expected: String,
        /// The length or digest found.
        found: String,
    },
    /// A file is needed that is not on this machine, and the network must not be asked.
    #[error("{what} is needed and not at {}: run without --offline (and HF_HUB_OFFLINE) once, with a network", path.display())]
    Offline {
        /// The file, listing or revision.
        what: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The disk has no room.
    #[error("{what} needs {needed_bytes} bytes, but {} has room for {free_bytes}", dir.display())]
    Space {
        /// What was to be written.
        what: String,
        /// The folder.
        dir: PathBuf,
        /// Bytes needed.
        needed_bytes: u64,
        /// Bytes free for this user.
        free_bytes: u64,
    },
    /// A signal asked to stop.
    #[error(
        "stopped by a signal; no data set was finished: run the same command again, and it goes on where this stopped"
    )]
    Interrupted,
    /// A worker thread panicked: a bug of this program.
    #[error("a worker thread panicked at {place} (this is a bug): {message}")]
    Worker {
        /// What it was working on.
        place: String,
        /// What it said.
        message: String,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}
