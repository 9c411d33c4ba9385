//! Simulators of how other loaders order an epoch, to be measured by `loader report`: sample numbers in, nothing
//! read. They follow what each project documents and does, from its published source; each simulator's file says
//! which facts. Left out: what has no say in the order, such as caches, downloads and decoding.
//!
//! Samples are numbered in source order and lie in shards of one size. Where a loader has workers, each builds
//! whole batches from its own samples, the consumer takes them in turn, and what fills no batch of its worker is
//! dropped (`drop_last`).

mod blocks;
mod buffer;
mod chunks;
mod pages;
mod spread;

use loader::{
    Order,
    report::{Delivered, Report, measure},
    rng::{EpochStreams, Purpose, Stream},
};

/// The size of the imagined data set and of its delivery.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How many samples there are.
    pub samples: u64,
    /// How many are in a shard; the last may have less.
    pub shard_samples: u64,
    /// How many are in a batch.
    pub batch_size: u64,
    /// Workers, each with its own share of the shards.
    pub workers: u64,
}

impl Size {
    /// 262,144 samples in shards of 1,024, batches of 256, 8 workers.
    pub const TABLE: Size = Size { samples: 262_144, shard_samples: 1024, batch_size: 256, workers: 8 };

    fn shards(&self) -> Vec<std::ops::Range<u64>> {
        ranges(self.samples, self.shard_samples)
    }
}

/// `0..len` in ranges of `step`, the last maybe shorter.
fn ranges(len: u64, step: u64) -> Vec<std::ops::Range<u64>> {
    (0..len.div_ceil(step)).map(|number| number * step..((number + 1) * step).min(len)).collect()
}

/// A way to order an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// A permutation of all samples.
    Ideal,
    /// Shuffled shards dealt to workers, and in each a buffer from which a random sample is taken.
    Buffer {
        /// Samples that the buffer holds.
        samples: u64,
        /// Samples in it before the first is taken.
        initial: u64,
    },
    /// Shuffled chunks dealt to workers, each shuffled in itself.
    Chunks {
        /// Samples in a chunk.
        samples: u64,
    },
    /// Shuffled shards, whose samples are moved at random within a range.
    Spread {
        /// The range, on average.
        block: u64,
    },
    /// Shuffled pages, of which some are open, and the next sample is from a random one of these.
    Pages {
        /// Samples in a page.
        samples: u64,
        /// Pages that are open at a time.
        open: u64,
    },
    /// Shuffled blocks, and the samples shuffled within windows of these.
    Blocks {
        /// Samples in a block.
        block: u64,
        /// Samples in a window.
        window: u64,
    },
}

/// What FFCV fits into one of its 8 MiB pages, for samples of 128 KiB. (Of raw 224×224×3 it is 55: 34.9 shards a
/// batch, batch-mates meet again 5.1 times as often.)
const PAGE_SAMPLES: u64 = 64;

/// A loader in its own settings: its name and its way.
pub const LOADERS: [(&str, Shuffle); 7] = [
    ("ideal", Shuffle::Ideal),
    ("webdataset, buffer 1000", Shuffle::Buffer { samples: 1000, initial: 100 }),
    ("open_clip, buffer 5000", Shuffle::Buffer { samples: 5000, initial: 1000 }),
    ("LitData, 512-sample chunks", Shuffle::Chunks { samples: 512 }),
    ("MosaicML py1e, block 2^18", Shuffle::Spread { block: 1 << 18 }),
    ("FFCV quasi-random, 32 pages open", Shuffle::Pages { samples: PAGE_SAMPLES, open: 32 }),
    ("16-sample blocks, window 32k", Shuffle::Blocks { block: 16, window: 1 << 15 }),
];

impl Shuffle {
    /// The samples of an epoch, in order of delivery.
    ///
    /// # Errors
    /// Where the size or a setting is zero.
    pub fn epoch(self, size: Size, seed: u64, epoch: u64) -> anyhow::Result<Vec<u64>> {
        let settings = match self {
            Shuffle::Ideal => vec![],
            Shuffle::Buffer { samples, initial } => vec![samples, initial],
            Shuffle::Chunks { samples } => vec![samples],
            Shuffle::Spread { block } => vec![block],
            Shuffle::Pages { samples, open } => vec![samples, open],
            Shuffle::Blocks { block, window } => vec![block, window],
        };
        let sizes = [size.samples, size.shard_samples, size.batch_size, size.workers];
        anyhow::ensure!(
            sizes.iter().chain(&settings).all(|&number| number > 0),
            "{self:?}, {size:?}: a zero"
        );
        let mut random = Random::new(seed, epoch);
        Ok(match self {
            Shuffle::Ideal => {
                let order = Order::Global.epoch(seed, epoch, size.samples)?;
                (0..size.samples).map(|position| order.sample(position)).collect()
            }
            Shuffle::Buffer { samples, initial } => buffer::epoch(size, samples, initial, &mut random),
            Shuffle::Chunks { samples } => chunks::epoch(size, samples, &mut random),
            Shuffle::Spread { block } => {
                spread::epoch(size, block, &mut Random::new(seed, u64::MAX), &mut random)
            }
            Shuffle::Pages { samples, open } => pages::epoch(size, samples, open, &mut random),
            Shuffle::Blocks { block, window } => blocks::epoch(size, block, window, &mut random),
        })
    }

    /// `epochs` epochs, measured as `loader report` does.
    ///
    /// # Errors
    /// As [`epoch`](Self::epoch), and where an epoch has no full batch.
    pub fn report(self, size: Size, seed: u64, epochs: u64, simulations: u32) -> anyhow::Result<Report> {
        let epochs: anyhow::Result<Vec<_>> = (0..epochs).map(|epoch| self.epoch(size, seed, epoch)).collect();
        let delivered = Delivered {
            shards: Some((0..size.samples).map(|sample| sample / size.shard_samples).collect()),
            source: Some((0..size.samples).collect()),
            ..Delivered::new(size.samples, size.batch_size, epochs?)
        };
        Ok(measure(&delivered, simulations)?)
    }
}

/// Each worker's batches in turn; what fills no batch is dropped.
fn in_turn(workers: Vec<Vec<u64>>, batch_size: u64) -> Vec<u64> {
    let mut batches: Vec<_> = workers.iter().map(|worker| worker.chunks_exact(batch_size as usize)).collect();
    let mut delivered = Vec::new();
    loop {
        let before = delivered.len();
        batches.iter_mut().filter_map(Iterator::next).for_each(|batch| delivered.extend_from_slice(batch));
        if delivered.len() == before {
            return delivered;
        }
    }
}

/// Random numbers of one epoch. A simulator needs good ones, not those of the project that it simulates.
struct Random(Stream);

impl Random {
    fn new(seed: u64, epoch: u64) -> Random {
        Random(EpochStreams::new(seed, epoch).stream(0, Purpose::Caption))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// In [0, 1).
    fn share(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Fisher and Yates.
    fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size { samples: 5_000, shard_samples: 100, batch_size: 20, workers: 3 };
    const SHUFFLES: [Shuffle; 6] = [
        Shuffle::Ideal,
        Shuffle::Buffer { samples: 70, initial: 10 },
        Shuffle::Chunks { samples: 50 },
        Shuffle::Spread { block: 2_000 },
        Shuffle::Pages { samples: 30, open: 4 },
        Shuffle::Blocks { block: 8, window: 800 },
    ];

    #[test]
    fn no_sample_comes_twice_and_only_remainders_are_left_out() {
        for shuffle in SHUFFLES {
            let mut order = shuffle.epoch(SMALL, 1, 0).unwrap();
            let dropped = SMALL.samples - order.len() as u64;
            assert!(dropped <= SMALL.workers * (SMALL.batch_size - 1), "{shuffle:?} drops {dropped}");
            order.sort_unstable();
            assert!(
                order.windows(2).all(|pair| pair[0] < pair[1]) && order.iter().all(|&s| s < SMALL.samples)
            );
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_repeat_themselves() {
        for shuffle in SHUFFLES {
            let order = |seed, epoch| shuffle.epoch(SMALL, seed, epoch).unwrap();
            assert_eq!(order(1, 0), order(1, 0));
            assert_ne!(order(1, 0), order(1, 1), "{shuffle:?}");
            assert_ne!(order(1, 0), order(2, 0), "{shuffle:?}");
        }
    }

    #[test]
    fn a_zero_is_refused() {
        assert!(Shuffle::Chunks { samples: 0 }.epoch(SMALL, 0, 0).is_err());
        assert!(Shuffle::Ideal.epoch(Size { workers: 0, ..SMALL }, 0, 0).is_err());
    }
}
