//! Files that are whole or not there: written beside their place, synced, renamed over it. It leaves out what they hold.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// A file on its way to its place. Dropped without [`commit`](Self::commit), it leaves nothing behind, and what stood
/// at the place stays.
#[derive(Debug)]
pub struct NewFile {
    file: BufWriter<fs_err::File>,
    path: PathBuf,
    temporary: PathBuf,
}

impl NewFile {
    /// Starts a file for `path`, in `.NAME.tmp` beside it.
    ///
    /// # Errors
    /// `Io`.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.tmp"));
        let file = fs_err::File::create(&temporary).map_err(Error::io("write", path))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 16, file), path: path.to_path_buf(), temporary })
    }

    /// Flushes and syncs what was written; it is not at its place yet.
    ///
    /// # Errors
    /// `Io`.
    pub fn sync(&mut self) -> Result<()> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(Error::io("write", &self.path))
    }

    /// Syncs and closes the file, so that many can wait for their places together.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn finish(mut self) -> Result<Finished> {
        self.sync()?;
        // This one is dropped without a file of its own to remove.
        let temporary = std::mem::take(&mut self.temporary);
        Ok(Finished { path: self.path.clone(), temporary })
    }

    /// Puts the file into its place, whole and synced, and syncs the folder, without which the rename may be lost.
    ///
    /// # Errors
    /// `Io`; what stood at the place stays.
    pub fn commit(mut self) -> Result<()> {
        self.sync()?;
        fs_err::rename(&self.temporary, &self.path).map_err(Error::io("write", &self.path))?;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync_folder(dir)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After a commit there is no file of that name.
        let _ = fs_err::remove_file(&self.temporary);
    }
}

/// A whole file that is not at its place yet. Dropped without [`place`](Self::place), it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Finished {
    path: PathBuf,
    temporary: PathBuf,
}

impl Finished {
    /// Puts the file into its place; whoever calls syncs the folder.
    ///
    /// # Errors
    /// `Io`; what stood at the place stays.
    pub(crate) fn place(self) -> Result<()> {
        fs_err::rename(&self.temporary, &self.path).map_err(Error::io("write", &self.path))
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        // Once it is in its place there is no file of that name.
        let _ = fs_err::remove_file(&self.temporary);
    }
}

/// Syncs the names in a folder.
///
/// # Errors
/// `Io`.
pub(crate) fn sync_folder(dir: &Path) -> Result<()> {
    fs_err::File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))
}

/// Writes `path` whole: what `fill` gives stands there, or what stood there before.
///
/// # Errors
/// `Io`.
pub fn replace_file(path: &Path, fill: impl FnOnce(&mut NewFile) -> io::Result<()>) -> Result<()> {
    let mut file = NewFile::create(path)?;
    fill(&mut file).map_err(Error::io("write", path))?;
    file.commit()
}
