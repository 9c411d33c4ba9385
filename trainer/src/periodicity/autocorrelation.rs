//! The autocorrelation of the residuals at a lag of one epoch, beside what it is at lags near by.
//!
//! A figure that people look for in a loss log: a period lifts the lag of one epoch over its neighbours, slow noise
//! lifts them alike. Left out: a test, which the null of the bins is ([`null`](super::null)).

use super::residual::Grid;
use serde::Serialize;

/// Autocorrelations, from −1 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Autocorrelation {
    /// At a lag of one epoch.
    pub at_one_epoch: f64,
    /// The mean over lags that are a tenth to a quarter of an epoch shorter or longer.
    pub near_by: f64,
}

/// Of the residuals of consecutive epochs; zeros where they do not vary.
pub fn autocorrelation(residuals: &Grid) -> Autocorrelation {
    let (values, cells) = (&residuals.values, residuals.cells);
    let energy = residuals.energy() / values.len().max(1) as f64;
    let at = |lag: usize| {
        let pairs = values.len().saturating_sub(lag);
        if pairs == 0 || energy <= 0.0 {
            return None;
        }
        let sum: f64 = values.iter().zip(&values[lag..]).map(|(a, b)| a * b).sum();
        Some(sum / pairs as f64 / energy)
    };
    let away = cells.div_ceil(10)..=cells / 4;
    let near: Vec<f64> = away.flat_map(|away| [at(cells - away), at(cells + away)]).flatten().collect();
    Autocorrelation {
        at_one_epoch: at(cells).unwrap_or(0.0),
        near_by: near.iter().sum::<f64>() / near.len().max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_that_every_epoch_repeats_stands_out_and_one_that_does_not_does_not() {
        let wave = |turns: f64| {
            let values =
                (0..6 * 80).map(|t| (std::f64::consts::TAU * turns * f64::from(t) / 80.0).sin()).collect();
            autocorrelation(&Grid { epochs: 6, cells: 80, values })
        };
        let repeats = wave(7.0);
        assert!((repeats.at_one_epoch - 1.0).abs() < 0.01 && repeats.near_by.abs() < 0.2, "{repeats:?}");
        assert!(wave(7.5).at_one_epoch < -0.99);
    }

    #[test]
    fn no_variance_is_no_autocorrelation() {
        let none = autocorrelation(&Grid { epochs: 2, cells: 16, values: vec![0.0; 32] });
        assert_eq!(none, Autocorrelation { at_one_epoch: 0.0, near_by: 0.0 });
    }
}
