//! What an ideal shuffle, every permutation equally likely, gives: expectations and variances in closed form.
//! Left out: figures whose law has none that is short; [`super::simulate`] shows those.

/// Distinct shard sizes beyond which nearly equal ones are taken together: the variance is summed over pairs.
const SIZES_MAX: usize = 48;

/// Mean and variance of the number of shards that a draw of `drawn` samples without replacement touches.
///
/// A shard of m out of n samples is missed with probability Π (n - m - i)/(n - i) over i < drawn, and two shards
/// of m and k together as one of m + k; the mean and the variance of the number of missed shards follow.
pub(super) fn distinct_shards(sizes: &[u64], drawn: u64) -> (f64, f64) {
    let samples: u64 = sizes.iter().sum();
    let missed = |held: f64| -> f64 {
        let n = samples as f64;
        let log: f64 = (0..drawn).map(|i| ((n - held - i as f64).max(0.0) / (n - i as f64)).ln()).sum();
        log.exp()
    };
    let groups = grouped(sizes);
    let alone: Vec<f64> = groups.iter().map(|&(size, _)| missed(size)).collect();
    let shards: f64 = groups.iter().map(|(_, count)| count).sum();
    let mean = shards - groups.iter().zip(&alone).map(|((_, count), p)| count * p).sum::<f64>();
    let mut variance = 0.0;
    for (a, (&(size_a, count_a), p_a)) in groups.iter().zip(&alone).enumerate() {
        variance += count_a * p_a * (1.0 - p_a);
        for (b, (&(size_b, count_b), p_b)) in groups.iter().zip(&alone).enumerate() {
            let others = if a == b { count_a - 1.0 } else { count_b };
            variance += count_a * others * (missed(size_a + size_b) - p_a * p_b);
        }
    }
    (mean, variance.max(0.0))
}

/// Sizes with how often each occurs; nearly equal ones as their mean where there are many.
fn grouped(sizes: &[u64]) -> Vec<(f64, f64)> {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    let exact: Vec<&[u64]> = sorted.chunk_by(|a, b| a == b).collect();
    let runs = if exact.len() <= SIZES_MAX {
        exact
    } else {
        sorted.chunks(sorted.len().div_ceil(SIZES_MAX)).collect()
    };
    let mean = |run: &[u64]| (run.iter().sum::<u64>() as f64 / run.len() as f64, run.len() as f64);
    runs.into_iter().map(mean).collect()
}

/// Variance of the mean of `drawn` out of `samples` values of this variance, drawn without replacement.
pub(super) fn mean_variance(variance: f64, drawn: u64, samples: u64) -> f64 {
    variance / drawn as f64 * (1.0 - drawn as f64 / samples as f64).max(0.0)
}

/// Standard deviations of a count from its Poisson expectation, by Anscombe's square root.
pub(super) fn poisson_z(count: f64, expected: f64) -> f64 {
    2.0 * ((count + 0.375).sqrt() - (expected + 0.375).sqrt())
}

/// Standard deviations of a mean of `freedom` squared normal values from 1, by Wilson and Hilferty's cube root.
pub(super) fn chi_squared_z(mean: f64, freedom: f64) -> f64 {
    let variance = 2.0 / (9.0 * freedom);
    (mean.cbrt() - (1.0 - variance)) / variance.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance over all subsets of `drawn` samples.
    fn by_hand(sizes: &[u64], drawn: u32) -> (f64, f64) {
        let of: Vec<usize> =
            sizes.iter().enumerate().flat_map(|(shard, &size)| vec![shard; size as usize]).collect();
        let subsets = (0..1u32 << of.len()).filter(|subset| subset.count_ones() == drawn);
        let counts: Vec<f64> = subsets
            .map(|subset| {
                let touched = of.iter().enumerate().filter(|(i, _)| subset >> i & 1 == 1);
                f64::from(touched.fold(0u32, |seen, (_, shard)| seen | 1 << shard).count_ones())
            })
            .collect();
        let n = counts.len() as f64;
        let mean = counts.iter().sum::<f64>() / n;
        (mean, counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / n)
    }

    #[test]
    fn shards_of_a_draw_are_exact() {
        for (sizes, drawn) in [(vec![3, 3, 3], 4), (vec![1, 5, 2, 2], 3), (vec![4], 2), (vec![6, 1, 1], 8)] {
            let (mean, variance) = distinct_shards(&sizes, drawn);
            let (true_mean, true_variance) = by_hand(&sizes, drawn as u32);
            assert!((mean - true_mean).abs() < 1e-9, "{sizes:?}: {mean} {true_mean}");
            assert!((variance - true_variance).abs() < 1e-9, "{sizes:?}: {variance} {true_variance}");
        }
    }

    #[test]
    fn many_sizes_are_taken_together_with_little_error() {
        let sizes: Vec<u64> = (0..200).map(|i| 900 + i).collect();
        let (mean, _) = distinct_shards(&sizes, 256);
        let n: u64 = sizes.iter().sum();
        let exact: f64 = sizes
            .iter()
            .map(|&m| 1.0 - (0..256).map(|i| (n - m - i) as f64 / (n - i) as f64).product::<f64>())
            .sum();
        assert!((mean - exact).abs() < 1e-3, "{mean} {exact}");
    }

    #[test]
    fn a_batch_of_256_from_256_equal_shards() {
        assert!((distinct_shards(&[1024; 256], 256).0 - 162.0).abs() < 0.3);
    }

    #[test]
    fn transforms_are_near_zero_at_the_expectation_and_grow() {
        assert!(
            poisson_z(10.0, 10.0).abs() < 1e-12 && poisson_z(40.0, 10.0) > 5.0 && poisson_z(0.0, 10.0) < -4.0
        );
        assert!(chi_squared_z(1.0, 1000.0).abs() < 0.05 && chi_squared_z(1.3, 1000.0) > 5.0);
        assert_eq!(mean_variance(8.0, 4, 4), 0.0);
        assert_eq!(mean_variance(8.0, 2, 4), 2.0);
    }
}
