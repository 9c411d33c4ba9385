//! Parallel work whose results come out in order, with a bounded number in flight. It leaves out what the work is.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{Error, Result, contain};

struct State<T> {
    /// The next position to be taken by a worker.
    next: usize,
    /// The next position to be consumed.
    consumed: usize,
    done: BTreeMap<usize, Result<T, String>>,
    /// Whether the consumer takes what is there; else it waits for more.
    draining: bool,
    stopped: bool,
}

struct Shared<T> {
    count: usize,
    /// Most results that wait.
    window: usize,
    state: Mutex<State<T>>,
    /// There are results to consume.
    ready: Condvar,
    /// There is room for results.
    room: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time to consume: the next result is there, and with it half of what may wait, or no more comes.
    /// On a machine whose cores are all at work, each waking of the consumer interrupts one of them.
    fn is_due(&self, state: &State<T>) -> bool {
        state.done.contains_key(&state.consumed)
            && (state.draining || state.done.len() >= self.window.div_ceil(2) || state.next == self.count)
    }

    /// Whether the workers must wait for the consumer.
    fn is_full(&self, state: &State<T>) -> bool {
        state.next >= state.consumed + self.window
    }
}

/// Runs `work(scratch, position)` for every position below `count` on `threads` threads, each with a scratch of its
/// own, and calls `consume(position, result)` in order in this thread. At most `window` results wait.
///
/// # Errors
/// The first error of `consume`, or `Worker` where `work` panicked; no further work is begun then.
pub(crate) fn for_each<T: Send, S>(
    count: usize,
    threads: usize,
    window: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> T + Sync,
    mut consume: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let state = State { next: 0, consumed: 0, done: BTreeMap::new(), draining: false, stopped: false };
    let shared = Shared {
        count,
        window: window.max(1),
        state: Mutex::new(state),
        ready: Condvar::new(),
        room: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1).min(count) {
            scope.spawn(|| worker(&shared, &scratch, &work));
        }
        let outcome = (0..count).try_for_each(|position| {
            let result = take(&shared, position)
                .map_err(|message| Error::Worker { place: format!("position {position}"), message })?;
            consume(position, result)
        });
        shared.lock().stopped = true;
        shared.room.notify_all();
        outcome
    })
}

fn worker<T: Send, S>(
    shared: &Shared<T>,
    scratch: &(impl Fn() -> S + Sync),
    work: &(impl Fn(&mut S, usize) -> T + Sync),
) {
    let mut scratch = scratch();
    loop {
        let mut state = shared.lock();
        // The lowest position in flight is never held back, so the consumer is always fed.
        while !state.stopped && state.next < shared.count && shared.is_full(&state) {
            state = shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped || state.next >= shared.count {
            return;
        }
        let position = state.next;
        state.next += 1;
        drop(state);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut scratch, position)))
            .map_err(|panic| contain::message(panic.as_ref()));
        let mut state = shared.lock();
        state.done.insert(position, result);
        if shared.is_due(&state) {
            shared.ready.notify_one();
        }
    }
}

fn take<T>(shared: &Shared<T>, position: usize) -> Result<T, String> {
    let mut state = shared.lock();
    state.draining = state.draining && state.done.contains_key(&position);
    while !shared.is_due(&state) {
        state = shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.draining = true;
    let was_full = shared.is_full(&state);
    let result = state.done.remove(&position).unwrap_or_else(|| Err("a result went missing".to_owned()));
    state.consumed = position + 1;
    drop(state);
    if was_full {
        shared.room.notify_all();
    }
    result
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_order_and_few_wait() {
        for threads in [1, 2, 7] {
            let (begun, consumed) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let mut seen = Vec::new();
            let work = |_: &mut (), position: usize| {
                let ahead = begun.fetch_add(1, Ordering::SeqCst) + 1 - consumed.load(Ordering::SeqCst);
                assert!(ahead <= 5 + threads, "{ahead} in flight");
                position * position
            };
            for_each(
                200,
                threads,
                4,
                || (),
                work,
                |position, square| {
                    assert_eq!(square, position * position);
                    consumed.fetch_add(1, Ordering::SeqCst);
                    seen.push(position);
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(seen, (0..200).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_or_a_panic_stops_the_work() {
        let error = for_each(
            100,
            3,
            8,
            || (),
            |(), position| position,
            |position, _| {
                if position == 10 { Err(Error::Config("enough".to_owned())) } else { Ok(()) }
            },
        );
        assert_eq!(error.unwrap_err().to_string(), "enough");
        let work = |_: &mut (), position: usize| assert!(position != 5, "five");
        let error = contain::panics(|| for_each(100, 3, 8, || (), work, |_, ()| Ok(()))).unwrap();
        assert!(matches!(error, Err(Error::Worker { message, .. }) if message == "five"));
    }

    #[test]
    fn nothing_to_do_is_done() {
        for_each(0, 4, 4, || (), |(), _| (), |_, ()| Ok(())).unwrap();
    }
}
