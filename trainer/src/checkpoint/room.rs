//! Whether a file system has room for a checkpoint, asked before the first byte. Leaves out quotas, which only
//! a write meets.

use std::path::Path;

/// Bytes that this user can still write below `folder`, which need not exist yet; none where the system does
/// not say.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let mut there = folder.ancestors().map(|f| if f.as_os_str().is_empty() { Path::new(".") } else { f });
        let stat = rustix::fs::statvfs(there.find(|folder| folder.exists())?).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}
