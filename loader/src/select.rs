//! Which samples of a split take part: all, a nested and seed-stable fraction, a list of keys, those whose index row
//! pleases a predicate. Left out: their order.
//!
//! A fraction f of n samples is the ⌈f·n⌉ with the smallest hash of their source id, of those that the other conditions
//! leave. So 1 % lies within 10 %, and neither the training seed nor how the samples were sharded changes which they are.

use std::{
    collections::{BTreeSet, BinaryHeap},
    sync::Arc,
};

use shard::Row;

use crate::{
    error::{Error, Result},
    store::{Store, StorePart},
};

const DOMAIN: &str = "loader v1 fraction";

/// A condition on a sample's index row, with the name by which a saved state knows it.
#[derive(Clone)]
pub struct Filter {
    name: String,
    keep: Arc<dyn Fn(&Row<'_>) -> bool + Send + Sync>,
}

impl Filter {
    /// Samples of whose rows `keep` says so. Two filters of one name must say the same.
    pub fn new(name: impl Into<String>, keep: impl Fn(&Row<'_>) -> bool + Send + Sync + 'static) -> Filter {
        Filter { name: name.into(), keep: Arc::new(keep) }
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({:?})", self.name)
    }
}

/// Which samples of a split take part; all conditions together.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The share that takes part of those that the other conditions leave, in (0, 1]; default 1.
    pub fraction: f64,
    /// These keys alone; one that the split does not have is an error.
    pub keys: Option<Arc<BTreeSet<String>>>,
    /// Fewest and most words, between white space, that each of a sample's captions has.
    pub caption_words: Option<(u32, u32)>,
    /// A condition of one's own.
    pub filter: Option<Filter>,
}

impl Default for Selection {
    fn default() -> Self {
        Selection { fraction: 1.0, keys: None, caption_words: None, filter: None }
    }
}

impl Selection {
    /// A share of all samples.
    pub fn fraction(fraction: f64) -> Selection {
        Selection { fraction, ..Selection::default() }
    }

    /// What is wrong with it by itself, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        if !(self.fraction > 0.0 && self.fraction <= 1.0) {
            return Some(format!("the fraction must be above 0 and at most 1, not {}", self.fraction));
        }
        match self.caption_words {
            Some((fewest, most)) if fewest > most => {
                Some(format!("captions cannot have at least {fewest} and at most {most} words"))
            }
            _ => None,
        }
    }

    /// Whether a row pleases all conditions but the fraction.
    fn keeps(&self, row: &Row<'_>) -> bool {
        let words = |caption: &str| caption.split_whitespace().count() as u64;
        self.keys.as_ref().is_none_or(|keys| keys.contains(row.key))
            && self.caption_words.is_none_or(|(fewest, most)| {
                row.captions
                    .into_iter()
                    .all(|caption| (fewest.into()..=most.into()).contains(&words(caption)))
            })
            && self.filter.as_ref().is_none_or(|filter| (filter.keep)(row))
    }

    fn reads_rows(&self) -> bool {
        self.keys.is_some() || self.caption_words.is_some() || self.filter.is_some()
    }
}

/// `all`, or the conditions in words: what a saved state compares.
impl std::fmt::Display for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = Vec::new();
        if let Some(keys) = &self.keys {
            let mut hasher = blake3::Hasher::new();
            keys.iter().for_each(|key| {
                hasher.update(key.as_bytes()).update(b"\n");
            });
            words.push(format!("{} keys ({})", keys.len(), &hasher.finalize().to_hex()[..16]));
        }
        if let Some((fewest, most)) = self.caption_words {
            words.push(format!("captions of {fewest} to {most} words"));
        }
        if let Some(filter) = &self.filter {
            words.push(format!("filter {}", filter.name));
        }
        if self.fraction < 1.0 {
            words.push(format!("fraction {}", self.fraction));
        }
        if words.is_empty() { f.write_str("all") } else { f.write_str(&words.join(", ")) }
    }
}

/// The samples of one part of a store that take part. A selection holds their numbers, the whole holds nothing.
#[derive(Debug)]
pub(crate) struct Selected {
    /// Ascending, numbered through the store; `None` for all samples of the part.
    samples: Option<Vec<u64>>,
    first: u64,
    len: u64,
    /// How many of them each shard holds.
    shards: Vec<u64>,
}

impl Selected {
    /// Reads every row of the part where the selection has a condition.
    pub(crate) fn of(store: &Store, part: &StorePart, selection: &Selection) -> Result<Selected> {
        let all = part.first..part.first + part.len;
        let mut samples: Option<Vec<u64>> = None;
        if selection.reads_rows() {
            let mut kept = Vec::new();
            for sample in all.clone() {
                if selection.keeps(&store.row(sample)?) {
                    kept.push(sample);
                }
            }
            check_keys(store, part, selection, &kept)?;
            samples = Some(kept);
        }
        let count = samples.as_ref().map_or(part.len, |kept| kept.len() as u64);
        let len = if count == 0 { 0 } else { size(selection.fraction, count) };
        if len == 0 {
            let selection = selection.to_string();
            return Err(Error::EmptySelection {
                path: part.dataset.dir().to_path_buf(),
                split: part.split.clone(),
                selection,
            });
        }
        if len < count {
            let candidates: Box<dyn Iterator<Item = u64>> = match samples {
                Some(kept) => Box::new(kept.into_iter()),
                None => Box::new(all),
            };
            samples = Some(smallest(store, candidates, len)?);
        }
        let bounds = store.shard_starts(part).windows(2);
        let shards = bounds.map(|ends| match &samples {
            None => ends[1] - ends[0],
            Some(samples) => {
                let below = |end| samples.partition_point(|&sample| sample < end) as u64;
                below(ends[1]) - below(ends[0])
            }
        });
        Ok(Selected { shards: shards.collect(), samples, first: part.first, len })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// How many of them each shard holds, in order.
    pub(crate) fn shards(&self) -> &[u64] {
        &self.shards
    }

    /// The store's number of the selection's sample number `place`.
    pub(crate) fn sample(&self, place: u64) -> u64 {
        self.samples.as_ref().map_or(self.first + place, |samples| samples[place as usize])
    }
}

/// A key that was asked for is there.
fn check_keys(store: &Store, part: &StorePart, selection: &Selection, kept: &[u64]) -> Result<()> {
    let Some(keys) = &selection.keys else { return Ok(()) };
    let only_keys = selection.caption_words.is_none() && selection.filter.is_none();
    if only_keys && kept.len() == keys.len() {
        return Ok(());
    }
    let mut missing: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    for sample in part.first..part.first + part.len {
        missing.remove(store.row(sample)?.key);
    }
    let Some(first) = missing.first() else { return Ok(()) };
    Err(Error::config(format!(
        "{} of the {} keys that were asked for are not in split {:?} of {}, such as {first:?}",
        missing.len(),
        keys.len(),
        part.split,
        part.dataset.dir().display()
    )))
}

/// The `len` samples with the smallest hashes, ascending.
fn smallest(store: &Store, candidates: impl Iterator<Item = u64>, len: u64) -> Result<Vec<u64>> {
    // The largest hash on top, to be replaced by a smaller one.
    let mut kept: BinaryHeap<([u8; 16], u64)> = BinaryHeap::new();
    for sample in candidates {
        let entry = (hash(store.row(sample)?.source_id), sample);
        if (kept.len() as u64) < len {
            kept.push(entry);
        } else if kept.peek().is_some_and(|top| entry < *top) {
            kept.pop();
            kept.push(entry);
        }
    }
    let mut samples: Vec<u64> = kept.into_iter().map(|(_, sample)| sample).collect();
    samples.sort_unstable();
    Ok(samples)
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
    use super::*;

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

    #[test]
    fn a_selection_says_what_it_is() {
        assert_eq!(Selection::default().to_string(), "all");
        let selection = Selection {
            fraction: 0.5,
            keys: Some(Arc::new(["a".to_owned(), "b".to_owned()].into())),
            caption_words: Some((3, 20)),
            filter: Some(Filter::new("wide", |row| row.width > row.height)),
        };
        let text = selection.to_string();
        assert!(text.starts_with("2 keys ("), "{text}");
        assert!(text.ends_with("), captions of 3 to 20 words, filter wide, fraction 0.5"), "{text}");
        assert!(Selection::fraction(f64::NAN).problem().is_some());
        assert!(Selection { caption_words: Some((5, 4)), ..Selection::default() }.problem().is_some());
    }
}
