//! Folders as values: every file below one, to compare, to copy and to put back. For folders that fit in memory.

use std::{
    collections::BTreeMap,
    io::Result,
    path::{Path, PathBuf},
};

/// Every file below a folder: path in it → bytes.
pub type Snapshot = BTreeMap<PathBuf, Vec<u8>>;

/// Reads every file below `dir`.
///
/// # Errors
/// Where one cannot be read.
pub fn snapshot(dir: &Path) -> Result<Snapshot> {
    let mut found = Snapshot::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).map_err(std::io::Error::other)?.to_path_buf();
                found.insert(name, fs_err::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// Writes a snapshot into `dir`, which need not exist.
///
/// # Errors
/// Where a file cannot be written.
pub fn restore(snapshot: &Snapshot, dir: &Path) -> Result<()> {
    for (name, bytes) in snapshot {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        fs_err::write(path, bytes)?;
    }
    Ok(())
}

/// The first file in which two snapshots differ, in words; none where they are equal.
pub fn difference(left: &Snapshot, right: &Snapshot) -> Option<String> {
    for name in left.keys().chain(right.keys()) {
        match (left.get(name), right.get(name)) {
            (Some(left), Some(right)) if left == right => {}
            (Some(left), Some(right)) => {
                let at = left.iter().zip(right).take_while(|(left, right)| left == right).count();
                return Some(format!("{} differs at byte {at}", name.display()));
            }
            (left, _) => {
                let side = if left.is_some() { "left" } else { "right" };
                return Some(format!("{} is on the {side} alone", name.display()));
            }
        }
    }
    None
}
