//! A rolling hash of the keys that were delivered, kept in a run's saved state: proof of what a checkpoint has seen. Left
//! out: comparing it with a data set, which is `loader verify-resume`'s.
//!
//! Each delivered sample adds hash(epoch, position, key) to a sum of 128 bits. A sum does not mind who adds first, so it
//! is the same for any number of threads and ranks; and as each term holds its place in the epoch, another order gives
//! another sum.

use serde::{Deserialize, Serialize};

const DOMAIN: &str = "loader v1 history";

/// What was delivered since some position of some epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// The epoch in which the record begins.
    pub epoch: u64,
    /// The position in it.
    pub position: u64,
    /// Samples since then, over all ranks, padding apart.
    pub samples: u64,
    /// The sum of their hashes, 32 hex digits.
    #[serde(with = "hex")]
    pub hash: u128,
}

impl History {
    /// A record that begins here.
    pub fn since(epoch: u64, position: u64) -> History {
        History { epoch, position, samples: 0, hash: 0 }
    }

    /// Takes in what was added up elsewhere.
    pub fn add(&mut self, part: Added) {
        self.samples = self.samples.saturating_add(part.samples);
        self.hash = self.hash.wrapping_add(part.hash);
    }
}

/// A part of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    samples: u64,
    hash: u128,
}

impl std::ops::AddAssign for Added {
    fn add_assign(&mut self, other: Added) {
        self.samples += other.samples;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

impl Added {
    /// Takes in the sample `key` at `position` of `epoch`.
    pub fn add(&mut self, terms: &Terms, position: u64, key: &str) {
        self.samples += 1;
        self.hash = self.hash.wrapping_add(terms.of(position, key));
    }
}

/// Hashes of the samples of one epoch.
#[derive(Clone, Debug)]
pub struct Terms {
    key: [u8; blake3::KEY_LEN],
}

impl Terms {
    /// Those of `epoch`.
    pub fn new(epoch: u64) -> Terms {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        hasher.update(&epoch.to_le_bytes());
        Terms { key: *hasher.finalize().as_bytes() }
    }

    fn of(&self, position: u64, key: &str) -> u128 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&position.to_le_bytes()).update(key.as_bytes());
        let mut first = [0; 16];
        hasher.finalize_xof().fill(&mut first);
        u128::from_le_bytes(first)
    }
}

/// A number as 32 hex digits: JSON's own numbers are not that exact everywhere.
mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(hash: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{hash:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(&text, 16).ok().filter(|_| is_hex);
        number.ok_or_else(|| D::Error::custom(format!("{text:?} is not 32 hex digits")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(epoch: u64, keys: &[(u64, &str)]) -> Added {
        let (terms, mut added) = (Terms::new(epoch), Added::default());
        keys.iter().for_each(|(position, key)| added.add(&terms, *position, key));
        added
    }

    #[test]
    fn a_sum_knows_epoch_place_and_key_and_not_who_was_first() {
        let keys = [(0, "a"), (1, "b"), (2, "c")];
        let mut turned = keys;
        turned.reverse();
        assert_eq!(sum(3, &keys), sum(3, &turned));
        for other in [sum(4, &keys), sum(3, &[(1, "a"), (0, "b"), (2, "c")]), sum(3, &keys[..2])] {
            assert_ne!(sum(3, &keys), other);
        }
    }

    #[test]
    fn it_is_written_and_read_as_json() {
        let mut history = History::since(1, 8);
        history.add(sum(1, &[(8, "k")]));
        let json = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<History>(&json).unwrap(), history);
        for bad in ["\"\"", "\"xyz\"", "5", "\"+000000000000000000000000000000a\""] {
            let json = format!(r#"{{"epoch":0,"position":0,"samples":0,"hash":{bad}}}"#);
            let read = serde_json::from_str::<History>(&json);
            assert!(read.is_err(), "{bad}");
        }
    }
}
