//! A folder of images with `captions.jsonl` beside them, one line an image:
//! `{"image": "path/below/the/folder.jpg", "captions": ["…", "…"]}` (or `"caption": "…"`). It leaves out images that
//! no line names.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use shard::SourceInfo;

use super::{Listing, Loaded, Picture, Reason, Rejection, Source, clean_captions, read_file, require_dir};
use crate::{Error, Result};

const DATASET: &str = "folder";

/// Images below a folder.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    revision: String,
    listings: [Listing; 1],
    entries: Vec<Result<Entry, String>>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    image: String,
    #[serde(default)]
    captions: Vec<String>,
    caption: Option<String>,
    url: Option<String>,
    license: Option<String>,
}

impl Folder {
    /// Reads `dir/captions.jsonl`. A line that does not parse becomes a sample that is left out.
    ///
    /// # Errors
    /// `Layout` where there is no such file, `Io`.
    pub fn open(dir: &Path) -> Result<Self> {
        require_dir(DATASET, dir)?;
        let path = dir.join("captions.jsonl");
        if !path.is_file() {
            let problem = "expected captions.jsonl with lines {\"image\": \"a.jpg\", \"captions\": [\"…\"]}";
            return Err(Error::Layout {
                dataset: DATASET,
                path: dir.to_path_buf(),
                problem: problem.to_owned(),
            });
        }
        let bytes = fs_err::read(&path).map_err(Error::io("read", &path))?;
        let revision = format!("captions.jsonl blake3 {}", blake3::hash(&bytes).to_hex());
        let mut entries = Vec::new();
        let mut ids = Vec::new();
        for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let entry: Result<Entry, _> = serde_json::from_slice(line);
            ids.push(match &entry {
                Ok(entry) => entry.image.clone(),
                Err(_) => format!("captions.jsonl:{}", number + 1),
            });
            entries.push(entry.map_err(|error| format!("line {} of captions.jsonl: {error}", number + 1)));
        }
        let listings = [Listing { split: "train".to_owned(), ids }];
        Ok(Self { dir: dir.to_path_buf(), revision, listings, entries })
    }
}

impl Source for Folder {
    fn info(&self) -> SourceInfo {
        SourceInfo { name: DATASET.to_owned(), revision: self.revision.clone() }
    }

    fn listings(&self) -> &[Listing] {
        &self.listings
    }

    fn load(&self, _listing: usize, row: usize, _size: u32) -> Result<Loaded, Rejection> {
        let entry =
            self.entries[row].as_ref().map_err(|error| Rejection::new(Reason::BadEntry, error.clone()))?;
        let image = Path::new(&entry.image);
        if !image.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(Rejection::new(Reason::UnsafePath, format!("{:?} leaves the folder", entry.image)));
        }
        let captions = clean_captions(entry.captions.iter().chain(&entry.caption).map(String::as_str))?;
        let picture = Picture::Encoded(read_file(&self.dir.join(image))?);
        Ok(Loaded { picture, captions, url: entry.url.clone(), license: entry.license.clone() })
    }
}
