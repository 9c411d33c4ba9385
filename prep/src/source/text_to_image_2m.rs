//! text-to-image-2M as its publisher has it: tars below a folder, each with members `KEY.jpg` and `KEY.json` (or
//! `.txt`), the caption in `json["prompt"]`. Liberal in what it takes: jpeg, png or webp, folders in front of
//! the key, a caption under other names. It leaves out downloading and compressed tars.

use std::{
    collections::HashMap,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use shard::SourceInfo;

use super::{Listing, Loaded, Picture, Reason, Rejection, Source, clean_captions, require_dir};
use crate::{Error, Result};

const DATASET: &str = "text-to-image-2m";

/// Largest member that is taken into memory.
const MEMBER_BYTES_MAX: u64 = 256 << 20;

/// A tar's members begin and end at multiples of this, and blocks of zeros end it.
const BLOCK_BYTES: u64 = 512;

/// The tars below a folder.
#[derive(Debug)]
pub struct TextToImage2M {
    revision: String,
    listings: [Listing; 1],
    tars: Vec<Tar>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Tar {
    path: PathBuf,
    file: fs_err::File,
}

/// Where a sample's members lie: offset and length in its tar.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tar: usize,
    image: Option<(u64, u64)>,
    text: Option<(u64, u64)>,
    text_is_json: bool,
}

impl TextToImage2M {
    /// Lists every member of every tar below `dir`, reading headers alone.
    ///
    /// # Errors
    /// `Layout` where there is no tar, `Parse` where one is damaged, `Io`.
    pub fn open(dir: &Path) -> Result<Self> {
        require_dir(DATASET, dir)?;
        let mut paths = Vec::new();
        find_tars(dir, 3, &mut paths)?;
        paths.sort();
        if paths.is_empty() {
            let problem = "expected tars such as data_512_2M/data_000000.tar below it".to_owned();
            return Err(Error::Layout { dataset: DATASET, path: dir.to_path_buf(), problem });
        }
        let mut digest = blake3::Hasher::new();
        let mut source = Self {
            revision: String::new(),
            listings: [Listing { split: "train".to_owned(), ids: Vec::new() }],
            tars: Vec::new(),
            entries: Vec::new(),
        };
        for path in paths {
            let name = path.strip_prefix(dir).unwrap_or(&path).with_extension("");
            source.list_tar(path, &name.to_string_lossy(), &mut digest)?;
        }
        source.revision = format!("members blake3 {}", digest.finalize().to_hex());
        Ok(source)
    }

    fn list_tar(&mut self, path: PathBuf, name: &str, digest: &mut blake3::Hasher) -> Result<()> {
        let damaged = |source: std::io::Error| Error::Parse {
            path: path.clone(),
            what: "damaged tar (download it again)",
            source: source.into(),
        };
        let file = fs_err::File::open(&path).map_err(Error::io("open", &path))?;
        let length = file.metadata().map_err(Error::io("read", &path))?.len();
        let tar = self.tars.len();
        let mut of_key: HashMap<String, usize> = HashMap::new();
        let mut end = 0;
        let mut archive = tar::Archive::new(&file);
        for member in archive.entries_with_seek().map_err(damaged)? {
            let member = member.map_err(damaged)?;
            let (offset, bytes) = (member.raw_file_position(), member.size());
            end = offset.saturating_add(bytes).checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX);
            if !member.header().entry_type().is_file() {
                continue;
            }
            if offset.saturating_add(bytes) > length {
                let cut = format!("a member ends at byte {} of {length}", offset.saturating_add(bytes));
                return Err(damaged(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, cut)));
            }
            let member_name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
            digest.update(member_name.as_bytes());
            digest.update(&bytes.to_le_bytes());
            let base = member_name.rsplit('/').next().unwrap_or_default();
            let Some((key, extension)) = base.split_once('.') else { continue };
            let kind = extension.to_ascii_lowercase();
            let is_image = matches!(kind.as_str(), "jpg" | "jpeg" | "png" | "webp");
            let is_text = matches!(kind.as_str(), "json" | "txt");
            if key.is_empty() || !(is_image || is_text) {
                continue;
            }
            let sample = *of_key.entry(key.to_owned()).or_insert_with(|| {
                self.listings[0].ids.push(format!("{name}/{key}"));
                self.entries.push(Entry { tar, image: None, text: None, text_is_json: false });
                self.entries.len() - 1
            });
            let entry = &mut self.entries[sample];
            if is_image {
                entry.image.get_or_insert((offset, bytes));
            } else if entry.text.is_none() || kind == "json" {
                entry.text = Some((offset, bytes));
                entry.text_is_json = kind == "json";
            }
        }
        if length < end.saturating_add(BLOCK_BYTES) {
            // Cut between two members, it would pass for a whole tar of fewer samples.
            let cut = format!("no block of zeros after its last member, at byte {end} of {length}");
            return Err(damaged(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, cut)));
        }
        self.tars.push(Tar { path, file });
        Ok(())
    }

    fn member(&self, entry: &Entry, range: (u64, u64)) -> Result<Vec<u8>, Rejection> {
        let tar = &self.tars[entry.tar];
        let (offset, bytes) = range;
        if bytes > MEMBER_BYTES_MAX {
            return Err(Rejection::new(Reason::TooLarge, format!("a member of {bytes} bytes")));
        }
        let mut payload = vec![0; bytes as usize];
        tar.file.file().read_exact_at(&mut payload, offset).map_err(|error| {
            Rejection::new(Reason::Unreadable, format!("{} at byte {offset}: {error}", tar.path.display()))
        })?;
        Ok(payload)
    }
}

/// Tars at most `depth` folders down.
fn find_tars(dir: &Path, depth: u32, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs_err::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        if path.is_dir() {
            if depth > 0 {
                find_tars(&path, depth - 1, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "tar") {
            found.push(path);
        }
    }
    Ok(())
}

/// The captions in a sample's JSON: `prompt`, else other usual names; a text or a list of texts.
fn captions_of_json(bytes: &[u8]) -> Result<Vec<String>, Rejection> {
    let json: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|error| Rejection::new(Reason::BadEntry, format!("its JSON does not parse: {error}")))?;
    let value = ["prompt", "captions", "caption", "text"].iter().find_map(|name| json.get(name));
    let texts: Vec<&str> = match value {
        Some(serde_json::Value::String(text)) => vec![text.as_str()],
        Some(serde_json::Value::Array(texts)) => texts.iter().filter_map(|text| text.as_str()).collect(),
        _ => Vec::new(),
    };
    clean_captions(texts)
}

impl Source for TextToImage2M {
    fn info(&self) -> SourceInfo {
        SourceInfo { name: DATASET.to_owned(), revision: self.revision.clone() }
    }

    fn listings(&self) -> &[Listing] {
        &self.listings
    }

    fn load(&self, _listing: usize, row: usize, _size: u32) -> Result<Loaded, Rejection> {
        let entry = self.entries[row];
        let Some(image) = entry.image else {
            return Err(Rejection::new(Reason::MissingFile, "a caption without an image"));
        };
        let Some(text) = entry.text else {
            return Err(Rejection::new(Reason::NoCaption, "an image without .json or .txt"));
        };
        let text = self.member(&entry, text)?;
        let captions = if entry.text_is_json {
            captions_of_json(&text)?
        } else {
            clean_captions([String::from_utf8_lossy(&text).as_ref()])?
        };
        let bytes = self.member(&entry, image)?;
        if bytes.is_empty() {
            return Err(Rejection::new(Reason::EmptyFile, "an image of no bytes"));
        }
        Ok(Loaded { picture: Picture::Encoded(bytes), captions, url: None, license: Some("MIT".to_owned()) })
    }
}
