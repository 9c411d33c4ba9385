//! An order in which no batch holds two samples of one group. It leaves out what makes a group (`groups`).
//!
//! A sample whose group is in its batch already changes places with the next one behind the batch whose group is not; at
//! the end of the epoch, where there may be none, with one of another batch. All others stay where the order put them,
//! so an order loses as little randomness as there are meetings to prevent. A group may have as many samples as there are
//! full batches: then, of the batches without it, one is full, and of its B samples of B groups at most B − 2 are of
//! groups in the batch that has two.

use std::collections::BTreeSet;

/// The group that is too large for the number of batches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// One of its samples.
    pub(crate) sample: u64,
    /// How many an epoch has.
    pub(crate) samples: u64,
    /// How many full batches.
    pub(crate) batches: u64,
}

/// Rearranges `samples`, the last batch of which may be short. `group` gives a sample's, below `groups`.
pub(crate) fn arrange(
    samples: &mut [u64],
    batch: usize,
    groups: usize,
    group: impl Fn(u64) -> u32,
) -> Result<(), TooLarge> {
    let full = (samples.len() / batch.max(1)).max(1);
    let mut sizes = vec![0u32; groups];
    let too_large = |samples: &[u64], sample: u64| {
        let all = samples.iter().filter(|&&other| group(other) == group(sample)).count();
        TooLarge { sample, samples: all as u64, batches: full as u64 }
    };
    for &sample in samples.iter() {
        let size = &mut sizes[group(sample) as usize];
        *size += 1;
        if *size as usize > full {
            return Err(too_large(samples, sample));
        }
    }
    let mut left = forward(samples, batch, groups, &group);
    while !left.is_empty() {
        let before = left.len();
        left.retain(|&place| !change_with_another(samples, batch, place, &group));
        if left.len() == before {
            return Err(too_large(samples, samples[left[0]]));
        }
    }
    Ok(())
}

/// Exchanges each sample that meets its group for the next that does not; the places for which there is none.
fn forward(samples: &mut [u64], batch: usize, groups: usize, group: &impl Fn(u64) -> u32) -> Vec<usize> {
    let mut left = Vec::new();
    // The batch, counted from one, in which a group was met last.
    let mut met = vec![0u32; groups];
    for number in 0..samples.len().div_ceil(batch) {
        let (start, end) = (number * batch, ((number + 1) * batch).min(samples.len()));
        let mark = number as u32 + 1;
        for place in start..end {
            if met[group(samples[place]) as usize] == mark {
                let fits = |&other: &usize| met[group(samples[other]) as usize] != mark;
                match (end..samples.len()).find(fits) {
                    Some(other) => samples.swap(place, other),
                    None => left.push(place),
                }
            }
            met[group(samples[place]) as usize] = mark;
        }
    }
    left
}

/// Changes the sample at `place` with one of another batch, the last first, where both then meet nobody.
fn change_with_another(samples: &mut [u64], batch: usize, place: usize, group: &impl Fn(u64) -> u32) -> bool {
    let own = group(samples[place]);
    let start = place / batch * batch;
    let others = (start..(start + batch).min(samples.len())).filter(|&other| other != place);
    let here: BTreeSet<u32> = others.map(|other| group(samples[other])).collect();
    if !here.contains(&own) {
        return true;
    }
    for first in (0..samples.len()).step_by(batch).rev().filter(|&first| first != start) {
        let there = first..(first + batch).min(samples.len());
        if there.clone().any(|other| group(samples[other]) == own) {
            continue;
        }
        if let Some(other) = there.clone().find(|&other| !here.contains(&group(samples[other]))) {
            samples.swap(place, other);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meetings(samples: &[u64], batch: usize, group: impl Fn(u64) -> u32) -> usize {
        let batches = samples.chunks(batch).map(|batch| {
            let mut groups: Vec<u32> = batch.iter().map(|&sample| group(sample)).collect();
            groups.sort_unstable();
            let all = groups.len();
            groups.dedup();
            all - groups.len()
        });
        batches.sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]
        #[test]
        fn no_two_of_a_group_meet_and_every_sample_stays(
            len in 1usize..120, batch in 1usize..20, groups in 1usize..60, seed: u64,
        ) {
            let order = crate::Order::Global.epoch(seed, 0, len as u64).unwrap();
            let original: Vec<u64> = (0..len as u64).map(|position| order.sample(position)).collect();
            let group = |sample: u64| (sample.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as u32 % groups as u32;
            let batches = (len / batch).max(1);
            let largest = (0..groups as u32)
                .map(|g| original.iter().filter(|&&sample| group(sample) == g).count())
                .max()
                .unwrap();
            let mut samples = original.clone();
            let arranged = arrange(&mut samples, batch, groups, group);
            prop_assert_eq!(arranged.is_ok(), largest <= batches, "{} of {}", largest, batches);
            if arranged.is_ok() {
                prop_assert_eq!(meetings(&samples, batch, group), 0);
                let mut sorted = samples.clone();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..len as u64).collect::<Vec<_>>());
                // What need not move does not: a meeting moves two samples at most.
                let moved = samples.iter().zip(&original).filter(|(a, b)| a != b).count();
                if meetings(&original, batch, group) == 0 {
                    prop_assert_eq!(moved, 0);
                }
            }
        }
    }

    #[test]
    fn a_group_that_is_too_large_is_named() {
        let mut samples: Vec<u64> = (0..12).collect();
        let error = arrange(&mut samples, 4, 8, |sample| if sample < 5 { 0 } else { sample as u32 - 4 });
        assert_eq!(error, Err(TooLarge { sample: 3, samples: 5, batches: 3 }));
    }
}
