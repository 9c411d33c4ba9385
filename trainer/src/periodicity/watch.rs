//! The look that the training loop takes at its own log at an epoch's end, and what it says when it sees a period.
//!
//! It must not cry wolf: a run is looked at after every epoch from the third on, and all its looks together may give a
//! false alarm in one run of a hundred, so each may in one of a hundred times the number of looks (Bonferroni). It must
//! cost nothing: at most a hundred looks a run, at the last 50 epochs of at most 512 cells, with a bounded number of draws.
//! It reads metrics.jsonl, so that a resumed run sees what it saw before it was stopped. Left out: who is told.

use super::log::LossLog;
use super::{null, residual, statistic::Rings, whiten};
use std::path::Path;

/// False alarms that all looks of a run may give together.
const ALPHA: f64 = 0.01;
const LOOKS_MAX: u64 = 100;
const EPOCHS_MAX: usize = 50;
const CELLS_MAX: usize = 512;
/// Enough for the smallest bound, `ALPHA / LOOKS_MAX`, and no more.
const DRAWS: u64 = 19_999;
/// Epochs that are finished before the first look.
const FIRST_LOOK: u64 = 3;

/// Looks at one run; it speaks once.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    has_spoken: bool,
}

impl Watch {
    /// What is to be said after `finished` of `epochs` epochs of the run in the folder `run`; mostly nothing. A log that
    /// is too short or cannot be read says nothing.
    pub fn look(&mut self, run: &Path, finished: u64, epochs: u64) -> Option<String> {
        let looks = epochs.saturating_sub(FIRST_LOOK - 1).max(1);
        let every = looks.div_ceil(LOOKS_MAX);
        if self.has_spoken || finished < FIRST_LOOK || !(finished - FIRST_LOOK).is_multiple_of(every) {
            return None;
        }
        let log = LossLog::read(run, None).ok()?;
        let (new, _) = whiten::whiten(&residual::residuals(&log.grid(CELLS_MAX, EPOCHS_MAX).ok()?));
        let test = null::test(&Rings::new(&new), DRAWS, finished);
        if test.p >= ALPHA / looks.min(LOOKS_MAX) as f64 {
            return None;
        }
        self.has_spoken = true;
        Some(format!(
            "warning: the loss repeats with the epoch: the position in the epoch explains {:.1} % of its variance above \
             chance (p = {:.1e}, {finished} epochs). The same samples meet at the same place of each epoch, or the data is \
             sorted. Train with data.order = \"global\", and prepare the data with prep's default --order shuffled; \
             `trainer periodicity {}` shows it",
            100.0 * test.excess(),
            test.p,
            run.display()
        ))
    }
}
