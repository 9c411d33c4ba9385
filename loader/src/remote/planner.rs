//! The thread that fetches: it walks the epoch's batches a bounded number of bytes ahead of the workers, makes room by
//! evicting what the order needs last, and groups what is missing into requests. Left out: a request itself (`fetch`).
//!
//! Each sample is fetched once an epoch however small the cache is, unless the epoch repeats it. What must be there soon
//! (of planned batches) takes at most `ahead` pages or one batch. In the order `block` a request takes neighbours along that
//! are needed within the window; they and all else that this epoch still needs take at most the rest, and only the
//! room of samples that it does not need. So a planned batch never has to push out what was fetched for a later one.

use std::{
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
};

use tokio::task::JoinSet;

use super::{
    fetch::{Failure, Outcome, Run, fetch, is_sound},
    held::{self, PAGE_BYTES, SplitPlace},
    lane::Lane,
    session::Shared,
    uses::{NEXT_EPOCH, Uses},
};
use crate::{collate::Source, error::Result, order::Order, sequence::EpochSamples};

/// Longest request.
const RUN_BYTES_MAX: u64 = 4 << 20;

/// Bytes between two samples that are fetched rather than asked around.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Batches that are planned at a time, before anything else is looked at.
const BATCHES_AT_ONCE: usize = 64;

/// Where a slot is: the number of its lane, and its number there.
pub(super) type Slot = (usize, usize);

/// One lane, as this epoch uses it.
pub(super) struct Keeper {
    pub(super) lane: Arc<Lane>,
    /// What may go, what is needed last on top; some entries are out of date.
    heap: Option<BinaryHeap<(u64, usize)>>,
    /// Pages of tickets that are planned and not released.
    planned: u64,
    /// Most of them, where they are more than one ticket's.
    ahead: u64,
    tickets: usize,
    /// Pages that are here for later in this epoch, and not planned.
    later: u64,
}

/// A data set of the loader that lies in an object store.
pub(super) struct PartPlace {
    pub(super) lane: usize,
    pub(super) split: Arc<SplitPlace>,
    /// The number of its first sample in the loader's store.
    pub(super) first: u64,
}

/// A sample on its way, with a pin and reserved pages of its own.
struct Flight {
    tickets: Vec<u64>,
    pages: u32,
}

/// A ticket's slots, each once, and its pages in each lane.
struct Ticket {
    slots: Vec<Slot>,
    pages: Vec<u64>,
}

pub(super) struct Planner {
    source: Arc<Source>,
    samples: Arc<EpochSamples>,
    shared: Arc<Shared>,
    keepers: Vec<Keeper>,
    /// One for each part of the store; none for local ones.
    parts: Vec<Option<PartPlace>>,
    uses: Uses,
    /// Positions within which neighbours are taken along, part by part; 0 where they are not.
    horizons: Vec<u64>,
    next_batch: u64,
    tickets: HashMap<u64, Ticket>,
    flying: HashMap<Slot, Flight>,
    queue: VecDeque<(usize, Arc<Run>)>,
}

impl Planner {
    pub(super) fn new(
        source: Arc<Source>,
        samples: Arc<EpochSamples>,
        (epoch, first_batch): (u64, u64),
        lanes: &[Arc<Lane>],
        parts: Vec<Option<PartPlace>>,
        shared: Arc<Shared>,
    ) -> Planner {
        let keeper = |lane: &Arc<Lane>| {
            let limit = lane.held().limit_pages();
            let ahead = (source.config.cache.ahead_bytes / PAGE_BYTES).min(limit / 2);
            Keeper { lane: Arc::clone(lane), heap: None, planned: 0, ahead, tickets: 0, later: 0 }
        };
        let keepers = lanes.iter().map(keeper).collect();
        let (len, draws) = (source.sequence.len(), source.sequence.draws());
        let horizon = |&draws: &u64| match source.order {
            // A part's window is spread over as much more of the epoch as the other parts take.
            Order::Block { block, window } if draws > 0 => {
                (u64::from(block) * u64::from(window)).saturating_mul(len.div_ceil(draws))
            }
            _ => 0,
        };
        let horizons = draws.iter().map(horizon).collect();
        let uses = Uses::new(Arc::clone(&source), Arc::clone(&samples), epoch, first_batch);
        Planner {
            source,
            samples,
            shared,
            keepers,
            parts,
            uses,
            horizons,
            next_batch: first_batch,
            tickets: HashMap::new(),
            flying: HashMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Fetches until it is stopped.
    pub(super) fn work(&mut self) -> Result<(), Failure> {
        let Some(lane) = self.keepers.first().map(|keeper| Arc::clone(&keeper.lane)) else { return Ok(()) };
        lane.driver.block_on(async {
            let mut tasks = JoinSet::new();
            let outcome = self.run(&mut tasks).await;
            tasks.shutdown().await;
            self.let_go();
            outcome
        })
    }

    async fn run(&mut self, tasks: &mut JoinSet<(usize, Arc<Run>, Outcome)>) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        self.count_later()?;
        loop {
            let (stopped, released, asked) = {
                let mut state = shared.lock();
                (state.stopped, std::mem::take(&mut state.released), std::mem::take(&mut state.asked))
            };
            if stopped {
                return Ok(());
            }
            for ticket in released {
                self.release(ticket)?;
            }
            for (ticket, sample) in asked {
                self.plan(ticket, &[sample], true)?;
            }
            let mut is_full = false;
            for _ in 0..BATCHES_AT_ONCE {
                if self.next_batch >= self.source.plan.batch_count() || is_full {
                    break;
                }
                is_full = !self.plan_batch()?;
            }
            while tasks.len() < self.source.config.cache.requests
                && let Some((lane, run)) = self.queue.pop_front()
            {
                let theirs = Arc::clone(&run);
                tasks.spawn(async move { (lane, run, fetch(theirs).await) });
            }
            if !is_full && self.next_batch < self.source.plan.batch_count() && tasks.is_empty() {
                continue;
            }
            // Whatever comes first: a request's end, or a word from the workers.
            let mut woken = std::pin::pin!(shared.wake.notified());
            let done = std::future::poll_fn(|context| match tasks.poll_join_next(context) {
                Poll::Ready(Some(done)) => Poll::Ready(Some(done)),
                _ => woken.as_mut().poll(context).map(|()| None),
            });
            match done.await {
                Some(Ok((lane, run, outcome))) => self.land(lane, &run, outcome)?,
                Some(Err(error)) => return Err(Failure::Panicked { message: error.to_string() }),
                None => {}
            }
        }
    }

    fn plan_batch(&mut self) -> Result<bool, Failure> {
        let planned = self.source.plan.batch(self.next_batch);
        let mut samples = Vec::new();
        for position in planned.positions() {
            samples.push(self.source.sequence.sample(&self.samples, position).map_err(Failure::of)?);
        }
        let done = self.plan(self.next_batch, &samples, false)?;
        self.next_batch += u64::from(done);
        Ok(done)
    }

    /// The time at which the first batch begins that is not planned.
    fn now(&self) -> u64 {
        let batches = self.source.plan.batch_count();
        if self.next_batch < batches {
            self.source.plan.batch(self.next_batch).first_slot()
        } else {
            u64::MAX
        }
    }

    fn slot(&self, sample: u64) -> Option<(usize, Slot)> {
        let number = self.source.store.part_number(sample);
        let part = self.parts[number].as_ref()?;
        Some((number, (part.lane, part.split.starts[0] + (sample - part.first) as usize)))
    }

    /// The part and the sample of a slot; none where this loader does not read it.
    fn sample(&self, (lane, slot): Slot) -> Option<(usize, u64)> {
        self.parts.iter().enumerate().find_map(|(number, part)| {
            let part = part.as_ref().filter(|part| part.lane == lane)?;
            let first = part.split.starts[0];
            let place =
                slot.checked_sub(first).filter(|_| slot < part.split.starts[part.split.starts.len() - 1])?;
            Some((number, part.first + place as u64))
        })
    }

    /// Plans a ticket's samples: pins them, makes room for what is missing, queues it. Whether there was room; where it
    /// `must` be or nothing else is planned, there is.
    fn plan(&mut self, ticket: u64, samples: &[u64], must: bool) -> Result<bool, Failure> {
        let mut slots: Vec<(usize, Slot)> = samples.iter().filter_map(|&sample| self.slot(sample)).collect();
        slots.sort_unstable_by_key(|&(_, slot)| slot);
        slots.dedup_by_key(|&mut (_, slot)| slot);
        // A damaged row has no bytes: whoever reads it says so.
        let extents: Vec<(usize, Slot, u32)> = slots
            .iter()
            .filter_map(|&(part, slot)| {
                let split = &self.parts[part].as_ref()?.split;
                Some((part, slot, held::pages(&split.extent(slot.1)?)))
            })
            .collect();
        let mut pages = vec![0; self.keepers.len()];
        extents.iter().for_each(|&(_, (lane, _), count)| pages[lane] += u64::from(count));
        for (keeper, &pages) in self.keepers.iter().zip(&pages) {
            let limit = keeper.lane.held().limit_pages();
            if pages > limit {
                let (needed_bytes, limit_bytes) = (pages * PAGE_BYTES, limit * PAGE_BYTES);
                return Err(Failure::TooSmall { needed_bytes, limit_bytes });
            }
            if !must && pages > 0 && keeper.tickets > 0 && keeper.planned + pages > keeper.ahead {
                return Ok(false);
            }
        }
        for &(_, (lane, slot), _) in &extents {
            self.keepers[lane].lane.held().pin(slot);
        }
        self.drop_unsound(&extents)?;
        let missing: Vec<(usize, Slot, u32)> = {
            let is_missing = |&(_, (lane, slot), _): &(usize, Slot, u32)| {
                !self.flying.contains_key(&(lane, slot))
                    && self.keepers[lane].lane.held().present(slot).is_none()
            };
            extents.iter().copied().filter(is_missing).collect()
        };
        for lane in 0..self.keepers.len() {
            let of_lane = missing.iter().filter(|(_, slot, _)| slot.0 == lane);
            let need = of_lane.map(|&(_, _, pages)| u64::from(pages)).sum();
            // Where only others hold what is in the way, waiting for them might be for ever.
            let has_room = need == 0 || self.make_room(lane, need, false)?;
            if !has_room && !must && self.keepers[lane].tickets > 0 {
                for &(_, (lane, slot), _) in &extents {
                    self.unpin(lane, slot)?;
                }
                return Ok(false);
            }
        }
        self.commit(ticket, &extents, &missing, pages);
        self.queue_runs(missing)?;
        Ok(true)
    }

    fn commit(
        &mut self,
        ticket: u64,
        extents: &[(usize, Slot, u32)],
        missing: &[(usize, Slot, u32)],
        pages: Vec<u64>,
    ) {
        for &(_, slot, pages) in missing {
            self.take_off(slot, pages);
            self.keepers[slot.0].lane.objects.counts.misses.fetch_add(1, Relaxed);
        }
        let mut lacking = 0;
        for &(_, (lane, slot), pages) in extents {
            let was_there = missing.binary_search_by_key(&(lane, slot), |&(_, slot, _)| slot).is_err();
            if let Some(flight) = self.flying.get_mut(&(lane, slot)) {
                flight.tickets.push(ticket);
                lacking += 1;
            }
            if was_there {
                self.keepers[lane].lane.objects.counts.hits.fetch_add(1, Relaxed);
                let keeper = &mut self.keepers[lane];
                keeper.later = keeper.later.saturating_sub(u64::from(pages));
            }
        }
        for (keeper, &pages) in self.keepers.iter_mut().zip(&pages) {
            keeper.planned += pages;
            keeper.tickets += usize::from(pages > 0);
        }
        let slots = extents.iter().map(|&(_, slot, _)| slot).collect();
        self.tickets.insert(ticket, Ticket { slots, pages });
        self.shared.lacks(ticket, lacking);
    }

    fn take_off(&mut self, (lane, slot): Slot, pages: u32) {
        let mut held = self.keepers[lane].lane.held();
        held.pin(slot);
        held.reserve(pages);
        self.flying.insert((lane, slot), Flight { tickets: Vec::new(), pages });
    }

    /// Compares what another run left in the cache with its checksums before it counts as there.
    fn drop_unsound(&mut self, extents: &[(usize, Slot, u32)]) -> Result<(), Failure> {
        for &(part, (lane, slot), _) in extents {
            let lane = &self.keepers[lane].lane;
            let is_new = {
                let held = lane.held();
                held.present(slot).is_some() && !held.is_checked(slot)
            };
            let Some(part) = self.parts[part].as_ref().filter(|_| is_new) else { continue };
            if is_sound(&part.split, slot) {
                lane.held().set_checked(slot);
            } else {
                lane.objects.counts.refetched.fetch_add(1, Relaxed);
                lane.held().lost(&part.split, slot).map_err(Failure::of)?;
            }
        }
        Ok(())
    }

    /// Groups what is missing, by slots, into requests.
    fn queue_runs(&mut self, missing: Vec<(usize, Slot, u32)>) -> Result<(), Failure> {
        let mut at = 0;
        while at < missing.len() {
            let (part, (lane, slot), pages) = missing[at];
            let Some(split) = self.parts[part].as_ref().map(|part| Arc::clone(&part.split)) else { break };
            let mut run = vec![(slot, pages)];
            let Some(mut range) = split.extent(slot) else { break };
            at += 1;
            while let Some(&(other, (_, slot), pages)) = missing.get(at)
                && other == part
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
        mut range: std::ops::Range<u64>,
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
        if !time.is_some_and(|time| time - now <= self.horizons[part]) {
            return Ok(false);
        }
        let keeper = &self.keepers[lane];
        let limit = keeper.lane.held().limit_pages();
        if keeper.later + u64::from(pages) + keeper.ahead > limit {
            return Ok(false);
        }
        self.make_room(lane, u64::from(pages), true)
    }

    /// Evicts until so many more pages have room; whether they do. `only_used`: nothing that this epoch still needs.
    fn make_room(&mut self, lane: usize, pages: u64, only_used: bool) -> Result<bool, Failure> {
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
    fn count_later(&mut self) -> Result<(), Failure> {
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

    fn unpin(&mut self, lane: usize, slot: usize) -> Result<(), Failure> {
        let is_free = self.keepers[lane].lane.held().unpin(slot);
        if is_free && self.keepers[lane].heap.is_some() {
            let time = self.time((lane, slot))?;
            if let Some(heap) = &mut self.keepers[lane].heap {
                heap.push((time, slot));
            }
        }
        Ok(())
    }

    /// A ticket's bytes are no longer needed.
    fn release(&mut self, ticket: u64) -> Result<(), Failure> {
        let Some(Ticket { slots, pages }) = self.tickets.remove(&ticket) else { return Ok(()) };
        for (keeper, pages) in self.keepers.iter_mut().zip(pages) {
            keeper.planned -= pages;
            keeper.tickets -= usize::from(pages > 0);
        }
        {
            let samples: Vec<u64> = slots.iter().filter_map(|&slot| Some(self.sample(slot)?.1)).collect();
            let mut state = self.shared.lock();
            state.lacking.remove(&ticket);
            for sample in samples {
                state.failures.remove(&sample);
            }
        }
        slots.into_iter().try_for_each(|(lane, slot)| self.unpin(lane, slot))
    }

    /// A request has ended.
    fn land(&mut self, lane: usize, run: &Run, outcome: Outcome) -> Result<(), Failure> {
        let good: Vec<(usize, u32)> = outcome
            .iter()
            .filter(|(_, _, done)| done.is_ok())
            .map(|&(slot, pages, _)| (slot, pages))
            .collect();
        let landed = self.keepers[lane].lane.held().landed(&run.split, &good);
        landed.map_err(Failure::of)?;
        for (slot, pages, done) in outcome {
            let tickets = self.flying.remove(&(lane, slot)).map_or(Vec::new(), |flight| flight.tickets);
            if done.is_err() {
                self.keepers[lane].lane.held().give_back(pages);
                if tickets.is_empty() {
                    // A neighbour, which is asked for again in its turn.
                    let keeper = &mut self.keepers[lane];
                    keeper.later = keeper.later.saturating_sub(u64::from(pages));
                }
            }
            self.unpin(lane, slot)?;
            let sample = self.sample((lane, slot)).map(|(_, sample)| sample);
            self.shared.came(&tickets, sample, done.err());
        }
        Ok(())
    }

    /// Gives back all that was planned or on its way.
    fn let_go(&mut self) {
        for ((lane, slot), flight) in self.flying.drain() {
            let mut held = self.keepers[lane].lane.held();
            held.unpin(slot);
            held.give_back(flight.pages);
        }
        for (_, Ticket { slots, .. }) in self.tickets.drain() {
            for (lane, slot) in slots {
                self.keepers[lane].lane.held().unpin(slot);
            }
        }
    }
}

/// The range of a run with one more sample of the same shard, near it and not too long.
fn join(
    split: &SplitPlace,
    range: &std::ops::Range<u64>,
    of_run: usize,
    slot: usize,
) -> Option<std::ops::Range<u64>> {
    if split.locate(of_run).0 != split.locate(slot).0 {
        return None;
    }
    let other = split.extent(slot)?;
    let gap = other.start.saturating_sub(range.end).max(range.start.saturating_sub(other.end));
    let joined = range.start.min(other.start)..range.end.max(other.end);
    (gap <= GAP_BYTES_MAX && joined.end - joined.start <= RUN_BYTES_MAX).then_some(joined)
}
