//! The statistic: which share of the variance the position in the epoch explains.
//!
//! The positions are cut into bins; the share is the sum of squares of the bins' means over all epochs, each counted
//! with its cells, over the sum of all squares. It is never zero: noise has bins with means too, and noise that is
//! autocorrelated has more of them, which is what the null ([`null`](super::null)) measures.
//! Left out: the null, p-values and words.

use super::residual::Grid;

/// Bins of an epoch, where there are cells enough.
pub const BINS_MAX: usize = 20;

/// Cells of a bin at least.
const CELLS_MIN: usize = 3;

/// Where the bins of an epoch of `cells` begin, and as the last entry `cells`.
pub fn bins(cells: usize) -> Vec<usize> {
    let count = (cells / CELLS_MIN).clamp(1, BINS_MAX);
    (0..=count).map(|bin| bin * cells / count).collect()
}

/// Sums over any run of cells of an epoch that is closed to a ring.
#[derive(Debug, Clone)]
pub struct Rings {
    epochs: usize,
    cells: usize,
    /// For each epoch the sums of its first 0, 1, … 2 × `cells` cells, the epoch laid down twice.
    sums: Vec<f64>,
    /// Where the bins begin.
    edges: Vec<usize>,
    energy: f64,
}

impl Rings {
    /// Of residuals.
    pub fn new(residuals: &Grid) -> Self {
        let (epochs, cells) = (residuals.epochs, residuals.cells);
        let mut sums = Vec::with_capacity(epochs * (2 * cells + 1));
        for row in residuals.rows() {
            let mut sum = 0.0;
            sums.push(sum);
            for value in row.iter().chain(row) {
                sum += value;
                sums.push(sum);
            }
        }
        Self { epochs, cells, sums, edges: bins(cells), energy: residuals.energy() }
    }

    /// Cells of an epoch.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// The share of the variance that the bins explain, with epoch `e` turned by `shift(e)` cells (below
    /// [`cells`](Self::cells)); 0 where there is no variance at all.
    pub fn share(&self, mut shift: impl FnMut(usize) -> usize) -> f64 {
        let bins = self.edges.len() - 1;
        let mut totals = [0.0; BINS_MAX];
        for epoch in 0..self.epochs {
            let (sums, shift) = (&self.sums[epoch * (2 * self.cells + 1)..], shift(epoch));
            let mut before = sums[shift];
            for (total, edge) in totals.iter_mut().zip(&self.edges[1..]) {
                let sum = sums[shift + edge];
                *total += sum - before;
                before = sum;
            }
        }
        if self.energy <= 0.0 {
            return 0.0;
        }
        let explained: f64 = totals[..bins]
            .iter()
            .zip(self.edges.windows(2))
            .map(|(total, edge)| total * total / (self.epochs * (edge[1] - edge[0])) as f64)
            .sum();
        explained / self.energy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_constant_in_each_bin_is_explained_and_turned_it_is_not() {
        let edges = bins(60);
        assert_eq!((edges.len() - 1, edges[1]), (BINS_MAX, 3));
        assert_eq!(bins(10), [0, 3, 6, 10]);
        let row: Vec<f64> = (0..60).map(|cell| if (cell / 3) % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let rings = Rings::new(&Grid { epochs: 3, cells: 60, values: row.repeat(3) });
        assert!((rings.share(|_| 0) - 1.0).abs() < 1e-12);
        // All turned alike by two bins: the same; one turned by one bin: two against one.
        assert!((rings.share(|_| 6) - 1.0).abs() < 1e-12);
        assert!((rings.share(|epoch| if epoch == 0 { 3 } else { 0 }) - 1.0 / 9.0).abs() < 1e-12);
        let flat = Rings::new(&Grid { epochs: 2, cells: 30, values: vec![0.0; 60] });
        assert_eq!(flat.share(|_| 0), 0.0);
    }
}
