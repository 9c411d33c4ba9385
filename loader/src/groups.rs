//! Samples that must not meet in a batch: those that share a caption, those that a list puts together. For contrastive
//! training, where a batch-mate with the same caption is a negative that is none. Left out: the order that heeds them
//! ([`crate::order`]).

use std::{collections::HashMap, sync::Arc};

use crate::{error::Result, store::Store};

/// What makes samples of one group; groups with a sample in common are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distinct {
    /// Samples with a caption in common, whatever its case and white space.
    pub captions: bool,
    /// Keys that belong together, such as those of near-duplicates; keys of other data are passed over.
    pub keys: Arc<Vec<Vec<String>>>,
}

/// `captions, 12 lists (digest)`: what a saved state compares.
impl std::fmt::Display for Distinct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = Vec::new();
        if self.captions {
            words.push("captions".to_owned());
        }
        if !self.keys.is_empty() {
            let mut hasher = blake3::Hasher::new();
            for group in self.keys.iter() {
                hasher.update(group.join("\t").as_bytes()).update(b"\n");
            }
            words.push(format!("{} lists ({})", self.keys.len(), &hasher.finalize().to_hex()[..16]));
        }
        f.write_str(&words.join(", "))
    }
}

/// The group of each sample of a store.
#[derive(Debug)]
pub(crate) struct Groups {
    of: Vec<u32>,
    count: usize,
}

impl Groups {
    /// Reads every row.
    pub(crate) fn of(store: &Store, distinct: &Distinct) -> Result<Groups> {
        let mut union = Union::new(store.len() as usize);
        let mut by_caption: HashMap<[u8; 16], u32> = HashMap::new();
        let mut by_key: HashMap<&str, u32> = HashMap::new();
        for sample in 0..store.len() {
            let row = store.row(sample)?;
            if !distinct.keys.is_empty() {
                by_key.insert(row.key, sample as u32);
            }
            if distinct.captions {
                for caption in row.captions {
                    let first = *by_caption.entry(hash(caption)).or_insert(sample as u32);
                    union.join(first, sample as u32);
                }
            }
        }
        for group in distinct.keys.iter() {
            let mut known = group.iter().filter_map(|key| by_key.get(key.as_str()));
            if let Some(&first) = known.next() {
                known.for_each(|&other| union.join(first, other));
            }
        }
        Ok(union.groups())
    }

    pub(crate) fn group(&self, sample: u64) -> u32 {
        self.of[sample as usize]
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

/// A caption by its words in lower case.
fn hash(caption: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for word in caption.trim_end_matches('.').split_whitespace() {
        hasher.update(word.to_lowercase().as_bytes()).update(b" ");
    }
    let mut first = [0; 16];
    hasher.finalize_xof().fill(&mut first);
    first
}

/// Sets that are joined: the lowest member stands for each.
struct Union(Vec<u32>);

impl Union {
    fn new(len: usize) -> Union {
        Union((0..len as u32).collect())
    }

    fn root(&mut self, mut member: u32) -> u32 {
        while self.0[member as usize] != member {
            let parent = self.0[member as usize];
            self.0[member as usize] = self.0[parent as usize];
            member = parent;
        }
        member
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b) as usize] = a.min(b);
    }

    /// Numbers the sets in the order of their lowest members.
    fn groups(mut self) -> Groups {
        let mut of = vec![0; self.0.len()];
        let mut count = 0;
        for member in 0..self.0.len() as u32 {
            let root = self.root(member);
            of[member as usize] = if root == member {
                count += 1;
                count - 1
            } else {
                of[root as usize]
            };
        }
        Groups { of, count: count as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_sets_are_one_whoever_joins_them() {
        let mut union = Union::new(7);
        [(5, 2), (6, 5), (0, 3), (3, 3)].into_iter().for_each(|(a, b)| union.join(a, b));
        let groups = union.groups();
        assert_eq!(groups.of, [0, 1, 2, 0, 3, 2, 2]);
        assert_eq!(groups.count, 4);
    }

    #[test]
    fn captions_are_compared_by_their_words() {
        assert_eq!(hash("A man  riding\ta Wave."), hash("a man riding a wave"));
        assert_ne!(hash("a man riding a wave"), hash("a man ridinga wave"));
    }
}
