//! Room in a full cache: what the order needs last goes first, and never what is planned or in use. Left out: when each
//! sample is needed (`uses`), and the freeing itself (`held`).

use std::{
    collections::BinaryHeap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    fetch::Failure,
    planner::{Planner, Slot},
    uses::NEXT_EPOCH,
};

impl Planner {
    /// Evicts until so many more pages have room; whether they do. `only_used`: nothing that this epoch still needs.
    pub(super) fn make_room(&mut self, lane: usize, pages: u64, only_used: bool) -> Result<bool, Failure> {
        let held_lane = Arc::clone(&self.keepers[lane].lane);
        let mut is_fresh = false;
        loop {
            let mut held = held_lane.held();
            if held.has_room(pages) {
                return Ok(true);
            }
            let top = self.keepers[lane].heap.as_mut().and_then(BinaryHeap::pop);
            let Some((time, slot)) = top else {
                drop(held);
                if is_fresh || (only_used && self.keepers[lane].heap.is_some()) {
                    return Ok(false);
                }
                self.keepers[lane].heap = Some(self.everything(lane)?);
                is_fresh = true;
                continue;
            };
            let Some(evicted) = held.present(slot).filter(|_| !held.is_pinned(slot)) else { continue };
            if only_used && time < NEXT_EPOCH {
                drop(held);
                if let Some(heap) = &mut self.keepers[lane].heap {
                    heap.push((time, slot));
                }
                return Ok(false);
            }
            let bytes = held.evict(slot, &held_lane.dir).map_err(Failure::of)?;
            drop(held);
            held_lane.objects.counts.evicted_bytes.fetch_add(bytes, Relaxed);
            if time < NEXT_EPOCH {
                let keeper = &mut self.keepers[lane];
                keeper.later = keeper.later.saturating_sub(u64::from(evicted));
            }
        }
    }

    /// All that a lane holds and nobody needs now, by when it is needed next.
    fn everything(&mut self, lane: usize) -> Result<BinaryHeap<(u64, usize)>, Failure> {
        let free: Vec<usize> = {
            let held = self.keepers[lane].lane.held();
            (0..held.slots()).filter(|&slot| held.present(slot).is_some() && !held.is_pinned(slot)).collect()
        };
        let timed = free.into_iter().map(|slot| Ok((self.time((lane, slot))?, slot)));
        timed.collect::<Result<Vec<_>, Failure>>().map(BinaryHeap::from)
    }

    fn time(&mut self, slot: Slot) -> Result<u64, Failure> {
        let now = self.now();
        match self.sample(slot) {
            Some((_, sample)) => self.uses.next_use(sample, now).map_err(Failure::of),
            // Of another split, which nothing is known of.
            None => Ok(u64::MAX),
        }
    }

    /// How much is here already for this epoch.
    pub(super) fn count_later(&mut self) -> Result<(), Failure> {
        if self.horizons.iter().all(|&horizon| horizon == 0) {
            return Ok(());
        }
        let now = self.now();
        for lane in 0..self.keepers.len() {
            let slots = self.keepers[lane].lane.held().slots();
            for slot in 0..slots {
                let pages = self.keepers[lane].lane.held().present(slot);
                if let (Some(pages), Some((_, sample))) = (pages, self.sample((lane, slot)))
                    && self.uses.this_epoch(sample, now).map_err(Failure::of)?.is_some()
                {
                    self.keepers[lane].later += u64::from(pages);
                }
            }
        }
        Ok(())
    }

    pub(super) fn unpin(&mut self, lane: usize, slot: usize) -> Result<(), Failure> {
        let is_free = self.keepers[lane].lane.held().unpin(slot);
        if is_free && self.keepers[lane].heap.is_some() {
            let time = self.time((lane, slot))?;
            if let Some(heap) = &mut self.keepers[lane].heap {
                heap.push((time, slot));
            }
        }
        Ok(())
    }
}
