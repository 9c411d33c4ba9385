//! Model sizes: named presets and what they expand to.
//!
//! A preset gives every size; keys beside it change single ones. The resolved configuration has all of
//! them written out, so a later change of a preset never changes an old run.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The sizes of a CLIP model, without the vocabulary, which the tokenizer gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The preset that the sizes started from; for the reader only.
    pub preset: String,
    /// Width of the shared space.
    pub embed_dim: usize,
    /// Temperature at the start; the logit scale starts at its inverse.
    pub temperature: f64,
    /// The image tower.
    pub vision: VisionConfig,
    /// The text tower.
    pub text: TextConfig,
}

/// The image tower, a ViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    /// Pixels a side that the tower sees; stored pictures are averaged down to it.
    pub image_size: usize,
    /// Pixels a side of one patch.
    pub patch_size: usize,
    /// Width of a token.
    pub width: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
}

/// The text tower, a causal transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Tokens of a caption with both markers.
    pub context_length: usize,
    /// Width of a token.
    pub width: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
}

/// The names that `model.preset` takes.
pub const PRESETS: [&str; 4] = ["nano", "tiny", "small", "vit_b_32"];

impl Default for ModelConfig {
    fn default() -> Self {
        tiny()
    }
}

fn sizes(preset: &str, embed_dim: usize, vision: [usize; 5], text: [usize; 4]) -> ModelConfig {
    let [image_size, patch_size, width, layers, heads] = vision;
    let vision = VisionConfig { image_size, patch_size, width, layers, heads };
    let [context_length, width, layers, heads] = text;
    let text = TextConfig { context_length, width, layers, heads };
    ModelConfig { preset: preset.into(), embed_dim, temperature: 0.07, vision, text }
}

/// For tests: 32 pixels, two blocks of width 32; a step takes milliseconds.
pub fn nano() -> ModelConfig {
    sizes("nano", 16, [32, 16, 32, 2, 2], [16, 32, 2, 2])
}

/// For a laptop: 64 pixels, 64 patches, four blocks of width 128.
pub fn tiny() -> ModelConfig {
    sizes("tiny", 128, [64, 8, 128, 4, 4], [32, 128, 2, 4])
}

/// For photos on a CPU: 224 pixels, 49 patches of 32, six blocks of width 256.
pub fn small() -> ModelConfig {
    sizes("small", 256, [224, 32, 256, 6, 4], [77, 256, 4, 4])
}

/// OpenAI's ViT-B/32.
pub fn vit_b_32() -> ModelConfig {
    sizes("vit_b_32", 512, [224, 32, 768, 12, 12], [77, 512, 12, 8])
}

fn preset(name: &str) -> Option<ModelConfig> {
    match name {
        "nano" => Some(nano()),
        "tiny" => Some(tiny()),
        "small" => Some(small()),
        "vit_b_32" => Some(vit_b_32()),
        _ => None,
    }
}

/// Writes the preset's sizes under `[model]`, below the keys that are given there.
pub(super) fn expand(mut table: Table) -> Result<Table> {
    let given = match table.remove("model") {
        Some(Value::Table(model)) => model,
        _ => Table::new(),
    };
    let name = given.get("preset").and_then(Value::as_str).unwrap_or("tiny").to_owned();
    let base = preset(&name).ok_or_else(|| Error::Config {
        key: "model.preset".into(),
        value: format!("{name:?}"),
        allowed: format!("one of {}", PRESETS.join(", ")),
    })?;
    let mut model = Table::try_from(base)
        .map_err(|e| Error::DamagedFile { path: "config.toml".into(), reason: e.to_string() })?;
    overlay(&mut model, given);
    table.insert("model".into(), Value::Table(model));
    Ok(table)
}

fn overlay(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => overlay(inner, value),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

impl ModelConfig {
    /// Sizes that must divide one another.
    pub(super) fn validate(&self) -> Result<()> {
        let (vision, text) = (&self.vision, &self.text);
        divides("model.vision.patch_size", vision.patch_size, "model.vision.image_size", vision.image_size)?;
        divides("model.vision.heads", vision.heads, "model.vision.width", vision.width)?;
        divides("model.text.heads", text.heads, "model.text.width", text.width)
    }
}

fn divides(key: &str, part: usize, whole_key: &str, whole: usize) -> Result<()> {
    if part > 0 && whole.is_multiple_of(part) {
        return Ok(());
    }
    Err(Error::Config {
        key: key.into(),
        value: part.to_string(),
        allowed: format!("a divisor of {whole_key}, which is {whole}"),
    })
}
