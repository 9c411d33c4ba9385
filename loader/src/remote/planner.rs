//! The thread that fetches: it walks the epoch's batches a bounded number of bytes ahead of the workers, makes room by
//! evicting what the order needs last, and groups what is missing into requests. Left out: a request itself (`fetch`), how
//! requests are put together (`runs`) and how room is made (`room`).
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
    uses::Uses,
};
use crate::{collate::Source, error::Result, order::Order, sequence::EpochSamples};

/// Batches that are planned at a time, before anything else is looked at.
const BATCHES_AT_ONCE: usize = 64;

/// Where a slot is: the number of its lane, and its number there.
pub(super) type Slot = (usize, usize);

/// One lane, as this epoch uses it.
pub(super) struct Keeper {
    pub(super) lane: Arc<Lane>,
    /// What may go, what is needed last on top; some entries are out of date.
    pub(super) heap: Option<BinaryHeap<(u64, usize)>>,
    /// Pages of tickets that are planned and not released.
    pub(super) planned: u64,
    /// Most of them, where they are more than one ticket's.
    pub(super) ahead: u64,
    pub(super) tickets: usize,
    /// Pages that are here for later in this epoch, and not planned.
    pub(super) later: u64,
}

/// A data set of the loader that lies in an object store.
pub(super) struct PartPlace {
    pub(super) lane: usize,
    pub(super) split: Arc<SplitPlace>,
    /// The number of its first sample in the loader's store.
    pub(super) first: u64,
}

/// A sample on its way, with a pin and reserved pages of its own.
pub(super) struct Flight {
    tickets: Vec<u64>,
    pages: u32,
}

/// A ticket's slots, each once, and its pages in each lane.
pub(super) struct Ticket {
    slots: Vec<Slot>,
    pages: Vec<u64>,
}

pub(super) struct Planner {
    pub(super) source: Arc<Source>,
    pub(super) samples: Arc<EpochSamples>,
    pub(super) shared: Arc<Shared>,
    pub(super) keepers: Vec<Keeper>,
    /// One for each part of the store; none for local ones.
    pub(super) parts: Vec<Option<PartPlace>>,
    pub(super) uses: Uses,
    /// Positions within which neighbours are taken along, part by part; 0 where they are not.
    pub(super) horizons: Vec<u64>,
    pub(super) next_batch: u64,
    /// Batches from here on are not planned: one could not be.
    end_batch: u64,
    pub(super) tickets: HashMap<u64, Ticket>,
    pub(super) flying: HashMap<Slot, Flight>,
    pub(super) queue: VecDeque<(usize, Arc<Run>)>,
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
        let batch_size = source.config.batch_size as u64;
        let horizon = |&draws: &u64| match source.order {
            // A part's window is spread over as much more of the epoch as the other parts take.
            Order::Block { block, window } if draws > 0 => {
                // And a batch may reach into the next one.
                (u64::from(block) * u64::from(window)).saturating_mul(len.div_ceil(draws)) + batch_size
            }
            _ => 0,
        };
        let horizons = draws.iter().map(horizon).collect();
        let end_batch = source.plan.batch_count();
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
            end_batch,
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
        for lane in 0..self.keepers.len() {
            // An earlier run may have been allowed more.
            self.make_room(lane, 0, false)?;
        }
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
                if let Err(failure) = self.plan(ticket, &[sample], true) {
                    shared.refuse(ticket, failure);
                }
            }
            let is_full = self.plan_batches();
            while tasks.len() < self.source.config.cache.requests
                && let Some((lane, run)) = self.queue.pop_front()
            {
                let theirs = Arc::clone(&run);
                tasks.spawn(async move { (lane, run, fetch(theirs).await) });
            }
            if !is_full && self.next_batch < self.end_batch && tasks.is_empty() {
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

    /// Plans some batches; whether the next one has to wait for room.
    fn plan_batches(&mut self) -> bool {
        for _ in 0..BATCHES_AT_ONCE {
            if self.next_batch >= self.end_batch {
                return false;
            }
            match self.plan_batch() {
                Ok(true) => {}
                Ok(false) => return true,
                Err(failure) => {
                    self.shared.refuse(self.next_batch, failure);
                    self.end_batch = self.next_batch;
                }
            }
        }
        false
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
    pub(super) fn now(&self) -> u64 {
        let batches = self.source.plan.batch_count();
        if self.next_batch < batches {
            self.source.plan.batch(self.next_batch).first_slot()
        } else {
            u64::MAX
        }
    }

    pub(super) fn slot(&self, sample: u64) -> Option<(usize, Slot)> {
        let number = self.source.store.part_number(sample);
        let part = self.parts[number].as_ref()?;
        Some((number, (part.lane, part.split.starts[0] + (sample - part.first) as usize)))
    }

    /// The part and the sample of a slot; none where this loader does not read it.
    pub(super) fn sample(&self, (lane, slot): Slot) -> Option<(usize, u64)> {
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
        for (keeper, &pages) in self.keepers.iter_mut().zip(&pages) {
            let limit = keeper.lane.held().limit_pages();
            if pages > limit {
                let (needed_bytes, limit_bytes) = (pages * PAGE_BYTES, limit * PAGE_BYTES);
                return Err(Failure::TooSmall { needed_bytes, limit_bytes });
            }
            // Batches of another size may be somewhat larger; neighbours leave that room too.
            keeper.ahead = keeper.ahead.max(pages + pages / 4).min(limit);
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

    pub(super) fn take_off(&mut self, (lane, slot): Slot, pages: u32) {
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
