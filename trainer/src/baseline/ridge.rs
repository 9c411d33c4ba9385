//! Ridge regression by its normal equations, (XᵀX + λI) W = XᵀY, solved by Cholesky's factorisation.
//!
//! X comes one row at a time, so memory does not grow with the samples; Y is sparse. All in f64 and in one
//! order. Leaves out pivoting: λ > 0 makes the matrix positive definite.

/// The sums of the normal equations.
#[derive(Debug)]
pub struct NormalEquations {
    features: usize,
    targets: usize,
    /// XᵀX, row-major; only the lower triangle is kept.
    xtx: Vec<f64>,
    /// XᵀY, row-major, features × targets.
    xty: Vec<f64>,
    samples: usize,
}

impl NormalEquations {
    /// For rows of `features` values and `targets` outputs.
    pub fn new(features: usize, targets: usize) -> Self {
        Self {
            features,
            targets,
            xtx: vec![0.0; features * features],
            xty: vec![0.0; features * targets],
            samples: 0,
        }
    }

    /// Adds a sample: a dense row of X and a sparse row of Y.
    pub fn add(&mut self, x: &[f64], y: &[(usize, f64)]) {
        let active: Vec<(usize, f64)> = x.iter().copied().enumerate().filter(|(_, v)| *v != 0.0).collect();
        for (n, (i, xi)) in active.iter().enumerate() {
            let row = &mut self.xtx[i * self.features..(i + 1) * self.features];
            active[..=n].iter().for_each(|(j, xj)| row[*j] += xi * xj);
            let row = &mut self.xty[i * self.targets..(i + 1) * self.targets];
            y.iter().for_each(|(t, value)| row[*t] += xi * value);
        }
        self.samples += 1;
    }

    /// Adds all samples of another sum of the same sizes.
    pub fn merge(&mut self, other: &Self) {
        self.xtx.iter_mut().zip(&other.xtx).for_each(|(a, b)| *a += b);
        self.xty.iter_mut().zip(&other.xty).for_each(|(a, b)| *a += b);
        self.samples += other.samples;
    }

    /// How many samples were added.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The weights, features × targets row-major, with the ridge `lambda` a sample; `None` when the matrix is
    /// not positive definite (λ = 0, or values that are not numbers).
    pub fn solve(&self, lambda: f64) -> Option<Vec<f64>> {
        let n = self.features;
        let mut matrix = self.xtx.clone();
        (0..n).for_each(|i| matrix[i * n + i] += lambda * self.samples as f64);
        cholesky(&mut matrix, n)?;
        let mut weights = self.xty.clone();
        substitute(&matrix, n, &mut weights, self.targets);
        Some(weights)
    }
}

/// Replaces the lower triangle of a symmetric matrix by L with L·Lᵀ = A; `None` if it is not positive definite.
fn cholesky(a: &mut [f64], n: usize) -> Option<()> {
    for i in 0..n {
        for j in 0..=i {
            let (row_i, row_j) = (&a[i * n..i * n + j], &a[j * n..j * n + j]);
            let rest = a[i * n + j] - row_i.iter().zip(row_j).map(|(x, y)| x * y).sum::<f64>();
            a[i * n + j] = if i > j {
                rest / a[j * n + j]
            } else if rest > 0.0 {
                rest.sqrt()
            } else {
                return None;
            };
        }
    }
    Some(())
}

/// Solves L·Lᵀ·W = B in place, row by row over all columns of B at once.
fn substitute(l: &[f64], n: usize, b: &mut [f64], columns: usize) {
    let eliminate = |b: &mut [f64], target: usize, source: usize, factor: f64| {
        let (low, high) = (target.min(source), target.max(source));
        let (head, tail) = b.split_at_mut(high * columns);
        let (low, high) = (&mut head[low * columns..(low + 1) * columns], &mut tail[..columns]);
        let (target, source) = if target > source { (high, low) } else { (low, high) };
        target.iter_mut().zip(source.iter()).for_each(|(t, s)| *t -= factor * s);
    };
    for i in 0..n {
        (0..i).for_each(|j| eliminate(b, i, j, l[i * n + j]));
        b[i * columns..(i + 1) * columns].iter_mut().for_each(|v| *v /= l[i * n + i]);
    }
    for i in (0..n).rev() {
        (i + 1..n).for_each(|j| eliminate(b, i, j, l[j * n + i]));
        b[i * columns..(i + 1) * columns].iter_mut().for_each(|v| *v /= l[i * n + i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator for test values.
    fn noise(state: &mut u64) -> f64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as f64 / (1u64 << 31) as f64 - 0.5
    }

    #[test]
    fn weights_that_made_the_data_are_found_again() {
        let (features, targets) = (7, 3);
        let mut state = 5;
        let truth: Vec<f64> = (0..features * targets).map(|_| noise(&mut state)).collect();
        let mut equations = NormalEquations::new(features, targets);
        for _ in 0..60 {
            let x: Vec<f64> = (0..features).map(|_| noise(&mut state)).collect();
            let y = (0..targets)
                .map(|t| (t, (0..features).map(|f| x[f] * truth[f * targets + t]).sum()))
                .collect::<Vec<_>>();
            equations.add(&x, &y);
        }
        let weights = equations.solve(1e-12).unwrap();
        for (found, expected) in weights.iter().zip(&truth) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn the_solution_satisfies_the_normal_equations() {
        let (features, targets, lambda) = (5, 2, 0.3);
        let mut state = 9;
        let mut equations = NormalEquations::new(features, targets);
        for _ in 0..4 {
            let x: Vec<f64> = (0..features).map(|_| noise(&mut state)).collect();
            equations.add(&x, &[(0, noise(&mut state)), (1, noise(&mut state))]);
        }
        let weights = equations.solve(lambda).unwrap();
        for i in 0..features {
            for t in 0..targets {
                let mut left = lambda * 4.0 * weights[i * targets + t];
                for j in 0..features {
                    let (row, column) = (i.max(j), i.min(j));
                    left += equations.xtx[row * features + column] * weights[j * targets + t];
                }
                assert!((left - equations.xty[i * targets + t]).abs() < 1e-12);
            }
        }
        assert!(equations.solve(0.0).is_none(), "four samples do not span five features");
    }
}
