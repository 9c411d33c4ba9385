//! The file of captions that are judged: COCO's results, or JSON lines. It leaves out what a key or a caption says.

use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result};

/// A caption of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The sample's key.
    pub(super) key: String,
    /// The caption; empty where nothing was written.
    pub(super) caption: String,
}

/// A caption as it is in a file.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with a key and a caption")]
struct Entry {
    #[serde(alias = "image_id")]
    key: String,
    caption: Option<String>,
    captions: Option<Vec<Text>>,
}

/// One of several captions.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with a text")]
struct Text {
    text: String,
}

/// Reads a file of captions, in its order.
///
/// # Errors
/// `Io` where it cannot be read, `Parse` where it is no such file, `Config` where a caption or all are missing.
pub(super) fn read(path: &Path) -> Result<Vec<Written>> {
    let bytes = fs_err::read(path).map_err(Error::io("read", path))?;
    let is_list = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let entries: serde_json::Result<Vec<Entry>> = if is_list {
        serde_json::from_slice(&bytes)
    } else {
        serde_json::Deserializer::from_slice(&bytes).into_iter().collect()
    };
    let entries = entries.map_err(|source| Error::Parse {
        path: path.to_path_buf(),
        what: "not captions, in COCO's results or in JSON lines",
        source: source.into(),
    })?;
    if entries.is_empty() {
        return Err(Error::Config(format!("{}: there are no captions in it", path.display())));
    }
    let written = |Entry { key, caption, captions }: Entry| {
        let first =
            |captions: Vec<Text>| captions.into_iter().next().map_or(String::new(), |first| first.text);
        match caption.or_else(|| captions.map(first)) {
            Some(caption) => Ok(Written { key, caption }),
            None => Err(Error::Config(format!("{}: {key:?} has no caption", path.display()))),
        }
    };
    entries.into_iter().map(written).collect()
}
