//! Takes from each bin what it carries over from the bin before it, so that slow noise is no period.
//!
//! The null closes each epoch to a ring. Noise that is slow against an epoch does not close: turned, it is another
//! noise, and the test then finds a period in one log of eight at p = 0.05 (AR(1) noise, coefficient 0.97, 2 to 5 epochs
//! of 30 to 150 steps). So the residual of one bin earlier is subtracted, times the coefficient φ that bins carry over;
//! what is new in each bin is nearly without memory and turns well. A period stays one: it loses the same part of itself
//! in every epoch. With it the same noise is found in one log of 13 at p = 0.05 and in one of 60 at p = 0.01, and white
//! noise as often as it should.
//!
//! φ is that of an autoregressive model whose bins, without their parabola, would have the lag-one correlation that is
//! measured, and one standard error more: too small a φ gives false alarms, too large a one costs a little power. (The
//! mean of a bin is smoother than the model's values, so slow noise gets a φ near one.) It is measured on the epochs'
//! deviations from their common fold, where a period is not.
//! Left out: models with more coefficients.

use super::residual::{Grid, basis, project, residuals};
use super::statistic::bins;

/// Largest coefficient.
const PHI_MAX: f64 = 0.999;

/// Residuals without what they carry over, one bin shorter, and the coefficient.
pub fn whiten(residual: &Grid) -> (Grid, f64) {
    let edges = bins(residual.cells);
    let count = edges.len() - 1;
    // A parabola through three bins leaves nothing.
    if residual.epochs < 2 || count < 5 {
        return (residual.clone(), 0.0);
    }
    let freedom = ((residual.epochs - 1) * (count - 3)) as f64;
    let phi = coefficient(carried(residual, &edges) + 1.0 / freedom.sqrt(), count);
    let lag = residual.cells / count;
    let new =
        |row: &[f64]| row[lag..].iter().zip(row).map(|(now, before)| now - phi * before).collect::<Vec<_>>();
    let values = residual.rows().flat_map(new).collect();
    (residuals(&Grid { epochs: residual.epochs, cells: residual.cells - lag, values }), phi)
}

/// The lag-one correlation of the bins of the epochs' deviations from their fold, without their parabola.
fn carried(residual: &Grid, edges: &[usize]) -> f64 {
    let (fold, basis) = (residual.fold(), basis(edges.len() - 1));
    let (mut products, mut squares) = (0.0, 0.0);
    for row in residual.rows() {
        let mean = |edge: &[usize]| {
            let cells = edge[0]..edge[1];
            cells.clone().map(|cell| row[cell] - fold[cell]).sum::<f64>() / cells.len() as f64
        };
        let mut means: Vec<f64> = edges.windows(2).map(mean).collect();
        project(&mut means, &basis);
        products += means.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>();
        squares += means.iter().map(|mean| mean * mean).sum::<f64>();
    }
    if squares > 0.0 { products / squares } else { -1.0 }
}

/// The coefficient whose model has this lag-one correlation, found by halving; 0 where it would be negative.
fn coefficient(carried: f64, count: usize) -> f64 {
    let basis = basis(count);
    let (mut low, mut high) = (0.0, PHI_MAX);
    if carried <= expected(low, &basis) || carried >= expected(high, &basis) {
        return if carried <= expected(low, &basis) { low } else { high };
    }
    for _ in 0..30 {
        let middle = 0.5 * (low + high);
        if expected(middle, &basis) < carried { low = middle } else { high = middle }
    }
    low
}

/// The lag-one correlation that an autoregressive process of coefficient `phi` shows once its parabola is removed.
fn expected(phi: f64, basis: &[Vec<f64>]) -> f64 {
    let count = basis.first().map_or(0, Vec::len);
    let row = |i: usize| (0..count).map(|j| phi.powi(i.abs_diff(j) as i32)).collect();
    let mut rows: Vec<Vec<f64>> = (0..count).map(row).collect();
    rows.iter_mut().for_each(|row| project(row, basis));
    let mut columns: Vec<Vec<f64>> = (0..count).map(|j| rows.iter().map(|row| row[j]).collect()).collect();
    columns.iter_mut().for_each(|column| project(column, basis));
    let diagonal: f64 = (0..count).map(|i| columns[i][i]).sum();
    (1..count).map(|i| columns[i][i - 1]).sum::<f64>() / diagonal
}

#[cfg(test)]
mod tests {
    use super::super::null::Stream;
    use super::*;

    #[test]
    fn the_coefficient_of_slow_noise_is_found_and_white_noise_has_nearly_none() {
        let mut stream = Stream::new(3, 0);
        let mut unit = || stream.next() as f64 / u64::MAX as f64 - 0.5;
        for (rho, low, high) in
            [(0.0, 0.0, 0.3), (0.5_f64, 0.0, 0.5), (0.9, 0.45, PHI_MAX), (0.99, 0.9, PHI_MAX)]
        {
            let mut at = 0.0;
            let values = (0..40 * 100)
                .map(|_| {
                    at = rho * at + unit();
                    at
                })
                .collect();
            let (new, phi) = whiten(&residuals(&Grid { epochs: 40, cells: 100, values }));
            // A bin is five cells, and 0.9 to the fifth is 0.59: what is carried may not be taken for less.
            assert!((low..=high).contains(&phi), "{rho}: {phi}");
            assert_eq!((new.cells, new.values.len()), (95, 40 * 95));
        }
    }

    #[test]
    fn a_period_raises_no_coefficient() {
        let wave = |t: usize| (t as f64 / 100.0 * std::f64::consts::TAU).cos();
        let mut stream = Stream::new(4, 0);
        let values = (0..1000).map(|t| 3.0 * wave(2 * t) + stream.next() as f64 / u64::MAX as f64).collect();
        let (_, phi) = whiten(&residuals(&Grid { epochs: 10, cells: 100, values }));
        assert!(phi < 0.3, "{phi}");
    }

    #[test]
    fn what_does_not_vary_stays_as_it_is() {
        let flat = Grid { epochs: 3, cells: 40, values: vec![0.0; 120] };
        let (new, phi) = whiten(&flat);
        assert_eq!((phi, new.energy()), (0.0, 0.0));
    }
}
