//! The raw figures of an order: the same code measures what was delivered and what ideal permutations give. Left
//! out: what an ideal shuffle is expected to give ([`super::ideal`]), and whether a figure is good
//! ([`super::judge`]).

use super::{
    Delivered,
    scores::{Ranks, Shards, correlation},
};

/// One part of this many of an epoch's batches, at its end, is its tail.
const TAIL_SHARE: usize = 32;
const NOWHERE: u32 = u32::MAX;

/// What does not change from one order to another.
#[derive(Debug)]
pub(super) struct Scale {
    pub(super) samples: usize,
    pub(super) batch_size: usize,
    pub(super) shards: Option<Shards>,
    pub(super) source: Option<Ranks>,
}

impl Scale {
    pub(super) fn of(delivered: &Delivered) -> Scale {
        Scale {
            samples: delivered.samples as usize,
            batch_size: delivered.batch_size as usize,
            shards: delivered.shards.as_deref().map(Shards::new),
            // Where all rows are equal, nothing is known of the source's order.
            source: delivered.source.as_deref().map(Ranks::new).filter(|ranks| ranks.squares > 0.0),
        }
    }

    pub(super) fn shard_sizes(&self) -> Option<&[u64]> {
        self.shards.as_ref().map(|shards| shards.sizes.as_slice())
    }

    /// Full batches in the tail of an epoch of this many: at least one.
    pub(super) fn tail_batches(batches: usize) -> usize {
        (batches / TAIL_SHARE).max(1)
    }
}

/// The figures of one epoch. Only full batches count for what is about batches.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EpochFigures {
    /// Full batches.
    pub(super) batches: usize,
    /// Distinct shards, summed over the full batches.
    pub(super) shards: Option<u64>,
    /// The same over the tail's.
    pub(super) tail_shards: Option<u64>,
    /// Squared deviations of the batches' mean ranks from the mean rank, summed.
    pub(super) squares: Option<f64>,
    /// Mean rank of the tail's samples, as a deviation from the mean rank.
    pub(super) tail_rank: Option<f64>,
    /// Spearman's correlation of delivery and source; the number of distinct samples.
    pub(super) source: Option<(f64, usize)>,
}

/// The figures of two epochs, one after the other. A sample that came twice counts where it came first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PairFigures {
    /// Pairs of samples that shared a batch in both epochs.
    pub(super) again: u64,
    /// How many of them chance gives, with these batch sizes.
    pub(super) expected: f64,
    /// Spearman's correlation of the samples' positions; the number of samples in both.
    pub(super) correlation: Option<(f64, usize)>,
}

/// All figures of an order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) epochs: Vec<EpochFigures>,
    pub(super) pairs: Vec<PairFigures>,
}

pub(super) fn measure(scale: &Scale, epochs: &[Vec<u64>]) -> Figures {
    Figures {
        epochs: epochs.iter().map(|epoch| epoch_figures(scale, epoch)).collect(),
        pairs: epochs.windows(2).map(|pair| pair_figures(scale, &pair[0], &pair[1])).collect(),
    }
}

fn epoch_figures(scale: &Scale, epoch: &[u64]) -> EpochFigures {
    let batches = epoch.len() / scale.batch_size;
    let tail = batches - Scale::tail_batches(batches).min(batches);
    let distinct = scale.shards.as_ref().map(|shards| distinct_shards(shards, epoch, scale.batch_size));
    let means = scale.source.as_ref().map(|ranks| batch_means(ranks, epoch, scale.batch_size));
    let source = scale.source.as_ref().and_then(|ranks| {
        let first = first_positions(scale.samples, epoch);
        let came = || first.iter().zip(&ranks.of).filter(|(position, _)| **position != NOWHERE);
        let rho = correlation(came().map(|(&position, &rank)| (f64::from(position), rank)))?;
        Some((rho, came().count()))
    });
    EpochFigures {
        batches,
        shards: distinct.as_ref().map(|distinct| distinct.iter().sum()),
        tail_shards: distinct.as_ref().map(|distinct| distinct[tail..].iter().sum()),
        squares: means.as_ref().map(|means| means.iter().map(|mean| mean * mean).sum()),
        tail_rank: means.as_ref().map(|means| {
            let tail = &means[tail..];
            tail.iter().sum::<f64>() / tail.len() as f64
        }),
        source,
    }
}

/// How many shards each full batch draws from.
fn distinct_shards(shards: &Shards, epoch: &[u64], batch_size: usize) -> Vec<u64> {
    let mut last_batch = vec![usize::MAX; shards.sizes.len()];
    let count = |(batch, samples): (usize, &[u64])| {
        let is_new = |&&sample: &&u64| {
            let shard = shards.of[sample as usize] as usize;
            std::mem::replace(&mut last_batch[shard], batch) != batch
        };
        samples.iter().filter(is_new).count() as u64
    };
    epoch.chunks_exact(batch_size).enumerate().map(count).collect()
}

/// The mean rank of each full batch.
fn batch_means(ranks: &Ranks, epoch: &[u64], batch_size: usize) -> Vec<f64> {
    let mean = |samples: &[u64]| {
        samples.iter().map(|&sample| ranks.of[sample as usize]).sum::<f64>() / batch_size as f64
    };
    epoch.chunks_exact(batch_size).map(mean).collect()
}

/// The position at which each sample came first.
fn first_positions(samples: usize, epoch: &[u64]) -> Vec<u32> {
    let mut first = vec![NOWHERE; samples];
    for (position, &sample) in epoch.iter().enumerate().rev() {
        first[sample as usize] = position.min(NOWHERE as usize - 1) as u32;
    }
    first
}

fn pair_figures(scale: &Scale, before: &[u64], after: &[u64]) -> PairFigures {
    let mut before_at = first_positions(scale.samples, before);
    let after_at = first_positions(scale.samples, after);
    // Samples of one epoch alone cannot meet again, whatever the order.
    before_at
        .iter_mut()
        .zip(&after_at)
        .filter(|(_, after)| **after == NOWHERE)
        .for_each(|(b, _)| *b = NOWHERE);
    let in_both = |&sample: &u64| before_at[sample as usize] != NOWHERE;
    let batch_size = scale.batch_size;
    let mut before_counts = vec![0u64; before.len().div_ceil(batch_size)];
    let (mut again, mut after_pairs, mut common) = (0, 0.0, 0usize);
    let mut mates = Vec::with_capacity(batch_size);
    for (batch, samples) in after.chunks(batch_size).enumerate() {
        mates.clear();
        for (slot, sample) in samples.iter().enumerate().filter(|(_, sample)| in_both(sample)) {
            if after_at[*sample as usize] as usize == batch * batch_size + slot {
                mates.push(before_at[*sample as usize] as usize / batch_size);
            }
        }
        mates.iter().for_each(|&mate| before_counts[mate] += 1);
        common += mates.len();
        after_pairs += pairs(mates.len() as u64);
        mates.sort_unstable();
        again += mates.chunk_by(|a, b| a == b).map(|run| pairs(run.len() as u64) as u64).sum::<u64>();
    }
    let before_pairs: f64 = before_counts.iter().map(|&count| pairs(count)).sum();
    let all = pairs(common as u64);
    let expected = if all > 0.0 { before_pairs * after_pairs / all } else { 0.0 };
    let both = || before_at.iter().zip(&after_at).filter(|(before, _)| **before != NOWHERE);
    let rho = correlation(both().map(|(&before, &after)| (f64::from(before), f64::from(after))));
    PairFigures { again, expected, correlation: rho.map(|rho| (rho, common)) }
}

/// How many pairs `count` things make.
fn pairs(count: u64) -> f64 {
    count as f64 * (count as f64 - 1.0).max(0.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_as_one_would_by_hand() {
        // Batches {0,1,2} {3,4,5}, then {0,1,3} {2,4,5}: 0-1 and 4-5 meet again.
        let scale = Scale::of(&Delivered::new(6, 3, Vec::new()));
        let figures = measure(&scale, &[vec![0, 1, 2, 3, 4, 5], vec![3, 1, 0, 5, 2, 4]]);
        assert_eq!(figures.pairs[0].again, 2);
        assert_eq!(figures.pairs[0].expected, 6.0 * 6.0 / 15.0);
    }

    #[test]
    fn pairs_agree_with_counting_all_of_them() {
        let (samples, batch_size) = (97u64, 8);
        let scale = Scale::of(&Delivered::new(samples, batch_size as u64, Vec::new()));
        // A sample of epoch 0 that epoch 1 leaves out, and one that it repeats.
        let first: Vec<u64> = (0..samples).map(|p| p * 31 % samples).collect();
        let mut second: Vec<u64> = (0..samples - 5).map(|p| p * p % samples).collect();
        second.push(first[3]);
        let at = |epoch: &[u64], sample: u64| epoch.iter().position(|&s| s == sample).map(|p| p / batch_size);
        let mut again = 0;
        for a in 0..samples {
            for b in 0..a {
                let same = |epoch: &[u64]| at(epoch, a).is_some() && at(epoch, a) == at(epoch, b);
                again += u64::from(same(&first) && same(&second));
            }
        }
        assert_eq!(measure(&scale, &[first, second]).pairs[0].again, again);
    }

    #[test]
    fn shards_and_means_count_full_batches_alone() {
        let delivered = Delivered {
            shards: Some(vec![0, 0, 1, 1, 2]),
            source: Some(vec![0, 1, 2, 3, 4]),
            ..Delivered::new(5, 2, Vec::new())
        };
        let figures = measure(&Scale::of(&delivered), &[vec![0, 1, 2, 4, 3]]).epochs.remove(0);
        assert_eq!((figures.batches, figures.shards, figures.tail_shards), (2, Some(3), Some(2)));
        // Ranks around the mean: -2 -1 0 1 2; means -1.5 and 1.
        assert_eq!((figures.squares, figures.tail_rank), (Some(1.5 * 1.5 + 1.0), Some(1.0)));
        assert!((figures.source.unwrap().0 - 0.9).abs() < 1e-12);
    }
}
