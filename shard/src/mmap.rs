//! The one place that maps files. It lends `&[u8]` and gives advice to the kernel; what the bytes mean is left
//! to the others.
#![expect(
    unsafe_code,
    reason = "mapping a file and asking about its faults are unsafe; this module is their one home"
)]

use std::path::Path;

#[cfg(unix)]
use crate::bus_error::Guard;
use crate::{Error, Result};

/// A file mapped for reading.
///
/// Shards are written beside their place and renamed into it, so a mapping keeps the bytes that it was opened
/// on even while a repair replaces the file. A file that another program *cuts* in place reads as zeros past its new
/// end, and [`Mapping::is_cut`] says so afterwards.
#[derive(Debug)]
pub struct Mapping {
    // Dropped before the mapping that it guards: fields drop in their order.
    #[cfg(unix)]
    guard: Option<Guard>,
    map: memmap2::Mmap,
}

/// What the kernel is told about coming reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Front to back.
    Sequential,
    /// In no order: no read-ahead.
    Random,
    /// Soon: start reading.
    WillNeed,
}

impl Mapping {
    /// Maps the whole file.
    ///
    /// # Errors
    /// `Io` where it cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self> {
        let file = fs_err::File::open(path).map_err(Error::io("open", path))?;
        // SAFETY: the mapping is private and read-only, and data set files are replaced by rename, never
        // written in place (FORMAT.md, "Writing"), so the bytes behind it do not change. The one exception is the
        // loader's cache of remote data sets: it writes into holes of its tars, and lends a range only after it was
        // written and until it is given up, so no slice is alive over bytes that change.
        let map = unsafe { memmap2::Mmap::map(file.file()) }.map_err(Error::io("map", path))?;
        Ok(Self {
            #[cfg(unix)]
            guard: Guard::of(&map),
            map,
        })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Whether a read since the opening went past the end of a file that was cut short, and so found zeros.
    pub fn is_cut(&self) -> bool {
        #[cfg(unix)]
        return self.guard.as_ref().is_some_and(Guard::is_cut);
        #[cfg(not(unix))]
        false
    }

    /// Advises the kernel on `range`; out-of-bounds ranges and kernels that refuse are ignored, for advice
    /// changes nothing but speed.
    pub fn advise(&self, advice: Advice, offset: usize, bytes: usize) {
        let advice = match advice {
            Advice::Sequential => memmap2::Advice::Sequential,
            Advice::Random => memmap2::Advice::Random,
            Advice::WillNeed => memmap2::Advice::WillNeed,
        };
        if offset < self.map.len() {
            let bytes = bytes.min(self.map.len() - offset);
            let _ = self.map.advise_range(advice, offset, bytes);
        }
    }
}

/// How often this thread has waited for the disk to bring in a page; nothing where the system does not say.
pub fn major_faults() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the kernel fills the struct that the pointer leads to, and keeps no pointer; zeroed, it is valid
        // even where it does not.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
            usage.assume_init()
        };
        u64::try_from(usage.ru_majflt).ok()
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_cut_under_its_mapping_reads_as_zeros_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("cut"), dir.path().join("whole"));
        fs_err::write(&path, vec![7; 100_000]).unwrap();
        fs_err::write(&other, vec![8; 100_000]).unwrap();
        let (map, whole) = (Mapping::open(&path).unwrap(), Mapping::open(&other).unwrap());
        assert!(map.bytes().iter().all(|&byte| byte == 7) && !map.is_cut());
        fs_err::OpenOptions::new().write(true).open(&path).unwrap().set_len(5_000).unwrap();
        assert!(map.bytes()[..5_000].iter().all(|&byte| byte == 7) && !map.is_cut());
        assert!(map.bytes()[8_192..].iter().all(|&byte| byte == 0) && map.is_cut());
        assert!(whole.bytes().iter().all(|&byte| byte == 8) && !whole.is_cut());
    }

    /// A bus error that is no mapping's of ours must still end the process, as if this module were not there.
    #[test]
    fn a_bus_error_elsewhere_still_ends_the_process() {
        use std::os::unix::process::ExitStatusExt;
        const CHILD: &str = "SHARD_TEST_FOREIGN_BUS_ERROR";
        if std::env::var_os(CHILD).is_some() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            fs_err::write(&path, vec![7; 100_000]).unwrap();
            let _ours = Mapping::open(&path).unwrap();
            let file = fs_err::File::open(&path).unwrap();
            // SAFETY: the very misuse that this test is about, in a process of its own.
            let foreign = unsafe { memmap2::Mmap::map(file.file()) }.unwrap();
            fs_err::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
            fs_err::remove_dir_all(dir.path()).unwrap();
            assert_eq!(foreign[50_000], 0, "this read must not come back");
            return;
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mmap::tests::a_bus_error_elsewhere_still_ends_the_process"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert_eq!(child.status.signal(), Some(libc::SIGBUS), "{:?}", child.status);
    }

    #[test]
    fn mappings_come_and_go_past_one_block_of_slots() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs_err::write(&path, vec![1; 10_000]).unwrap();
        for _ in 0..3 {
            let maps: Vec<Mapping> = (0..600).map(|_| Mapping::open(&path).unwrap()).collect();
            assert!(maps.iter().all(|map| !map.is_cut() && map.bytes()[9_999] == 1));
        }
        let maps: Vec<Mapping> = (0..600).map(|_| Mapping::open(&path).unwrap()).collect();
        fs_err::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert!(maps.iter().all(|map| map.bytes()[9_999] == 0 && map.is_cut()));
    }
}
