//! Where a worker's time goes, for measuring alone: reading, checking, decoding, changing and copying are one pass over
//! warm bytes otherwise, and here one after the other. Left out: what a caller makes of the figures.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// Time of all workers together, by what they did, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Index rows, keys and captions.
    pub rows_ns: u64,
    /// Payloads brought to memory: the disk, or the page cache's tables.
    pub read_ns: u64,
    /// Checksums compared.
    pub check_ns: u64,
    /// JPEGs decoded.
    pub decode_ns: u64,
    /// Pictures cropped, mirrored and jittered.
    pub augment_ns: u64,
    /// Pixels copied or normalised into batches.
    pub copy_ns: u64,
}

/// What a worker does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Rows,
    Read,
    Check,
    Decode,
    Augment,
    Copy,
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct StageCounters([AtomicU64; 6]);

impl StageCounters {
    pub(crate) fn snapshot(&self) -> Stages {
        let [rows_ns, read_ns, check_ns, decode_ns, augment_ns, copy_ns] =
            [0, 1, 2, 3, 4, 5].map(|stage: usize| self.0[stage].load(Relaxed));
        Stages { rows_ns, read_ns, check_ns, decode_ns, augment_ns, copy_ns }
    }
}

/// Measures one sample's stages, or nothing.
pub(crate) struct Clock<'a> {
    counters: Option<(&'a StageCounters, Instant)>,
}

impl<'a> Clock<'a> {
    /// Starts where `counters` are given.
    pub(crate) fn start(counters: Option<&'a StageCounters>) -> Clock<'a> {
        Clock { counters: counters.map(|counters| (counters, Instant::now())) }
    }

    /// Whether it measures: then stages are kept apart.
    pub(crate) fn runs(&self) -> bool {
        self.counters.is_some()
    }

    /// All since the last call was this.
    pub(crate) fn was(&mut self, stage: Stage) {
        if let Some((counters, last)) = &mut self.counters {
            let now = Instant::now();
            let elapsed = u64::try_from((now - *last).as_nanos()).unwrap_or(u64::MAX);
            counters.0[stage as usize].fetch_add(elapsed, Relaxed);
            *last = now;
        }
    }
}

/// Brings every page of `bytes` to memory.
pub(crate) fn touch(bytes: &[u8]) {
    // The smallest page there is.
    let sum = bytes.iter().step_by(4096).fold(0u8, |sum, byte| sum ^ byte);
    std::hint::black_box(sum);
}
