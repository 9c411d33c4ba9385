//! `dataset.json`: what a data set is, written last and atomically. It leaves out the samples themselves.

use std::{collections::BTreeMap, io::Write as _, path::Path};

use serde::{Deserialize, Serialize};

use crate::{Error, ImageSettings, Result, checksum, replace_file};

/// The manifest's file name.
pub const MANIFEST_NAME: &str = "dataset.json";

/// The newest format version that this crate writes. A data set states the lowest that has all it uses.
pub const FORMAT: FormatVersion = FormatVersion { major: 1, minor: 1 };

/// Largest manifest that is read: about a million shards.
const MANIFEST_BYTES_MAX: u64 = 512 << 20;

/// How many left-out samples are listed by name; all are counted.
pub const LEFT_OUT_LISTED_MAX: usize = 1_000;

/// A version of the format. Readers refuse a higher `major`, and ignore what a higher `minor` adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatVersion {
    /// Changes when old readers would misread.
    pub major: u32,
    /// Changes when something is added.
    pub minor: u32,
}

/// The order of samples in a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleOrder {
    /// By the hash of seed and source id ([`crate::place`]).
    Shuffled,
    /// As the source lists them.
    Source,
}

/// What the samples were made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// `coco`, `folder`, `shapes`, …
    pub name: String,
    /// What pins its content: a revision, or a digest of what lists it.
    pub revision: String,
}

/// A shard's two files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// `shard-000000`, the stem of both file names.
    pub name: String,
    /// Samples in it.
    pub samples: u64,
    /// Length of the tar.
    pub tar_bytes: u64,
    /// BLAKE3 of the tar.
    pub tar_blake3: String,
    /// Length of the index.
    pub index_bytes: u64,
    /// BLAKE3 of the index.
    pub index_blake3: String,
    /// Side tables by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub side_tables: BTreeMap<String, SideTableEntry>,
}

/// A side table of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideTableEntry {
    /// Length of its file.
    pub bytes: u64,
    /// BLAKE3 of its file.
    pub blake3: String,
}

impl ShardEntry {
    /// `shard-000000.tar`.
    pub fn tar_name(&self) -> String {
        format!("{}.tar", self.name)
    }
    /// `shard-000000.arrow`.
    pub fn index_name(&self) -> String {
        format!("{}.arrow", self.name)
    }
    /// `shard-000000.NAME.arrow`.
    pub fn side_table_name(&self, table: &str) -> String {
        format!("{}.{table}.arrow", self.name)
    }
}

/// The stem of shard number `shard`.
pub fn shard_name(shard: u32) -> String {
    format!("shard-{shard:06}")
}

/// A sample that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The source's id.
    pub source_id: String,
    /// Its class of reason, as counted.
    pub reason: String,
    /// The reason in full.
    pub detail: String,
}

/// One split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitEntry {
    /// `train`, `val`, `test`: also the folder's name.
    pub name: String,
    /// Samples in all its shards.
    pub samples: u64,
    /// Its shards, in order.
    pub shards: Vec<ShardEntry>,
    /// Samples left out, by reason.
    pub left_out_counts: BTreeMap<String, u64>,
    /// The first of them, by name.
    pub left_out: Vec<LeftOut>,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format.
    pub format: FormatVersion,
    /// The program that wrote the data set, with its version.
    pub program: String,
    /// The pixel engine: decoder and resizer.
    pub engine: String,
    /// What it was made from.
    pub source: SourceInfo,
    /// Settings of the source that decide which samples there are, as the program understands them.
    pub selection: BTreeMap<String, String>,
    /// The seed of the placement.
    pub seed: u64,
    /// The order of samples.
    pub order: SampleOrder,
    /// Pictures.
    pub image: ImageSettings,
    /// Splits, in order.
    pub splits: Vec<SplitEntry>,
    /// [`Manifest::compute_fingerprint`].
    pub fingerprint: String,
    /// BLAKE3 of the file with this value's 64 digits as zeros.
    pub digest: String,
}

const ZERO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl SplitEntry {
    /// A split of these shards, with nothing left out.
    pub fn of(name: &str, shards: Vec<ShardEntry>) -> Self {
        Self {
            name: name.to_owned(),
            samples: shards.iter().map(|shard| shard.samples).sum(),
            shards,
            left_out_counts: BTreeMap::new(),
            left_out: Vec::new(),
        }
    }
}

impl Manifest {
    /// A manifest of `splits`, in source order with seed 0; change the public fields to say more.
    pub fn of(image: ImageSettings, splits: Vec<SplitEntry>) -> Self {
        Self {
            // Pictures with sides of their own are all that 1.1 adds.
            format: FormatVersion { minor: u32::from(image.varies()), ..FORMAT },
            program: concat!("shard ", env!("CARGO_PKG_VERSION")).to_owned(),
            engine: "none".to_owned(),
            source: SourceInfo { name: "unknown".to_owned(), revision: String::new() },
            selection: BTreeMap::new(),
            seed: 0,
            order: SampleOrder::Source,
            image,
            splits,
            fingerprint: String::new(),
            digest: String::new(),
        }
    }

    /// The identity of the samples: BLAKE3 over `shard fingerprint`, the format's major version (u32), and for
    /// each split its name, its number of shards (u32), and each shard's samples (u64), tar digest and index
    /// digest (32 bytes each); a text is its length (u32) and its bytes, numbers are little-endian. Nothing
    /// else: side tables and names of programs come and go.
    pub fn compute_fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let text = |hasher: &mut blake3::Hasher, text: &str| {
            hasher.update(&(text.len() as u32).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        hasher.update(b"shard fingerprint");
        hasher.update(&self.format.major.to_le_bytes());
        for split in &self.splits {
            text(&mut hasher, &split.name);
            hasher.update(&(split.shards.len() as u32).to_le_bytes());
            for shard in &split.shards {
                hasher.update(&shard.samples.to_le_bytes());
                for digest in [&shard.tar_blake3, &shard.index_blake3] {
                    // A digest that is not one was refused when the manifest was read.
                    let bytes = blake3::Hash::from_hex(digest).map_or([0; 32], |hash| *hash.as_bytes());
                    hasher.update(&bytes);
                }
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Fills in the fingerprint and the digest, and gives the file's bytes.
    pub fn to_bytes(&mut self) -> Vec<u8> {
        self.fingerprint = self.compute_fingerprint();
        self.digest = ZERO_DIGEST.to_owned();
        let digest = checksum::blake3_hex(&self.render());
        self.digest = digest;
        self.render()
    }

    fn render(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("maps with text keys and no failing values");
        bytes.push(b'\n');
        bytes
    }

    /// Writes `dataset.json` into `dir`, atomically.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(&mut self, dir: &Path) -> Result<()> {
        let bytes = self.to_bytes();
        replace_file(&dir.join(MANIFEST_NAME), |file| file.write_all(&bytes))
    }

    /// Reads and checks `dir/dataset.json`.
    ///
    /// # Errors
    /// `Unfinished` where there is none, `Corrupt` where it is not what was written, `Unsupported` where its
    /// major version is higher than this crate's.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST_NAME);
        let length = match fs_err::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && dir.is_dir() => {
                return Err(Error::Unfinished { path: dir.to_path_buf() });
            }
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        if length > MANIFEST_BYTES_MAX {
            let most = format!("at most {MANIFEST_BYTES_MAX} bytes");
            return Err(Error::corrupt(&path, MANIFEST_BYTES_MAX, "length of the manifest", most, length));
        }
        let bytes = fs_err::read(&path).map_err(Error::io("read", &path))?;
        Self::parse(&bytes, &path)
    }

    /// Parses and checks a manifest's bytes; `path` only names them.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let digest = check_digest(bytes, path);
        let parsed = serde_json::from_slice::<Versioned>(bytes);
        if let (Ok(versioned), true) = (&parsed, digest.is_ok() || tail(bytes).is_none())
            && versioned.format.major > FORMAT.major
        {
            let FormatVersion { major, minor } = versioned.format;
            return Err(Error::Unsupported {
                path: path.to_path_buf(),
                found: format!("{major}.{minor}"),
                supported: format!("{}.x", FORMAT.major),
            });
        }
        digest?;
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| {
            let offset = offset_of(bytes, error.line(), error.column());
            Error::corrupt(path, offset, "manifest", "the fields of FORMAT.md", error)
        })?;
        manifest.check(path)?;
        Ok(manifest)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let corrupt = |problem: String, expected: &str, found: &dyn ToString| {
            Err(Error::corrupt(path, 0, problem, expected, found.to_string()))
        };
        if self.format.major != FORMAT.major {
            return corrupt("format.major".to_owned(), "1", &self.format.major);
        }
        if let Some(problem) = self.image.problem() {
            return corrupt("image settings".to_owned(), problem, &"other settings");
        }
        let mut names = std::collections::BTreeSet::new();
        for split in &self.splits {
            if !split_name_fits(&split.name) || !names.insert(&split.name) {
                return corrupt("split name".to_owned(), "a distinct [a-z0-9_-]{1,32}", &split.name);
            }
            let mut samples = 0u64;
            for (number, shard) in split.shards.iter().enumerate() {
                let expected = u32::try_from(number).map(shard_name).unwrap_or_default();
                if shard.name != expected {
                    return corrupt(format!("name of a shard of {}", split.name), &expected, &shard.name);
                }
                let digests = shard.side_tables.values().map(|table| &table.blake3);
                for digest in digests.chain([&shard.tar_blake3, &shard.index_blake3]) {
                    if !is_digest(digest) {
                        return corrupt(
                            format!("digest of {}", shard.name),
                            "64 lower-case hex digits",
                            digest,
                        );
                    }
                }
                if let Some(name) = shard.side_tables.keys().find(|name| !split_name_fits(name)) {
                    return corrupt(format!("side table of {}", shard.name), "[a-z0-9_-]{1,32}", name);
                }
                samples = samples.saturating_add(shard.samples);
            }
            if samples != split.samples {
                return corrupt(format!("samples of {}", split.name), &samples.to_string(), &split.samples);
            }
        }
        let fingerprint = self.compute_fingerprint();
        if self.fingerprint != fingerprint {
            return corrupt("fingerprint".to_owned(), &fingerprint, &self.fingerprint);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Versioned {
    format: FormatVersion,
}

/// Whether `name` may name a split or a side table: it becomes part of a path.
pub fn split_name_fits(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    (1..=32).contains(&name.len()) && name.bytes().all(allowed)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The end of every manifest of version 1: `"digest": "` 64 digits `"` newline `}` newline.
fn tail(bytes: &[u8]) -> Option<(usize, &str)> {
    const BEFORE: &[u8] = b"\n  \"digest\": \"";
    const AFTER: &[u8] = b"\"\n}\n";
    let start = bytes.len().checked_sub(64 + AFTER.len())?;
    let fits = bytes[start + 64..] == *AFTER && bytes[..start].ends_with(BEFORE);
    let digest = std::str::from_utf8(&bytes[start..start + 64]).ok()?;
    (fits && is_digest(digest)).then_some((start, digest))
}

fn check_digest(bytes: &[u8], path: &Path) -> Result<()> {
    let Some((start, stored)) = tail(bytes) else {
        let at = bytes.len().saturating_sub(68) as u64;
        return Err(Error::corrupt(path, at, "end of the manifest", "its digest and a brace", "other bytes"));
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..start]);
    hasher.update(ZERO_DIGEST.as_bytes());
    hasher.update(&bytes[start + 64..]);
    let computed = hasher.finalize().to_hex();
    if computed.as_str() != stored {
        return Err(Error::corrupt(path, start as u64, "digest of the manifest itself", stored, computed));
    }
    Ok(())
}

fn offset_of(bytes: &[u8], line: usize, column: usize) -> u64 {
    let before: usize =
        bytes.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column.saturating_sub(1)) as u64
}
