//! The sawtooth: a drop of the loss at each epoch's start. It comes from meeting the same samples again (a model that
//! memorises), and no order removes it, so it is measured apart from the period.
//!
//! Each epoch is cut into quarters. At a boundary the drop is the last quarter's mean less the next epoch's first,
//! less the mean fall between quarters beside it, (q3 − q4 before and q1 − q2 after) / 2: zero for every straight or
//! parabolic trend. Boundaries share no cell, so their drops are nearly independent, and a t-test of them against zero
//! (one-sided: a drop) is fair. Left out: what the parabola of an epoch hides of a period.

use super::distribution::student_t_above;
use super::residual::Grid;

/// The drop at the epochs' starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sawtooth {
    /// The mean drop, in the unit of the loss; below zero where the loss rises.
    pub drop: f64,
    /// Boundaries between two epochs.
    pub boundaries: usize,
    /// How likely so large a mean drop is without a sawtooth; none with fewer than two boundaries.
    pub p: Option<f64>,
}

/// Measures the drops between the epochs of `loss`; none where there is no boundary.
pub fn sawtooth(loss: &Grid) -> Option<Sawtooth> {
    let quarters: Vec<[f64; 4]> = loss.rows().map(quarters).collect();
    let drop = |pair: &[[f64; 4]]| {
        let ([_, _, c, d], [a, b, _, _]) = (pair[0], pair[1]);
        (d - a) - 0.5 * ((c - d) + (a - b))
    };
    let drops: Vec<f64> = quarters.windows(2).map(drop).collect();
    if drops.is_empty() || loss.cells < 4 {
        return None;
    }
    let count = drops.len() as f64;
    let mean = drops.iter().sum::<f64>() / count;
    let p = (drops.len() > 1).then(|| {
        let variance = drops.iter().map(|drop| (drop - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let deviation = (variance / count).sqrt();
        match deviation > 0.0 {
            true => student_t_above(mean / deviation, count - 1.0),
            false => {
                if mean > 0.0 {
                    0.0
                } else {
                    1.0
                }
            }
        }
    });
    Some(Sawtooth { drop: mean, boundaries: drops.len(), p })
}

fn quarters(row: &[f64]) -> [f64; 4] {
    std::array::from_fn(|quarter| {
        let part = &row[quarter * row.len() / 4..(quarter + 1) * row.len() / 4];
        part.iter().sum::<f64>() / part.len().max(1) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(epochs: usize, cells: usize, value: impl Fn(f64) -> f64) -> Grid {
        let values = (0..epochs * cells).map(|t| value((t as f64 + 0.5) / cells as f64)).collect();
        Grid { epochs, cells, values }
    }

    #[test]
    fn a_trend_is_no_sawtooth_and_a_drop_is_found_with_its_size() {
        let smooth = |u: f64| 5.0 - 0.7 * u + 0.05 * u * u;
        let none = sawtooth(&grid(6, 40, smooth)).unwrap();
        assert!(none.drop.abs() < 1e-9, "{none:?}");
        // 0.3 less at each start, and risen again at the end.
        let teeth = |u: f64| smooth(u) + 0.3 * u.fract() + 0.01 * (u * 37.0).sin();
        let found = sawtooth(&grid(6, 40, teeth)).unwrap();
        assert!((found.drop - 0.3).abs() < 0.02 && found.boundaries == 5, "{found:?}");
        assert!(found.p.unwrap() < 1e-4, "{found:?}");
        let rises =
            sawtooth(&grid(6, 40, |u| smooth(u) - 0.3 * u.fract() + 0.01 * (u * 37.0).sin())).unwrap();
        assert!(rises.drop < 0.0 && rises.p.unwrap() > 0.99, "{rises:?}");
    }

    #[test]
    fn one_boundary_has_a_size_and_no_p_and_one_epoch_has_neither() {
        let two = sawtooth(&grid(2, 16, |u| u.fract())).unwrap();
        assert!(two.p.is_none() && two.drop > 0.9);
        assert!(sawtooth(&grid(1, 16, |u| u)).is_none());
    }
}
