//! Scratch buffers that are used again instead of being freed.
//!
//! A training step needs the same large buffers each time; fresh ones cost clearing twice (by the kernel and
//! by the allocator), a fifth of a step on the CPU. A buffer comes with whatever its last user left in it, so
//! only code that writes before it reads may take one. The pool never holds more than was once in use.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Pool {
    free: HashMap<usize, Vec<Vec<f32>>>,
    free_elements: usize,
    used_elements: usize,
    peak_elements: usize,
}

fn pool() -> MutexGuard<'static, Pool> {
    // A panic elsewhere leaves at worst a wrong count, which only changes how much is kept.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A buffer of unspecified contents that returns to the pool when dropped.
pub(crate) struct Buffer {
    data: Vec<f32>,
    len: usize,
}

/// Rounds a length up to one of eight sizes per power of two, so that similar requests share buffers.
fn size_class(len: usize) -> usize {
    len.next_multiple_of((len.next_power_of_two() / 8).max(64))
}

impl Buffer {
    /// A buffer of `len` numbers left by an earlier user.
    pub(crate) fn stale(len: usize) -> Self {
        let class = size_class(len);
        let mut pool = pool();
        pool.used_elements += class;
        pool.peak_elements = pool.peak_elements.max(pool.used_elements);
        let reused = pool.free.get_mut(&class).and_then(Vec::pop);
        if reused.is_some() {
            pool.free_elements -= class;
        }
        drop(pool);
        Self { data: reused.unwrap_or_else(|| vec![0.0; class]), len }
    }

    /// A buffer of zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut buffer = Self::stale(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let class = data.len();
        let mut pool = pool();
        pool.used_elements = pool.used_elements.saturating_sub(class);
        if pool.free_elements + pool.used_elements + class <= pool.peak_elements {
            pool.free_elements += class;
            pool.free.entry(class).or_default().push(data);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_waste_an_eighth_at_most() {
        for len in [0usize, 1, 63, 64, 65, 1000, 4097, 1 << 20, (1 << 20) + 1] {
            let class = size_class(len);
            assert!(class >= len && class <= len + (len / 4).max(64), "{len} -> {class}");
        }
    }

    #[test]
    fn buffers_have_their_length_and_zeros_on_request() {
        let mut first = Buffer::stale(100);
        first.fill(7.0);
        assert_eq!(first.len(), 100);
        drop(first);
        assert!(Buffer::zeroed(101).iter().all(|v| *v == 0.0));
        assert_eq!(Buffer::stale(0).len(), 0);
    }
}
