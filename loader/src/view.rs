//! The part of a split that takes part in training: all of it, or a nested, seed-stable fraction.
//!
//! A fraction f of n samples is the ⌈f·n⌉ with the smallest hash of their source id. So 1 % lies within 10 %, and
//! neither the training seed nor how the samples were sharded changes which they are. Left out: their order.

use std::collections::BinaryHeap;

use crate::{error::Result, store::Store};

const DOMAIN: &str = "loader v1 fraction";

/// Which samples of a split take part. A fraction holds its sample numbers, the whole holds nothing.
#[derive(Debug)]
pub(crate) struct View {
    /// Ascending; `None` for all samples.
    samples: Option<Vec<u64>>,
    len: u64,
}

impl View {
    /// The view of `fraction` in (0, 1]. Reads every row where it is below 1.
    pub(crate) fn of(store: &Store, fraction: f64) -> Result<View> {
        let len = size(fraction, store.len());
        if len == store.len() {
            return Ok(View { samples: None, len });
        }
        // The largest hash on top, to be replaced by a smaller one.
        let mut kept: BinaryHeap<([u8; 16], u64)> = BinaryHeap::new();
        for sample in 0..store.len() {
            let row = store.row(sample)?;
            let entry = (hash(row.source_id), sample);
            if (kept.len() as u64) < len {
                kept.push(entry);
            } else if kept.peek().is_some_and(|top| entry < *top) {
                kept.pop();
                kept.push(entry);
            }
        }
        let mut samples: Vec<u64> = kept.into_iter().map(|(_, sample)| sample).collect();
        samples.sort_unstable();
        Ok(View { samples: Some(samples), len })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The split's number of the view's sample number `place`.
    pub(crate) fn sample(&self, place: u64) -> u64 {
        self.samples.as_ref().map_or(place, |samples| samples[place as usize])
    }
}

/// ⌈f·n⌉, at least 1. The rounding of f·n itself must not add a sample: 0.07·100 is a little above 7.
fn size(fraction: f64, len: u64) -> u64 {
    let exact = fraction * len as f64;
    let nearest = exact.round();
    let size = if (exact - nearest).abs() <= 1e-9 * exact { nearest } else { exact.ceil() };
    (size as u64).clamp(1, len.max(1))
}

fn hash(source_id: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
    hasher.update(source_id.as_bytes());
    let mut first = [0; 16];
    hasher.finalize_xof().fill(&mut first);
    first
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_round_up_and_not_past_the_truth() {
        assert_eq!(size(0.07, 100), 7);
        assert_eq!(size(0.1, 118_287), 11_829);
        assert_eq!(size(0.01, 118_287), 1_183);
        assert_eq!(size(1.0, 5), 5);
        assert_eq!(size(1e-12, 5), 1);
        for n in 1..500u64 {
            for k in 1..=n {
                assert_eq!(size(k as f64 / n as f64, n), k, "{k}/{n}");
            }
        }
    }
}
