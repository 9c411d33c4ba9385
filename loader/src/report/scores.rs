//! Columns made dense: shard numbers from 0, source rows as ranks. Left out: what is measured with them.

/// The shards of all samples, numbered from 0 in the order of their own numbers.
#[derive(Debug)]
pub(super) struct Shards {
    /// Of each sample.
    pub(super) of: Vec<u32>,
    /// How many samples each has.
    pub(super) sizes: Vec<u64>,
}

impl Shards {
    pub(super) fn new(column: &[u64]) -> Shards {
        let mut numbers = column.to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        // Every number of the column is in the sorted list.
        let of: Vec<u32> =
            column.iter().map(|number| numbers.partition_point(|n| n < number) as u32).collect();
        let mut sizes = vec![0; numbers.len()];
        of.iter().for_each(|&shard| sizes[shard as usize] += 1);
        Shards { of, sizes }
    }
}

/// The rank of each sample in the source's order, as a deviation from the mean rank.
#[derive(Debug)]
pub(super) struct Ranks {
    /// Of each sample: within ±(n - 1)/2, equal rows share the mean of their ranks.
    pub(super) of: Vec<f64>,
    /// Their sum of squares.
    pub(super) squares: f64,
}

impl Ranks {
    pub(super) fn new(column: &[u64]) -> Ranks {
        let mut order: Vec<u32> = (0..column.len() as u32).collect();
        order.sort_unstable_by_key(|&sample| (column[sample as usize], sample));
        let middle = (column.len() as f64 - 1.0) / 2.0;
        let mut of = vec![0.0; column.len()];
        let mut from = 0;
        while from < order.len() {
            let row = column[order[from] as usize];
            let equal = order[from..].iter().take_while(|&&sample| column[sample as usize] == row).count();
            let rank = from as f64 + (equal as f64 - 1.0) / 2.0 - middle;
            order[from..from + equal].iter().for_each(|&sample| of[sample as usize] = rank);
            from += equal;
        }
        let squares = of.iter().map(|rank| rank * rank).sum();
        Ranks { of, squares }
    }

    /// The sample variance of the ranks.
    pub(super) fn variance(&self) -> f64 {
        self.squares / (self.of.len() as f64 - 1.0).max(1.0)
    }
}

/// Pearson's correlation of two columns of one length; none where a column does not vary.
pub(super) fn correlation(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let (mut n, mut mean) = (0.0, (0.0, 0.0));
    for (x, y) in pairs.clone() {
        n += 1.0;
        mean = (mean.0 + x, mean.1 + y);
    }
    let mean = (mean.0 / f64::max(n, 1.0), mean.1 / f64::max(n, 1.0));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        let (x, y) = (x - mean.0, y - mean.1);
        xx += x * x;
        yy += y * y;
        xy += x * y;
    }
    // One rounding more could leave ±1.
    (xx > 0.0 && yy > 0.0).then(|| (xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_numbered_from_zero() {
        let shards = Shards::new(&[9, 4, 9, 100]);
        assert_eq!((shards.of, shards.sizes), (vec![1, 0, 1, 2], vec![1, 2, 1]));
    }

    #[test]
    fn equal_rows_share_their_rank() {
        let ranks = Ranks::new(&[50, 7, 7, 90]);
        assert_eq!(ranks.of, [0.5, -1.0, -1.0, 1.5]);
        assert_eq!(ranks.squares, 0.25 + 1.0 + 1.0 + 2.25);
    }

    #[test]
    fn correlations_are_exact_at_the_ends_and_absent_where_nothing_varies() {
        let up = [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)];
        assert!((correlation(up.into_iter()).unwrap() - 1.0).abs() < 1e-12);
        let down = up.map(|(x, y)| (x, -y));
        assert!((correlation(down.into_iter()).unwrap() + 1.0).abs() < 1e-12);
        assert!(correlation([(1.0, 5.0), (2.0, 5.0)].into_iter()).is_none());
        assert!(correlation([].into_iter()).is_none());
    }
}
