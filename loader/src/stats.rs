//! What a loader has done so far: counters that threads share, and a snapshot of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::stages::StageCounters;

/// A loader's work so far, over all its epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples read.
    pub samples: u64,
    /// Bytes of image payloads read.
    pub payload_bytes: u64,
    /// Batches delivered.
    pub batches: u64,
    /// Time that the consumer waited for a batch.
    pub wait_ns: u64,
    /// Damaged samples whose place another one took.
    pub substituted: u64,
    /// Buffers allocated because the consumer held more batches than the pool has.
    pub fresh_buffers: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) samples: AtomicU64,
    pub(crate) payload_bytes: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) wait_ns: AtomicU64,
    pub(crate) stages: StageCounters,
}

impl Counters {
    pub(crate) fn snapshot(&self, fresh_buffers: u64, substituted: u64) -> Stats {
        Stats {
            samples: self.samples.load(Relaxed),
            payload_bytes: self.payload_bytes.load(Relaxed),
            batches: self.batches.load(Relaxed),
            wait_ns: self.wait_ns.load(Relaxed),
            substituted,
            fresh_buffers,
        }
    }
}
