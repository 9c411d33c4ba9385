//! The order `block`: small runs of neighbouring samples, shuffled through a bounded window. Storage is read a run at a
//! time, and only the window's runs need be at hand; a sample's place is still a pure function of its number. It
//! leaves out the reading.
//!
//! The samples, turned by an offset of the epoch so that the runs are others each time, are cut into blocks of B; the
//! blocks are permuted over the whole epoch, W of them in a row make a window, and within a window all samples are
//! permuted. One block is short where B does not divide the length.

use super::permutation::Permutation;
use crate::error::Result;

/// The blocks of one epoch.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    len: u64,
    block: u64,
    window: u64,
    /// Added to a place to give the sample, modulo the length.
    offset: u64,
    /// Blocks in the order of the epoch.
    order: Permutation,
    /// Where the short block stands among the blocks, and how many samples it lacks; past the end where none is short.
    short_at: u64,
    lacking: u64,
}

impl Blocks {
    pub(crate) fn new(seed: u64, epoch: u64, len: u64, block: u64, window: u64) -> Result<Blocks> {
        let block = block.clamp(1, len.max(1));
        let count = len.div_ceil(block);
        let order = Permutation::new(seed, epoch, count)?;
        let offset = order.part(u64::MAX, len).forward(0) % block;
        let lacking = count * block - len;
        let short_at = if lacking == 0 { u64::MAX } else { order.inverse(count - 1) };
        Ok(Blocks { len, block, window: window.max(1), offset, order, short_at, lacking })
    }

    /// Samples of the epoch before block number `at` of the order.
    fn start(&self, at: u64) -> u64 {
        at * self.block - if at > self.short_at { self.lacking } else { 0 }
    }

    /// The block that holds a position, and the place in it.
    fn block_at(&self, position: u64) -> (u64, u64) {
        let full = position / self.block;
        if full < self.short_at
            || (full == self.short_at && position % self.block < self.block - self.lacking)
        {
            return (full, position % self.block);
        }
        let slot = position + self.lacking;
        (slot / self.block, slot % self.block)
    }

    /// The first position of the window with block `at`, and the permutation of its samples.
    fn window_of(&self, at: u64) -> (u64, Permutation) {
        let number = at / self.window;
        let first = self.start(number * self.window);
        let end = (number + 1).saturating_mul(self.window).min(self.len.div_ceil(self.block));
        (first, self.order.part(number, self.start(end) - first))
    }

    /// The sample at `position`.
    pub(crate) fn forward(&self, position: u64) -> u64 {
        let (first, within) = self.window_of(self.block_at(position).0);
        let (at, place) = self.block_at(first + within.forward(position - first));
        (self.order.forward(at) * self.block + place + self.offset) % self.len
    }

    /// The position of `sample`.
    pub(crate) fn inverse(&self, sample: u64) -> u64 {
        let place = (sample + self.len - self.offset) % self.len;
        let at = self.order.inverse(place / self.block);
        let (first, within) = self.window_of(at);
        first + within.inverse(self.start(at) + place % self.block - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_length_block_and_window_is_a_bijection(
            len in 1u64..700, block in 1u64..40, window in 1u64..20, seed: u64, epoch in 0u64..9,
        ) {
            let blocks = Blocks::new(seed, epoch, len, block, window).unwrap();
            let mut seen = vec![false; len as usize];
            for position in 0..len {
                let sample = blocks.forward(position);
                prop_assert!(!std::mem::replace(&mut seen[sample as usize], true), "{sample} twice");
                prop_assert_eq!(blocks.inverse(sample), position);
            }
        }

        #[test]
        fn a_window_holds_few_blocks(len in 100u64..2000, block in 2u64..20, window in 2u64..9, seed: u64) {
            let blocks = Blocks::new(seed, 0, len, block, window).unwrap();
            // Any run of positions as long as a window meets two windows at most.
            let run = block * window;
            for first in (0..len).step_by(run as usize) {
                let met: std::collections::BTreeSet<u64> = (first..len.min(first + run))
                    .map(|position| (blocks.forward(position) + len - blocks.offset) % len / block)
                    .collect();
                prop_assert!(met.len() as u64 <= 2 * window, "{} blocks", met.len());
            }
        }
    }

    #[test]
    fn runs_are_others_in_each_epoch() {
        let first_of_runs: std::collections::BTreeSet<u64> =
            (0..64).map(|epoch| Blocks::new(3, epoch, 1000, 16, 4).unwrap().offset).collect();
        assert!(first_of_runs.len() > 10, "{first_of_runs:?}");
    }
}
