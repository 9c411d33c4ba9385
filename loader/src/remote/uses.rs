//! When each sample is needed next: in this epoch's order, or after its turn in the next epoch's. A pure function of the
//! order, held as a table so that mixtures, views and ranks are all the same. Left out: what is at hand.

use std::sync::Arc;

use crate::{collate::Source, error::Result, sequence::EpochSamples};

const NEVER: u32 = u32::MAX;

/// Uses from here on are the next epoch's.
pub(super) const NEXT_EPOCH: u64 = 1 << 32;

/// The times at which samples are needed; times count the slots of the epoch's batches.
pub(super) struct Uses {
    source: Arc<Source>,
    samples: Arc<EpochSamples>,
    epoch: u64,
    first_batch: u64,
    this: Option<Vec<u32>>,
    next: Option<Vec<u32>>,
}

impl Uses {
    /// For the batches of `epoch` from `first_batch` on; nothing is computed yet.
    pub(super) fn new(source: Arc<Source>, samples: Arc<EpochSamples>, epoch: u64, first_batch: u64) -> Uses {
        Uses { source, samples, epoch, first_batch, this: None, next: None }
    }

    /// When `sample` is needed, at `now` or after it in this epoch.
    pub(super) fn this_epoch(&mut self, sample: u64, now: u64) -> Result<Option<u64>> {
        if self.this.is_none() {
            self.this = Some(table(&self.source, &self.samples, self.first_batch)?);
        }
        let time = self.this.as_ref().and_then(|this| this.get(sample as usize)).copied().unwrap_or(NEVER);
        Ok(Some(u64::from(time)).filter(|&at| time != NEVER && at >= now))
    }

    /// When `sample` is needed, at `now` or after it: what is never needed again, last.
    pub(super) fn next_use(&mut self, sample: u64, now: u64) -> Result<u64> {
        if let Some(time) = self.this_epoch(sample, now)? {
            return Ok(time);
        }
        if self.next.is_none() {
            self.next = Some(self.next_epoch()?);
        }
        let time = self.next.as_ref().and_then(|next| next.get(sample as usize)).copied();
        Ok(NEXT_EPOCH + u64::from(time.unwrap_or(NEVER)))
    }

    fn next_epoch(&self) -> Result<Vec<u32>> {
        let source = &self.source;
        let mut next = match source.sequence.epoch(self.epoch.saturating_add(1)) {
            Ok(samples) => table(source, &samples, 0)?,
            // There is no such epoch.
            Err(_) => vec![NEVER; source.store.len() as usize],
        };
        // The padding of the last batch comes before it.
        if let Some(last) = source.plan.batch_count().checked_sub(1) {
            let last = source.plan.batch(last);
            for position in last.positions().skip(last.valid_count as usize) {
                next[source.sequence.sample(&self.samples, position)? as usize] = 0;
            }
        }
        Ok(next)
    }
}

/// The first time at which each sample is needed from `first_batch` on.
fn table(source: &Source, samples: &EpochSamples, first_batch: u64) -> Result<Vec<u32>> {
    let mut times = vec![NEVER; source.store.len() as usize];
    for batch in first_batch..source.plan.batch_count() {
        let planned = source.plan.batch(batch);
        for (time, position) in (planned.first_slot()..).zip(planned.positions()) {
            let sample = source.sequence.sample(samples, position)? as usize;
            let time = u32::try_from(time).unwrap_or(NEVER - 1);
            times[sample] = times[sample].min(time);
        }
    }
    Ok(times)
}
