//! Where a run stands in its data: what a checkpoint keeps so that a resumed run goes on with the very next batch.
//! Left out: writing it to a file, which is the checkpoint's affair.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    history::History,
};

/// A place in an endless row of epochs, and the data that it is a place in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderState {
    /// The loader's seed.
    pub seed: u64,
    /// The epoch of the next batch.
    pub epoch: u64,
    /// Samples of that epoch, over all ranks, that were delivered before it.
    pub position: u64,
    /// The data set's fingerprint; of a mixture, a hash of all of them.
    pub fingerprint: String,
    /// The order of its samples, as [`Order`](crate::Order) writes it.
    pub order: String,
    /// Which samples take part, and of a mixture how many are drawn from where.
    pub selection: String,
    /// What was delivered before.
    pub history: History,
}

/// What must be the same for a run to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) seed: u64,
    pub(crate) fingerprint: String,
    pub(crate) order: String,
    pub(crate) selection: String,
}

impl LoaderState {
    /// The state as a line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts always are JSON")
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// [`Error::State`] where it is not that.
    pub fn from_json(json: &str) -> Result<LoaderState> {
        serde_json::from_str(json).map_err(Error::State)
    }

    /// Whether a loader may go on from here.
    ///
    /// # Errors
    /// [`Error::OtherData`], [`Error::OtherSeed`] or [`Error::OtherOrder`], with both values.
    pub(crate) fn check(&self, loader: &Identity) -> Result<()> {
        if self.fingerprint != loader.fingerprint {
            let (expected, found) = (self.fingerprint.clone(), loader.fingerprint.clone());
            return Err(Error::OtherData { expected, found });
        }
        if self.seed != loader.seed {
            return Err(Error::OtherSeed { expected: self.seed, found: loader.seed });
        }
        for (what, expected, found) in [
            ("the order", &self.order, &loader.order),
            ("the selection of samples", &self.selection, &loader.selection),
        ] {
            if expected != found {
                let (expected, found) = (expected.clone(), found.clone());
                return Err(Error::OtherOrder { what, expected, found });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trip_and_refusals() {
        let identity = Identity {
            seed: u64::MAX,
            fingerprint: "abc".to_owned(),
            order: "global".to_owned(),
            selection: "all".to_owned(),
        };
        let state = LoaderState {
            seed: u64::MAX,
            epoch: 3,
            position: 512,
            fingerprint: "abc".to_owned(),
            order: "global".to_owned(),
            selection: "all".to_owned(),
            history: History::since(0, 0),
        };
        assert_eq!(LoaderState::from_json(&state.to_json()).unwrap(), state);
        assert!(state.check(&identity).is_ok());
        let refused = |identity: Identity| state.check(&identity).unwrap_err().to_string();
        let text = refused(Identity { fingerprint: "xyz".to_owned(), ..identity.clone() });
        assert!(text.contains("abc") && text.contains("xyz"), "{text}");
        let text = refused(Identity { seed: 7, ..identity.clone() });
        assert!(text.contains('7') && text.contains(&u64::MAX.to_string()), "{text}");
        let text = refused(Identity { order: "none".to_owned(), ..identity.clone() });
        assert!(text.contains("order") && text.contains("global") && text.contains("none"), "{text}");
        let text = refused(Identity { selection: "fraction 0.5".to_owned(), ..identity });
        assert!(text.contains("selection") && text.contains("fraction 0.5"), "{text}");
        for bad in ["", "{}", "[]", r#"{"seed":-1,"epoch":0,"position":0,"fingerprint":""}"#] {
            assert!(LoaderState::from_json(bad).is_err());
        }
    }
}
