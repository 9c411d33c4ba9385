//! The section `[loss]`: which loss a batch of pairs has.
//!
//! Leaves out the formulas, which are in [`loss`](crate::loss).

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Which loss, and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// The kind.
    pub kind: LossKind,
    /// Share of each target that InfoNCE spreads over the whole batch.
    pub label_smoothing: f64,
    /// SigLIP's bias at the start.
    pub logit_bias: f64,
}

/// The losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossKind {
    /// The symmetric softmax loss of CLIP.
    #[default]
    Infonce,
    /// The pairwise sigmoid loss, with a learned bias.
    Siglip,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { kind: LossKind::Infonce, label_smoothing: 0.0, logit_bias: -10.0 }
    }
}

/// SigLIP starts at a logit scale of 10 unless the temperature is given.
const SIGLIP_TEMPERATURE: f64 = 0.1;

/// Writes the defaults that depend on the kind of loss below the keys that are given.
pub(super) fn expand(mut table: Table) -> Table {
    let kind = table.get("loss").and_then(|loss| loss.get("kind")).and_then(Value::as_str);
    if kind == Some("siglip") {
        let model = table.entry("model").or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(model) = model {
            model.entry("temperature").or_insert(Value::Float(SIGLIP_TEMPERATURE));
        }
    }
    table
}

impl LossConfig {
    /// The value that a learned bias of the logits starts with; none for a loss without one.
    pub fn init_logit_bias(&self) -> Option<f64> {
        (self.kind == LossKind::Siglip).then_some(self.logit_bias)
    }

    /// Settings that exclude one another.
    pub(super) fn validate(&self) -> Result<()> {
        if self.kind == LossKind::Siglip && self.label_smoothing > 0.0 {
            return Err(Error::Config {
                key: "loss.label_smoothing".into(),
                value: self.label_smoothing.to_string(),
                allowed: "0 with loss.kind = \"siglip\", which has no targets to smooth".into(),
            });
        }
        Ok(())
    }
}
