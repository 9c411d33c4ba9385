//! Scratch buffers that are used again instead of being freed.
//!
//! A training step needs the same large buffers each time; fresh ones cost clearing twice (by the kernel and
//! by the allocator), a fifth of a step on the CPU. A buffer comes with whatever its last user left in it, so
//! only code that writes before it reads may take one. The pool never holds more than was once in use, less
//! what has left it: on the way back, buffers of activations become gradients of parameters, and come back with
//! [`reclaim`] when the optimizer is done with them. Going through the allocator instead, large blocks of many
//! sizes leave gaps in its memory.

use super::buffer::on_kernels;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor};
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Pool {
    free: HashMap<usize, Shelf>,
    free_elements: usize,
    used_elements: usize,
    peak_elements: usize,
    /// Counts requests.
    clock: u64,
}

/// Free buffers of one size.
#[derive(Default)]
struct Shelf {
    buffers: Vec<Vec<f32>>,
    /// When one was last asked for.
    asked: u64,
}

impl Pool {
    /// Takes a buffer in whose length is its class.
    fn shelve(&mut self, data: Vec<f32>) {
        self.free_elements += data.len();
        self.free.entry(data.len()).or_default().buffers.push(data);
        self.shrink();
    }

    /// Lets the sizes go that have not been asked for the longest, until the pool holds no more than it may.
    fn shrink(&mut self) {
        while self.free_elements + self.used_elements > self.peak_elements {
            let filled = self.free.iter_mut().filter(|(_, shelf)| !shelf.buffers.is_empty());
            let Some((class, shelf)) = filled.min_by_key(|(_, shelf)| shelf.asked) else { break };
            shelf.buffers.pop();
            self.free_elements -= class;
        }
    }
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

/// Rounds a length up to one of 16 to 32 sizes per power of two, so that similar requests share buffers.
fn size_class(len: usize) -> usize {
    len.next_multiple_of((len.next_power_of_two() / 32).max(64))
}

impl Buffer {
    /// A buffer of `len` numbers left by an earlier user.
    pub(crate) fn stale(len: usize) -> Self {
        let class = size_class(len);
        let mut pool = pool();
        pool.used_elements += class;
        pool.peak_elements = pool.peak_elements.max(pool.used_elements);
        pool.clock += 1;
        let clock = pool.clock;
        let shelf = pool.free.entry(class).or_default();
        shelf.asked = clock;
        let reused = shelf.buffers.pop();
        if reused.is_some() {
            pool.free_elements -= class;
        }
        pool.shrink();
        drop(pool);
        Self { data: reused.unwrap_or_else(|| vec![0.0; class]), len }
    }

    /// A buffer of zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut buffer = Self::stale(len);
        buffer.fill(0.0);
        buffer
    }

    /// The numbers alone, which do not come back to the pool.
    pub(crate) fn into_vec(mut self) -> Vec<f32> {
        let mut data = std::mem::take(&mut self.data);
        let class = data.len();
        data.truncate(self.len);
        let mut pool = pool();
        pool.used_elements = pool.used_elements.saturating_sub(class);
        pool.peak_elements = pool.peak_elements.saturating_sub(class).max(pool.used_elements);
        pool.shrink();
        data
    }
}

/// `len` numbers of unspecified value, for a tensor that takes them over.
pub(crate) fn stale_vec(len: usize) -> Vec<f32> {
    Buffer::stale(len).into_vec()
}

/// Takes back the numbers of a tensor that nobody reads any more, if they came from the pool; the tensor and all
/// that share its storage are empty then.
pub(crate) fn reclaim(tensor: &Tensor) -> Result<()> {
    if on_kernels(&[tensor]) { tensor.inplace_op1(&Reclaim) } else { Ok(()) }
}

struct Reclaim;

impl InplaceOp1 for Reclaim {
    fn name(&self) -> &'static str {
        "reclaim"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(values) = storage else { return Ok(()) };
        let (len, class) = (values.len(), size_class(values.len()));
        if layout.contiguous_offsets() != Some((0, len)) || values.capacity() < class || class == 0 {
            return Ok(());
        }
        let mut data = std::mem::take(values);
        data.resize(class, 0.0);
        let mut pool = pool();
        pool.peak_elements += class;
        pool.shelve(data);
        Ok(())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let class = data.len();
        if class == 0 {
            return;
        }
        let mut pool = pool();
        pool.used_elements = pool.used_elements.saturating_sub(class);
        pool.shelve(data);
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
    use candle_core::{Device, Storage};

    #[test]
    fn size_classes_waste_a_sixteenth_at_most() {
        for len in [0usize, 1, 63, 64, 65, 1000, 4097, 1 << 20, (1 << 20) + 1] {
            let class = size_class(len);
            assert!(class >= len && class <= len + (len / 16).max(64), "{len} -> {class}");
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
        assert_eq!(Buffer::zeroed(77).into_vec(), [0.0; 77]);
        assert!(stale_vec(0).is_empty());
    }

    #[test]
    fn a_tensor_of_the_pool_comes_back_and_others_stay() {
        let owned = Tensor::from_vec(vec![1f32; 6], (2, 3), &Device::Cpu).unwrap();
        let part = owned.narrow(0, 1, 1).unwrap();
        for kept in [&owned, &part] {
            reclaim(kept).unwrap();
        }
        assert_eq!(owned.sum_all().unwrap().to_scalar::<f32>().unwrap(), 6.0);
        let taken = Tensor::from_vec(stale_vec(70_001), 70_001, &Device::Cpu).unwrap();
        reclaim(&taken).unwrap();
        let (storage, _) = taken.storage_and_layout();
        assert!(matches!(&*storage, Storage::Cpu(CpuStorage::F32(values)) if values.is_empty()));
    }
}
