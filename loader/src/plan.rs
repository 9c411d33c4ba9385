//! The order cut into batches and dealt to ranks: which positions of an epoch make batch b. Pure arithmetic.
//!
//! Left out: what stands at a position ([`crate::order`]) and how it is read (`prefetch`).

use crate::{
    error::{Error, Result},
    world::World,
};

/// What becomes of the samples that do not fill the last global batch. Always the caller's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remainder {
    /// They are left out of this epoch.
    DropLast,
    /// They are delivered, and the batch is filled up from the start of the epoch's order;
    /// [`valid_count`](PlannedBatch::valid_count) says how many are no repeats.
    PadLast,
}

/// An epoch's batches for one rank.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    len: u64,
    batch_size: u64,
    remainder: Remainder,
    world: World,
}

/// One rank's part of a global batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedBatch {
    /// Samples of the epoch, over all ranks, that come before this global batch.
    pub position: u64,
    /// Samples of the epoch, over all ranks, that are delivered once this global batch is: where to resume.
    pub end: u64,
    /// First slot of this rank; slots count through the epoch and may run past its samples where it is padded.
    first_slot: u64,
    /// Samples that this rank delivers, padding included.
    pub len: u64,
    /// How many of them, from the front, are no padding.
    pub valid_count: u64,
    samples: u64,
}

impl PlannedBatch {
    /// The first slot of this rank.
    pub(crate) fn first_slot(self) -> u64 {
        self.first_slot
    }

    /// The position of the sample at `place`, which is below [`len`](Self::len).
    pub(crate) fn position(self, place: u64) -> u64 {
        (self.first_slot + place) % self.samples
    }

    /// The positions in the epoch's order, in the order of delivery; padding starts again at position 0.
    pub fn positions(self) -> impl Iterator<Item = u64> {
        (self.first_slot..self.first_slot + self.len).map(move |slot| slot % self.samples)
    }
}

impl Plan {
    /// A plan of `len` samples in global batches of `batch_size`.
    ///
    /// # Errors
    /// [`Error::Config`] where either is zero or past 2^62, where the ranks cannot share a batch evenly, and where
    /// dropping the remainder would leave no batch at all.
    pub fn new(len: u64, batch_size: u64, remainder: Remainder, world: World) -> Result<Plan> {
        const MAX: u64 = 1 << 62;
        let ranks = u64::from(world.world_size());
        if len == 0 || len > MAX {
            return Err(Error::config(format!("an epoch needs between 1 and 2^62 samples, not {len}")));
        }
        if batch_size == 0 || batch_size > MAX {
            return Err(Error::config(format!("a batch needs between 1 and 2^62 samples, not {batch_size}")));
        }
        if !batch_size.is_multiple_of(ranks) {
            return Err(Error::config(format!(
                "a batch of {batch_size} does not divide among {ranks} ranks"
            )));
        }
        if remainder == Remainder::DropLast && batch_size > len {
            return Err(Error::config(format!(
                "a batch of {batch_size} is larger than the {len} samples there are, and drop_last would leave no \
                 batch: take a smaller batch or pad_last"
            )));
        }
        Ok(Plan { len, batch_size, remainder, world })
    }

    /// How many batches each rank delivers in an epoch: the same for every rank.
    pub fn batch_count(&self) -> u64 {
        match self.remainder {
            Remainder::DropLast => self.len / self.batch_size,
            Remainder::PadLast => self.len.div_ceil(self.batch_size),
        }
    }

    /// How many samples one rank delivers in a batch.
    pub fn rank_batch_size(&self) -> u64 {
        self.batch_size / u64::from(self.world.world_size())
    }

    /// This rank's part of the global batch number `batch`, which must be below [`batch_count`](Self::batch_count).
    pub fn batch(&self, batch: u64) -> PlannedBatch {
        assert!(batch < self.batch_count(), "batch {batch} is past the epoch's {}", self.batch_count());
        let (position, len) = (batch * self.batch_size, self.rank_batch_size());
        let first_slot = position + u64::from(self.world.rank()) * len;
        PlannedBatch {
            position,
            end: (position + self.batch_size).min(self.len),
            first_slot,
            len,
            valid_count: self.len.saturating_sub(first_slot).min(len),
            samples: self.len,
        }
    }

    /// The positions of the global batch number `batch` over all ranks, padding apart.
    pub fn global(&self, batch: u64) -> std::ops::Range<u64> {
        let position = batch.saturating_mul(self.batch_size).min(self.len);
        position..position.saturating_add(self.batch_size).min(self.len)
    }

    /// The number of the batch that begins at `position`; the count of batches where the epoch is over by then.
    ///
    /// # Errors
    /// [`Error::Position`] where no batch edge is there.
    pub fn batch_at(&self, position: u64) -> Result<u64> {
        let end = self.batch_count() * self.batch_size;
        if position == self.len || position == end {
            return Ok(self.batch_count());
        }
        if position > end || !position.is_multiple_of(self.batch_size) {
            return Err(Error::Position { position, batch_size: self.batch_size, len: self.len });
        }
        Ok(position / self.batch_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn positions(plan: &Plan) -> Vec<u64> {
        (0..plan.batch_count()).flat_map(|b| plan.batch(b).positions()).collect()
    }

    #[test]
    fn drop_last_leaves_the_remainder_out() {
        let plan = Plan::new(10, 4, Remainder::DropLast, World::SINGLE).unwrap();
        assert_eq!(positions(&plan), (0..8).collect::<Vec<_>>());
        assert!((0..2).all(|b| plan.batch(b).valid_count == 4));
        assert_eq!(plan.batch(1).end, 8);
    }

    #[test]
    fn pad_last_repeats_from_the_start() {
        let plan = Plan::new(10, 4, Remainder::PadLast, World::SINGLE).unwrap();
        assert_eq!(positions(&plan), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
        assert_eq!((plan.batch(2).valid_count, plan.batch(2).end), (2, 10));
        let wide = Plan::new(3, 8, Remainder::PadLast, World::SINGLE).unwrap();
        assert_eq!(positions(&wide), [0, 1, 2, 0, 1, 2, 0, 1]);
        assert_eq!(wide.batch(0).valid_count, 3);
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_numbers() {
        let refused = |len, batch, remainder, ranks| {
            Plan::new(len, batch, remainder, World::new(0, ranks).unwrap()).unwrap_err().to_string()
        };
        assert!(refused(3, 8, Remainder::DropLast, 1).contains("8 is larger than the 3 samples"));
        assert!(refused(30, 8, Remainder::DropLast, 3).contains("8 does not divide among 3 ranks"));
        assert!(refused(0, 8, Remainder::PadLast, 1).contains("not 0"));
        assert!(refused(9, 0, Remainder::PadLast, 1).contains("not 0"));
    }

    #[test]
    fn a_position_is_a_batch_edge_or_refused() {
        let plan = Plan::new(10, 4, Remainder::PadLast, World::SINGLE).unwrap();
        assert_eq!([0, 4, 8, 10, 12].map(|p| plan.batch_at(p).unwrap()), [0, 1, 2, 3, 3]);
        for position in [1, 3, 9, 11, 13, 16] {
            assert!(plan.batch_at(position).is_err(), "{position}");
        }
    }

    proptest! {
        #[test]
        fn ranks_partition_each_batch(len in 1u64..200, part in 1u64..20, ranks in 1u32..6, pad: bool) {
            let remainder = if pad { Remainder::PadLast } else { Remainder::DropLast };
            let batch_size = part * u64::from(ranks);
            let Ok(whole) = Plan::new(len, batch_size, remainder, World::SINGLE) else {
                prop_assert!(!pad && batch_size > len);
                return Ok(());
            };
            let plans: Vec<Plan> = (0..ranks)
                .map(|rank| Plan::new(len, batch_size, remainder, World::new(rank, ranks).unwrap()).unwrap())
                .collect();
            for b in 0..whole.batch_count() {
                let parts: Vec<PlannedBatch> = plans.iter().map(|p| p.batch(b)).collect();
                let union: Vec<u64> = parts.iter().flat_map(|p| p.positions()).collect();
                prop_assert_eq!(union, whole.batch(b).positions().collect::<Vec<_>>());
                prop_assert_eq!(parts.iter().map(|p| p.valid_count).sum::<u64>(), whole.batch(b).valid_count);
                prop_assert!(parts.iter().all(|p| p.len == part));
            }
        }

        #[test]
        fn every_position_once(len in 1u64..300, batch_size in 1u64..40, pad: bool) {
            let remainder = if pad { Remainder::PadLast } else { Remainder::DropLast };
            prop_assume!(pad || batch_size <= len);
            let plan = Plan::new(len, batch_size, remainder, World::SINGLE).unwrap();
            let valid: Vec<u64> = (0..plan.batch_count())
                .flat_map(|b| plan.batch(b).positions().take(plan.batch(b).valid_count as usize))
                .collect();
            let expected = if pad { len } else { len - len % batch_size };
            prop_assert_eq!(valid, (0..expected).collect::<Vec<_>>());
        }
    }
}
