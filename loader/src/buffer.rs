//! What a batch holds beside its pixels, and the pool that a batch's memory returns to.
//!
//! Fresh memory costs page faults, which cost more than the copy into it, so memory is used again as soon as its batch
//! is dropped. Left out: the memory itself ([`crate::draft`]), and what is written into it ([`crate::collate`]).

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    draft::{Draft, Filled},
    history::Added,
};

/// A piece of a buffer's text.
type Span = std::ops::Range<usize>;

/// What a batch says of one sample beside its pixels.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) sample: u64,
    /// The damaged sample whose place it takes.
    pub(crate) instead_of: Option<u64>,
    key: Span,
    /// Numbers of its captions in `Text::captions`.
    captions: Span,
}

/// Keys and captions of some samples of a batch, one after the other in one string.
#[derive(Debug, Default)]
pub(crate) struct Text {
    pub(crate) entries: Vec<Entry>,
    text: String,
    captions: Vec<Span>,
    /// What they add to the history.
    pub(crate) added: Added,
}

impl Text {
    /// Forgets the samples and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
        self.captions.clear();
        self.added = Added::default();
    }

    pub(crate) fn push<'a>(&mut self, sample: u64, key: &str, captions: impl Iterator<Item = &'a str>) {
        let key = self.write(key);
        let first = self.captions.len();
        for caption in captions {
            let span = self.write(caption);
            self.captions.push(span);
        }
        self.entries.push(Entry { sample, instead_of: None, key, captions: first..self.captions.len() });
    }

    /// Forgets all samples but the first `entries`.
    pub(crate) fn truncate(&mut self, entries: usize) {
        // The characters of what is forgotten stay until all is cleared.
        self.entries.truncate(entries);
    }

    pub(crate) fn key(&self, entry: usize) -> &str {
        &self.text[self.entries[entry].key.clone()]
    }

    pub(crate) fn captions(&self, entry: usize) -> impl ExactSizeIterator<Item = &str> {
        self.captions[self.entries[entry].captions.clone()].iter().map(|span| &self.text[span.clone()])
    }

    fn write(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }
}

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
    fn text_comes_back_and_what_is_cleared_keeps_its_memory() {
        let mut text = Text::default();
        text.push(4, "a", ["one", "", "drei"].into_iter());
        text.push(9, "b", std::iter::empty());
        assert_eq!((text.key(0), text.key(1)), ("a", "b"));
        assert_eq!(text.captions(0).collect::<Vec<_>>(), ["one", "", "drei"]);
        assert_eq!((text.captions(1).len(), text.entries[1].sample), (0, 9));
        let capacity = text.text.capacity();
        text.clear();
        text.push(1, "c", ["two"].into_iter());
        assert_eq!((text.key(0), text.text.capacity()), ("c", capacity));
    }

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
