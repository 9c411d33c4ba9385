//! What a step remembers of its batches, for whoever looks for the cause of a loss that is no number.

use loader::Batch;

/// What is remembered of a batch whose gradient is gathered.
pub(super) struct Gathered {
    /// Its epoch.
    pub(super) epoch: u64,
    /// Its place in the epoch.
    pub(super) position: u64,
    /// Its samples' numbers within the split.
    pub(super) samples: Vec<u64>,
    /// Its samples' keys.
    pub(super) keys: Vec<String>,
    /// The captions that were learned.
    pub(super) captions: Vec<String>,
}

impl Gathered {
    /// What `batch` is made of; the batch itself goes back to the loader.
    pub(super) fn new(batch: &Batch) -> Self {
        Self {
            epoch: batch.epoch(),
            position: batch.position(),
            samples: (0..batch.len()).map(|i| batch.sample(i)).collect(),
            keys: (0..batch.len()).map(|i| batch.key(i).to_owned()).collect(),
            captions: (0..batch.len()).map(|i| batch.caption(i).to_owned()).collect(),
        }
    }
}
