//! Several data sets in one epoch: which of them stands at a position, and how many of its samples came before. It
//! leaves out the order within each, which is its own.
//!
//! An epoch of L positions draws exactly c_i samples from data set i. Position p belongs to the data set in whose part of
//! 0..L the number (p·g + φ) mod L falls, with g near L times the golden ratio and prime to L: a Weyl sequence, so that
//! every run of positions holds each data set in its share, to a sample or two. How many earlier positions fell in a
//! part is a sum of floors, which Euclid's algorithm gives in O(log L) steps: a position needs no memory of those
//! before it.

use super::permutation::Permutation;
use crate::error::{Error, Result};

/// The longest epoch of a mixture: products of two such numbers fit 128 bits with room.
const LEN_MAX: u64 = 1 << 48;

/// How the positions of one epoch are dealt to data sets.
#[derive(Clone, Debug)]
pub(crate) struct Deal {
    len: u64,
    step: u64,
    phase: u64,
    /// The first number of each data set's part of 0..len, and len.
    ends: Vec<u64>,
}

impl Deal {
    /// `counts` draws from each data set; `seed` and `epoch` turn the sequence.
    pub(crate) fn new(seed: u64, epoch: u64, counts: &[u64]) -> Result<Deal> {
        let mut ends = vec![0];
        let mut len = 0u64;
        for &count in counts {
            len = len.saturating_add(count);
            ends.push(len);
        }
        if len == 0 || len > LEN_MAX {
            return Err(Error::config(format!(
                "an epoch of a mixture needs between 1 and 2^48 samples, not {len}"
            )));
        }
        let golden = (len as f64 * 0.618_033_988_749_894_9) as u64;
        let step = (golden.max(1)..).find(|&step| gcd(step, len) == 1).unwrap_or(1) % len.max(2);
        Ok(Deal { len, step: step % len, phase: Permutation::new(seed, epoch, len)?.forward(0), ends })
    }

    /// The data set at `position`, and how many of its samples stand before.
    pub(crate) fn at(&self, position: u64) -> (usize, u64) {
        let number = self.number(position);
        let part = self.ends.partition_point(|&end| end <= number) - 1;
        (part, self.before(position, self.ends[part + 1]) - self.before(position, self.ends[part]))
    }

    fn number(&self, position: u64) -> u64 {
        ((u128::from(position) * u128::from(self.step) + u128::from(self.phase)) % u128::from(self.len))
            as u64
    }

    /// How many of the positions before `position` have a number below `end`: [x mod L < e] = ⌊x/L⌋ − ⌊(x−e)/L⌋.
    fn before(&self, position: u64, end: u64) -> u64 {
        let [len, step, phase, end] = [self.len, self.step, self.phase, end].map(u128::from);
        let upper = floor_sum(position.into(), len, step, phase + len);
        (upper - floor_sum(position.into(), len, step, phase + len - end)) as u64
    }
}

/// Σ ⌊(a·i + b) / m⌋ over i in 0..n.
fn floor_sum(mut n: u128, mut m: u128, mut a: u128, mut b: u128) -> u128 {
    let mut sum = 0;
    loop {
        if a >= m {
            sum += n * n.saturating_sub(1) / 2 * (a / m);
            a %= m;
        }
        if b >= m {
            sum += n * (b / m);
            b %= m;
        }
        let last = a * n + b;
        if last < m {
            return sum;
        }
        n = last / m;
        b = last % m;
        (m, a) = (a, m);
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// How many samples each of some data sets gives to an epoch of `len`: its share by weight, whole samples by the largest
/// remainders, ties to the first.
pub(crate) fn shares(len: u64, weights: &[f64]) -> Vec<u64> {
    let total: f64 = weights.iter().sum();
    let exact: Vec<f64> = weights.iter().map(|weight| len as f64 * (weight / total)).collect();
    let mut counts: Vec<u64> = exact.iter().map(|share| *share as u64).collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    let given: u64 = counts.iter().sum();
    for &part in by_remainder.iter().cycle().take(len.saturating_sub(given) as usize) {
        counts[part] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn floor_sums_are_sums_of_floors(n in 0u128..60, m in 1u128..50, a in 0u128..200, b in 0u128..200) {
            prop_assert_eq!(floor_sum(n, m, a, b), (0..n).map(|i| (a * i + b) / m).sum::<u128>());
        }

        #[test]
        fn each_draw_of_each_data_set_comes_once_in_its_order(
            counts in prop::collection::vec(0u64..90, 1..6), seed: u64, epoch in 0u64..4,
        ) {
            prop_assume!(counts.iter().sum::<u64>() > 0);
            let deal = Deal::new(seed, epoch, &counts).unwrap();
            let mut due = vec![0; counts.len()];
            for position in 0..deal.len {
                let (part, draw) = deal.at(position);
                prop_assert_eq!(draw, due[part], "data set {} at {}", part, position);
                due[part] += 1;
            }
            prop_assert_eq!(&due, &counts);
        }

        #[test]
        fn shares_add_up_and_are_within_one_of_the_exact(len in 1u64..100_000, weights in prop::collection::vec(0.01f64..100.0, 1..7)) {
            let counts = shares(len, &weights);
            prop_assert_eq!(counts.iter().sum::<u64>(), len);
            let total: f64 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!((*count as f64 - len as f64 * weight / total).abs() < 1.001);
            }
        }
    }

    #[test]
    fn every_batch_holds_each_data_set_in_its_share() {
        let deal = Deal::new(1, 2, &[60_000, 30_000, 10_000]).unwrap();
        for batch in 0..390 {
            let mut counts = [0u64; 3];
            (batch * 256..(batch + 1) * 256).for_each(|position| counts[deal.at(position).0] += 1);
            for (count, share) in counts.into_iter().zip([153.6, 76.8, 25.6]) {
                assert!((count as f64 - share).abs() < 5.0, "batch {batch}: {counts:?}");
            }
        }
    }

    #[test]
    fn a_long_epoch_does_not_overflow() {
        let deal = Deal::new(1, 2, &[LEN_MAX - 5, 5]).unwrap();
        let (part, draw) = deal.at(LEN_MAX - 1);
        assert!(part < 2 && draw < LEN_MAX);
        assert!(Deal::new(1, 2, &[LEN_MAX, 1]).is_err() && Deal::new(1, 2, &[0, 0]).is_err());
    }
}
