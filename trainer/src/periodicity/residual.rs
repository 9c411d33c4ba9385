//! What is left of each epoch when its trend is taken away: its mean, its slope and its bend, one least-squares
//! parabola an epoch. What the parabola takes away can be no period any more: a rise or fall that every epoch repeats
//! is the sawtooth's ([`sawtooth`](super::sawtooth)).
//!
//! A parabola and not a line: a loss that falls like 1/t is bent the same way in every epoch, and lines alone leave
//! that bend standing in the same place of each. Each epoch is treated by itself, so that under the null nothing ties
//! the epochs together. Left out: binning and tests.

/// Epochs of one log on one grid: cell `c` of epoch `e` is `values[e * cells + c]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    /// Epochs.
    pub epochs: usize,
    /// Cells of an epoch.
    pub cells: usize,
    /// One value a cell, epoch by epoch.
    pub values: Vec<f64>,
}

impl Grid {
    /// The cells of each epoch.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.cells.max(1))
    }

    /// The mean over the epochs of each cell.
    pub fn fold(&self) -> Vec<f64> {
        let mut fold = vec![0.0; self.cells];
        for row in self.rows() {
            fold.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        fold.iter_mut().for_each(|sum| *sum /= self.epochs.max(1) as f64);
        fold
    }

    /// The sum of all squares.
    pub fn energy(&self) -> f64 {
        self.values.iter().map(|value| value * value).sum()
    }
}

/// Takes each epoch's parabola away.
pub fn residuals(loss: &Grid) -> Grid {
    let basis = basis(loss.cells);
    let mut values = loss.values.clone();
    for row in values.chunks_exact_mut(loss.cells.max(1)) {
        project(row, &basis);
    }
    Grid { values, ..*loss }
}

/// Takes away what lies along orthogonal directions of length 1.
pub(super) fn project(row: &mut [f64], basis: &[Vec<f64>]) {
    for direction in basis {
        let part: f64 = row.iter().zip(direction).map(|(value, unit)| value * unit).sum();
        row.iter_mut().zip(direction).for_each(|(value, unit)| *value -= part * unit);
    }
}

/// Constant, line and parabola on `cells` points, made orthogonal and of length 1.
pub(super) fn basis(cells: usize) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for power in 0..3 {
        let place = |cell: usize| 2.0 * (cell as f64 + 0.5) / cells as f64 - 1.0;
        let mut vector: Vec<f64> = (0..cells).map(|cell| place(cell).powi(power)).collect();
        project(&mut vector, &basis);
        let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
        if length > 1e-9 {
            vector.iter_mut().for_each(|value| *value /= length);
            basis.push(vector);
        }
    }
    basis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parabolas_vanish_and_what_is_orthogonal_to_them_stays() {
        let parabola = |t: f64| 3.0 - 0.2 * t + 0.01 * t * t;
        let values: Vec<f64> = (0..60).map(|t| parabola(f64::from(t))).collect();
        let loss = Grid { epochs: 3, cells: 20, values };
        assert!(residuals(&loss).values.iter().all(|value| value.abs() < 1e-9));
        let once = residuals(&Grid { values: (0..60).map(|t| f64::from(t * t * t % 17)).collect(), ..loss });
        let twice = residuals(&once);
        assert!(once.values.iter().zip(&twice.values).all(|(a, b)| (a - b).abs() < 1e-9));
        assert!(once.rows().all(|row| row.iter().sum::<f64>().abs() < 1e-9) && once.energy() > 100.0);
    }
}
