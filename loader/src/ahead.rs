//! Reading ahead of the order where the bytes lie on a disk and not in memory. Left out: data sets that are elsewhere,
//! and what is made of the bytes ([`crate::collate`]).
//!
//! A disk is fast where many reads are under way, and a worker that walks into one missing page after the other has
//! one. So, once a worker has waited for the disk, samples are named to the kernel (`madvise`) before their turn, a
//! few at a time and far enough ahead to keep the disk busy; for some samples only, then it is looked again. While
//! everything is in memory nothing is named: that would cost a system call for each sample. Advice changes no byte, so
//! what is delivered does not depend on it.
//!
//! Samples are counted by *slots* here: a rank's batches of an epoch, one after the other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use shard::{ShardReader, mmap::major_faults};

use crate::{draft::PART_SAMPLES, store::Store};

/// Bytes that are named before their turn: some hundred reads of 150 kB, more than disks serve at a time.
const AHEAD_BYTES: u64 = 64 << 20;

/// Samples that are looked at, and named, together: those that a worker makes together.
pub(crate) const CHUNK_SAMPLES: u64 = PART_SAMPLES as u64;

/// Chunks that are named once a worker has waited for the disk, before it is looked again.
const CHUNKS_COLD: u64 = 1024;

/// Chunks that a worker names beyond those that it needs itself before it reads one: more would keep it from reading
/// for as long as the disk's queue is full.
const CHUNKS_EXTRA: u64 = 4;

/// Whether the disk is being waited for; shared by a loader's epochs.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// Chunks that are still to be named.
    cold_left: AtomicU64,
    /// The shards whose index has been named.
    indexes: Vec<AtomicBool>,
    /// Slots from the one that is read to the last one named.
    distance: u64,
}

impl Ahead {
    /// For samples of `store`.
    pub(crate) fn new(store: &Store) -> Ahead {
        let bytes: u64 = store.parts.iter().map(|part| part.bytes()).sum();
        let sample_bytes = (bytes / store.len().max(1)).max(1);
        // Where the system counts no waits, they are taken for granted.
        let cold_left = if major_faults().is_some() { 0 } else { u64::MAX };
        Ahead {
            cold_left: AtomicU64::new(cold_left),
            indexes: (0..store.shard_count()).map(|_| AtomicBool::new(false)).collect(),
            distance: (AHEAD_BYTES / sample_bytes).max(2 * CHUNK_SAMPLES),
        }
    }

    /// Whether samples are to be named; each time counts for a chunk.
    pub(crate) fn is_cold(&self) -> bool {
        let left = |left: u64| match left {
            0 => None,
            u64::MAX => Some(left),
            left => Some(left - 1),
        };
        self.cold_left.fetch_update(Relaxed, Relaxed, left).is_ok()
    }

    /// Whether reading the beginning of a sample meant to wait for the disk; from then on samples are named.
    pub(crate) fn waits_for(&self, store: &Store, sample: u64) -> bool {
        let before = major_faults();
        // Damage is the reader's to report.
        if let Ok((shard, number)) = store.locate(sample)
            && let Ok(row) = shard.row(number)
            && let Ok(bytes) = shard.payload(&row, row.image)
        {
            std::hint::black_box(bytes.first().copied());
        }
        let waited = major_faults() > before;
        if waited {
            self.cold_left.store(CHUNKS_COLD, Relaxed);
        }
        waited
    }

    /// Names samples to the kernel, in the order in which they are wanted.
    pub(crate) fn name(&self, store: &Store, samples: impl Iterator<Item = u64>) {
        for sample in samples {
            let Ok((shard, number)) = store.locate(sample) else { continue };
            self.name_rows(store, shard, sample);
            if let Ok(row) = shard.row(number) {
                shard.prefetch(row.image);
            }
        }
    }

    /// An index is small, and a row's columns lie all over it: it is brought in whole.
    fn name_rows(&self, store: &Store, shard: &ShardReader, sample: u64) {
        let named = store.shard_number(sample).ok().and_then(|number| self.indexes.get(number));
        if let Some(named) = named
            && !named.swap(true, Relaxed)
        {
            shard.prefetch_rows();
        }
    }

    /// The next chunk to name before the one at `slot` is read, by its first slot: each once among `named`, a worker's
    /// own chunk and the one after it without fail, and of those further ahead some, which `extra` counts.
    pub(crate) fn claim(&self, named: &AtomicU64, slot: u64, extra: &mut u64) -> Option<u64> {
        let own = slot + 2 * CHUNK_SAMPLES;
        let end = if *extra < CHUNKS_EXTRA { slot.saturating_add(self.distance).max(own) } else { own };
        let next = |begin: u64| (begin < end).then_some(begin + CHUNK_SAMPLES);
        let claimed = named.fetch_update(Relaxed, Relaxed, next).ok()?;
        *extra += u64::from(claimed >= own);
        Some(claimed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(distance: u64) -> Ahead {
        Ahead { cold_left: AtomicU64::new(0), indexes: Vec::new(), distance }
    }

    #[test]
    fn each_chunk_is_claimed_once_and_not_too_early() {
        let (ahead, named) = (ahead(8 * 16), AtomicU64::new(0));
        let all = |slot| {
            let mut extra = 0;
            std::iter::from_fn(|| ahead.claim(&named, slot, &mut extra)).collect::<Vec<_>>()
        };
        assert_eq!(all(0), [0, 16, 32, 48, 64, 80]);
        assert_eq!(all(16), [96, 112, 128]);
        assert_eq!(all(0), [0; 0]);
        // A worker further on needs what lies between, and its own.
        assert_eq!(all(160), [144, 160, 176, 192, 208, 224, 240]);
    }

    #[test]
    fn it_is_looked_again_after_some_chunks() {
        let ahead = ahead(1);
        assert!(!ahead.is_cold());
        ahead.cold_left.store(2, Relaxed);
        assert_eq!([(); 4].map(|()| ahead.is_cold()), [true, true, false, false]);
        ahead.cold_left.store(u64::MAX, Relaxed);
        assert!((0..5).all(|_| ahead.is_cold()));
    }
}
