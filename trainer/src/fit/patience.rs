//! Which evaluation was the best, and whether the run has waited long enough for a better one.
//!
//! What it knows is a function of the rows of evaluations alone, so a resumed run decides as the one that was not
//! stopped. Leaves out checkpoints.

use crate::config::{Monitor, TrainConfig};
use crate::metrics::{Row, ValRow};

/// Follows the evaluations of a run.
#[derive(Debug)]
pub(super) struct Patience {
    monitor: Monitor,
    patience: u64,
    best: Option<(u64, f64)>,
    /// Evaluations since the best.
    since: u64,
}

impl Patience {
    /// After the evaluations among `rows`.
    pub(super) fn new(train: &TrainConfig, rows: &[Row]) -> Self {
        let mut following = Self { monitor: train.monitor, patience: train.patience, best: None, since: 0 };
        for row in rows {
            if let Row::Val(row) = row {
                following.observe(row);
            }
        }
        following
    }

    /// Takes in an evaluation; whether it is better than all before.
    pub(super) fn observe(&mut self, row: &ValRow) -> bool {
        let value = self.monitor.score(row);
        let better = value.filter(|value| self.best.is_none_or(|(_, best)| *value > best));
        match better {
            Some(value) => {
                self.best = Some((row.step, value));
                self.since = 0;
            }
            // An evaluation that says nothing is none.
            None => self.since += u64::from(value.is_some()),
        }
        better.is_some()
    }

    /// Step and value of the best evaluation.
    pub(super) fn best(&self) -> Option<(u64, f64)> {
        self.best
    }

    /// Whether `train.patience` evaluations in a row were no better.
    pub(super) fn is_over(&self) -> bool {
        self.patience > 0 && self.since >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64, recall: f64) -> ValRow {
        ValRow {
            step,
            epoch: 0,
            samples_seen: 0,
            split: "val".into(),
            images: 10,
            captions: 10,
            image_to_text: Some([recall, 0.9, 0.9]),
            text_to_image: Some([recall, 0.9, 0.9]),
            caption: None,
            loss: None,
            averaged: false,
            time: 0.0,
        }
    }

    #[test]
    fn an_equal_evaluation_is_no_improvement_and_patience_ends() {
        let train = TrainConfig { patience: 2, ..TrainConfig::default() };
        let mut following = Patience::new(&train, &[]);
        let found: Vec<(bool, bool)> = [0.1, 0.3, 0.3, 0.4, 0.2, 0.4]
            .into_iter()
            .enumerate()
            .map(|(step, recall)| (following.observe(&row(step as u64, recall)), following.is_over()))
            .collect();
        let improved: Vec<bool> = found.iter().map(|f| f.0).collect();
        assert_eq!(improved, [true, true, false, true, false, false]);
        assert_eq!(found.iter().position(|f| f.1), Some(5));
        assert_eq!(following.best(), Some((3, 0.4)));
        let rows: Vec<Row> = (0..3).map(|step| Row::Val(row(step, 0.5))).collect();
        assert!(Patience::new(&train, &rows).is_over());
        assert!(!Patience::new(&TrainConfig::default(), &rows).is_over());
    }

    #[test]
    fn a_lower_loss_is_better_and_none_does_not_count() {
        let train = TrainConfig { monitor: Monitor::ValLoss, patience: 2, ..TrainConfig::default() };
        let mut following = Patience::new(&train, &[]);
        let losses = [None, Some(2.0), Some(2.5), Some(1.5), None, Some(1.5), None];
        let improved: Vec<bool> = (0..)
            .zip(losses)
            .map(|(step, loss)| following.observe(&ValRow { loss, ..row(step, 0.5) }))
            .collect();
        assert_eq!(improved, [false, true, false, true, false, false, false]);
        assert_eq!((following.best(), following.is_over()), (Some((3, -1.5)), false));
        following.observe(&ValRow { loss: Some(1.6), ..row(7, 0.5) });
        assert!(following.is_over());
    }
}
