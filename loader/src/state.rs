//! Where a run stands in its data: what a checkpoint keeps so that a resumed run goes on with the very next batch.
//! Left out: writing it to a file, which is the checkpoint's affair.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

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
    /// The data set's fingerprint.
    pub fingerprint: String,
}

impl LoaderState {
    /// The state as a line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and a string always are JSON")
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// [`Error::State`] where it is not that.
    pub fn from_json(json: &str) -> Result<LoaderState> {
        serde_json::from_str(json).map_err(Error::State)
    }

    /// Whether a loader with `seed` over the data with `fingerprint` may go on from here.
    ///
    /// # Errors
    /// [`Error::OtherData`] or [`Error::OtherSeed`], with both values.
    pub fn check(&self, seed: u64, fingerprint: &str) -> Result<()> {
        if self.fingerprint != fingerprint {
            return Err(Error::OtherData {
                expected: self.fingerprint.clone(),
                found: fingerprint.to_owned(),
            });
        }
        if self.seed != seed {
            return Err(Error::OtherSeed { expected: self.seed, found: seed });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trip_and_refusals() {
        let state = LoaderState { seed: u64::MAX, epoch: 3, position: 512, fingerprint: "abc".to_owned() };
        assert_eq!(LoaderState::from_json(&state.to_json()).unwrap(), state);
        assert!(state.check(u64::MAX, "abc").is_ok());
        let text = state.check(u64::MAX, "xyz").unwrap_err().to_string();
        assert!(text.contains("abc") && text.contains("xyz"), "{text}");
        let text = state.check(7, "abc").unwrap_err().to_string();
        assert!(text.contains('7') && text.contains(&u64::MAX.to_string()), "{text}");
        for bad in ["", "{}", "[]", r#"{"seed":-1,"epoch":0,"position":0,"fingerprint":""}"#] {
            assert!(LoaderState::from_json(bad).is_err());
        }
    }
}
