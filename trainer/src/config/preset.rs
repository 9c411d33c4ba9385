//! Model sizes: named presets and what they expand to.
//!
//! A preset gives every size; keys beside it change single ones. The resolved configuration has all of
//! them written out, so a later change of a preset never changes an old run.

use crate::error::{Error, Result};
use crate::model::{
    ClipConfig, Pool, RESNET50_DEPTHS, TextConfig as TextSizes, VisionConfig as VisionSizes, VisionKind,
};
use crate::ops::Activation;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The sizes of a CLIP model, without the vocabulary, which the tokenizer gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The preset that the sizes started from; for the reader only.
    pub preset: String,
    /// A safetensors file, of open_clip or Hugging Face's CLIP, that a new run begins with; empty: drawn from the seed.
    #[serde(default)]
    pub weights: String,
    /// Width of the shared space.
    pub embed_dim: usize,
    /// Temperature at the start; the logit scale starts at its inverse.
    pub temperature: f64,
    /// Whether training changes the temperature.
    pub learn_temperature: bool,
    /// Non-linearity of every feed-forward layer.
    pub activation: Activation,
    /// The image tower.
    pub vision: VisionConfig,
    /// The text tower.
    pub text: TextConfig,
}

/// The image tower. A ResNet has `image_size`, `width` and `depths` alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    /// The network.
    #[serde(default)]
    pub kind: VisionKind,
    /// Pixels a side that the tower sees; stored pictures are averaged down to it.
    pub image_size: usize,
    /// Pixels a side of one patch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub patch_size: usize,
    /// Width of a token; channels of a ResNet's stem (64 as published, and 32 times as many features).
    pub width: usize,
    /// Transformer blocks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub layers: usize,
    /// Attention heads.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub heads: usize,
    /// How its tokens become one row.
    #[serde(default, skip_serializing_if = "Pool::is_cls")]
    pub pool: Pool,
    /// Bottlenecks of each of a ResNet's four stages: 3, 4, 6, 3 of ResNet-50, 3, 4, 23, 3 of ResNet-101.
    #[serde(default = "depths", skip_serializing_if = "is_resnet50")]
    pub depths: [usize; 4],
}

fn depths() -> [usize; 4] {
    RESNET50_DEPTHS
}

fn is_resnet50(depths: &[usize; 4]) -> bool {
    *depths == RESNET50_DEPTHS
}

fn is_zero(size: &usize) -> bool {
    *size == 0
}

impl VisionConfig {
    fn resnet50(image_size: usize, width: usize) -> Self {
        let (kind, pool) = (VisionKind::Resnet50, Pool::Cls);
        let depths = RESNET50_DEPTHS;
        Self { kind, image_size, patch_size: 0, width, layers: 0, heads: 0, pool, depths }
    }
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

/// Hidden units of a feed-forward layer over its width.
const MLP_RATIO: f64 = 4.0;

/// The names that `model.preset` takes.
pub const PRESETS: [&str; 10] =
    ["nano", "nano-rn", "tiny", "small", "vit-s-16", "vit-b-32", "vit-b-16", "rn50", "t2i-run", "coco"];

impl Default for ModelConfig {
    fn default() -> Self {
        preset("tiny").expect("tiny is a preset")
    }
}

/// The sizes of a named preset.
fn preset(name: &str) -> Option<ModelConfig> {
    // Embedding; image size, patch, width, layers and heads; context, width, layers and heads.
    let (embed_dim, vision, text) = match name {
        // For tests: a step takes milliseconds.
        "nano" => (16, [32, 16, 32, 2, 2], [16, 32, 2, 2]),
        // For a laptop: 64 pixels.
        "tiny" => (128, [64, 8, 192, 6, 6], [32, 128, 4, 4]),
        // For photos on a CPU: 49 patches of 32 pixels.
        "small" => (256, [224, 32, 256, 6, 4], [77, 256, 4, 4]),
        "vit-s-16" => (384, [224, 16, 384, 12, 6], [77, 384, 12, 6]),
        "vit-b-32" => (512, [224, 32, 768, 12, 12], [77, 512, 12, 8]),
        "vit-b-16" => (512, [224, 16, 768, 12, 12], [77, 512, 12, 8]),
        // For text-to-image-2M.
        "t2i-run" => (512, [224, 16, 768, 8, 6], [77, 512, 6, 8]),
        // A ResNet-50 has no patches, layers and heads to choose.
        "nano-rn" => (16, [32, 0, 4, 0, 0], [16, 32, 2, 2]),
        "rn50" => (1024, [224, 0, 64, 0, 0], [77, 512, 12, 8]),
        "coco" => (256, [224, 0, 64, 0, 0], [77, 512, 6, 8]),
        _ => return None,
    };
    let [image_size, patch_size, width, layers, heads] = vision;
    let vision = match patch_size {
        0 => VisionConfig::resnet50(image_size, width),
        _ => {
            let (kind, pool) = (VisionKind::Vit, Pool::Cls);
            let depths = RESNET50_DEPTHS;
            VisionConfig { kind, image_size, patch_size, width, layers, heads, pool, depths }
        }
    };
    let [context_length, width, layers, heads] = text;
    let text = TextConfig { context_length, width, layers, heads };
    let activation = Activation::Gelu;
    Some(ModelConfig {
        preset: name.into(),
        weights: String::new(),
        embed_dim,
        temperature: 0.07,
        learn_temperature: true,
        activation,
        vision,
        text,
    })
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
    let (base_kind, image_size) = (base.vision.kind, base.vision.image_size);
    let mut model = Table::try_from(base)
        .map_err(|e| Error::DamagedFile { path: "config.toml".into(), reason: e.to_string() })?;
    // Another network than the preset's begins with that network's own sizes.
    if given.get("vision").and_then(|v| v.get("kind")).and_then(Value::as_str) == Some("resnet50")
        && base_kind == VisionKind::Vit
        && let Ok(vision) = Table::try_from(VisionConfig::resnet50(image_size, 64))
    {
        model.insert("vision".into(), Value::Table(vision));
    }
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
    /// The model's own description, with the vocabulary that the tokenizer gives.
    pub fn clip(&self, vocab_size: usize) -> ClipConfig {
        let (vision, text) = (&self.vision, &self.text);
        ClipConfig {
            embed_dim: self.embed_dim,
            vision: VisionSizes {
                kind: vision.kind,
                image_size: vision.image_size,
                patch_size: vision.patch_size,
                width: vision.width,
                layers: vision.layers,
                heads: vision.heads,
                mlp_ratio: MLP_RATIO,
                pool: vision.pool,
                depths: vision.depths,
            },
            text: TextSizes {
                context_length: text.context_length,
                vocab_size,
                width: text.width,
                layers: text.layers,
                heads: text.heads,
                mlp_ratio: MLP_RATIO,
            },
            activation: self.activation,
            init_temperature: self.temperature,
            learn_temperature: self.learn_temperature,
            init_logit_bias: None,
        }
    }

    /// Sizes that must divide one another.
    pub(super) fn validate(&self) -> Result<()> {
        let (vision, text) = (&self.vision, &self.text);
        match vision.kind {
            VisionKind::Vit => {
                let (patch, image) = (vision.patch_size, vision.image_size);
                if vision.layers == 0 {
                    return Err(Error::Config {
                        key: "model.vision.layers".into(),
                        value: "0".into(),
                        allowed: "at least 1 for a vit".into(),
                    });
                }
                divides("model.vision.patch_size", patch, "model.vision.image_size", image)?;
                divides("model.vision.heads", vision.heads, "model.vision.width", vision.width)?;
            }
            VisionKind::Resnet50 => {
                let pool = usize::from(!vision.pool.is_cls());
                for (key, value) in [
                    ("patch_size", vision.patch_size),
                    ("layers", vision.layers),
                    ("heads", vision.heads),
                    ("pool", pool),
                ] {
                    if value != 0 {
                        return Err(Error::Config {
                            key: format!("model.vision.{key}"),
                            value: if key == "pool" { "\"mean\"".into() } else { value.to_string() },
                            allowed: "no such key for a resnet50, which has image_size and width alone"
                                .into(),
                        });
                    }
                }
            }
        }
        divides("model.text.heads", text.heads, "model.text.width", text.width)
    }
}

pub(super) fn divides(key: &str, part: usize, whole_key: &str, whole: usize) -> Result<()> {
    if part > 0 && whole.is_multiple_of(part) {
        return Ok(());
    }
    Err(Error::Config {
        key: key.into(),
        value: part.to_string(),
        allowed: format!("a divisor of {whole_key}, which is {whole}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_of_the_same_name_are_the_models_own() {
        let table = [
            ("tiny", ClipConfig::tiny(), 1024),
            ("vit-s-16", ClipConfig::vit_s_16(), 49_408),
            ("vit-b-32", ClipConfig::vit_b_32(), 49_408),
            ("vit-b-16", ClipConfig::vit_b_16(), 49_408),
        ];
        for (name, expected, vocab_size) in table {
            assert_eq!(preset(name).unwrap().clip(vocab_size), expected, "{name}");
        }
    }

    #[test]
    fn every_name_is_a_preset_that_can_be_built() {
        for name in PRESETS {
            let preset = preset(name).unwrap();
            assert_eq!(preset.preset, name);
            preset.validate().unwrap();
            assert!(preset.clip(300).validate().is_empty(), "{name}");
        }
    }
}
