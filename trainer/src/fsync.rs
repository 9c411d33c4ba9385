//! Files that are replaced, never overwritten: a temporary sibling, synced, renamed.
//!
//! Leaves out folders of several files; checkpoints rename a whole folder (`checkpoint`).

use fs_err as fs;
use std::io::{Result, Write};
use std::path::Path;

/// Puts `bytes` under `path`, so that a reader sees the old file or the new one and never a part.
///
/// # Errors
/// Any error of the file system, with the path in its text.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    write_synced(&temporary, bytes)?;
    fs::rename(&temporary, path)?;
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
