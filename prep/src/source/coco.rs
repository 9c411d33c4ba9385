//! MS-COCO 2017 in its official layout: `train2017/`, `val2017/`, `annotations/captions_{train,val}2017.json`.
//! It leaves out downloading.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use shard::SourceInfo;

use super::{Listing, Loaded, Picture, Reason, Rejection, Source, clean_captions, read_file, require_dir};
use crate::{Error, Result};

const DATASET: &str = "coco";

/// COCO below a folder.
#[derive(Debug)]
pub struct Coco {
    revision: String,
    listings: Vec<Listing>,
    splits: Vec<Split>,
}

#[derive(Debug)]
struct Split {
    images: PathBuf,
    entries: Vec<Entry>,
    licenses: HashMap<i64, String>,
}

#[derive(Debug)]
struct Entry {
    file_name: String,
    url: Option<String>,
    license: Option<i64>,
    captions: Vec<String>,
}

#[derive(Deserialize)]
struct Annotations {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    #[serde(default)]
    licenses: Vec<License>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
    coco_url: Option<String>,
    license: Option<i64>,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: i64,
    caption: String,
}

#[derive(Deserialize)]
struct License {
    id: i64,
    url: Option<String>,
    name: Option<String>,
}

impl Coco {
    /// Reads the captions below `dir`.
    ///
    /// # Errors
    /// `Layout` where no captions are there, `Parse` where they are not COCO's JSON, `Io`.
    pub fn open(dir: &Path) -> Result<Self> {
        require_dir(DATASET, dir)?;
        let mut source = Self { revision: String::new(), listings: Vec::new(), splits: Vec::new() };
        let mut digest = blake3::Hasher::new();
        for split in ["train", "val"] {
            let path = dir.join(format!("annotations/captions_{split}2017.json"));
            if !path.exists() {
                continue;
            }
            let bytes = fs_err::read(&path).map_err(Error::io("read", &path))?;
            digest.update(blake3::hash(&bytes).as_bytes());
            let images = dir.join(format!("{split}2017"));
            if !images.is_dir() {
                let problem = format!("{} is there, but no folder {}", path.display(), images.display());
                return Err(Error::Layout { dataset: DATASET, path: dir.to_path_buf(), problem });
            }
            let entries = Split::parse(&bytes, images).map_err(|source| Error::Parse {
                path: path.clone(),
                what: "not captions as COCO has them",
                source: source.into(),
            })?;
            // The stem is COCO's own id: it is what every other tool prints.
            let stem =
                |entry: &Entry| entry.file_name.strip_suffix(".jpg").unwrap_or(&entry.file_name).to_owned();
            let ids = entries.entries.iter().map(stem).collect();
            source.listings.push(Listing { split: split.to_owned(), ids });
            source.splits.push(entries);
        }
        if source.listings.is_empty() {
            let problem = "expected annotations/captions_train2017.json (and captions_val2017.json) \
                           with train2017/ and val2017/ beside annotations/";
            return Err(Error::Layout {
                dataset: DATASET,
                path: dir.to_path_buf(),
                problem: problem.to_owned(),
            });
        }
        source.revision = format!("annotations blake3 {}", digest.finalize().to_hex());
        Ok(source)
    }
}

impl Split {
    fn parse(bytes: &[u8], images: PathBuf) -> Result<Self, serde_json::Error> {
        let parsed: Annotations = serde_json::from_slice(bytes)?;
        let mut captions: HashMap<i64, Vec<String>> = HashMap::new();
        for annotation in parsed.annotations {
            captions.entry(annotation.image_id).or_default().push(annotation.caption);
        }
        let entries = parsed.images.into_iter().map(|image| Entry {
            captions: captions.remove(&image.id).unwrap_or_default(),
            file_name: image.file_name,
            url: image.coco_url,
            license: image.license,
        });
        let licenses = parsed.licenses.into_iter();
        let licenses = licenses.filter_map(|license| Some((license.id, license.url.or(license.name)?)));
        Ok(Self { images, entries: entries.collect(), licenses: licenses.collect() })
    }
}

impl Source for Coco {
    fn info(&self) -> SourceInfo {
        SourceInfo { name: DATASET.to_owned(), revision: self.revision.clone() }
    }

    fn listings(&self) -> &[Listing] {
        &self.listings
    }

    fn load(&self, listing: usize, row: usize, _size: u32) -> Result<Loaded, Rejection> {
        let split = &self.splits[listing];
        let entry = &split.entries[row];
        let captions = clean_captions(entry.captions.iter().map(String::as_str))?;
        if entry.file_name.contains(['/', '\\', '\0']) || entry.file_name == ".." {
            return Err(Rejection::new(Reason::UnsafePath, format!("file_name {:?}", entry.file_name)));
        }
        let picture = Picture::Encoded(read_file(&split.images.join(&entry.file_name))?);
        let license = entry.license.and_then(|id| split.licenses.get(&id).cloned());
        Ok(Loaded { picture, captions, url: entry.url.clone(), license })
    }
}
