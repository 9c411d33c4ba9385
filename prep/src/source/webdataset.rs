//! Plain tars in WebDataset layout: the members of a sample share a name up to its first dot, such as `KEY.jpg` and
//! `KEY.json` (or `.txt`). text-to-image-2M is one, with the caption in `json["prompt"]`. Members are read where they
//! lie, in any order. Liberal in what it takes: jpeg, png, webp and others, folders in front of the key, captions under
//! other names, members of a key that do not stand together. It leaves out downloading and compressed tars (`inputs`).

use std::{
    collections::HashMap,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use shard::SourceInfo;

use super::{
    Ids, Listing, LoadError, Loaded, Picture, Reason, Rejection, Source, captions, clean_captions, columns,
    split_of,
};
use crate::{Error, Result};

/// Largest member that is taken into memory.
const MEMBER_BYTES_MAX: u64 = 256 << 20;

/// A tar's members begin and end at multiples of this, and blocks of zeros end it.
const BLOCK_BYTES: u64 = 512;

/// Extensions of members that are pictures.
const IMAGES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// Extensions of members that hold captions.
const TEXTS: [&str; 4] = ["json", "txt", "caption", "text"];

/// What is known of a set of tars beside their bytes.
#[derive(Debug, Clone)]
pub struct TarOptions {
    /// The source's name in the manifest.
    pub dataset: String,
    /// The licence of every sample, where the publisher says so.
    pub license: Option<String>,
    /// Names that the user gives: extensions, or a key of the JSON for captions.
    pub columns: columns::Names,
}

/// A tar with the name that its ids begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTar {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name in the source, without `.tar`.
    pub name: String,
}

/// Tars, listed by their headers.
#[derive(Debug)]
pub struct WebDataset {
    options: TarOptions,
    revision: String,
    listings: Vec<Listing>,
    tars: Vec<Tar>,
    /// By listing, then row.
    entries: Vec<Vec<Entry>>,
}

#[derive(Debug)]
struct Tar {
    path: PathBuf,
    file: fs_err::File,
}

/// Where a sample's members lie: offset and length in its tar.
#[derive(Debug, Clone, Copy)]
struct Entry {
    tar: u32,
    text_is_json: bool,
    image: Option<(u64, u64)>,
    text: Option<(u64, u64)>,
}

impl WebDataset {
    /// Lists the members of `tars` in order, reading headers alone, until `rows_needed` samples are listed.
    ///
    /// # Errors
    /// `Parse` where one is damaged, `Io`.
    pub fn open(
        options: TarOptions,
        tars: impl IntoIterator<Item = Result<NamedTar>>,
        rows_needed: Option<usize>,
    ) -> Result<Self> {
        let mut digest = blake3::Hasher::new();
        let mut source = Self {
            options,
            revision: String::new(),
            listings: Vec::new(),
            tars: Vec::new(),
            entries: Vec::new(),
        };
        let mut tars = tars.into_iter();
        // A tar that is not needed is not asked for: it may have to be fetched.
        while rows_needed.is_none_or(|needed| source.len() < needed) {
            let Some(tar) = tars.next() else { break };
            source.list_tar(&tar?, &mut digest)?;
        }
        source.revision = format!("members blake3 {}", digest.finalize().to_hex());
        Ok(source)
    }

    /// The same with another word for what pins its content.
    #[must_use]
    pub fn at_revision(self, revision: String) -> Self {
        Self { revision, ..self }
    }

    /// Samples listed.
    fn len(&self) -> usize {
        self.entries.iter().map(Vec::len).sum()
    }

    /// The listing of a split, begun where there is none.
    fn listing(&mut self, split: &str) -> usize {
        self.listings.iter().position(|listing| listing.split == split).unwrap_or_else(|| {
            self.listings.push(Listing { split: split.to_owned(), ids: Ids::default() });
            self.entries.push(Vec::new());
            self.listings.len() - 1
        })
    }

    fn list_tar(&mut self, tar: &NamedTar, digest: &mut blake3::Hasher) -> Result<()> {
        let NamedTar { path, name } = tar;
        let damaged = |source: std::io::Error| Error::Parse {
            path: path.clone(),
            what: "damaged tar (download it again)",
            source: source.into(),
        };
        let file = fs_err::File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let number = u32::try_from(self.tars.len()).unwrap_or(u32::MAX);
        let listing = self.listing(split_of(name));
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
            let Some((key, kind)) = self.part_of(&member_name) else { continue };
            let sample = *of_key.entry(key.to_owned()).or_insert_with(|| {
                self.listings[listing].ids.push(&format!("{name}/{key}"));
                let entry = Entry { tar: number, image: None, text: None, text_is_json: false };
                self.entries[listing].push(entry);
                self.entries[listing].len() - 1
            });
            let entry = &mut self.entries[listing][sample];
            match kind {
                Part::Image => _ = entry.image.get_or_insert((offset, bytes)),
                Part::Text { is_json } if entry.text.is_none() || is_json => {
                    (entry.text, entry.text_is_json) = (Some((offset, bytes)), is_json);
                }
                Part::Text { .. } => {}
            }
        }
        if length < end.saturating_add(BLOCK_BYTES) {
            // Cut between two members, it would pass for a whole tar of fewer samples.
            let cut = format!("no block of zeros after its last member, at byte {end} of {length}");
            return Err(damaged(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, cut)));
        }
        self.tars.push(Tar { path: path.clone(), file });
        Ok(())
    }

    /// The key of a member and what it is to its sample; none for members that are nothing here.
    fn part_of<'a>(&self, member: &'a str) -> Option<(&'a str, Part)> {
        let base = member.rsplit('/').next().unwrap_or_default();
        let (key, extension) = base.split_once('.')?;
        let extension = extension.to_ascii_lowercase();
        let asked =
            |name: &Option<String>| name.as_deref().map(|name| name.trim_start_matches('.') == extension);
        let is_image = asked(&self.options.columns.image).unwrap_or(IMAGES.contains(&extension.as_str()));
        let is_json = extension == "json";
        // A caption column that is no extension is a key of the JSON.
        let is_text = asked(&self.options.columns.caption) == Some(true)
            || match &self.options.columns.caption {
                None => TEXTS.contains(&extension.as_str()),
                Some(name) => is_json && !TEXTS.contains(&name.trim_start_matches('.')),
            };
        let part = match (is_image, is_text) {
            _ if key.is_empty() => return None,
            (true, _) => Part::Image,
            (false, true) => Part::Text { is_json },
            (false, false) => return None,
        };
        Some((key, part))
    }

    fn member(&self, entry: &Entry, range: (u64, u64)) -> Result<Vec<u8>, LoadError> {
        let tar = &self.tars[entry.tar as usize];
        let (offset, bytes) = range;
        if bytes > MEMBER_BYTES_MAX {
            let detail = format!("a member of {bytes} bytes at byte {offset} of {}", tar.path.display());
            return Err(Rejection::new(Reason::TooLarge, detail).into());
        }
        let mut payload = vec![0; bytes as usize];
        // The tar was whole when it was listed: what cannot be read now says nothing about this sample.
        tar.file.file().read_exact_at(&mut payload, offset).map_err(Error::io("read", &tar.path))?;
        Ok(payload)
    }

    fn captions(&self, entry: &Entry, text: &[u8]) -> Result<Vec<String>, Rejection> {
        if !entry.text_is_json {
            return clean_captions([String::from_utf8_lossy(text).as_ref()]);
        }
        let captions = match &self.options.columns.caption {
            Some(name) if !TEXTS.contains(&name.trim_start_matches('.')) => {
                captions::of_json_key(text, name)?
            }
            _ => captions::of_json(text)?,
        };
        clean_captions(captions.iter().map(String::as_str))
    }
}

/// What a member is to its sample.
enum Part {
    Image,
    Text { is_json: bool },
}

impl Source for WebDataset {
    fn info(&self) -> SourceInfo {
        SourceInfo { name: self.options.dataset.clone(), revision: self.revision.clone() }
    }

    fn listings(&self) -> &[Listing] {
        &self.listings
    }

    fn load(&self, listing: usize, row: usize, _size: u32) -> Result<Loaded, LoadError> {
        let entry = self.entries[listing][row];
        let Some(image) = entry.image else {
            return Err(Rejection::new(Reason::MissingFile, "a caption without an image").into());
        };
        let Some(text) = entry.text else {
            return Err(Rejection::new(Reason::NoCaption, "an image without .json or .txt").into());
        };
        let captions = self.captions(&entry, &self.member(&entry, text)?)?;
        let bytes = self.member(&entry, image)?;
        if bytes.is_empty() {
            return Err(Rejection::new(Reason::EmptyFile, "an image of no bytes").into());
        }
        let license = self.options.license.clone();
        Ok(Loaded { picture: Picture::Encoded(bytes), captions, url: None, license })
    }
}

/// Files below `dir`, at most `depth` folders down, whose name ends with one of `endings`, by path.
///
/// # Errors
/// `Io`.
pub fn find_files(dir: &Path, depth: u32, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        if path.is_dir() {
            if depth > 0 {
                found.extend(find_files(&path, depth - 1, endings)?);
            }
        } else if path.to_str().is_some_and(|name| endings.iter().any(|ending| name.ends_with(ending))) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
