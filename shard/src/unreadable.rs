//! Where a file cannot be read: asked once a read through its mapping has failed, which says no more than that. It
//! leaves out files that are too short.

use std::{
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

const BLOCK_BYTES: usize = 1 << 20;
/// The smallest piece that a disk or a page cache fails to give.
const PAGE_BYTES: usize = 4096;

/// The first offset below `bytes` whose page cannot be read, and why; nothing where all can.
pub(crate) fn find(path: &Path, bytes: u64) -> Option<(u64, io::Error)> {
    let mut file = match fs_err::File::open(path) {
        Ok(file) => file,
        Err(error) => return Some((0, error)),
    };
    let mut block = vec![0; BLOCK_BYTES];
    let mut read = |offset: u64, len: usize| -> io::Result<()> {
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut block[..len])
    };
    let len = |offset: u64, most: usize| usize::try_from(bytes - offset).unwrap_or(most).min(most);
    let block =
        (0..bytes).step_by(BLOCK_BYTES).find(|&offset| read(offset, len(offset, BLOCK_BYTES)).is_err())?;
    let pages = (block..bytes).step_by(PAGE_BYTES).take(BLOCK_BYTES / PAGE_BYTES);
    pages.into_iter().find_map(|offset| Some((offset, read(offset, len(offset, PAGE_BYTES)).err()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_file_is_readable_and_a_short_one_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), vec![1; BLOCK_BYTES + 5000]).unwrap();
        assert!(find(file.path(), (BLOCK_BYTES + 5000) as u64).is_none());
        let (offset, _) = find(file.path(), (BLOCK_BYTES + 50_000) as u64).unwrap();
        assert_eq!(offset, (BLOCK_BYTES + 4096) as u64);
        assert!(find(Path::new("/nowhere/at/all"), 10).is_some());
    }

    /// The kernel's own unreadable place: memory of this process that is none.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_reason_is_the_systems() {
        let (offset, error) = find(Path::new("/proc/self/mem"), 10_000).unwrap();
        assert_eq!(offset, 0);
        assert!(error.to_string().contains("os error 5"), "{error}");
    }
}
