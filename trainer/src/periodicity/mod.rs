//! Whether a loss log has the period of an epoch: the statistic, its null, and what they say in words.
//!
//! A loss that repeats with the epoch means that the order of samples repeats, or that the data is sorted and no order
//! mixes it. The way from a log to a verdict:
//! 1. [`log`]: rows to whole epochs on one grid, the first epoch left out;
//! 2. [`residual`]: each epoch's mean, slope and bend taken away; [`sawtooth`] reports the drop at the epochs' starts;
//! 3. [`whiten`]: what a bin of positions carries over from the one before it is taken away;
//! 4. [`statistic`]: the share of what is left that the position in the epoch explains;
//! 5. [`null`]: the same share with each epoch turned as a ring, many times: its mean is what chance explains;
//! 6. [`distribution`]: one p-value over the seeds; [`verdict`]: words.
//!
//! [`watch`] is the look that the training loop takes by itself, [`picture`] the folded loss.
//! Left out: periods other than an epoch's.

pub mod autocorrelation;
pub mod distribution;
pub mod log;
pub mod null;
pub mod picture;
pub mod residual;
pub mod sawtooth;
pub mod statistic;
pub mod verdict;
pub mod watch;
pub mod whiten;

use crate::error::Result;
use autocorrelation::Autocorrelation;
use log::LossLog;
use null::Test;
use residual::Grid;
use sawtooth::Sawtooth;
use statistic::Rings;
pub use verdict::Verdict;

/// How a test is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Turned copies that the null draws.
    pub draws: u64,
    /// Seed of the draws.
    pub seed: u64,
    /// A combined p-value below this is a period.
    pub alpha: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { draws: 9_999, seed: 0, alpha: 0.01 }
    }
}

/// What one log says.
#[derive(Debug, Clone, PartialEq)]
pub struct LogReport {
    /// The log's name.
    pub name: String,
    /// Optimizer steps of an epoch.
    pub steps_per_epoch: f64,
    /// The whole epochs after the first, without their trends.
    pub residuals: Grid,
    /// What a bin carries over from the one before it.
    pub carried: f64,
    /// The share of the variance of what is new in each bin that the position explains, and its null.
    pub test: Test,
    /// At a lag of one epoch.
    pub autocorrelation: Autocorrelation,
    /// The drop at the epochs' starts.
    pub sawtooth: Option<Sawtooth>,
}

/// What the logs of one condition say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What the condition is called.
    pub name: String,
    /// Each log.
    pub logs: Vec<LogReport>,
    /// Fisher's combination of the logs' p-values.
    pub p: f64,
    /// The mean over the logs of the share above its null.
    pub excess: f64,
    /// Fisher's combination of the sawtooth's p-values, of the logs that have one.
    pub sawtooth_p: Option<f64>,
    /// The answer.
    pub verdict: Verdict,
}

/// Tests one log.
///
/// # Errors
/// [`Error::NoPeriod`](crate::Error::NoPeriod) where the log is too short to tell.
pub fn of_log(log: &LossLog, options: &Options) -> Result<LogReport> {
    let loss = log.grid(log::CELLS_MAX, usize::MAX)?;
    let residuals = residual::residuals(&loss);
    let (new, carried) = whiten::whiten(&residuals);
    Ok(LogReport {
        name: log.name.clone(),
        steps_per_epoch: log.steps_per_epoch,
        carried,
        test: null::test(&Rings::new(&new), options.draws, options.seed),
        autocorrelation: autocorrelation::autocorrelation(&residuals),
        sawtooth: sawtooth::sawtooth(&loss),
        residuals,
    })
}

/// Tests the logs of one condition: runs that differ in their seeds alone.
///
/// # Errors
/// As [`of_log`].
pub fn of_logs(name: &str, logs: &[LossLog], options: &Options) -> Result<Report> {
    // Each log has draws of its own: shared ones would tie the p-values together.
    let one = |(number, log): (usize, &LossLog)| {
        let seed = null::Stream::new(options.seed, number as u64).next();
        of_log(log, &Options { seed, ..*options })
    };
    let logs: Vec<LogReport> = logs.iter().enumerate().map(one).collect::<Result<_>>()?;
    let p_values: Vec<f64> = logs.iter().map(|log| log.test.p).collect();
    let excess = logs.iter().map(|log| log.test.excess()).sum::<f64>() / logs.len().max(1) as f64;
    let teeth: Vec<f64> = logs.iter().filter_map(|log| log.sawtooth?.p).collect();
    let p = distribution::fisher(&p_values);
    Ok(Report {
        name: name.to_owned(),
        p,
        excess,
        sawtooth_p: (!teeth.is_empty()).then(|| distribution::fisher(&teeth)),
        verdict: Verdict::of(p, options.alpha),
        logs,
    })
}

impl Report {
    /// The mean drop at the epochs' starts over the logs that have a boundary.
    pub fn drop(&self) -> Option<f64> {
        let drops: Vec<f64> = self.logs.iter().filter_map(|log| Some(log.sawtooth?.drop)).collect();
        (!drops.is_empty()).then(|| drops.iter().sum::<f64>() / drops.len() as f64)
    }
}
