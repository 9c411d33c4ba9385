//! Recycled batch buffers: aligned pixels, a text arena, and the pool that they return to.
//!
//! Fresh memory costs page faults, which cost more than the copy into it, so a buffer is used again as soon as
//! its batch is dropped. Left out: what is written into them ([`crate::collate`]).

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes to which pixels are aligned: a cache line, and the widest vector register.
pub const PIXEL_ALIGNMENT_BYTES: usize = 64;

/// A fixed-length slice that starts at a multiple of [`PIXEL_ALIGNMENT_BYTES`].
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    values: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Aligned<T> {
    pub(crate) fn new(len: usize) -> Aligned<T> {
        let spare = PIXEL_ALIGNMENT_BYTES / size_of::<T>().max(1);
        let values = vec![T::default(); len + spare];
        // `align_offset` may give up in theory; an unaligned start is slower and no less right.
        let start = values.as_ptr().align_offset(PIXEL_ALIGNMENT_BYTES).min(spare);
        Aligned { values, start, len }
    }

    pub(crate) fn get(&self) -> &[T] {
        &self.values[self.start..self.start + self.len]
    }

    pub(crate) fn get_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..self.start + self.len]
    }
}

/// The pixels of a batch.
#[derive(Debug)]
pub(crate) enum PixelBuffer {
    U8(Aligned<u8>),
    F32(Aligned<f32>),
}

impl PixelBuffer {
    /// How much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            PixelBuffer::U8(pixels) => size_of_val(pixels.get()),
            PixelBuffer::F32(pixels) => size_of_val(pixels.get()),
        }
    }
}

/// A piece of a buffer's text.
type Span = std::ops::Range<usize>;

/// What a batch says of one sample beside its pixels.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) sample: u64,
    /// The damaged sample whose place it takes.
    pub(crate) instead_of: Option<u64>,
    key: Span,
    /// Numbers of its captions in `Buffer::captions`.
    captions: Span,
}

/// Everything that a batch holds.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) pixels: PixelBuffer,
    pub(crate) entries: Vec<Entry>,
    text: String,
    captions: Vec<Span>,
}

impl Buffer {
    pub(crate) fn new(pixels: PixelBuffer) -> Buffer {
        Buffer { pixels, entries: Vec::new(), text: String::new(), captions: Vec::new() }
    }

    /// Forgets the samples and keeps the memory. Pixels stay until they are overwritten.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
        self.captions.clear();
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
        // The text of what is forgotten stays until the buffer is cleared.
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

/// The buffers that no batch holds at the moment.
#[derive(Debug)]
pub(crate) struct Pool {
    state: Mutex<PoolState>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct PoolState {
    free: Vec<Buffer>,
    /// Buffers that exist, free or not.
    alive: usize,
    /// How often one was made past the capacity.
    fresh: u64,
}

impl Pool {
    pub(crate) fn new(capacity: usize) -> Pool {
        Pool { state: Mutex::default(), capacity }
    }

    /// A free buffer, else a new one by `make`: never a wait. A new one past the capacity is counted.
    pub(crate) fn take(&self, make: impl FnOnce() -> Buffer) -> Buffer {
        let free = {
            let mut state = self.lock();
            let free = state.free.pop();
            if free.is_none() {
                state.alive += 1;
                state.fresh += u64::from(state.alive > self.capacity);
            }
            free
        };
        free.map_or_else(make, |mut buffer| {
            buffer.clear();
            buffer
        })
    }

    /// Takes a buffer back; keeps it unless there are more than the capacity.
    pub(crate) fn give_back(&self, buffer: Buffer) {
        let mut state = self.lock();
        if state.alive > self.capacity {
            state.alive -= 1;
            drop(state);
            drop(buffer);
        } else {
            state.free.push(buffer);
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

    fn buffer() -> Buffer {
        Buffer::new(PixelBuffer::U8(Aligned::new(10)))
    }

    #[test]
    fn pixels_are_aligned_and_exactly_as_long_as_asked() {
        for len in [0, 1, 63, 64, 100_000] {
            let mut bytes = Aligned::<u8>::new(len);
            let mut floats = Aligned::<f32>::new(len);
            assert_eq!((bytes.get().len(), floats.get_mut().len()), (len, len));
            assert_eq!(bytes.get_mut().as_ptr() as usize % PIXEL_ALIGNMENT_BYTES, 0);
            assert_eq!(floats.get().as_ptr() as usize % PIXEL_ALIGNMENT_BYTES, 0);
        }
    }

    #[test]
    fn text_comes_back_and_a_cleared_buffer_keeps_its_memory() {
        let mut buffer = buffer();
        buffer.push(4, "a", ["one", "", "drei"].into_iter());
        buffer.push(9, "b", std::iter::empty());
        assert_eq!((buffer.key(0), buffer.key(1)), ("a", "b"));
        assert_eq!(buffer.captions(0).collect::<Vec<_>>(), ["one", "", "drei"]);
        assert_eq!((buffer.captions(1).len(), buffer.entries[1].sample), (0, 9));
        let capacity = buffer.text.capacity();
        buffer.clear();
        buffer.push(1, "c", ["two"].into_iter());
        assert_eq!((buffer.key(0), buffer.text.capacity()), ("c", capacity));
    }

    #[test]
    fn the_pool_recycles_and_counts_what_goes_past_it() {
        let pool = Pool::new(2);
        let mut made = 0;
        let mut take = || {
            pool.take(|| {
                made += 1;
                buffer()
            })
        };
        let held = [take(), take(), take()];
        assert_eq!(pool.fresh(), 1);
        held.into_iter().for_each(|b| pool.give_back(b));
        for _ in 0..5 {
            let (a, b) = (take(), take());
            pool.give_back(a);
            pool.give_back(b);
        }
        assert_eq!((made, pool.fresh()), (3, 1));
    }
}
