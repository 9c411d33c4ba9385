//! The one place that maps files. It lends `&[u8]` and gives advice to the kernel; what the bytes mean is left
//! to the others.
#![expect(unsafe_code, reason = "mapping a file is unsafe by nature; this module is its one home")]

use std::path::Path;

use crate::{Error, Result};

/// A file mapped for reading.
///
/// Shards are written beside their place and renamed into it, so a mapping keeps the bytes that it was opened
/// on even while a repair replaces the file. A file that another program *cuts* in place is outside of that
/// contract: reading past its new end is a bus error.
#[derive(Debug)]
pub struct Mapping {
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
        // written in place (FORMAT.md, "Writing"), so the bytes behind it do not change.
        let map = unsafe { memmap2::Mmap::map(file.file()) }.map_err(Error::io("map", path))?;
        Ok(Self { map })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
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
