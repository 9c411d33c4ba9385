//! A list of images with captions, one record an image, and the images below a folder. As JSON lines
//! (`{"image": "a/b.jpg", "captions": ["…", "…"]}`) or CSV with a header, where records of the same image become one
//! sample. Records are read again when their sample is loaded, so that a list takes the memory of its ids alone. It
//! leaves out images that no record names.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{BufRead as _, BufReader, Seek as _},
    os::unix::fs::FileExt as _,
    path::{Component, Path, PathBuf},
};

use serde_json::{Map, Value};
use shard::SourceInfo;

use super::{
    Ids, Listing, LoadError, Loaded, Picture, Reason, Rejection, Source, captions, clean_captions, columns,
    read_file, require_dir,
};
use crate::{Error, Result};

/// Longest record that is read into memory.
const RECORD_BYTES_MAX: u64 = 64 << 20;

/// What the records are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFormat {
    /// One JSON object a line.
    JsonLines,
    /// Comma-separated values with a header.
    Csv,
}

/// Where the list is and what its columns mean.
#[derive(Debug, Clone)]
pub struct ListOptions {
    /// The source's name in the manifest.
    pub dataset: &'static str,
    /// The list.
    pub list: PathBuf,
    /// Image paths are below it.
    pub images: PathBuf,
    /// JSON lines or CSV.
    pub format: ListFormat,
    /// Column names that the user gives.
    pub columns: columns::Names,
}

/// Images named by a list.
#[derive(Debug)]
pub struct List {
    options: ListOptions,
    file: fs_err::File,
    revision: String,
    listings: [Listing; 1],
    /// Where records begin, and where the last ends.
    records: Vec<u64>,
    /// The first record of each row.
    first: Vec<u32>,
    /// The next record of the same image, by record; only CSV has them.
    next: HashMap<u32, u32>,
    /// Names of CSV's columns.
    header: Vec<String>,
}

impl List {
    /// `captions.jsonl` in `dir`, with images below `dir`.
    ///
    /// # Errors
    /// As [`List::open`].
    pub fn folder(dir: &Path, columns: columns::Names) -> Result<Self> {
        require_dir("folder", dir)?;
        let list = dir.join("captions.jsonl");
        if !list.is_file() {
            let problem = "expected captions.jsonl with lines {\"image\": \"a.jpg\", \"captions\": [\"…\"]}";
            let path = dir.to_path_buf();
            return Err(Error::Layout { dataset: "folder", path, problem: problem.to_owned() });
        }
        let images = dir.to_path_buf();
        Self::open(ListOptions { dataset: "folder", list, images, format: ListFormat::JsonLines, columns })
    }

    /// Reads the list through once. A record that does not parse becomes a sample that is left out.
    ///
    /// # Errors
    /// `Layout` where there is no list or CSV without the columns, `Io`.
    pub fn open(options: ListOptions) -> Result<Self> {
        let problem = |problem: &str| {
            let (dataset, path) = (options.dataset, options.list.clone());
            Error::Layout { dataset, path, problem: problem.to_owned() }
        };
        if !options.list.is_file() {
            return Err(problem("there is no such file"));
        }
        require_dir(options.dataset, &options.images)?;
        let mut file = fs_err::File::open(&options.list).map_err(Error::io("open", &options.list))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file).map_err(Error::io("read", &options.list))?;
        file.rewind().map_err(Error::io("read", &options.list))?;
        let name = options.list.file_name().unwrap_or_default().to_string_lossy();
        let revision = format!("{name} blake3 {}", hasher.finalize().to_hex());
        let mut list = Self {
            file,
            revision,
            listings: [Listing { split: "train".to_owned(), ids: Ids::default() }],
            records: Vec::new(),
            first: Vec::new(),
            next: HashMap::new(),
            header: Vec::new(),
            options,
        };
        match list.options.format {
            ListFormat::JsonLines => list.scan_json_lines()?,
            ListFormat::Csv => list.scan_csv()?,
        }
        Ok(list)
    }

    fn scan_json_lines(&mut self) -> Result<()> {
        let path = self.options.list.clone();
        let mut reader =
            BufReader::with_capacity(1 << 20, self.file.try_clone().map_err(Error::io("read", &path))?);
        let (mut line, mut position, mut number) = (Vec::new(), 0u64, 0u64);
        loop {
            line.clear();
            let bytes = reader.read_until(b'\n', &mut line).map_err(Error::io("read", &path))?;
            if bytes == 0 {
                break;
            }
            number += 1;
            if !line.iter().all(u8::is_ascii_whitespace) {
                // A line without an image has a name too: what is left out is named.
                let id = self.image_of_json(&line);
                let id = id.unwrap_or_else(|| format!("{}:{number}", file_name(&path)));
                self.listings[0].ids.push(&id);
                self.first.push(self.records.len() as u32);
                self.records.push(position);
            }
            position += bytes as u64;
        }
        self.records.push(position);
        Ok(())
    }

    /// The image of a line, and nothing else of it.
    fn image_of_json(&self, line: &[u8]) -> Option<String> {
        let mut record: Map<String, Value> = serde_json::from_slice(line).ok()?;
        let column = self.options.columns.image(record.keys().map(String::as_str))?.to_owned();
        match record.remove(&column) {
            Some(Value::String(image)) => Some(image),
            _ => None,
        }
    }

    fn scan_csv(&mut self) -> Result<()> {
        let path = self.options.list.clone();
        let broken = |source: csv::Error| Error::Parse {
            path: path.clone(),
            what: "not CSV with a header",
            source: source.into(),
        };
        let file = self.file.try_clone().map_err(Error::io("read", &path))?;
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
        let header = reader.byte_headers().map_err(broken)?;
        self.header = header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        let names = || self.header.iter().map(String::as_str);
        let (image, caption) = (self.options.columns.image(names()), self.options.columns.caption(names()));
        let (Some(image), Some(_)) = (image, caption) else {
            let problem = format!(
                "no column for {}: it has {}; say which with --image-column and --caption-column",
                if image.is_none() { "images" } else { "captions" },
                self.header.join(", ")
            );
            return Err(Error::Layout { dataset: self.options.dataset, path, problem });
        };
        let column = names().position(|name| name == image).unwrap_or(0);
        // By hash: the ids themselves are in the listing already.
        let mut of_image: HashMap<[u8; 16], (u32, u32)> = HashMap::new();
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(broken)? {
            let at = record.position().map_or(0, csv::Position::byte);
            let this = self.records.len() as u32;
            self.records.push(at);
            let id = match record.get(column).map(String::from_utf8_lossy) {
                Some(id) if !id.trim().is_empty() => id.trim().to_owned(),
                _ => format!("{}:{}", file_name(&path), record.position().map_or(0, csv::Position::line)),
            };
            let hash = blake3::hash(id.as_bytes());
            let hash: [u8; 16] = hash.as_bytes()[..16].try_into().expect("16 of 32 bytes");
            match of_image.get_mut(&hash) {
                Some((_, last)) => {
                    self.next.insert(*last, this);
                    *last = this;
                }
                None => {
                    of_image.insert(hash, (this, this));
                    self.first.push(this);
                    self.listings[0].ids.push(&id);
                }
            }
        }
        self.records.push(reader.position().byte());
        Ok(())
    }

    /// The bytes of a record.
    fn record(&self, record: u32) -> Result<Vec<u8>, LoadError> {
        let (start, end) = (self.records[record as usize], self.records[record as usize + 1]);
        if end - start > RECORD_BYTES_MAX {
            let detail = format!("a record of {} bytes at byte {start} of the list", end - start);
            return Err(Rejection::new(Reason::BadEntry, detail).into());
        }
        let mut bytes = vec![0; (end - start) as usize];
        let read = self.file.file().read_exact_at(&mut bytes, start);
        read.map_err(Error::io("read", &self.options.list))?;
        Ok(bytes)
    }

    fn json_sample(&self, row: usize) -> Result<Sample, LoadError> {
        let bytes = self.record(self.first[row])?;
        let list = file_name(&self.options.list);
        let bad = |problem: &dyn std::fmt::Display| {
            let at = self.records[self.first[row] as usize];
            Rejection::new(Reason::BadEntry, format!("the line at byte {at} of {list}: {problem}"))
        };
        let mut record: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| bad(&error))?;
        let names = || record.keys().map(String::as_str);
        let Some(column) = self.options.columns.image(names()).map(str::to_owned) else {
            return Err(bad(&"no image in it").into());
        };
        let caption = self.options.columns.caption(names()).map(str::to_owned);
        let captions = caption.and_then(|column| record.remove(&column));
        let captions = captions.map_or(Ok(Vec::new()), |value| captions::of_value(&value));
        let mut text = |name: &str| match record.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (url, license) = (text("url"), text("license"));
        let image = match record.remove(&column) {
            Some(Value::String(image)) => image,
            other => {
                return Err(bad(&format!("its {column} is no text: {}", other.unwrap_or_default())).into());
            }
        };
        Ok(Sample { image, captions: captions?, url, license })
    }

    fn csv_sample(&self, row: usize) -> Result<Sample, LoadError> {
        let names = || self.header.iter().map(String::as_str);
        let place = |name: Option<&str>| name.and_then(|name| names().position(|column| column == name));
        let image = place(self.options.columns.image(names()));
        let caption = place(self.options.columns.caption(names()));
        let mut sample = Sample { image: String::new(), captions: Vec::new(), url: None, license: None };
        let mut due = Some(self.first[row]);
        while let Some(number) = due {
            let bytes = self.record(number)?;
            let mut reader =
                csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes.as_slice());
            let record = reader.byte_records().next().and_then(Result::ok).unwrap_or_default();
            let value = |place: Option<usize>| {
                let value = place.and_then(|place| record.get(place))?;
                Some(String::from_utf8_lossy(value).trim().to_owned())
            };
            if sample.image.is_empty() {
                sample.image = value(image).unwrap_or_default();
                sample.url = value(place(Some("url"))).filter(|url| !url.is_empty());
                sample.license = value(place(Some("license"))).filter(|license| !license.is_empty());
            }
            sample.captions.extend(value(caption));
            due = self.next.get(&number).copied();
        }
        if sample.image.is_empty() {
            let at = self.records[self.first[row] as usize];
            let detail =
                format!("the record at byte {at} of {} names no image", file_name(&self.options.list));
            return Err(Rejection::new(Reason::BadEntry, detail).into());
        }
        Ok(sample)
    }
}

/// A record, parsed.
struct Sample {
    image: String,
    captions: Vec<String>,
    url: Option<String>,
    license: Option<String>,
}

fn file_name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

impl Source for List {
    fn info(&self) -> SourceInfo {
        SourceInfo { name: self.options.dataset.to_owned(), revision: self.revision.clone() }
    }

    fn listings(&self) -> &[Listing] {
        &self.listings
    }

    fn load(&self, _listing: usize, row: usize, _size: u32) -> Result<Loaded, LoadError> {
        let sample = match self.options.format {
            ListFormat::JsonLines => self.json_sample(row)?,
            ListFormat::Csv => self.csv_sample(row)?,
        };
        let image = Path::new(&sample.image);
        let is_safe = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        if !image.components().all(is_safe) || sample.image.contains('\0') {
            let detail = format!("{:?} leaves the folder", sample.image);
            return Err(Rejection::new(Reason::UnsafePath, detail).into());
        }
        let captions = clean_captions(sample.captions.iter().map(String::as_str))?;
        let root = &self.options.images;
        let picture = Picture::Encoded(read_file(root, &root.join(image))?);
        Ok(Loaded { picture, captions, url: sample.url, license: sample.license })
    }
}
