//! A bounded pool of worker threads that make numbered items ahead of their consumer, delivered in order.
//!
//! Workers make an item together, each some of its parts: so the first one is ready soonest, and few items, whatever the
//! number of threads, are in the making. What is delivered does not depend on who makes which part. An item is begun only
//! while it is less than `depth` ahead of the consumer. An error or a panic travels in its item's place, that of the
//! lowest part where several failed: what came before is delivered first, then the error, then nothing. Left out: what
//! an item is ([`crate::collate`]) and its memory ([`crate::draft`]).

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use crate::error::{Error, Result, panic_message};

/// How an item is made; called from several threads at once. The outcome may depend on nothing but its number.
pub(crate) trait Job: Send + Sync + 'static {
    /// What is made.
    type Item: Send + 'static;
    /// An item that is not yet made; clones are for the workers that make it together.
    type Draft: Clone + Send + 'static;
    /// What a worker keeps from one part to the next.
    type Scratch: Default;
    /// How many parts each item has, one at least.
    fn parts(&self) -> usize;
    /// Begins item `number`; may wait for what it needs.
    fn begin(&self, number: u64) -> Result<Self::Draft>;
    /// Makes a part.
    fn fill(&self, number: u64, draft: &Self::Draft, part: usize, scratch: &mut Self::Scratch) -> Result<()>;
    /// Makes an item of a draft that all its workers are done with.
    fn finish(&self, number: u64, draft: Self::Draft) -> Result<Self::Item>;
    /// Takes back a draft of which no item is made.
    fn give_up(&self, draft: Self::Draft);
    /// Nothing more is wanted: whatever `begin` waits for in other threads, it gives up.
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
    state: Mutex<State<J>>,
    /// Signalled when the item that the consumer waits for is ready.
    ready: Condvar,
    /// Signalled when a worker may claim again, or must stop.
    room: Condvar,
    depth: u64,
    end: u64,
}

struct State<J: Job> {
    /// The next number to deliver; `items[k]` is number `deliver + k`.
    deliver: u64,
    items: VecDeque<Item<J>>,
    /// Whether the consumer waits. It then holds no item, most often, so one more may be begun: workers that have no
    /// part left of the one that is waited for go on with the next.
    waiting: bool,
    stopped: bool,
}

/// An item on its way.
enum Item<J: Job> {
    /// Some worker begins it.
    Begun,
    Making(Making<J>),
    Ready(Result<J::Item>),
    Taken,
}

struct Making<J: Job> {
    draft: J::Draft,
    parts: usize,
    /// The next part that nobody has claimed, and how many are not done.
    claim: usize,
    left: usize,
    /// The lowest part that failed.
    problem: Option<(usize, Error)>,
}

/// What a worker does next.
enum Work<J: Job> {
    Begin(u64),
    Fill(u64, usize, J::Draft),
}

impl<J: Job> Prefetch<J> {
    /// Starts `threads` workers on `first..end`, at most `depth` items ahead. No thread at all means that the
    /// consumer makes each item when it asks for it.
    ///
    /// # Errors
    /// [`Error::Spawn`] where the system refuses a thread.
    pub(crate) fn start(job: J, first: u64, end: u64, threads: usize, depth: usize) -> Result<Prefetch<J>> {
        let state = State { deliver: first, items: VecDeque::new(), waiting: false, stopped: false };
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
        let items = usize::try_from(end.saturating_sub(first)).unwrap_or(usize::MAX).min(depth.max(1) + 1);
        let useful = threads.min(items.saturating_mul(prefetch.shared.job.parts()));
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
        let shared = &self.shared;
        let draft = match shared.caught(number, scratch, |_| shared.job.begin(number)) {
            Ok(draft) => draft,
            Err(error) => return Some(Err(error)),
        };
        for part in 0..shared.job.parts() {
            let filled =
                shared.caught(number, scratch, |scratch| shared.job.fill(number, &draft, part, scratch));
            if let Err(error) = filled {
                shared.job.give_up(draft);
                return Some(Err(error));
            }
        }
        Some(shared.caught(number, scratch, |_| shared.job.finish(number, draft)))
    }

    fn next_prefetched(&mut self) -> Option<Result<J::Item>> {
        let mut state = self.shared.lock();
        if state.deliver >= self.shared.end {
            return None;
        }
        let item = loop {
            if let Some(front) = state.items.front_mut()
                && matches!(front, Item::Ready(_))
                && let Item::Ready(item) = std::mem::replace(front, Item::Taken)
            {
                break item;
            }
            if !std::mem::replace(&mut state.waiting, true) {
                self.shared.room.notify_one();
            }
            state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.waiting = false;
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
        for item in std::mem::take(&mut self.shared.lock().items) {
            if let Item::Making(making) = item {
                self.shared.job.give_up(making.draft);
            }
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
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // The state is only ever changed by code that cannot panic between two consistent states.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic as an error that names the item.
    fn caught<T>(
        &self,
        number: u64,
        scratch: &mut J::Scratch,
        make: impl FnOnce(&mut J::Scratch) -> Result<T>,
    ) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(|| make(scratch))) {
            Ok(made) => made,
            Err(panic) => {
                *scratch = J::Scratch::default();
                Err(Error::WorkerPanic { batch: number, message: panic_message(&*panic) })
            }
        }
    }

    /// Waits for something to do; nothing once there will be no more.
    fn claim(&self) -> Option<Work<J>> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let deliver = state.deliver;
            let mut making = state.items.iter_mut().zip(deliver..);
            let claimed = making.find_map(|(item, number)| match item {
                Item::Making(making) => Some((number, making.claim()?, making.draft.clone())),
                Item::Begun | Item::Ready(_) | Item::Taken => None,
            });
            if let Some((number, part, draft)) = claimed {
                return Some(Work::Fill(number, part, draft));
            }
            let next = deliver + state.items.len() as u64;
            let depth = self.depth + u64::from(state.waiting);
            if next < self.end && next < deliver.saturating_add(depth) {
                state.items.push_back(Item::Begun);
                return Some(Work::Begin(next));
            }
            if next >= self.end && state.items.iter().all(|item| matches!(item, Item::Ready(_) | Item::Taken))
            {
                return None;
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        let mut scratch = J::Scratch::default();
        while let Some(work) = self.claim() {
            match work {
                Work::Begin(number) => {
                    let begun = self.caught(number, &mut scratch, |_| self.job.begin(number));
                    let parts = self.job.parts();
                    let making =
                        |draft| Item::Making(Making { draft, parts, claim: 0, left: parts, problem: None });
                    self.put(number, begun.map_or_else(|error| Item::Ready(Err(error)), making));
                }
                Work::Fill(number, part, draft) => {
                    let filled = self
                        .caught(number, &mut scratch, |scratch| self.job.fill(number, &draft, part, scratch));
                    // Whoever finishes is to be the draft's only holder.
                    drop(draft);
                    if let Some((draft, problem)) = self.done(number, part, filled) {
                        let item = match problem {
                            None => self.caught(number, &mut scratch, |_| self.job.finish(number, draft)),
                            Some(error) => {
                                self.job.give_up(draft);
                                Err(error)
                            }
                        };
                        self.put(number, Item::Ready(item));
                    }
                }
            }
        }
    }

    /// Files how a part came out; the draft where it was the last one.
    fn done(&self, number: u64, part: usize, filled: Result<()>) -> Option<(J::Draft, Option<Error>)> {
        let mut state = self.lock();
        let item = state.place(number)?;
        let Item::Making(making) = item else { return None };
        making.left -= 1;
        if let Err(error) = filled
            && making.problem.as_ref().is_none_or(|(lowest, _)| part < *lowest)
        {
            // Parts after it need not be made: those before it decide which error it is.
            making.left -= making.parts - making.claim;
            making.claim = making.parts;
            making.problem = Some((part, error));
        }
        if making.left > 0 {
            return None;
        }
        let Item::Making(making) = std::mem::replace(item, Item::Begun) else { return None };
        Some((making.draft, making.problem.map(|(_, error)| error)))
    }

    /// Puts an item's next state in its place, and wakes whom it concerns.
    fn put(&self, number: u64, item: Item<J>) {
        let mut state = self.lock();
        let is_front = number == state.deliver;
        let is_ready = matches!(item, Item::Ready(_));
        let Some(place) = state.place(number) else { return };
        *place = item;
        drop(state);
        if is_ready && is_front {
            self.ready.notify_one();
        }
        // Others help to make it, or may go home after the last one.
        self.room.notify_all();
    }
}

impl<J: Job> State<J> {
    fn place(&mut self, number: u64) -> Option<&mut Item<J>> {
        self.items.get_mut(usize::try_from(number.checked_sub(self.deliver)?).ok()?)
    }
}

impl<J: Job> Making<J> {
    /// The next part, if any is left.
    fn claim(&mut self) -> Option<usize> {
        let part = self.claim;
        (part < self.parts).then(|| {
            self.claim += 1;
            part
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    const PARTS: usize = 5;

    #[derive(Default)]
    struct Squares {
        made: Arc<AtomicU64>,
        given_up: Arc<AtomicU64>,
        /// Held as long as any worker holds the job.
        #[expect(dead_code, reason = "counted, not read")]
        token: Arc<()>,
        /// Items, and which of their parts fail.
        fail_at: Option<(u64, [bool; PARTS])>,
        panic_at: Option<u64>,
        /// Sleeps longer for even numbers, so that later items are ready first.
        uneven: bool,
    }

    impl Job for Squares {
        type Item = u64;
        type Draft = Arc<AtomicU64>;
        type Scratch = ();

        fn parts(&self) -> usize {
            PARTS
        }

        fn begin(&self, _: u64) -> Result<Arc<AtomicU64>> {
            self.made.fetch_add(1, Ordering::SeqCst);
            Ok(Arc::default())
        }

        fn fill(&self, number: u64, draft: &Arc<AtomicU64>, part: usize, (): &mut ()) -> Result<()> {
            if self.uneven && (number + part as u64).is_multiple_of(2) {
                std::thread::sleep(Duration::from_micros(500));
            }
            if self.fail_at.is_some_and(|(at, parts)| at == number && parts[part]) {
                return Err(Error::config(format!("asked to fail in part {part}")));
            }
            assert!(self.panic_at != Some(number), "asked to panic");
            draft.fetch_add(if part == 0 { number * number } else { 1 << 40 }, Ordering::SeqCst);
            Ok(())
        }

        fn finish(&self, _: u64, draft: Arc<AtomicU64>) -> Result<u64> {
            let sum = Arc::into_inner(draft).expect("the finisher is alone").into_inner();
            assert_eq!(sum >> 40, PARTS as u64 - 1, "parts were left out or made twice");
            Ok(sum & ((1 << 40) - 1))
        }

        fn give_up(&self, _: Arc<AtomicU64>) {
            self.given_up.fetch_add(1, Ordering::SeqCst);
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
        for threads in [0, 1, 4, 9] {
            for parts in [[false, true, false, true, true], [false, false, false, false, true]] {
                let job = Squares { fail_at: Some((6, parts)), uneven: true, ..Squares::default() };
                let (made, given_up) = (Arc::clone(&job.made), Arc::clone(&job.given_up));
                let mut items = squares(job, 0, 100, threads);
                let before: Vec<u64> = items.by_ref().take(6).map(Result::unwrap).collect();
                assert_eq!(before, [0, 1, 4, 9, 16, 25]);
                // The lowest part's error, whoever was first.
                let part = parts.iter().position(|&fails| fails).unwrap();
                let text = items.next().unwrap().unwrap_err().to_string();
                assert!(text.contains(&format!("in part {part}")), "{text}");
                assert!(items.next().is_none() && items.next().is_none());
                // Whatever was begun and not delivered was given back, or made and dropped.
                assert!((1..=made.load(Ordering::SeqCst) - 6).contains(&given_up.load(Ordering::SeqCst)));
            }
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
            // Three ahead, and one more while it was waited for.
            assert!(made.load(Ordering::SeqCst) <= taken + 4);
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

    /// Many short lives: any number of threads and items, items that fail, consumers that leave at any moment.
    #[test]
    fn nothing_hangs_is_lost_or_comes_twice() {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..3_000 {
            let (first, count, threads, depth) = (draw(50), draw(40), draw(7) as usize, draw(6) as usize);
            let fails = (draw(3) == 0).then(|| (first + draw(40), [0; PARTS].map(|_| draw(4) == 0)));
            let taken = draw(60);
            let token = Arc::new(());
            let job = Squares { token: Arc::clone(&token), fail_at: fails, ..Squares::default() };
            let mut items = Prefetch::start(job, first, first + count, threads, depth).unwrap();
            let fails = fails.filter(|(_, parts)| parts.contains(&true)).map(|(at, _)| at);
            let mut next = first;
            for item in items.by_ref().take(taken as usize) {
                match item {
                    Ok(square) => assert_eq!((square, Some(next) == fails), (next * next, false)),
                    Err(_) => assert_eq!(Some(next), fails),
                }
                next += 1;
            }
            let end = fails.map_or(first + count, |at| (first + count).min(at + 1));
            assert_eq!(next, end.min(first + taken), "{first} {count} {threads} {depth} {fails:?} {taken}");
            drop(items);
            assert_eq!(Arc::strong_count(&token), 1, "a worker is left");
        }
    }
}
