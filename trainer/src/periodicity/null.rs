//! The null: each epoch's residuals turned as a ring by a drawn number of cells, each epoch by its own.
//!
//! Turning keeps what an epoch is made of, its autocorrelation too, and breaks only what a period is: that the epochs
//! agree about places. A permutation of the cells would break the autocorrelation as well and take slow noise for a
//! period. The p-value is (1 + count) / (1 + draws), which is valid at any number of draws (Phipson and Smyth,
//! "Permutation P-values Should Never Be Zero", 2010).
//! Left out: what is drawn for several logs together ([`distribution`](super::distribution)).

use super::statistic::Rings;
use rayon::prelude::*;

/// Draws that one stream of random numbers makes; fixed, so that the number of threads changes nothing.
const CHUNK: u64 = 256;

/// What the null says of one log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// The share of the variance that the bins explain.
    pub share: f64,
    /// Its mean under the null.
    pub null_mean: f64,
    /// Its standard deviation under the null.
    pub null_deviation: f64,
    /// (1 + how many draws reach the share) / (1 + draws).
    pub p: f64,
}

impl Test {
    /// The share above its mean under the null.
    pub fn excess(&self) -> f64 {
        self.share - self.null_mean
    }
}

/// Compares the residuals with `draws` turned copies of themselves.
pub fn test(rings: &Rings, draws: u64, seed: u64) -> Test {
    let share = rings.share(|_| 0);
    // What adds up to the same sum in another order must count as reached.
    let reached = share * (1.0 - 1e-9);
    let chunks: Vec<(u64, f64, f64)> = (0..draws.div_ceil(CHUNK))
        .into_par_iter()
        .map(|chunk| {
            let mut stream = Stream::new(seed, chunk);
            let (mut count, mut sum, mut squares) = (0, 0.0, 0.0);
            for _ in 0..CHUNK.min(draws - chunk * CHUNK) {
                let turned = rings.share(|_| stream.below(rings.cells() as u64) as usize);
                count += u64::from(turned >= reached);
                sum += turned;
                squares += turned * turned;
            }
            (count, sum, squares)
        })
        .collect();
    // In their order: sums of floats depend on it.
    let (count, sum, squares) =
        chunks.into_iter().fold((0, 0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1, all.2 + one.2));
    let mean = sum / draws.max(1) as f64;
    let variance = (squares / draws.max(1) as f64 - mean * mean).max(0.0);
    Test {
        share,
        null_mean: mean,
        null_deviation: variance.sqrt(),
        p: (1 + count) as f64 / (1 + draws) as f64,
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014), started from a mix of (seed, stream).
#[derive(Debug, Clone)]
pub(crate) struct Stream(u64);

impl Stream {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut begin = Self(seed);
        let mixed = begin.next() ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
        let mut begin = Self(mixed);
        Self(begin.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; the bias is below `bound` / 2^64.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}
