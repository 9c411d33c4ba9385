//! Samples that took the place of damaged ones: what is told of them. Left out: drawing and reading them
//! ([`crate::collate`]).

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A damaged sample whose place another one took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substitution {
    /// The epoch.
    pub epoch: u64,
    /// The damaged sample's number.
    pub sample: u64,
    /// The number of the sample that was delivered.
    pub by: u64,
    /// What is wrong with the damaged one: shard, key and bytes.
    pub problem: String,
}

/// Most substitutions that are kept by name; all are counted.
pub(crate) const LISTED_MAX: usize = 1000;

/// The substitutions so far.
#[derive(Debug, Default)]
pub(crate) struct Substitutions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    listed: Vec<Substitution>,
    count: u64,
}

impl Substitutions {
    pub(crate) fn add(&self, substitution: Substitution) {
        let mut state = self.lock();
        state.count += 1;
        if state.listed.len() < LISTED_MAX && !state.listed.contains(&substitution) {
            state.listed.push(substitution);
        }
    }

    /// Those that are kept by name, by epoch and sample.
    pub(crate) fn listed(&self) -> Vec<Substitution> {
        let mut listed = self.lock().listed.clone();
        listed.sort_by_key(|substitution| (substitution.epoch, substitution.sample));
        listed
    }

    pub(crate) fn count(&self) -> u64 {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
