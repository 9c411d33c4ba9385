//! `train.freeze`: which parameters the beginnings of names mean.
//!
//! A beginning ends where a part of the name does: `visual.transformer.resblocks.1` is not `….resblocks.10`.
//! Leaves out what freezing does, which is the model's.

use super::{Config, TrainConfig, keys};
use crate::error::{Error, Result};
use crate::model::Clip;
use std::collections::BTreeSet;

/// Token ids of a model that is only asked for its names.
const ANY_VOCABULARY: usize = 300;

impl TrainConfig {
    /// Whether `train.freeze` names this parameter.
    pub fn freezes(&self, name: &str) -> bool {
        self.freeze.iter().any(|prefix| begins(name, prefix))
    }
}

fn begins(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Refuses beginnings that no parameter has, and lists that leave nothing to learn.
pub(super) fn validate(config: &Config) -> Result<()> {
    let freeze = &config.train.freeze;
    if freeze.is_empty() {
        return Ok(());
    }
    let specs = Clip::specs(&config.clip(ANY_VOCABULARY));
    let refuse =
        |value: String, allowed: String| Err(Error::Config { key: "train.freeze".into(), value, allowed });
    for prefix in freeze {
        if !specs.iter().any(|spec| begins(&spec.name, prefix)) {
            let near = nearest(prefix, specs.iter().map(|spec| spec.name.as_str()));
            let allowed = format!("beginnings of parameters' names; near it are `{}`", near.join("`, `"));
            return refuse(format!("{prefix:?}"), allowed);
        }
    }
    if specs.iter().all(|spec| !spec.trainable || config.train.freezes(&spec.name)) {
        return refuse(format!("{freeze:?}"), "a list that leaves a parameter to learn".to_owned());
    }
    Ok(())
}

/// The three beginnings of names that are nearest to what was given, the nearest first.
fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut beginnings = BTreeSet::new();
    for name in names {
        beginnings.insert(name);
        beginnings.extend(name.match_indices('.').map(|(end, _)| &name[..end]));
    }
    let mut beginnings: Vec<&str> = beginnings.into_iter().collect();
    beginnings.sort_by_cached_key(|name| keys::distance(given, name));
    beginnings.truncate(3);
    beginnings
}
