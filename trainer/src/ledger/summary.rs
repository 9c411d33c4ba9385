//! A run's last and best figures, from its rows.
//!
//! Only logged rows count, so that a run that was resumed says what one that was not stopped says. Leaves out
//! where figures are kept.

use crate::config::Monitor;
use crate::metrics::{Row, TrainRow, ValRow};
use serde::Serialize;

/// The last and the best value of one figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Span {
    /// Of the newest row.
    pub last: f64,
    /// Of the best row.
    pub best: f64,
}

/// Figures of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Optimizer steps made.
    pub step: u64,
    /// The training loss, in nats.
    pub loss: Option<Span>,
    /// The validation loss, in nats.
    pub val_loss: Option<Span>,
    /// Recall at 1 from image to text, as a share.
    pub image_to_text_r1: Option<Span>,
    /// Recall at 1 from text to image, as a share.
    pub text_to_image_r1: Option<Span>,
    /// A captioner's CIDEr.
    pub cider: Option<Span>,
    /// A captioner's BLEU-4.
    pub bleu_4: Option<Span>,
    /// What evaluations are worth by `train.monitor`: the larger, the better.
    pub score: Option<Span>,
}

fn follow(span: &mut Option<Span>, value: f64, is_better: impl Fn(f64, f64) -> bool) {
    let best = span.map_or(value, |span| if is_better(value, span.best) { value } else { span.best });
    *span = Some(Span { last: value, best });
}

impl Summary {
    /// Of all rows of a run.
    pub fn of(rows: &[Row], monitor: Monitor) -> Self {
        let mut summary = Self::default();
        for row in rows {
            match row {
                Row::Train(row) => summary.train(row),
                Row::Val(row) => summary.val(row, monitor),
                Row::Norms(_) => {}
            }
        }
        summary
    }

    /// Takes in a logged step.
    pub fn train(&mut self, row: &TrainRow) {
        self.step = self.step.max(row.step);
        follow(&mut self.loss, f64::from(row.loss), |a, b| a < b);
    }

    /// Takes in an evaluation.
    pub fn val(&mut self, row: &ValRow, monitor: Monitor) {
        self.step = self.step.max(row.step);
        if let Some(loss) = row.loss {
            follow(&mut self.val_loss, f64::from(loss), |a, b| a < b);
        }
        let figures = [
            (&mut self.image_to_text_r1, row.image_to_text.map(|shares| shares[0])),
            (&mut self.text_to_image_r1, row.text_to_image.map(|shares| shares[0])),
            (&mut self.cider, row.caption.as_ref().map(|caption| caption.cider)),
            (&mut self.bleu_4, row.caption.as_ref().map(|caption| caption.bleu_4)),
        ];
        for (span, value) in figures {
            value.into_iter().for_each(|value| follow(span, value, |a, b| a > b));
        }
        if let Some(score) = monitor.score(row) {
            follow(&mut self.score, score, |a, b| a > b);
        }
    }

    /// The ledger's columns with their cells; empty where nothing was measured yet.
    pub(super) fn cells(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("loss", "loss_best", self.loss),
            ("val_loss", "val_loss_best", self.val_loss),
            ("image_to_text_r1", "image_to_text_r1_best", self.image_to_text_r1),
            ("text_to_image_r1", "text_to_image_r1_best", self.text_to_image_r1),
            ("cider", "cider_best", self.cider),
            ("bleu_4", "bleu_4_best", self.bleu_4),
        ];
        let mut cells = vec![("step", self.step.to_string())];
        for (last, best, span) in pairs {
            cells.push((last, span.map_or_else(String::new, |span| figure(span.last))));
            cells.push((best, span.map_or_else(String::new, |span| figure(span.best))));
        }
        cells
    }
}

/// A figure with six places at most.
pub fn figure(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_and_best_are_of_the_right_end() {
        let train = |step, loss| {
            Row::Train(TrainRow {
                step,
                epoch: 0,
                samples_seen: 0,
                loss,
                lr: 0.0,
                grad_norm: 0.0,
                logit_scale: None,
                samples_per_s: 0.0,
                data_wait: 0.0,
                time: 0.0,
            })
        };
        let val = |step, loss, recall: f64| {
            Row::Val(ValRow {
                step,
                epoch: 0,
                samples_seen: 0,
                split: "val".into(),
                images: 1,
                captions: 1,
                image_to_text: Some([recall, 1.0, 1.0]),
                text_to_image: Some([recall / 2.0, 1.0, 1.0]),
                caption: None,
                loss,
                averaged: false,
                time: 0.0,
            })
        };
        let rows =
            [train(1, 3.0), train(2, 1.5), val(2, None, 0.25), train(3, 2.0), val(3, Some(2.5), 0.125)];
        let found = Summary::of(&rows, Monitor::RecallAt1);
        assert_eq!((found.step, found.loss), (3, Some(Span { last: 2.0, best: 1.5 })));
        assert_eq!(found.val_loss, Some(Span { last: 2.5, best: 2.5 }));
        assert_eq!(found.image_to_text_r1, Some(Span { last: 0.125, best: 0.25 }));
        assert_eq!(found.score, Some(Span { last: 0.09375, best: 0.1875 }));
        let cells = found.cells();
        assert!(cells.contains(&("loss", "2".to_owned())), "{cells:?}");
        assert!(cells.contains(&("text_to_image_r1", "0.0625".to_owned())), "{cells:?}");
        assert!(Summary::default().cells().iter().skip(1).all(|(_, cell)| cell.is_empty()));
    }
}
