//! A split's pictures: files of a folder, or entries of the official zip, read where they lie: no second copy on disk.
//! Each entry's CRC-32 is checked as it is read. It leaves out which pictures there are.

use std::{
    io::{Read, Seek, SeekFrom},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use zip::{ZipArchive, result::ZipError};

use super::DATASET;
use crate::{
    Error, Result,
    source::{LoadError, Reason, Rejection, read_file},
};

/// Largest entry that is taken into memory.
const ENTRY_BYTES_MAX: u64 = 256 << 20;

/// Where pictures lie.
#[derive(Debug, Clone)]
pub(super) enum Images {
    /// Files of this folder.
    Folder(PathBuf),
    /// Entries of a zip, below a folder in it.
    Zip(Zip),
}

impl Images {
    /// `dir/NAME/` or `dir/NAME.zip`; none where neither is there.
    pub(super) fn find(dir: &Path, name: &str) -> Result<Option<Self>> {
        let folder = dir.join(name);
        if folder.is_dir() {
            return Ok(Some(Self::Folder(folder)));
        }
        Ok(Zip::find(dir, name)?.map(Self::Zip))
    }

    /// The picture's file, which the zip keeps below `folder`.
    pub(super) fn read(&self, folder: &str, file_name: &str) -> Result<Vec<u8>, LoadError> {
        if file_name.contains(['/', '\\', '\0']) || file_name == ".." {
            return Err(Rejection::new(Reason::UnsafePath, format!("file_name {file_name:?}")).into());
        }
        match self {
            Self::Folder(folder) => read_file(folder, &folder.join(file_name)),
            Self::Zip(zip) => zip.read(&format!("{folder}/{file_name}")),
        }
    }

    /// Whether there is such a picture.
    pub(super) fn has(&self, folder: &str, file_name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(file_name).is_file(),
            Self::Zip(zip) => zip.archive.index_for_name(&format!("{folder}/{file_name}")).is_some(),
        }
    }
}

/// A zip read by any number of threads at once.
#[derive(Debug, Clone)]
pub(super) struct Zip {
    path: PathBuf,
    archive: ZipArchive<Positioned>,
}

impl Zip {
    /// `dir/NAME.zip`, where it is there.
    pub(super) fn find(dir: &Path, name: &str) -> Result<Option<Self>> {
        let path = dir.join(format!("{name}.zip"));
        if !path.is_file() {
            return Ok(None);
        }
        let file = fs_err::File::open(&path).map_err(Error::io("open", &path))?;
        let length = file.metadata().map_err(Error::io("read", &path))?.len();
        let reader = Positioned { file: Arc::new(file), length, position: 0 };
        let archive = ZipArchive::new(reader).map_err(|source| Error::Parse {
            path: path.clone(),
            what: "no whole zip (download it again)",
            source: source.into(),
        })?;
        Ok(Some(Self { path, archive }))
    }

    /// An entry, to be read from front to back.
    pub(super) fn with_entry<T>(
        &self,
        name: &str,
        read: impl FnOnce(&mut dyn Read, u64) -> T,
    ) -> Result<Option<T>> {
        let mut archive = self.archive.clone();
        match archive.by_name(name) {
            Ok(mut entry) => {
                let bytes = entry.size();
                Ok(Some(read(&mut entry, bytes)))
            }
            Err(ZipError::FileNotFound) => Ok(None),
            Err(error) => Err(self.damaged(name, error.into())),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, LoadError> {
        let read = self.with_entry(name, |entry, declared| {
            let mut bytes = Vec::with_capacity(declared.min(1 << 20) as usize);
            // The declared size is not to be trusted: one more byte tells that there is more.
            let read = entry.take(ENTRY_BYTES_MAX + 1).read_to_end(&mut bytes);
            read.map(|_| bytes)
        })?;
        let Some(read) = read else {
            let detail = format!("no entry {name} in {}", self.path.display());
            return Err(Rejection::new(Reason::MissingFile, detail).into());
        };
        // An entry that does not match its CRC-32 was damaged on the way here: others will be as well.
        let bytes = read.map_err(|error| self.damaged(name, error.into()))?;
        if bytes.is_empty() {
            return Err(Rejection::new(Reason::EmptyFile, format!("{name} has no bytes")).into());
        }
        if bytes.len() as u64 > ENTRY_BYTES_MAX {
            let detail = format!("{name} has more than {ENTRY_BYTES_MAX} bytes");
            return Err(Rejection::new(Reason::TooLarge, detail).into());
        }
        Ok(bytes)
    }

    pub(super) fn damaged(&self, entry: &str, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
        let problem = format!("entry {entry} is damaged: {source}; remove the file and download it again");
        Error::Layout { dataset: DATASET, path: self.path.clone(), problem }
    }
}

/// A place in a file that others read as well: each clone has its own.
#[derive(Debug, Clone)]
struct Positioned {
    file: Arc<fs_err::File>,
    length: u64,
    position: u64,
}

impl Read for Positioned {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.file().read_at(bytes, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Positioned {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let before = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "a place before the start");
        self.position = position.ok_or_else(before)?;
        Ok(self.position)
    }
}
