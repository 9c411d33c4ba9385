//! MS-COCO 2017 as it is published: `train2017/`, `val2017/` and `annotations/captions_{train,val}2017.json` below a
//! folder, or the official zips with them, read in place. It leaves out downloading (`fetch`).

mod annotations;
mod images;

use std::{
    collections::HashMap,
    io::{BufReader, Read},
    path::Path,
};

use shard::SourceInfo;

use self::{
    annotations::{Captions, Entry, Karpathy},
    images::{Images, Zip},
};
use super::{Listing, LoadError, Loaded, Picture, Source, clean_captions, require_dir};
use crate::{Error, Result};

const DATASET: &str = "coco";

/// The zip of captions; the pictures of a split are in `train2017.zip` and `val2017.zip`.
const ANNOTATIONS: &str = "annotations_trainval2017";

/// The official archives, by the name below the server and the file's own.
pub const ARCHIVES: [(&str, &str); 3] = [
    ("annotations/annotations_trainval2017.zip", "annotations_trainval2017.zip"),
    ("zips/val2017.zip", "val2017.zip"),
    ("zips/train2017.zip", "train2017.zip"),
];

/// COCO below a folder.
#[derive(Debug)]
pub struct Coco {
    revision: String,
    listings: Vec<Listing>,
    splits: Vec<Vec<Entry>>,
    /// Pictures of `train2017` and `val2017`.
    images: [Option<Images>; 2],
    licenses: HashMap<i64, String>,
}

const FOLDERS: [(&str, &str); 2] = [("train", "train2017"), ("val", "val2017")];

impl Coco {
    /// Reads the captions below `dir`. With `karpathy`, its file decides splits and captions.
    ///
    /// # Errors
    /// `Layout` where no captions or pictures are there, `Parse` where they are not COCO's JSON, `Io`.
    pub fn open(dir: &Path, karpathy: Option<&Path>) -> Result<Self> {
        require_dir(DATASET, dir)?;
        let mut source = Self {
            revision: String::new(),
            listings: Vec::new(),
            splits: Vec::new(),
            images: [None, None],
            licenses: HashMap::new(),
        };
        let layout = |problem: String| Error::Layout { dataset: DATASET, path: dir.to_path_buf(), problem };
        let mut digest = blake3::Hasher::new();
        let zip = Zip::find(dir, ANNOTATIONS)?;
        for (number, (split, folder)) in FOLDERS.into_iter().enumerate() {
            let Some((captions, hash)) = captions(dir, zip.as_ref(), split)? else { continue };
            digest.update(hash.as_bytes());
            let images = Images::find(dir, folder)?;
            if images.is_none() {
                let problem =
                    format!("captions of {split} are there, but neither {folder}/ nor {folder}.zip");
                return Err(layout(problem));
            }
            source.images[number] = images;
            source.licenses.extend(captions.licenses);
            source.push(split, captions.entries);
        }
        if source.listings.is_empty() {
            return Err(layout(
                "expected annotations/captions_train2017.json (and captions_val2017.json) with train2017/ and \
                 val2017/ beside annotations/, or the official zips of them"
                    .to_owned(),
            ));
        }
        source.revision = format!("annotations blake3 {}", digest.finalize().to_hex());
        if let Some(path) = karpathy {
            source.resplit(path)?;
        }
        Ok(source)
    }

    fn push(&mut self, split: &str, entries: Vec<Entry>) {
        // The stem is COCO's own id: it is what every other tool prints.
        let stem =
            |entry: &Entry| entry.file_name.strip_suffix(".jpg").unwrap_or(&entry.file_name).to_owned();
        self.listings.push(Listing { split: split.to_owned(), ids: entries.iter().map(stem).collect() });
        self.splits.push(entries);
    }

    /// Splits and captions as Karpathy's file has them.
    fn resplit(&mut self, path: &Path) -> Result<()> {
        let file = fs_err::File::open(path).map_err(Error::io("open", path))?;
        let mut reader = BufReader::new(Hashed { reader: file, hasher: blake3::Hasher::new() });
        let parsed: Karpathy = serde_json::from_reader(&mut reader).map_err(|source| Error::Parse {
            path: path.to_path_buf(),
            what: "not Karpathy's dataset_coco.json",
            source: source.into(),
        })?;
        let mut known: HashMap<i64, Entry> =
            std::mem::take(&mut self.splits).into_iter().flatten().map(|entry| (entry.id, entry)).collect();
        let mut splits: [Vec<Entry>; 3] = Default::default();
        let names = ["train", "val", "test"];
        for image in parsed.images {
            let Some(split) = image.split().and_then(|split| names.iter().position(|name| *name == split))
            else {
                continue;
            };
            // Pictures that are not at hand, such as train where only val was downloaded, are not listed.
            if let Some(entry) = known.remove(&image.cocoid) {
                splits[split].push(Entry { captions: image.captions(), ..entry });
            }
        }
        self.listings.clear();
        for (name, entries) in names.into_iter().zip(splits) {
            if !entries.is_empty() {
                self.push(name, entries);
            }
        }
        std::io::copy(&mut reader, &mut std::io::sink()).map_err(Error::io("read", path))?;
        let karpathy = reader.into_inner().hasher.finalize().to_hex();
        self.revision = format!("{}, karpathy blake3 {karpathy}", self.revision);
        Ok(())
    }
}

/// The captions of a split and the hash of their file.
fn captions(dir: &Path, zip: Option<&Zip>, split: &str) -> Result<Option<(Captions, blake3::Hash)>> {
    let name = format!("annotations/captions_{split}2017.json");
    let path = dir.join(&name);
    let parse = |reader: &mut dyn Read| {
        let mut reader = BufReader::with_capacity(1 << 20, Hashed { reader, hasher: blake3::Hasher::new() });
        let captions = Captions::parse(&mut reader)?;
        // What stands behind the JSON is of the file as well.
        std::io::copy(&mut reader, &mut std::io::sink()).map_err(serde_json::Error::io)?;
        Ok((captions, reader.into_inner().hasher.finalize()))
    };
    let parsed: Result<_, serde_json::Error> = if path.is_file() {
        let mut file = fs_err::File::open(&path).map_err(Error::io("open", &path))?;
        parse(&mut file)
    } else {
        let Some(zip) = zip else { return Ok(None) };
        match zip.with_entry(&name, |entry, _| parse(entry))? {
            Some(parsed) => parsed,
            None => return Ok(None),
        }
    };
    let what = "not captions as COCO has them";
    parsed.map(Some).map_err(|source| Error::Parse { path, what, source: source.into() })
}

/// Hashes what is read through it.
struct Hashed<R> {
    reader: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(bytes)?;
        self.hasher.update(&bytes[..read]);
        Ok(read)
    }
}

impl Source for Coco {
    fn info(&self) -> SourceInfo {
        SourceInfo { name: DATASET.to_owned(), revision: self.revision.clone() }
    }

    fn listings(&self) -> &[Listing] {
        &self.listings
    }

    fn load(&self, listing: usize, row: usize, _size: u32) -> Result<Loaded, LoadError> {
        let entry = &self.splits[listing][row];
        let captions = clean_captions(entry.captions.iter().map(String::as_str))?;
        // Karpathy's splits draw from both; its own is tried first.
        let own = usize::from(self.listings[listing].split != "train");
        let sides =
            [own, 1 - own].map(|side| self.images[side].as_ref().map(|images| (images, FOLDERS[side].1)));
        let present = sides.iter().flatten().find(|(images, folder)| images.has(folder, &entry.file_name));
        let Some((images, folder)) = present.or(sides.iter().flatten().next()) else {
            let problem = "no pictures are there".to_owned();
            return Err(Error::Layout { dataset: DATASET, path: "train2017".into(), problem }.into());
        };
        let picture = Picture::Encoded(images.read(folder, &entry.file_name)?);
        let license = entry.license.and_then(|id| self.licenses.get(&id).cloned());
        Ok(Loaded { picture, captions, url: entry.url.clone(), license })
    }
}
