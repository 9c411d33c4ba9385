//! Files that are replaced, never overwritten: a temporary sibling, synced, renamed.
//!
//! Leaves out folders of several files; checkpoints rename a whole folder (`checkpoint`).

use fs_err as fs;
use std::io::{Result, Write};
use std::path::Path;

/// Puts `bytes` under `path`, so that a reader sees the old file or the new one and never a part. Where `path` is a
/// link, the file that it names is replaced; a device or a pipe is written to.
///
/// # Errors
/// Any error of the file system, with the path in its text; what stood there stays.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let there = fs::metadata(path).ok();
    if there.as_ref().is_some_and(|there| !there.is_file() && !there.is_dir()) {
        return fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let path = if there.is_some() { fs::canonicalize(path)? } else { path.to_path_buf() };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let placed = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
    if placed.is_err() {
        // The first error is the one to tell; a temporary file that cannot go either is no news.
        let _ = fs::remove_file(&temporary);
    }
    placed?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Writes a file and waits until the disk has it.
///
/// # Errors
/// Any error of the file system, with the path in its text.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Waits until the disk has the names in a folder.
///
/// # Errors
/// Any error of the file system, with the path in its text.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_what_was_there_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        fs::create_dir(&path).unwrap();
        replace(&path, b"bytes over a folder").unwrap_err();
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["kept"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_and_pipes_stay_pipes() {
        use std::os::unix::fs::FileTypeExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs_err::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        replace(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }
}
