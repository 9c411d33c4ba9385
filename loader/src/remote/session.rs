//! What an epoch fetches, as its workers see it: they wait for a batch's bytes, and say when they are done with them. One
//! thread of its own does the rest (`planner`); it ends with the session. Left out: what is fetched when.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use tokio::sync::Notify;

use super::{fetch::Failure, planner::Planner};
use crate::error::{Error, Result, panic_message};

/// Tickets from here on are of single samples, below of batches by their numbers.
const SINGLE: u64 = 1 << 63;

/// What an epoch fetches.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A batch, or a sample, whose bytes are at hand as long as this lives.
#[derive(Debug)]
pub(crate) struct Hold {
    shared: Arc<Shared>,
    ticket: u64,
}

/// Between the workers and the fetching thread.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Signalled when a ticket is ready or all is over.
    ready: Condvar,
    /// Wakes the fetching thread.
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) stopped: bool,
    /// Why nothing more comes, if so.
    pub(super) broken: Option<Failure>,
    /// Samples that each ticket still lacks.
    pub(super) lacking: HashMap<u64, usize>,
    /// Tickets that cannot be planned; nothing after them is.
    pub(super) refused: HashMap<u64, Failure>,
    /// Samples that cannot be had.
    pub(super) failures: HashMap<u64, Failure>,
    /// Tickets whose bytes are no longer needed.
    pub(super) released: Vec<u64>,
    /// Samples that are asked for outside the order, with their tickets.
    pub(super) asked: Vec<(u64, u64)>,
    last_single: u64,
}

impl Session {
    pub(super) fn start(mut planner: Planner, shared: Arc<Shared>) -> Result<Session> {
        let thread = std::thread::Builder::new().name("loader-fetch".to_owned());
        let theirs = Arc::clone(&shared);
        let work = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| planner.work()));
            let failure = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(failure)) => failure,
                Err(panic) => Failure::Panicked { message: panic_message(&*panic) },
            };
            theirs.lock().broken = Some(failure);
            theirs.ready.notify_all();
        };
        let thread = thread.spawn(work).map_err(Error::Spawn)?;
        Ok(Session { shared, thread: Some(thread) })
    }

    /// Waits for the bytes of batch number `batch`; each batch is held once, by whoever makes it. Samples that cannot be
    /// had are told by [`check`](Self::check).
    pub(crate) fn hold(&self, batch: u64) -> Result<Hold> {
        self.wait(batch)
    }

    /// Waits for a sample that is not due by the order.
    pub(crate) fn hold_sample(&self, sample: u64) -> Result<Hold> {
        let ticket = {
            let mut state = self.shared.lock();
            state.last_single += 1;
            let ticket = SINGLE + state.last_single;
            state.asked.push((ticket, sample));
            ticket
        };
        self.shared.wake.notify_one();
        self.wait(ticket)
    }

    fn wait(&self, ticket: u64) -> Result<Hold> {
        let mut state = self.shared.lock();
        loop {
            if state.lacking.get(&ticket) == Some(&0) {
                return Ok(Hold { shared: Arc::clone(&self.shared), ticket });
            }
            if let Some(failure) = state.refused.get(&ticket).or(state.broken.as_ref()) {
                return Err(failure.error());
            }
            if state.stopped {
                return Err(Error::config("the epoch was given up"));
            }
            state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether a sample that is held could be had.
    pub(crate) fn check(&self, sample: u64) -> Result<()> {
        self.shared.lock().failures.get(&sample).map_or(Ok(()), |failure| Err(failure.error()))
    }

    /// Lets nobody wait any longer.
    pub(crate) fn stop(&self) {
        self.shared.lock().stopped = true;
        self.shared.ready.notify_all();
        self.shared.wake.notify_one();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // Its panics are caught where they happen.
            let _ = thread.join();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.lock().released.push(self.ticket);
        self.shared.wake.notify_one();
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ticket cannot be planned: whoever waits for it is told, in its place.
    pub(super) fn refuse(&self, ticket: u64, failure: Failure) {
        self.lock().refused.insert(ticket, failure);
        self.ready.notify_all();
    }

    /// A ticket lacks so many samples.
    pub(super) fn lacks(&self, ticket: u64, samples: usize) {
        self.lock().lacking.insert(ticket, samples);
        self.ready.notify_all();
    }

    /// A sample came, or cannot be had, for which these tickets wait.
    pub(super) fn came(&self, tickets: &[u64], sample: Option<u64>, failure: Option<Failure>) {
        if tickets.is_empty() {
            return;
        }
        let mut state = self.lock();
        if let (Some(sample), Some(failure)) = (sample, failure) {
            state.failures.insert(sample, failure);
        }
        for ticket in tickets {
            if let Some(lacking) = state.lacking.get_mut(ticket) {
                *lacking = lacking.saturating_sub(1);
            }
        }
        drop(state);
        self.ready.notify_all();
    }
}
