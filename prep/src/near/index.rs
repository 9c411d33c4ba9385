//! Hashes within a Hamming distance of one another, without comparing all with all.
//!
//! Multi-index hashing (M. Norouzi, A. Punjani, D. Fleet, *Fast Search in Hamming Space with Multi-Index Hashing*,
//! CVPR 2012): a hash is cut into four bands of 16 bits, and each band has its own table of the hashes sorted by it. Two
//! hashes at a distance of at most `d = 4r + a` (`a` < 4) differ by at most `r` bits in one of the first `a + 1` bands
//! or by at most `r − 1` in one of the others, or else the sum would be greater; so only the buckets so close are looked
//! at. Each table keeps its own copy of the hashes, for a bucket is then read front to back: 12 bytes a hash and table,
//! 97 MB for 2,000,000 hashes. It leaves out what was hashed.
//!
//! Measured with 2,000,000 random hashes on two busy Zen 4 cores: made in 0.4 to 0.9 s; all pairs within 4, 6,
//! 8 and 10 bits in 2 to 3, 5 to 6, 14 to 20 and 33 to 48 s (chance makes 0, 5, 554 and 20,045 of them); the nearest within
//! 6 bits in 15 to 40 µs.

use rayon::prelude::*;

use super::FLAT;

/// The largest distance that is searched for. Other pictures begin at 12, and the buckets to look at grow by ten
/// from one multiple of four to the next.
pub const DISTANCE_MAX: u32 = 15;

const BANDS: u32 = 4;
const BUCKETS: usize = 1 << 16;

/// Buckets that are searched for pairs together: enough for all cores, few enough to stop soon after the limit.
const CHUNK: usize = 256;

/// Pairs that one bucket gives at most.
const BUCKET_PAIRS_MAX: usize = 1 << 14;

/// Hashes that can be searched by distance.
#[derive(Debug, Clone)]
pub struct Index {
    len: usize,
    bands: [Band; BANDS as usize],
}

/// One band's table: hashes sorted by its 16 bits.
#[derive(Debug, Clone)]
struct Band {
    /// Where each bucket begins, and the end.
    starts: Vec<u32>,
    hashes: Vec<u64>,
    /// The position of each hash in what the index was made of.
    positions: Vec<u32>,
}

/// Two hashes that are near one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// Bits in which they differ.
    pub distance: u32,
    /// The lower position.
    pub first: u32,
    /// The higher position.
    pub second: u32,
}

fn bucket(hash: u64, band: u32) -> usize {
    usize::from((hash >> (16 * band)) as u16)
}

/// Bits of `band` in which two hashes may differ to be found by it; `None` where the other bands find all.
fn radius(distance: u32, band: u32) -> Option<u32> {
    if band <= distance % BANDS { Some(distance / BANDS) } else { (distance / BANDS).checked_sub(1) }
}

/// All 16-bit numbers with at most `radius` bits, by number of bits.
fn masks(radius: u32) -> Vec<u16> {
    let mut masks: Vec<u16> = (0..=u16::MAX).filter(|mask| mask.count_ones() <= radius).collect();
    masks.sort_unstable_by_key(|mask| (mask.count_ones(), *mask));
    masks
}

impl Band {
    /// A counting sort, stable: within a bucket positions rise.
    fn of(hashes: &[u64], band: u32) -> Self {
        let listed = || (0u32..).zip(hashes.iter().copied()).filter(|&(_, hash)| hash != FLAT);
        let mut starts = vec![0u32; BUCKETS + 1];
        for (_, hash) in listed() {
            starts[bucket(hash, band) + 1] += 1;
        }
        for at in 0..BUCKETS {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let len = starts[BUCKETS] as usize;
        let (mut sorted, mut positions) = (vec![0; len], vec![0; len]);
        for (position, hash) in listed() {
            let place = &mut next[bucket(hash, band)];
            sorted[*place as usize] = hash;
            positions[*place as usize] = position;
            *place += 1;
        }
        Self { starts, hashes: sorted, positions }
    }

    fn range(&self, bucket: usize) -> std::ops::Range<usize> {
        self.starts[bucket] as usize..self.starts[bucket + 1] as usize
    }
}

impl Index {
    /// An index of `hashes`; a hash's position in the list is its name. [`FLAT`] ones are never found, nor are those
    /// behind the first 2³² − 1.
    pub fn new(hashes: Vec<u64>) -> Self {
        let hashes = &hashes[..hashes.len().min(u32::MAX as usize)];
        let mut bands = (0..BANDS).into_par_iter().map(|band| Band::of(hashes, band)).collect::<Vec<_>>();
        let mut next = || bands.remove(0);
        Self { len: hashes.len(), bands: [next(), next(), next(), next()] }
    }

    /// Hashes that it was made of, flat ones too.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Position and distance of the hash nearest to `hash` and not further than `max_distance` (at most
    /// [`DISTANCE_MAX`]); the lowest position of several. A flat hash is near nothing.
    pub fn nearest(&self, hash: u64, max_distance: u32) -> Option<(usize, u32)> {
        let max_distance = max_distance.min(DISTANCE_MAX);
        let mut best: Option<(u32, u32)> = None;
        for (number, band) in (0..).zip(&self.bands) {
            let Some(radius) = radius(max_distance, number).filter(|_| hash != FLAT) else { continue };
            for_masks(radius, |mask| {
                let range = band.range(bucket(hash, number) ^ usize::from(mask));
                for (&other, &position) in band.hashes[range.clone()].iter().zip(&band.positions[range]) {
                    let found = ((hash ^ other).count_ones(), position);
                    if found.0 <= max_distance && best.is_none_or(|best| found < best) {
                        best = Some(found);
                    }
                }
            });
        }
        best.map(|(distance, position)| (position as usize, distance))
    }

    /// All pairs not further apart than `max_distance` (at most [`DISTANCE_MAX`]), by distance and position, and
    /// whether these are all: the search ends soon after `pairs_max`. On all of rayon's threads; the same pairs for any
    /// number of them.
    pub fn pairs(&self, max_distance: u32, pairs_max: usize) -> (Vec<Pair>, bool) {
        let max_distance = max_distance.min(DISTANCE_MAX);
        let mut pairs = Vec::new();
        let mut complete = true;
        'search: for band in 0..BANDS {
            let Some(radius) = radius(max_distance, band) else { continue };
            let masks = masks(radius);
            for first in (0..BUCKETS).step_by(CHUNK) {
                let chunk: Vec<(Vec<Pair>, bool)> = (first..first + CHUNK)
                    .into_par_iter()
                    .map(|bucket| self.pairs_of_bucket(band, bucket, &masks, max_distance))
                    .collect();
                for (found, all) in chunk {
                    pairs.extend(found);
                    complete &= all;
                }
                if pairs.len() > pairs_max {
                    complete = false;
                    break 'search;
                }
            }
        }
        pairs.sort_unstable();
        pairs.truncate(pairs_max);
        (pairs, complete)
    }

    /// Pairs of which one hash is in `bucket` of `band`, the other there or in a higher bucket, and that no band
    /// before would find.
    fn pairs_of_bucket(
        &self,
        band: u32,
        bucket: usize,
        masks: &[u16],
        max_distance: u32,
    ) -> (Vec<Pair>, bool) {
        let table = &self.bands[band as usize];
        let here = table.range(bucket);
        let mut pairs = Vec::new();
        if here.is_empty() {
            return (pairs, true);
        }
        for &mask in masks {
            let other = bucket ^ usize::from(mask);
            if other < bucket {
                continue;
            }
            let there = table.range(other);
            for at in here.clone() {
                let hash = table.hashes[at];
                let from = if other == bucket { at + 1 } else { there.start };
                for (beyond, &near) in table.hashes[from..there.end].iter().enumerate() {
                    let bits = hash ^ near;
                    let distance = bits.count_ones();
                    if distance <= max_distance && !found_before(bits, band, max_distance) {
                        let (one, two) = (table.positions[at], table.positions[from + beyond]);
                        pairs.push(Pair { distance, first: one.min(two), second: one.max(two) });
                    }
                }
                if pairs.len() > BUCKET_PAIRS_MAX {
                    return (pairs, false);
                }
            }
        }
        (pairs, true)
    }
}

/// Whether a band before `band` finds two hashes that differ in `bits`.
fn found_before(bits: u64, band: u32, max_distance: u32) -> bool {
    (0..band).any(|band| {
        let differ = (bucket(bits, band) as u16).count_ones();
        radius(max_distance, band).is_some_and(|radius| differ <= radius)
    })
}

/// Calls `with` on every 16-bit number of at most `radius` (0 to 3) bits.
fn for_masks(radius: u32, mut with: impl FnMut(u16)) {
    with(0);
    for one in (0..16).filter(|_| radius >= 1) {
        with(1 << one);
        for two in (0..one).filter(|_| radius >= 2) {
            with(1 << one | 1 << two);
            for three in (0..two).filter(|_| radius >= 3) {
                with(1 << one | 1 << two | 1 << three);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Hashes of which many are near others: each third is one before with some bits flipped.
    fn hashes(count: usize, seed: u64) -> Vec<u64> {
        let mut state = seed;
        let mut hashes: Vec<u64> = Vec::with_capacity(count);
        for number in 0..count {
            let mut hash = random(&mut state);
            if number % 3 == 2 {
                hash = hashes[random(&mut state) as usize % number];
                for _ in 0..random(&mut state) % 18 {
                    hash ^= 1 << (random(&mut state) % 64);
                }
            }
            hashes.push(if number % 50 == 7 { FLAT } else { hash });
        }
        hashes
    }

    fn pairs_by_all(hashes: &[u64], max_distance: u32) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (second, &hash) in hashes.iter().enumerate().filter(|(_, hash)| **hash != FLAT) {
            for (first, &other) in hashes[..second].iter().enumerate().filter(|(_, hash)| **hash != FLAT) {
                let distance = (hash ^ other).count_ones();
                if distance <= max_distance {
                    pairs.push(Pair { distance, first: first as u32, second: second as u32 });
                }
            }
        }
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn every_pair_within_the_distance_is_found_once() {
        for seed in 0..4 {
            let hashes = hashes(900, seed);
            let index = Index::new(hashes.clone());
            for max_distance in 0..=DISTANCE_MAX {
                let (pairs, complete) = index.pairs(max_distance, usize::MAX);
                assert!(complete);
                assert_eq!(pairs, pairs_by_all(&hashes, max_distance), "distance {max_distance}");
            }
        }
    }

    #[test]
    fn the_nearest_is_the_nearest() {
        let hashes = hashes(900, 5);
        let index = Index::new(hashes.clone());
        let mut state = 77;
        for number in 0..600 {
            let mut query = if number % 2 == 0 { hashes[number] } else { random(&mut state) };
            for _ in 0..random(&mut state) % 12 {
                query ^= 1 << (random(&mut state) % 64);
            }
            for max_distance in [0, 1, 3, 4, 6, 8, 11, 15] {
                let listed = hashes.iter().enumerate().filter(|(_, hash)| **hash != FLAT && query != FLAT);
                let best = listed.map(|(at, hash)| ((hash ^ query).count_ones(), at)).min();
                let best = best.filter(|best| best.0 <= max_distance).map(|(distance, at)| (at, distance));
                assert_eq!(index.nearest(query, max_distance), best, "distance {max_distance}");
            }
        }
    }

    #[test]
    fn flat_hashes_are_near_nothing() {
        let index = Index::new(vec![FLAT, FLAT, 1, FLAT]);
        assert_eq!(index.nearest(FLAT, 15), None);
        assert_eq!(index.nearest(3, 15), Some((2, 1)));
        assert_eq!(index.pairs(15, 10), (Vec::new(), true));
        assert_eq!((index.len(), index.is_empty()), (4, false));
        assert_eq!(Index::new(Vec::new()).nearest(5, 15), None);
    }

    #[test]
    fn too_many_pairs_are_cut_and_told_the_same_way_each_time() {
        let mut state = 3;
        let hashes: Vec<u64> = (0..2_000).map(|_| 0xff00 | (random(&mut state) % 16)).collect();
        let index = Index::new(hashes);
        let (pairs, complete) = index.pairs(4, 1_000);
        assert!(!complete);
        assert_eq!(pairs.len(), 1_000);
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one_thread.install(|| index.pairs(4, 1_000)), (pairs, false));
    }

    #[test]
    fn masks_are_all_numbers_with_few_bits() {
        for (radius, count) in [(0, 1), (1, 17), (2, 137), (3, 697)] {
            let mut seen = Vec::new();
            for_masks(radius, |mask| seen.push(mask));
            seen.sort_unstable();
            let mut expected = masks(radius);
            expected.sort_unstable();
            assert_eq!(seen, expected);
            assert_eq!(seen.len(), count);
        }
    }
}
