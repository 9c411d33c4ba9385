//! Where samples come from. A [`Source`] lists what it has, split by split and in its own order, and loads one
//! sample at a time from any thread. One file a kind. It leaves out pixels (`pixels`), and which sample goes where
//! (`plan`).

pub mod captions;
pub mod coco;
pub mod columns;
pub mod hub;
mod ids;
pub mod inputs;
pub mod list;
pub mod parquet;
pub mod shapes;
pub mod webdataset;

pub use ids::Ids;

use std::path::Path;

use shard::SourceInfo;

pub(crate) use captions::clean as clean_captions;

use crate::{Error, Result, pixels::OriginalSize};

/// The samples of one split, in the source's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// `train`, `val` or `test`.
    pub split: String,
    /// The source's own id of each sample; its row is its place here.
    pub ids: Ids,
}

/// A sample as the source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its picture.
    pub picture: Picture,
    /// Its captions, none of them empty.
    pub captions: Vec<String>,
    /// Where the picture came from.
    pub url: Option<String>,
    /// Its licence.
    pub license: Option<String>,
}

/// A picture as the source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Picture {
    /// The bytes of an image file.
    Encoded(Vec<u8>),
    /// RGB pixels, rows first, made at the size that was asked for.
    Made(Vec<u8>),
    /// A payload in its stored form, with the size of the picture that it was made from.
    Stored(Vec<u8>, OriginalSize),
}

/// Why a sample is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What is counted.
    pub reason: Reason,
    /// The case in full.
    pub detail: String,
}

/// Classes of reasons, as the manifest counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The list names a file that is not there.
    MissingFile,
    /// The file cannot be read.
    Unreadable,
    /// The file has no bytes.
    EmptyFile,
    /// The bytes are of no image format.
    NotAnImage,
    /// An image that does not decode.
    BrokenImage,
    /// Its declared dimensions are above the limit.
    TooLarge,
    /// It has no caption.
    NoCaption,
    /// Its path leaves the source.
    UnsafePath,
    /// A line of the list that does not parse.
    BadEntry,
    /// Another sample has the same id.
    DuplicateId,
    /// Its picture is much like one of the validation split.
    Leak,
}

impl Reason {
    /// All of them with their names.
    const NAMES: [(Self, &str); 11] = [
        (Self::MissingFile, "missing file"),
        (Self::Unreadable, "unreadable file"),
        (Self::EmptyFile, "empty file"),
        (Self::NotAnImage, "not an image"),
        (Self::BrokenImage, "broken image"),
        (Self::TooLarge, "too large"),
        (Self::NoCaption, "no caption"),
        (Self::UnsafePath, "unsafe path"),
        (Self::BadEntry, "bad entry"),
        (Self::DuplicateId, "duplicate id"),
        (Self::Leak, "near-duplicate of validation"),
    ];

    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(reason, _)| *reason == self).map_or("other", |(_, name)| name)
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(reason, _)| *reason)
    }
}

impl Rejection {
    /// The detail becomes one line: decoders end theirs with line breaks now and then.
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        Self { reason, detail: detail.split_whitespace().collect::<Vec<_>>().join(" ") }
    }
}

/// Why a sample cannot be had.
#[derive(Debug)]
pub enum LoadError {
    /// It is left out, and the run goes on.
    LeftOut(Rejection),
    /// The source as a whole cannot be read any more: to go on would leave out samples that are there.
    Failed(Error),
}

impl From<Rejection> for LoadError {
    fn from(rejection: Rejection) -> Self {
        Self::LeftOut(rejection)
    }
}

impl From<Error> for LoadError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A set of images with captions, each of which can be loaded at any time.
pub trait Source: Send + Sync {
    /// Its name and what pins its content.
    fn info(&self) -> SourceInfo;

    /// Its splits in order; one without `val` has some of its samples held out.
    fn listings(&self) -> &[Listing];

    /// Loads the sample in row `row` of listing `listing`. `size` is the side of the square that pictures made
    /// rather than read should have.
    ///
    /// # Errors
    /// `LeftOut` where this sample cannot be used, `Failed` where none can be any more.
    fn load(&self, listing: usize, row: usize, size: u32) -> Result<Loaded, LoadError>;

    /// Told when a shard of a split is written for good; splits but train come first, shards in order.
    ///
    /// # Errors
    /// What the source needs to do then, and cannot.
    fn written(&self, _split: &str, _shard: u32) -> Result<()> {
        Ok(())
    }
}

/// Reads an image file below a source's folder `root`.
fn read_file(root: &Path, path: &Path) -> Result<Vec<u8>, LoadError> {
    use std::io::ErrorKind;
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        // A source that vanished under a run is not a source of missing files.
        Err(error) if !root.exists() => return Err(Error::io("read", root)(error).into()),
        Err(error) => {
            let reason = match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => Reason::MissingFile,
                ErrorKind::PermissionDenied
                | ErrorKind::IsADirectory
                | ErrorKind::InvalidInput
                | ErrorKind::InvalidFilename => Reason::Unreadable,
                // A failing disk or a lost connection says nothing about this sample.
                _ => return Err(Error::io("read", path)(error).into()),
            };
            return Err(Rejection::new(reason, error.to_string()).into());
        }
    };
    if bytes.is_empty() {
        let detail = format!("{} has no bytes", path.display());
        return Err(Rejection::new(Reason::EmptyFile, detail).into());
    }
    Ok(bytes)
}

/// The split that a file's path speaks of: `val` for validation, valid and dev as well; train where it speaks of none.
pub(crate) fn split_of(path: &str) -> &'static str {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric());
    // The last word that speaks of one: the file's own name over its folder's.
    let mut named = words.filter_map(|word| match word.to_ascii_lowercase().as_str() {
        "train" | "training" => Some("train"),
        "val" | "validation" | "valid" | "dev" => Some("val"),
        "test" => Some("test"),
        _ => None,
    });
    named.next_back().unwrap_or("train")
}

/// A source's folder, which must be there.
pub(crate) fn require_dir(dataset: &'static str, dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let problem = if dir.exists() { "it is not a folder" } else { "there is no such folder" };
    Err(Error::Layout { dataset, path: dir.to_path_buf(), problem: problem.to_owned() })
}
