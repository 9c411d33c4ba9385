//! A bounded pool of worker threads that make numbered items ahead of their consumer, delivered in order.
//!
//! Each worker claims the next number, makes that item alone and files it under its number, so what is delivered
//! does not depend on how many workers there are. A number is claimed only while it is less than `depth` ahead of
//! the consumer. An error or a panic travels in its item's place: what came before is delivered first, then the
//! error, then nothing. Left out: what an item is ([`crate::collate`]) and its buffers ([`crate::buffer`]).

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use crate::error::{Error, Result, panic_message};

/// How an item is made; called from several threads at once.
pub(crate) trait Job: Send + Sync + 'static {
    /// What is made.
    type Item: Send + 'static;
    /// What a worker keeps from one item to the next.
    type Scratch: Default;
    /// Makes item `number`. The result may depend on nothing but the number.
    fn make(&self, number: u64, scratch: &mut Self::Scratch) -> Result<Self::Item>;
    /// Nothing more is wanted: whatever `make` waits for in other threads, it gives up.
    fn stop(&self) {}
}

/// Items `first..end` of a job, in order.
pub(crate) struct Prefetch<J: Job> {
    shared: Arc<Shared<J>>,
    workers: Vec<JoinHandle<()>>,
    /// The consumer's own scratch, where it makes the items itself.
    inline: Option<J::Scratch>,
    /// Set once an error has been delivered.
    failed: bool,
}

struct Shared<J: Job> {
    job: J,
    state: Mutex<State<J::Item>>,
    /// Signalled when the item that the consumer waits for is ready.
    ready: Condvar,
    /// Signalled when a worker may claim again, or must stop.
    room: Condvar,
    depth: u64,
    end: u64,
}

struct State<T> {
    /// The next number that no worker has claimed.
    claim: u64,
    /// The next number to deliver; `items[k]` is number `deliver + k`.
    deliver: u64,
    items: VecDeque<Option<Result<T>>>,
    stopped: bool,
}

impl<J: Job> Prefetch<J> {
    /// Starts `threads` workers on `first..end`, at most `depth` items ahead. No thread at all means that the
    /// consumer makes each item when it asks for it.
    ///
    /// # Errors
    /// [`Error::Spawn`] where the system refuses a thread.
    pub(crate) fn start(job: J, first: u64, end: u64, threads: usize, depth: usize) -> Result<Prefetch<J>> {
        let state = State { claim: first, deliver: first, items: VecDeque::new(), stopped: false };
        let shared = Arc::new(Shared {
            job,
            state: Mutex::new(state),
            ready: Condvar::new(),
            room: Condvar::new(),
            depth: depth.max(1) as u64,
            end,
        });
        let inline = (threads == 0).then(J::Scratch::default);
        let mut prefetch = Prefetch { shared, workers: Vec::new(), inline, failed: false };
        let useful =
            threads.min(depth.max(1)).min(usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX));
        for worker in 0..useful {
            let shared = Arc::clone(&prefetch.shared);
            let thread = std::thread::Builder::new().name(format!("loader-{worker}"));
            // On failure `prefetch` is dropped, which stops and joins the workers already started.
            prefetch.workers.push(thread.spawn(move || shared.work()).map_err(Error::Spawn)?);
        }
        Ok(prefetch)
    }

    fn next_inline(&mut self) -> Option<Result<J::Item>> {
        let scratch = self.inline.as_mut()?;
        let number = {
            let mut state = self.shared.lock();
            if state.deliver >= self.shared.end {
                return None;
            }
            state.deliver += 1;
            state.deliver - 1
        };
        Some(self.shared.make(number, scratch))
    }

    fn next_prefetched(&mut self) -> Option<Result<J::Item>> {
        let mut state = self.shared.lock();
        if state.deliver >= self.shared.end {
            return None;
        }
        let item = loop {
            if let Some(item) = state.items.front_mut().and_then(Option::take) {
                break item;
            }
            state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.items.pop_front();
        state.deliver += 1;
        drop(state);
        self.shared.room.notify_one();
        Some(item)
    }

    fn stop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.room.notify_all();
        self.shared.job.stop();
        for worker in self.workers.drain(..) {
            // A worker's panics are caught where they happen; one that got past is no reason to panic here.
            let _ = worker.join();
        }
    }
}

impl<J: Job> Iterator for Prefetch<J> {
    type Item = Result<J::Item>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = if self.inline.is_some() { self.next_inline() } else { self.next_prefetched() };
        if matches!(item, Some(Err(_))) {
            self.failed = true;
            self.stop();
        }
        item
    }
}

impl<J: Job> Drop for Prefetch<J> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<J: Job> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, State<J::Item>> {
        // The state is only ever changed by code that cannot panic between two consistent states.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, number: u64, scratch: &mut J::Scratch) -> Result<J::Item> {
        match catch_unwind(AssertUnwindSafe(|| self.job.make(number, scratch))) {
            Ok(item) => item,
            Err(panic) => {
                *scratch = J::Scratch::default();
                Err(Error::WorkerPanic { batch: number, message: panic_message(&*panic) })
            }
        }
    }

    fn claim(&self) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.stopped || state.claim >= self.end {
                return None;
            }
            if state.claim < state.deliver.saturating_add(self.depth) {
                let number = state.claim;
                state.claim += 1;
                state.items.push_back(None);
                return Some(number);
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        let mut scratch = J::Scratch::default();
        while let Some(number) = self.claim() {
            let item = self.make(number, &mut scratch);
            let mut state = self.lock();
            // The consumer cannot have passed a number that was not filed.
            let place = (number - state.deliver) as usize;
            state.items[place] = Some(item);
            drop(state);
            if place == 0 {
                self.ready.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    #[derive(Default)]
    struct Squares {
        made: Arc<AtomicU64>,
        /// Held as long as any worker holds the job.
        #[expect(dead_code, reason = "counted, not read")]
        token: Arc<()>,
        fail_at: Option<u64>,
        panic_at: Option<u64>,
        /// Sleeps longer for even numbers, so that later items are ready first.
        uneven: bool,
    }

    impl Job for Squares {
        type Item = u64;
        type Scratch = ();
        fn make(&self, number: u64, (): &mut ()) -> Result<u64> {
            self.made.fetch_add(1, Ordering::SeqCst);
            if self.uneven && number.is_multiple_of(2) {
                std::thread::sleep(Duration::from_millis(2));
            }
            if self.fail_at == Some(number) {
                return Err(Error::config("asked to fail"));
            }
            assert!(self.panic_at != Some(number), "asked to panic");
            Ok(number * number)
        }
    }

    fn squares(job: Squares, first: u64, end: u64, threads: usize) -> Prefetch<Squares> {
        Prefetch::start(job, first, end, threads, 3).unwrap()
    }

    #[test]
    fn items_come_in_order_for_any_number_of_threads() {
        for threads in [0, 1, 2, 3, 8] {
            let job = Squares { uneven: true, ..Squares::default() };
            let items: Vec<u64> = squares(job, 5, 40, threads).map(Result::unwrap).collect();
            assert_eq!(items, (5..40).map(|n| n * n).collect::<Vec<_>>(), "{threads} threads");
        }
        assert_eq!(squares(Squares::default(), 7, 7, 2).count(), 0);
    }

    #[test]
    fn an_error_comes_in_its_place_and_then_the_end() {
        for threads in [0, 1, 4] {
            let job = Squares { fail_at: Some(6), uneven: true, ..Squares::default() };
            let mut items = squares(job, 0, 100, threads);
            assert_eq!(items.by_ref().take(6).map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 4, 9, 16, 25]);
            assert!(matches!(items.next(), Some(Err(Error::Config { .. }))));
            assert!(items.next().is_none() && items.next().is_none());
        }
    }

    #[test]
    fn a_panic_becomes_an_error_that_names_the_batch() {
        for threads in [0, 1, 4] {
            let job = Squares { panic_at: Some(2), ..Squares::default() };
            let items: Vec<_> = squares(job, 0, 50, threads).collect();
            assert_eq!(items.len(), 3);
            let text = items[2].as_ref().unwrap_err().to_string();
            assert!(text.contains("batch 2") && text.contains("asked to panic"), "{text}");
        }
    }

    #[test]
    fn workers_stay_within_the_window() {
        let job = Squares::default();
        let made = Arc::clone(&job.made);
        let mut items = squares(job, 0, 1000, 2);
        for taken in 1..50 {
            items.next().unwrap().unwrap();
            assert!(made.load(Ordering::SeqCst) <= taken + 3);
        }
    }

    #[test]
    fn dropping_it_midway_joins_every_worker() {
        let token = Arc::new(());
        let job = Squares { token: Arc::clone(&token), uneven: true, ..Squares::default() };
        let mut items = squares(job, 0, 1000, 4);
        items.next().unwrap().unwrap();
        assert_eq!(Arc::strong_count(&token), 2);
        drop(items);
        // Each worker holds the job; it is dropped only once all of them are gone.
        assert_eq!(Arc::strong_count(&token), 1);
    }
}
