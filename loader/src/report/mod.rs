//! How good a shuffle is, measured on what was delivered: sample numbers in, a [`Report`] out.
//!
//! Each figure stands beside an ideal shuffle's: its expectation in closed form, and what seeded ideal
//! permutations of the same size score through the same code. Nothing here knows where an order comes from, so
//! any loader's can be judged. Left out: reading keys or data sets, printing, drawing.
//!
//! ```
//! use loader::report::{Delivered, Verdict, measure};
//!
//! // 1,024 samples in shards of 64, delivered in the same stored order twice.
//! let epoch: Vec<u64> = (0..1024).collect();
//! let mut delivered = Delivered::new(1024, 32, vec![epoch.clone(), epoch]);
//! delivered.shards = Some((0..1024).map(|sample| sample / 64).collect());
//! let report = measure(&delivered, 4)?;
//! assert_eq!(report.verdict, Verdict::Bad);
//! let pairs = report.metric("pair_repeat").unwrap();
//! assert_eq!(pairs.value, 33.0); // 1023 / 31: every pair of batch-mates meets again
//! # Ok::<(), loader::Error>(())
//! ```

mod coverage;
mod figures;
mod ideal;
mod judge;
mod scores;
mod simulate;

use serde::Serialize;

use crate::error::{Error, Result};
pub use coverage::{Coverage, EpochCoverage};
pub use simulate::SIMULATIONS;

/// What a loader delivered, as numbers.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    /// How many samples there are; their numbers are below it. Any numbering will do.
    pub samples: u64,
    /// Samples in a batch: position p of an epoch is in its batch p / batch_size.
    pub batch_size: u64,
    /// The sample numbers of each epoch, in order of delivery.
    pub epochs: Vec<Vec<u64>>,
    /// The shard of each sample, or none where there are no shards. Any numbering.
    pub shards: Option<Vec<u64>>,
    /// The place of each sample in the source's order, its `source_row`: only which is larger counts. None where
    /// the source's order is not known; sample numbers are not taken for it.
    pub source: Option<Vec<u64>>,
}

impl Delivered {
    /// Epochs over `samples` samples whose shards and source are not known.
    pub fn new(samples: u64, batch_size: u64, epochs: Vec<Vec<u64>>) -> Delivered {
        Delivered { samples, batch_size, epochs, shards: None, source: None }
    }

    fn check(&self) -> Result<()> {
        let bad = |problem: String| Err(Error::config(problem));
        if self.samples == 0 || self.samples > u64::from(u32::MAX) {
            return bad(format!("a report is about 1 to 2^32 - 1 samples, not {}", self.samples));
        }
        if self.batch_size == 0 {
            return bad("the batch size must be at least 1".to_owned());
        }
        if self.epochs.is_empty() {
            return bad("there is no epoch to report on".to_owned());
        }
        for (what, column) in [("shards", &self.shards), ("source rows", &self.source)] {
            let len = column.as_ref().map_or(self.samples, |column| column.len() as u64);
            if len != self.samples {
                return bad(format!("{} samples have {len} {what}", self.samples));
            }
        }
        for (number, epoch) in self.epochs.iter().enumerate() {
            if let Some(sample) = epoch.iter().find(|&&sample| sample >= self.samples) {
                return bad(format!(
                    "epoch {number}: sample {sample} is past the {} there are",
                    self.samples
                ));
            }
            if (epoch.len() as u64) < self.batch_size {
                let (found, batch_size) = (epoch.len(), self.batch_size);
                return bad(format!("epoch {number} has {found} samples, less than a batch of {batch_size}"));
            }
        }
        Ok(())
    }
}

/// How far an order is from an ideal shuffle, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Within chance.
    Ideal,
    /// Told from an ideal shuffle by its size, and too near to it to matter in training.
    Near,
    /// A fault.
    Bad,
}

/// One figure of an order beside the ideal shuffle's.
#[derive(Clone, Debug, Serialize)]
pub struct Metric {
    /// `shards_per_batch`, `pair_repeat`, `batch_variance`, `source_correlation`, `epoch_correlation`,
    /// `tail_shards` or `tail_source`.
    pub name: &'static str,
    /// Over all epochs.
    pub value: f64,
    /// An ideal shuffle's expectation.
    pub ideal: f64,
    /// Standard deviations from it, after the transform that makes the ideal's law nearly normal.
    pub z: f64,
    /// What ideal permutations score; none where none were simulated.
    pub simulated: Option<Spread>,
    /// Whether it is as it should be.
    pub verdict: Verdict,
    /// The same in words.
    pub words: String,
}

/// What the simulated ideal permutations score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

/// The measurement of an order.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many samples there are.
    pub samples: u64,
    /// Samples in a batch.
    pub batch_size: u64,
    /// How many shards there are; none where they are not known.
    pub shards: Option<u64>,
    /// Ideal permutations that were simulated: fewer of long epochs.
    pub simulations: u32,
    /// Which samples came, in each epoch.
    pub coverage: Coverage,
    /// What could be measured; a metric is left out where the numbers for it are not there.
    pub metrics: Vec<Metric>,
    /// The worst of all verdicts.
    pub verdict: Verdict,
    /// The overall verdict in words, with its first reason.
    pub words: String,
}

impl Report {
    /// A metric by its name.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }
}

/// Measures an order, beside `simulations` ideal permutations of the same size (at most; see [`SIMULATIONS`]).
///
/// Time and memory are linear in the samples delivered, but for a sort within each batch.
///
/// # Errors
/// [`Error::Config`] where numbers do not fit together: a sample past the end, an epoch shorter than a batch.
pub fn measure(delivered: &Delivered, simulations: u32) -> Result<Report> {
    delivered.check()?;
    let scale = figures::Scale::of(delivered);
    let found = figures::measure(&scale, &delivered.epochs);
    let simulated = simulate::run(&scale, &delivered.epochs, simulations)?;
    let coverage = coverage::of(delivered);
    let metrics = judge::metrics(&scale, &found, &simulated);
    let verdicts = metrics.iter().map(|metric| metric.verdict);
    let verdict = verdicts.chain([coverage.verdict]).max().unwrap_or(Verdict::Ideal);
    let words = judge::overall(verdict, &coverage, &metrics);
    Ok(Report {
        samples: delivered.samples,
        batch_size: delivered.batch_size,
        shards: scale.shard_sizes().map(|sizes| sizes.len() as u64),
        simulations: simulated.len() as u32,
        coverage,
        metrics,
        verdict,
        words,
    })
}
