//! The order of an epoch: `sample = order(seed, epoch, position)`, a pure function of integers in constant memory, so
//! threads, ranks and a resumed run agree without talking to each other.
//!
//! Left out: batches and ranks ([`crate::plan`]), which samples take part ([`crate::Selection`]), and several data sets
//! in one order (`mixture`).

mod block;
mod buffer;
pub(crate) mod distinct;
pub(crate) mod mixture;
mod permutation;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use permutation::Permutation;

use crate::error::{Error, Result};

/// How an epoch goes through its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Order {
    /// A permutation of all samples, another one in each epoch.
    #[default]
    Global,
    /// Runs of `block` neighbouring samples, shuffled through a window of `window` of them: nearly as good an order,
    /// and storage is read a run at a time.
    Block {
        /// Samples in a run, at least 1.
        block: u32,
        /// Runs in a window, at least 1.
        window: u32,
    },
    /// A drawn order of shards, streamed through a buffer of samples, as other loaders do it: for comparison.
    ShardBuffer {
        /// Samples in the buffer, at least 1.
        buffer: u32,
    },
    /// The order of the data set itself, the same in each epoch.
    None,
    /// [`Global`](Self::Global) where the samples fit in memory, else [`BLOCK`](Self::BLOCK); decided once, when the
    /// data set is opened.
    Auto,
}

impl Order {
    /// Runs of 16 samples through a window of 2,048: 32,768 samples.
    pub const BLOCK: Order = Order::Block { block: 16, window: 2048 };

    /// A buffer of 1,000 samples.
    pub const SHARD_BUFFER: Order = Order::ShardBuffer { buffer: 1000 };

    /// The order of one epoch over `len` samples in one shard.
    ///
    /// # Errors
    /// [`Error::Config`] where `len` is zero or above [`Permutation::LEN_MAX`], or the order is
    /// [`Auto`](Self::Auto), which needs to know the data.
    pub fn epoch(self, seed: u64, epoch: u64, len: u64) -> Result<EpochOrder> {
        self.epoch_over(seed, epoch, &[len])
    }

    /// The order of one epoch over shards with these numbers of samples; samples are numbered one shard after the
    /// other.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch).
    pub fn epoch_over(self, seed: u64, epoch: u64, shards: &[u64]) -> Result<EpochOrder> {
        let len = shards.iter().try_fold(0u64, |len, &shard| len.checked_add(shard)).unwrap_or(u64::MAX);
        let way = match self {
            Order::Global => Way::Permuted(Permutation::new(seed, epoch, len)?),
            Order::Block { block, window } => {
                Way::Blocks(block::Blocks::new(seed, epoch, len, block.into(), window.into())?)
            }
            Order::ShardBuffer { buffer } => {
                Way::Drawn(buffer::Drawn::shard_buffer(seed, epoch, shards, buffer as usize)?)
            }
            Order::None => Way::Identity,
            Order::Auto => return Err(Error::config("the order auto is decided when a data set is opened")),
        };
        Ok(EpochOrder { way, len })
    }

    /// Which problem its numbers have, if any.
    pub(crate) fn problem(self) -> Option<&'static str> {
        match self {
            Order::Block { block, window } if block == 0 || window == 0 => {
                Some("the order block needs at least one sample a block and one block a window")
            }
            Order::ShardBuffer { buffer: 0 } => {
                Some("the order shard-buffer needs a buffer of one sample at least")
            }
            _ => None,
        }
    }
}

/// `global`, `block:16x2048`, `shard-buffer:1000`, `none`, `auto`.
impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Order::Global => f.write_str("global"),
            Order::Block { block, window } => write!(f, "block:{block}x{window}"),
            Order::ShardBuffer { buffer } => write!(f, "shard-buffer:{buffer}"),
            Order::None => f.write_str("none"),
            Order::Auto => f.write_str("auto"),
        }
    }
}

impl FromStr for Order {
    type Err = Error;

    /// Reads what [`Display`](std::fmt::Display) writes; the numbers may be left out.
    fn from_str(text: &str) -> Result<Order> {
        let (name, numbers) =
            text.split_once(':').map_or((text, None), |(name, numbers)| (name, Some(numbers)));
        let order = match (name, numbers) {
            ("global", None) => Some(Order::Global),
            ("none", None) => Some(Order::None),
            ("auto", None) => Some(Order::Auto),
            ("block", None) => Some(Order::BLOCK),
            ("block", Some(numbers)) => numbers
                .split_once('x')
                .and_then(|(block, window)| block.parse().ok().zip(window.parse().ok()))
                .map(|(block, window)| Order::Block { block, window }),
            ("shard-buffer", None) => Some(Order::SHARD_BUFFER),
            ("shard-buffer", Some(buffer)) => buffer.parse().ok().map(|buffer| Order::ShardBuffer { buffer }),
            _ => None,
        };
        let order = order.ok_or_else(|| {
            Error::config(format!(
                "{text:?} is no order: global, block[:SAMPLESxBLOCKS], shard-buffer[:SAMPLES], none or auto"
            ))
        })?;
        order.problem().map_or(Ok(order), |problem| Err(Error::config(problem)))
    }
}

impl TryFrom<String> for Order {
    type Error = Error;
    fn try_from(text: String) -> Result<Order> {
        text.parse()
    }
}

impl From<Order> for String {
    fn from(order: Order) -> String {
        order.to_string()
    }
}

/// The order of one epoch: a bijection between positions and samples, both in `0..len`.
#[derive(Clone, Debug)]
pub struct EpochOrder {
    way: Way,
    len: u64,
}

#[derive(Clone, Debug)]
enum Way {
    Identity,
    Permuted(Permutation),
    Blocks(block::Blocks),
    Drawn(buffer::Drawn),
}

impl EpochOrder {
    /// How many samples the epoch has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the epoch has no sample.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sample at `position`, which must be below [`len`](Self::len).
    pub fn sample(&self, position: u64) -> u64 {
        assert!(position < self.len, "position {position} is past the epoch's {} samples", self.len);
        match &self.way {
            Way::Identity => position,
            Way::Permuted(permutation) => permutation.forward(position),
            Way::Blocks(blocks) => blocks.forward(position),
            Way::Drawn(drawn) => drawn.forward(position),
        }
    }

    /// The position of `sample`: the inverse of [`sample`](Self::sample).
    pub fn position(&self, sample: u64) -> u64 {
        assert!(sample < self.len, "sample {sample} is past the epoch's {} samples", self.len);
        match &self.way {
            Way::Identity => sample,
            Way::Permuted(permutation) => permutation.inverse(sample),
            Way::Blocks(blocks) => blocks.inverse(sample),
            Way::Drawn(drawn) => drawn.inverse(sample),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(seed: u64, epoch: u64, len: u64) -> Vec<u64> {
        let order = Order::Global.epoch(seed, epoch, len).unwrap();
        (0..len).map(|position| order.sample(position)).collect()
    }

    /// Chi-squared of `counts` against a uniform law, as a number of standard deviations above its mean.
    fn excess(counts: &[u64]) -> f64 {
        let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        let chi2: f64 = counts.iter().map(|&c| (c as f64 - expected).powi(2) / expected).sum();
        let freedom = counts.len() as f64 - 1.0;
        (chi2 - freedom) / (2.0 * freedom).sqrt()
    }

    #[test]
    fn every_length_is_a_bijection_with_its_inverse() {
        let powers = (1..17).flat_map(|k| [(1 << k) - 1, 1 << k, (1 << k) + 1]);
        for len in [1, 2, 3, 10, 1000].into_iter().chain(powers) {
            let order = Order::Global.epoch(7, 3, len).unwrap();
            let mut seen = vec![false; len as usize];
            for position in 0..len {
                let sample = order.sample(position);
                assert!(!std::mem::replace(&mut seen[sample as usize], true), "{len}: {sample} twice");
                assert_eq!(order.position(sample), position);
            }
        }
    }

    #[test]
    fn huge_lengths_stay_in_range_and_invert() {
        for len in [Permutation::LEN_MAX, Permutation::LEN_MAX - 1, (1 << 40) + 1, u64::from(u32::MAX)] {
            let order = Order::Global.epoch(1, 0, len).unwrap();
            for position in [0, 1, len / 2, len - 1] {
                let sample = order.sample(position);
                assert!(sample < len);
                assert_eq!(order.position(sample), position);
            }
        }
        assert!(Order::Global.epoch(0, 0, 0).is_err());
        assert!(Order::Global.epoch(0, 0, Permutation::LEN_MAX + 1).is_err());
    }

    #[test]
    fn seed_and_epoch_are_hashed_not_added() {
        let all: Vec<_> = [(5, 1), (6, 0), (1, 5), (0, 6)].map(|(s, e)| samples(s, e, 1000)).into();
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                // Two independent permutations agree in one place on average.
                assert!(a.iter().zip(b).filter(|(x, y)| x == y).count() < 10);
            }
        }
        assert_eq!(samples(5, 1, 1000), samples(5, 1, 1000));
    }

    #[test]
    fn every_permutation_of_a_few_samples_is_equally_likely() {
        for len in 2..7u64 {
            let mut counts = std::collections::BTreeMap::new();
            for seed in 0..60_000 {
                *counts.entry(samples(seed, 0, len)).or_insert(0u64) += 1;
            }
            let counts: Vec<u64> = counts.into_values().collect();
            assert_eq!(counts.len() as u64, (1..=len).product::<u64>(), "some permutations never occur");
            assert!(excess(&counts) < 5.0, "{len} samples: {:.1} deviations", excess(&counts));
        }
    }

    #[test]
    fn every_sample_is_equally_likely_at_every_position() {
        for len in [7u64, 10, 16, 33] {
            let mut counts = vec![0; (len * len) as usize];
            for epoch in 0..20_000 {
                for (position, sample) in samples(1, epoch, len).into_iter().enumerate() {
                    counts[position * len as usize + sample as usize] += 1;
                }
            }
            assert!(excess(&counts) < 5.0, "{len} samples: {:.1} deviations", excess(&counts));
        }
    }

    #[test]
    fn neighbours_do_not_stay_neighbours() {
        // The difference of two samples side by side, modulo n, in 16 classes.
        let len = 10_007;
        let mut counts = vec![0; 16];
        for epoch in 0..20 {
            let samples = samples(9, epoch, len);
            for pair in samples.windows(2) {
                counts[((pair[1] + len - pair[0]) % len * 16 / len) as usize] += 1;
            }
        }
        assert!(excess(&counts) < 5.0, "{:.1} deviations", excess(&counts));
    }

    #[test]
    fn batch_mates_meet_again_no_more_than_by_chance() {
        let (len, batch) = (4096u64, 64u64);
        let place = |epoch| {
            let order = Order::Global.epoch(3, epoch, len).unwrap();
            (0..len).map(|sample| order.position(sample) / batch).collect::<Vec<_>>()
        };
        let (first, second) = (place(0), place(1));
        let mut again = 0;
        for a in 0..len as usize {
            again += (0..a).filter(|&b| first[a] == first[b] && second[a] == second[b]).count();
        }
        let pairs = len * (batch - 1) / 2;
        let expected = pairs as f64 * (batch - 1) as f64 / (len - 1) as f64;
        assert!(
            (again as f64 - expected).abs() < 5.0 * expected.sqrt(),
            "{again} pairs, {expected:.0} expected"
        );
    }

    #[test]
    fn no_order_is_the_identity() {
        let order = Order::None.epoch(4, 2, 9).unwrap();
        assert!((0..9).all(|p| order.sample(p) == p && order.position(p) == p));
    }

    #[test]
    fn the_order_is_pinned_for_ever() {
        // A change here breaks the resume of every run that was trained with an earlier version.
        assert_eq!(samples(0, 0, 8), [3, 6, 0, 7, 4, 2, 1, 5]);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for order in [
            Order::Global,
            Order::BLOCK,
            Order::Block { block: 1, window: 7 },
            Order::SHARD_BUFFER,
            Order::None,
            Order::Auto,
        ] {
            assert_eq!(order.to_string().parse::<Order>().unwrap(), order);
        }
        assert_eq!("block".parse::<Order>().unwrap(), Order::BLOCK);
        for bad in ["", "Global", "block:", "block:0x5", "block:5", "shard-buffer:0", "none:3", "shuffle"] {
            assert!(bad.parse::<Order>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_other_orders_are_pinned_for_ever() {
        let block = Order::Block { block: 3, window: 2 }.epoch(0, 0, 14).unwrap();
        let block: Vec<u64> = (0..14).map(|position| block.sample(position)).collect();
        assert_eq!(block, PINNED_BLOCK);
        let buffer = Order::ShardBuffer { buffer: 3 }.epoch_over(0, 0, &[3, 4, 2]).unwrap();
        let buffer: Vec<u64> = (0..9).map(|position| buffer.sample(position)).collect();
        assert_eq!(buffer, PINNED_BUFFER);
    }

    const PINNED_BLOCK: [u64; 14] = [8, 1, 7, 2, 9, 3, 5, 6, 0, 4, 13, 11, 10, 12];
    const PINNED_BUFFER: [u64; 9] = [0, 7, 1, 2, 8, 5, 4, 6, 3];
}
