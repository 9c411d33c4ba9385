//! Missing samples put together into requests: neighbours in a tar come in one, and in the order `block` those neighbours
//! too that are needed within the window, as far as there is room that nobody needs. Left out: the requests themselves.

use std::{ops::Range, sync::Arc};

use super::{
    fetch::{Failure, Run},
    held::{self, SplitPlace},
    planner::{Planner, Slot},
};

/// Longest request of more than one sample.
const RUN_BYTES_MAX: u64 = 4 << 20;

/// Bytes between two samples that are fetched rather than asked around: headers and small members.
const GAP_BYTES_MAX: u64 = 64 << 10;

impl Planner {
    /// Groups what is missing, by slots, into requests.
    pub(super) fn queue_runs(&mut self, missing: Vec<(usize, Slot, u32)>) -> Result<(), Failure> {
        let mut at = 0;
        while at < missing.len() {
            let (part, (lane, slot), pages) = missing[at];
            let Some(split) = self.parts[part].as_ref().map(|part| Arc::clone(&part.split)) else { break };
            let mut run = vec![(slot, pages)];
            let Some(mut range) = split.extent(slot) else { break };
            at += 1;
            while let Some(&(other, (_, slot), pages)) = missing.get(at)
                && other == part
                && slot == run[run.len() - 1].0 + 1
                && let Some(joined) = join(&split, &range, run[0].0, slot)
            {
                (range, at) = (joined, at + 1);
                run.push((slot, pages));
            }
            if self.horizons[part] > 0 {
                self.take_neighbours(part, &split, &mut run, range)?;
            }
            let run = Run { lane: Arc::clone(&self.keepers[lane].lane), split, slots: run };
            self.queue.push_back((lane, Arc::new(run)));
        }
        Ok(())
    }

    /// Adds what lies beside a run, is needed within the window, and has room.
    fn take_neighbours(
        &mut self,
        part: usize,
        split: &SplitPlace,
        run: &mut Vec<(usize, u32)>,
        mut range: Range<u64>,
    ) -> Result<(), Failure> {
        let (now, end) = (self.now(), split.starts[split.starts.len() - 1]);
        if now == u64::MAX {
            return Ok(());
        }
        for forward in [true, false] {
            loop {
                let (first, last) = (run[0].0, run[run.len() - 1].0);
                let beside = if forward { last.checked_add(1) } else { first.checked_sub(1) };
                let Some(slot) = beside.filter(|&slot| slot >= split.starts[0] && slot < end) else { break };
                let Some(joined) = join(split, &range, first, slot) else { break };
                let Some(extent) = split.extent(slot) else { break };
                if !self.is_wanted(part, slot, now, held::pages(&extent))? {
                    break;
                }
                let Some(lane) = self.parts[part].as_ref().map(|part| part.lane) else { break };
                let pages = held::pages(&extent);
                self.keepers[lane].later += u64::from(pages);
                self.take_off((lane, slot), pages);
                let place = if forward { run.len() } else { 0 };
                run.insert(place, (slot, pages));
                range = joined;
            }
        }
        Ok(())
    }

    /// Whether a slot is missing, needed soon, and has room that nobody needs.
    fn is_wanted(&mut self, part: usize, slot: usize, now: u64, pages: u32) -> Result<bool, Failure> {
        let Some(place) = self.parts[part].as_ref() else { return Ok(false) };
        let (lane, sample) = (place.lane, place.first + (slot - place.split.starts[0]) as u64);
        let is_missing = {
            let held = self.keepers[lane].lane.held();
            held.present(slot).is_none() && !held.is_pinned(slot)
        };
        if !is_missing || self.flying.contains_key(&(lane, slot)) {
            return Ok(false);
        }
        let time = self.uses.this_epoch(sample, now).map_err(Failure::of)?;
        if time.is_none_or(|time| time - now > self.horizons[part]) {
            return Ok(false);
        }
        let keeper = &self.keepers[lane];
        let limit = keeper.lane.held().limit_pages();
        if keeper.later + u64::from(pages) + keeper.ahead > limit {
            return Ok(false);
        }
        self.make_room(lane, u64::from(pages), true)
    }
}

/// The range of a run with one more sample of the same shard, near it and not too long.
fn join(split: &SplitPlace, range: &Range<u64>, of_run: usize, slot: usize) -> Option<Range<u64>> {
    if split.locate(of_run).0 != split.locate(slot).0 {
        return None;
    }
    let other = split.extent(slot)?;
    let gap = other.start.saturating_sub(range.end).max(range.start.saturating_sub(other.end));
    let joined = range.start.min(other.start)..range.end.max(other.end);
    (gap <= GAP_BYTES_MAX && joined.end - joined.start <= RUN_BYTES_MAX).then_some(joined)
}
