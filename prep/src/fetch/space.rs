//! Whether a disk has room, asked before bytes are written. It leaves out quotas, which only a write meets.

use std::path::Path;

use crate::{Error, Result};

/// Bytes that this user can still write below `dir`, which need not exist yet; none where the system does not say.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let there = dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
        let there = there.into_iter().find(|dir| dir.exists())?;
        let stat = rustix::fs::statvfs(there).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        None
    }
}

/// Refuses where `dir` has not `bytes` left for `what`, which is named in the error.
///
/// # Errors
/// `Space`.
pub fn require(dir: &Path, bytes: u64, what: &str) -> Result<()> {
    match free_bytes(dir) {
        Some(free) if free < bytes => Err(Error::Space {
            what: what.to_owned(),
            dir: dir.to_path_buf(),
            needed_bytes: bytes,
            free_bytes: free,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_any_disk_has_is_refused_with_the_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("not/there/yet");
        require(&deep, 0, "nothing").unwrap();
        let Err(error) = require(&deep, u64::MAX, "the world") else { panic!("room for the world") };
        let text = error.to_string();
        for part in ["the world", "not/there/yet", &u64::MAX.to_string()] {
            assert!(text.contains(part), "{text}");
        }
        assert!(free_bytes(&deep).is_some_and(|free| free > 0));
    }
}
