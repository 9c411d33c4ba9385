//! What differs between two configurations, key by key.
//!
//! Leaves out where they come from.

use crate::config::Config;
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use toml::Value;

/// A key with another value, both in TOML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The dotted key.
    pub key: String,
    /// Its value in the first configuration; none where it has no such key.
    pub before: Option<String>,
    /// Its value in the second.
    pub after: Option<String>,
}

/// The keys whose values differ, in alphabetical order.
///
/// # Errors
/// [`Error::DamagedFile`] when a configuration cannot be written as TOML, which no valid one causes.
pub fn differences(before: &Config, after: &Config) -> Result<Vec<Difference>> {
    let (before, after) = (flat(before)?, flat(after)?);
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let differing = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    Ok(differing
        .map(|key| Difference {
            key: key.clone(),
            before: before.get(key).cloned(),
            after: after.get(key).cloned(),
        })
        .collect())
}

/// Differences in one cell: `key=value; …` with the values of the second configuration.
pub fn in_words(differences: &[Difference]) -> String {
    let word = |d: &Difference| format!("{}={}", d.key, d.after.as_deref().unwrap_or("none"));
    differences.iter().map(word).collect::<Vec<_>>().join("; ")
}

/// Every key with its value.
fn flat(config: &Config) -> Result<BTreeMap<String, String>> {
    fn walk(prefix: &str, value: &Value, out: &mut BTreeMap<String, String>) {
        match value {
            Value::Table(table) => table.iter().for_each(|(name, value)| {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                walk(&key, value, out);
            }),
            value => drop(out.insert(prefix.to_owned(), value.to_string())),
        }
    }
    let value = Value::try_from(config)
        .map_err(|e| Error::DamagedFile { path: "config.toml".into(), reason: e.to_string() })?;
    let mut out = BTreeMap::new();
    walk("", &value, &mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_are_named_with_both_values() {
        let config = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
            Config::from_toml("model.preset = \"nano\"", "test.toml", &set).unwrap()
        };
        let (plain, other) =
            (config(&[]), config(&["train.seed=4", "optim.lr=2e-3", "train.freeze=[\"visual\"]"]));
        assert_eq!(differences(&plain, &plain).unwrap(), []);
        let found = differences(&plain, &other).unwrap();
        let keys: Vec<&str> = found.iter().map(|d| d.key.as_str()).collect();
        assert_eq!(keys, ["optim.lr", "train.freeze", "train.seed"]);
        assert_eq!((found[2].before.as_deref(), found[2].after.as_deref()), (Some("0"), Some("4")));
        assert_eq!(in_words(&found), "optim.lr=0.002; train.freeze=[\"visual\"]; train.seed=4");
    }
}
