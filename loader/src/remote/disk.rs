//! What the cache asks of a disk beyond reading and writing: how much is free, files of holes, holes in files. Left out:
//! systems without holes; there a full cache is an error.

use std::{io::Result, ops::Range, path::Path};

/// Makes the file at `path` one of `bytes` bytes that takes no room, where it is not so long already; whether it did.
pub(super) fn sparse(path: &Path, bytes: u64) -> Result<bool> {
    if fs_err::metadata(path).is_ok_and(|metadata| metadata.len() == bytes) {
        return Ok(false);
    }
    // A new file beside its place: one that somebody has mapped is not cut under him.
    let new = path.with_extension("new");
    fs_err::File::create(&new)?.set_len(bytes)?;
    fs_err::rename(&new, path)?;
    Ok(true)
}

/// Bytes that are free for this user on the disk of `path`.
pub(super) fn free_bytes(path: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Bytes of disk that a file takes.
pub(super) fn used_bytes(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs_err::metadata(path)?.blocks() * 512)
}

/// Frees a range of a file, which reads as zeros from then on.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn punch(path: &Path, range: Range<u64>) -> Result<()> {
    use rustix::fs::FallocateFlags;
    let file = fs_err::OpenOptions::new().write(true).open(path)?;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(file.file(), flags, range.start, range.end - range.start)?)
}

/// Frees a range of a file, which reads as zeros from then on.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn punch(_: &Path, _: Range<u64>) -> Result<()> {
    Err(std::io::Error::new(
        std::io::ErrorKind::Unsupported,
        "parts of files cannot be freed on this system: allow the cache as many bytes as the data set has",
    ))
}
