//! The order `shard-buffer`: shards in a drawn order, streamed through a buffer of samples from which each next one is
//! drawn, as WebDataset's `shuffle` does it. For comparison: batch-mates of a shard stay together. Unlike the other
//! orders it has no formula: the epoch is drawn once and held, which is what resuming it by replay means.

use std::sync::Arc;

use super::permutation::Permutation;
use crate::{error::Result, rng};

/// One epoch, drawn.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    samples: Arc<[u64]>,
    positions: Arc<[u64]>,
}

impl Drawn {
    /// Shards of these lengths, whose samples are numbered one shard after the other, through a buffer of `buffer`.
    pub(crate) fn shard_buffer(seed: u64, epoch: u64, shards: &[u64], buffer: usize) -> Result<Drawn> {
        let filled: Vec<(u64, u64)> = shards
            .iter()
            .scan(0, |start, &len| {
                *start += len;
                Some((*start - len, len))
            })
            .filter(|(_, len)| *len > 0)
            .collect();
        let order = Permutation::new(seed, epoch, filled.len() as u64)?;
        let streamed = (0..filled.len() as u64).flat_map(|at| {
            let (start, len) = filled[order.forward(at) as usize];
            start..start + len
        });
        let mut draws = rng::EpochStreams::new(seed, epoch).stream(0, rng::Purpose::Buffer);
        // A buffer that is asked for may be larger than what there is to hold.
        let mut held = Vec::new();
        let mut samples = Vec::new();
        for sample in streamed {
            held.push(sample);
            if held.len() >= buffer.max(1) {
                samples.push(held.swap_remove(draws.below(held.len() as u64) as usize));
            }
        }
        while !held.is_empty() {
            samples.push(held.swap_remove(draws.below(held.len() as u64) as usize));
        }
        Ok(Self::of(samples))
    }

    /// An order that is given: each number below the length once.
    fn of(samples: Vec<u64>) -> Drawn {
        let mut positions = vec![0; samples.len()];
        for (position, &sample) in samples.iter().enumerate() {
            positions[sample as usize] = position as u64;
        }
        Drawn { samples: samples.into(), positions: positions.into() }
    }

    /// The sample at `position`.
    pub(crate) fn forward(&self, position: u64) -> u64 {
        self.samples[position as usize]
    }

    /// The position of `sample`.
    pub(crate) fn inverse(&self, sample: u64) -> u64 {
        self.positions[sample as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_once_and_none_before_its_shard_is_streamed() {
        for (shards, buffer) in [
            (vec![5u64, 0, 7, 1, 12], 4),
            (vec![100; 9], 50),
            (vec![3], 100),
            (vec![6; 6], 1),
            (vec![9; 3], usize::MAX),
        ] {
            let len: u64 = shards.iter().sum();
            let drawn = Drawn::shard_buffer(4, 2, &shards, buffer).unwrap();
            let mut seen: Vec<u64> = (0..len).map(|position| drawn.forward(position)).collect();
            assert!((0..len).all(|position| drawn.inverse(drawn.forward(position)) == position));
            let delivered = seen.clone();
            seen.sort_unstable();
            assert_eq!(seen, (0..len).collect::<Vec<_>>());
            if buffer == 1 {
                assert!(delivered.chunks(6).all(|shard| shard.windows(2).all(|pair| pair[0] + 1 == pair[1])));
            }
        }
    }

    #[test]
    fn epochs_differ() {
        let order = |epoch| Drawn::shard_buffer(1, epoch, &[40; 10], 30).unwrap().samples;
        assert_ne!(order(0), order(1));
        assert_eq!(order(1), order(1));
    }
}
