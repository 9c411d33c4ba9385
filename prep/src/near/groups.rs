//! Hashes that occur more than once, taken together: thousands of copies of one picture are one hash to search, not
//! millions of pairs. It leaves out the search.

use rayon::prelude::*;

use super::{FLAT, Pair};

/// The distinct hashes of a list, each with the positions that have it.
#[derive(Debug)]
pub(super) struct Groups {
    /// Positions by hash, then by number.
    positions: Vec<u32>,
    /// Where each group begins in `positions`, and the end.
    starts: Vec<u32>,
}

impl Groups {
    /// The groups of `hashes`, by ascending hash, and their hashes. Flat ones are in none.
    pub(super) fn of(hashes: &[u64]) -> (Self, Vec<u64>) {
        let mut positions: Vec<u32> =
            (0u32..).zip(hashes).filter(|(_, hash)| **hash != FLAT).map(|(at, _)| at).collect();
        positions.par_sort_unstable_by_key(|&at| (hashes[at as usize], at));
        let (mut starts, mut distinct) = (Vec::new(), Vec::new());
        for (at, &position) in (0u32..).zip(&positions) {
            let hash = hashes[position as usize];
            if distinct.last() != Some(&hash) {
                distinct.push(hash);
                starts.push(at);
            }
        }
        starts.push(positions.len() as u32);
        (Self { positions, starts }, distinct)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Positions of group `group`, rising.
    pub(super) fn members(&self, group: u32) -> &[u32] {
        let group = group as usize;
        &self.positions[self.starts[group] as usize..self.starts[group + 1] as usize]
    }

    /// Positions of `group` within a range of all positions: a split's.
    pub(super) fn members_within(&self, group: u32, range: &std::ops::Range<u32>) -> &[u32] {
        let members = self.members(group);
        let first = members.partition_point(|&position| position < range.start);
        let end = members.partition_point(|&position| position < range.end);
        &members[first..end]
    }

    /// Positions in any group.
    pub(super) fn positions_len(&self) -> usize {
        self.positions.len()
    }

    /// Groups linked by `pairs`, chains included, with those of several members: lists of groups, those with the most
    /// positions first.
    pub(super) fn clusters(&self, pairs: &[Pair]) -> Vec<Vec<u32>> {
        let mut parents: Vec<u32> = (0..self.len() as u32).collect();
        for pair in pairs {
            let (one, two) = (root(&mut parents, pair.first), root(&mut parents, pair.second));
            parents[one.max(two) as usize] = one.min(two);
        }
        let mut of_root: std::collections::BTreeMap<u32, Vec<u32>> = std::collections::BTreeMap::new();
        for group in 0..self.len() as u32 {
            let root = root(&mut parents, group);
            if root != group || self.members(group).len() > 1 {
                let cluster = of_root.entry(root).or_insert_with(|| vec![root]);
                if root != group {
                    cluster.push(group);
                }
            }
        }
        let mut clusters: Vec<Vec<u32>> = of_root.into_values().collect();
        let size = |cluster: &Vec<u32>| -> usize { cluster.iter().map(|&g| self.members(g).len()).sum() };
        let first = |cluster: &Vec<u32>| cluster.iter().map(|&g| self.members(g)[0]).min();
        clusters.sort_by_cached_key(|cluster| (std::cmp::Reverse(size(cluster)), first(cluster)));
        clusters
    }
}

/// The root of `group`, with paths halved on the way.
fn root(parents: &mut [u32], mut group: u32) -> u32 {
    while parents[group as usize] != group {
        let grandparent = parents[parents[group as usize] as usize];
        parents[group as usize] = grandparent;
        group = grandparent;
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_hashes_are_one_group_and_chains_one_cluster() {
        let (groups, distinct) = Groups::of(&[5, FLAT, 9, 5, 7, 9, 9, 11]);
        assert_eq!(distinct, [5, 7, 9, 11]);
        assert_eq!((groups.len(), groups.positions_len()), (4, 7));
        assert_eq!(groups.members(2), [2, 5, 6]);
        assert_eq!(groups.members_within(2, &(3..6)), [5]);
        let pair = |first, second| Pair { distance: 1, first, second };
        assert_eq!(groups.clusters(&[pair(0, 1), pair(1, 3)]), [vec![0, 1, 3], vec![2]]);
        assert_eq!(groups.clusters(&[]), [vec![2], vec![0]]);
    }
}
