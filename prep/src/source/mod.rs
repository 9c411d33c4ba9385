//! Where samples come from. A [`Source`] lists what it has, split by split and in its own order, and loads one
//! sample at a time from any thread. One file a kind. It leaves out pixels (`pixels`), and which sample goes where
//! (`plan`).

pub mod coco;
pub mod folder;
pub mod shapes;
pub mod text_to_image_2m;

use std::path::Path;

use shard::SourceInfo;

use crate::{Error, Result, pixels::OriginalSize};

/// The samples of one split, in the source's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// `train` or `val`.
    pub split: String,
    /// The source's own id of each sample; its row is its place here.
    pub ids: Vec<String>,
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
}

impl Reason {
    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::MissingFile => "missing file",
            Self::Unreadable => "unreadable file",
            Self::EmptyFile => "empty file",
            Self::NotAnImage => "not an image",
            Self::BrokenImage => "broken image",
            Self::TooLarge => "too large",
            Self::NoCaption => "no caption",
            Self::UnsafePath => "unsafe path",
            Self::BadEntry => "bad entry",
            Self::DuplicateId => "duplicate id",
        }
    }
}

impl Rejection {
    /// The detail becomes one line: decoders end theirs with line breaks now and then.
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let detail: String = detail.into();
        Self { reason, detail: detail.split_whitespace().collect::<Vec<_>>().join(" ") }
    }
}

/// A set of images with captions.
pub trait Source: Send + Sync {
    /// Its name and what pins its content.
    fn info(&self) -> SourceInfo;

    /// Its splits in order; one without `val` has some of its samples held out.
    fn listings(&self) -> &[Listing];

    /// Loads the sample in row `row` of listing `listing`. `size` is the side of the square that pictures made
    /// rather than read should have.
    ///
    /// # Errors
    /// A [`Rejection`] where this sample cannot be used.
    fn load(&self, listing: usize, row: usize, size: u32) -> Result<Loaded, Rejection>;
}

/// Reads an image file below a source's folder.
fn read_file(path: &Path) -> Result<Vec<u8>, Rejection> {
    let bytes = fs_err::read(path).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        Rejection::new(if missing { Reason::MissingFile } else { Reason::Unreadable }, error.to_string())
    })?;
    if bytes.is_empty() {
        return Err(Rejection::new(Reason::EmptyFile, format!("{} has no bytes", path.display())));
    }
    Ok(bytes)
}

/// Captions without surrounding space, and without empty ones.
fn clean_captions<'a>(captions: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, Rejection> {
    let captions: Vec<String> = captions
        .into_iter()
        .map(str::trim)
        .filter(|caption| !caption.is_empty())
        .map(str::to_owned)
        .collect();
    if captions.is_empty() {
        return Err(Rejection::new(Reason::NoCaption, "no caption, or only empty ones"));
    }
    Ok(captions)
}

/// A source's folder, which must be there.
fn require_dir(dataset: &'static str, dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let problem = if dir.exists() { "it is not a folder" } else { "there is no such folder" };
    Err(Error::Layout { dataset, path: dir.to_path_buf(), problem: problem.to_owned() })
}
