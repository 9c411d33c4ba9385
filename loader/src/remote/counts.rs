//! Counters of what was asked for and what came. Left out: what it cost.

use std::sync::atomic::AtomicU64;

/// See [`RemoteStats`](crate::RemoteStats) for what each means.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: AtomicU64,
    pub(super) fetched_bytes: AtomicU64,
    pub(super) payload_bytes: AtomicU64,
    pub(super) refetched: AtomicU64,
    pub(super) evicted_bytes: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}
