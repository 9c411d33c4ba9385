//! The order of an epoch: a keyed permutation of sample numbers in constant memory.
//!
//! `sample = order(seed, epoch, position)` is a pure function of integers, so threads, ranks and a resumed run
//! agree without talking to each other. Left out: batches and ranks ([`crate::plan`]), and which samples take
//! part (`view`).
//!
//! The permutation is a generalised Feistel network (Black and Rogaway, "Ciphers with arbitrary finite domains",
//! 2002): position = left·b + right with a·b ≥ n, each half is shifted in turn by a keyed hash of the other, and a
//! result outside 0..n walks on until it is inside. With a = ⌈√n⌉ and b = ⌈n/a⌉ the domain is at most a larger
//! than n, so walks are rare: a power-of-two domain would walk twice on average in its worst case.

use crate::error::{Error, Result};

/// Pairs of Feistel rounds. With 6 pairs some permutations of 5 and 6 samples are visibly likelier than others (9
/// deviations of chi-squared over 60,000 seeds, below), with 8 no more; 12 leave a margin and take 0.1 µs a sample.
const ROUND_PAIRS: usize = 12;
const DOMAIN: &str = "loader v1 order";

/// How an epoch goes through its samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// A permutation of all samples, another one in each epoch.
    #[default]
    Global,
    /// The order of the data set itself, the same in each epoch.
    None,
}

impl Order {
    /// The order of one epoch over `len` samples.
    ///
    /// # Errors
    /// [`Error::Config`] where `len` is zero or above [`Permutation::LEN_MAX`].
    pub fn epoch(self, seed: u64, epoch: u64, len: u64) -> Result<EpochOrder> {
        let permutation = match self {
            Order::Global => Some(Permutation::new(seed, epoch, len)?),
            Order::None => None,
        };
        Ok(EpochOrder { permutation, len })
    }
}

/// The order of one epoch: a bijection between positions and samples, both in `0..len`.
#[derive(Clone, Debug)]
pub struct EpochOrder {
    permutation: Option<Permutation>,
    len: u64,
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
        self.permutation.as_ref().map_or(position, |p| p.forward(position))
    }

    /// The position of `sample`: the inverse of [`sample`](Self::sample).
    pub fn position(&self, sample: u64) -> u64 {
        assert!(sample < self.len, "sample {sample} is past the epoch's {} samples", self.len);
        self.permutation.as_ref().map_or(sample, |p| p.inverse(sample))
    }
}

/// A keyed permutation of `0..len`.
#[derive(Clone, Debug)]
pub struct Permutation {
    len: u64,
    left: u64,
    right: u64,
    keys: [[u64; 2]; ROUND_PAIRS],
}

impl Permutation {
    /// The longest permutation: past it left·right could leave 64 bits.
    pub const LEN_MAX: u64 = 1 << 63;

    /// The permutation of `0..len` that belongs to (seed, epoch), hashed together by BLAKE3: no pair is another's
    /// neighbour, as (5, 1) and (6, 0) are where seed and epoch are added.
    ///
    /// # Errors
    /// [`Error::Config`] where `len` is zero or above [`LEN_MAX`](Self::LEN_MAX).
    pub fn new(seed: u64, epoch: u64, len: u64) -> Result<Permutation> {
        if len == 0 || len > Self::LEN_MAX {
            return Err(Error::config(format!("an order needs between 1 and 2^63 samples, not {len}")));
        }
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        for number in [seed, epoch, len] {
            hasher.update(&number.to_le_bytes());
        }
        let mut bytes = hasher.finalize_xof();
        let mut keys = [[0; 2]; ROUND_PAIRS];
        for key in keys.as_flattened_mut() {
            let mut word = [0; 8];
            bytes.fill(&mut word);
            *key = u64::from_le_bytes(word);
        }
        let root = len.isqrt();
        let left = if root * root == len { root } else { root + 1 };
        Ok(Permutation { len, left, right: len.div_ceil(left), keys })
    }

    fn forward(&self, position: u64) -> u64 {
        let mut number = position;
        loop {
            let (mut left, mut right) = (number / self.right, number % self.right);
            for [left_key, right_key] in self.keys {
                left = add(left, shift(left_key, right, self.left), self.left);
                right = add(right, shift(right_key, left, self.right), self.right);
            }
            number = left * self.right + right;
            if number < self.len {
                return number;
            }
        }
    }

    fn inverse(&self, sample: u64) -> u64 {
        let mut number = sample;
        loop {
            let (mut left, mut right) = (number / self.right, number % self.right);
            for [left_key, right_key] in self.keys.into_iter().rev() {
                right = add(right, self.right - shift(right_key, left, self.right), self.right);
                left = add(left, self.left - shift(left_key, right, self.left), self.left);
            }
            number = left * self.right + right;
            if number < self.len {
                return number;
            }
        }
    }
}

/// `a + b` modulo `modulus`, for `a < modulus` and `b <= modulus <= 2^32`.
fn add(a: u64, b: u64, modulus: u64) -> u64 {
    let sum = a + b;
    if sum >= modulus { sum - modulus } else { sum }
}

/// The round function: a hash of `value` under `key`, scaled to `0..modulus`. The mixing is SplitMix64's finaliser.
fn shift(key: u64, value: u64, modulus: u64) -> u64 {
    let mut z = value.wrapping_add(key);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    ((u128::from(z) * u128::from(modulus)) >> 64) as u64
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
}
