//! Sets that come in inputs (tars, compressed tars, parquet files), each of which is at hand for a while only or is
//! best read from front to back: downloaded, unpacked, read once, dropped. `spill` goes through them one by one. It
//! leaves out how an input is fetched.

use std::{
    io::{BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use shard::{NewFile, SourceInfo};

use super::{
    Source,
    parquet::Parquet,
    webdataset::{NamedTar, TarOptions, WebDataset, find_files},
};
use crate::{Error, Result};

/// A set that comes in inputs.
pub trait Inputs: Send + Sync {
    /// Its name and what pins its content.
    fn info(&self) -> SourceInfo;

    /// Names of the inputs, in order.
    fn names(&self) -> &[String];

    /// Makes input number `input` ready; what it needs on disk goes into the folder `scratch`, which is its own and may
    /// hold what a stopped run left.
    ///
    /// # Errors
    /// What fetching or opening it says.
    fn open(&self, input: usize, scratch: &Path) -> Result<Box<dyn Source>>;

    /// Told when all that is needed of an input is kept for good.
    ///
    /// # Errors
    /// `Io`.
    fn done(&self, _input: usize, _scratch: &Path) -> Result<()> {
        Ok(())
    }
}

/// What an input file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A plain tar.
    Tar,
    /// A tar compressed by gzip.
    TarGz,
    /// A parquet file.
    Parquet,
}

impl Kind {
    /// The kind that a name tells, and the name without its ending.
    pub fn of(name: &str) -> Option<(Self, &str)> {
        let endings = [
            (".tar.gz", Self::TarGz),
            (".tgz", Self::TarGz),
            (".tar", Self::Tar),
            (".parquet", Self::Parquet),
        ];
        endings.iter().find_map(|(ending, kind)| Some((*kind, name.strip_suffix(ending)?)))
    }
}

/// How the files of a set are opened.
#[derive(Debug, Clone)]
pub struct Opener {
    /// For tars.
    pub tar: TarOptions,
}

impl Opener {
    /// Opens the file at `path` whose name in the source is `name`.
    ///
    /// # Errors
    /// What the kind of file says.
    pub fn open(&self, path: &Path, name: &str, scratch: &Path) -> Result<Box<dyn Source>> {
        let Some((kind, stem)) = Kind::of(name) else {
            return Err(Error::Layout {
                dataset: "webdataset",
                path: path.to_path_buf(),
                problem: "neither .tar, .tar.gz, .tgz nor .parquet".to_owned(),
            });
        };
        let tar = |path: PathBuf| {
            let tar = NamedTar { path, name: stem.to_owned() };
            let source = WebDataset::open(self.tar.clone(), [Ok(tar)], None)?;
            Ok(Box::new(source) as Box<dyn Source>)
        };
        match kind {
            Kind::Tar => tar(path.to_path_buf()),
            Kind::TarGz => {
                let plain = scratch.join("input.tar");
                unpack(path, &plain)?;
                tar(plain)
            }
            Kind::Parquet => Ok(Box::new(Parquet::open(path, stem, &self.tar.columns)?)),
        }
    }
}

/// Unpacks a gzip file. flate2 checks the CRC-32 and length at its end.
fn unpack(path: &Path, to: &Path) -> Result<()> {
    let file = fs_err::File::open(path).map_err(Error::io("open", path))?;
    let mut reader = flate2::read::MultiGzDecoder::new(BufReader::with_capacity(1 << 20, file));
    let mut plain = NewFile::create(to)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut buffer).map_err(|source| Error::Parse {
            path: path.to_path_buf(),
            what: "damaged gzip (download it again)",
            source: source.into(),
        })?;
        if read == 0 {
            return Ok(plain.commit()?);
        }
        std::io::Write::write_all(&mut plain, &buffer[..read]).map_err(Error::io("write", to))?;
    }
}

/// Files of a folder that are read one by one.
#[derive(Debug)]
pub struct LocalInputs {
    opener: Opener,
    revision: String,
    names: Vec<String>,
    paths: Vec<PathBuf>,
}

impl LocalInputs {
    /// Takes `files` as inputs, in order; their names are their paths below `dir`.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(dir: &Path, files: Vec<PathBuf>, tar: TarOptions) -> Result<Self> {
        let names: Vec<String> = files
            .iter()
            .map(|path| {
                // A file that was named itself is below nothing.
                let below = path.strip_prefix(dir).ok().filter(|below| !below.as_os_str().is_empty());
                below
                    .unwrap_or(Path::new(path.file_name().unwrap_or_default()))
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        let mut digest = blake3::Hasher::new();
        for (path, name) in files.iter().zip(&names) {
            digest.update(name.as_bytes());
            digest.update(b"\0");
            digest.update(identity(path, name)?.as_bytes());
            digest.update(b"\0");
        }
        let revision = format!("files blake3 {}", digest.finalize().to_hex());
        Ok(Self { opener: Opener { tar }, revision, names, paths: files })
    }

    /// Tars and parquet files below `dir`, or `dir` itself where it is one.
    ///
    /// # Errors
    /// `Io`, `Layout` where there is none.
    pub fn find(dir: &Path, dataset: &'static str, endings: &[&str]) -> Result<Vec<PathBuf>> {
        let files = if dir.is_file() { vec![dir.to_path_buf()] } else { find_files(dir, 3, endings)? };
        if files.is_empty() {
            let example = match dataset {
                "text-to-image-2m" => " such as data_512_2M/data_000000.tar",
                _ => "",
            };
            let problem = format!("expected files{example} ({}) below it", endings.join(", "));
            return Err(Error::Layout { dataset, path: dir.to_path_buf(), problem });
        }
        Ok(files)
    }
}

/// What pins the content of a file without reading it whole: its length with gzip's CRC-32, or parquet's footer; a plain
/// tar has neither and is hashed by its two ends.
fn identity(path: &Path, name: &str) -> Result<String> {
    if let Some((Kind::Parquet, _)) = Kind::of(name) {
        return Parquet::identity(path);
    }
    const END_BYTES: u64 = 64 << 10;
    let mut file = fs_err::File::open(path).map_err(Error::io("open", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let mut hasher = blake3::Hasher::new();
    for start in [0, length.saturating_sub(END_BYTES)] {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start)).map_err(Error::io("read", path))?;
        (&mut file).take(END_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        hasher.update(&bytes);
    }
    Ok(format!("{length} bytes, ends blake3 {}", hasher.finalize().to_hex()))
}

impl Inputs for LocalInputs {
    fn info(&self) -> SourceInfo {
        SourceInfo { name: self.opener.tar.dataset.clone(), revision: self.revision.clone() }
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn open(&self, input: usize, scratch: &Path) -> Result<Box<dyn Source>> {
        self.opener.open(&self.paths[input], &self.names[input], scratch)
    }
}
