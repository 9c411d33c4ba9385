//! The pool that a batch's memory returns to. Fresh memory costs page faults, which cost more than the copy into it, so memory
//! is used again as soon as its batch is dropped. Left out: the memory itself ([`crate::draft`]).

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::draft::{Draft, Filled};

/// The memory that no batch holds at the moment.
#[derive(Debug)]
pub(crate) struct Pool {
    state: Mutex<PoolState>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct PoolState {
    free: Vec<Draft>,
    /// How many exist, free or not.
    alive: usize,
    /// How often one was made past the capacity.
    fresh: u64,
}

impl Pool {
    pub(crate) fn new(capacity: usize) -> Pool {
        Pool { state: Mutex::default(), capacity }
    }

    /// Free memory, else new memory by `make`: never a wait. New memory past the capacity is counted.
    pub(crate) fn take(&self, make: impl FnOnce() -> Draft) -> Draft {
        let free = {
            let mut state = self.lock();
            let free = state.free.pop();
            if free.is_none() {
                state.alive += 1;
                state.fresh += u64::from(state.alive > self.capacity);
            }
            free
        };
        free.unwrap_or_else(make)
    }

    /// Takes memory back; keeps it unless there is more than the capacity.
    pub(crate) fn give_back(&self, filled: Filled) {
        let mut state = self.lock();
        if state.alive > self.capacity {
            state.alive -= 1;
            drop(state);
            drop(filled);
        } else {
            state.free.push(filled.into_draft());
        }
    }

    pub(crate) fn fresh(&self) -> u64 {
        self.lock().fresh
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::Kind;

    #[test]
    fn the_pool_recycles_and_counts_what_goes_past_it() {
        let pool = Pool::new(2);
        let mut made = 0;
        let mut take = || {
            let draft = pool.take(|| {
                made += 1;
                Draft::new(Kind::U8, 1, 10)
            });
            draft.finish().unwrap()
        };
        let held = [take(), take(), take()];
        assert_eq!(pool.fresh(), 1);
        held.into_iter().for_each(|filled| pool.give_back(filled));
        for _ in 0..5 {
            let (a, b) = (take(), take());
            pool.give_back(a);
            pool.give_back(b);
        }
        assert_eq!((made, pool.fresh()), (3, 1));
    }
}
