//! The sizes of a CLIP model, their checks and named presets.

use crate::ops::Activation;
use serde::{Deserialize, Serialize};

/// How the vision tower turns its tokens into one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The class token, as in CLIP.
    #[default]
    Cls,
    /// The mean of the patch tokens.
    Mean,
}

impl Pool {
    /// Whether it is the class token.
    pub fn is_cls(&self) -> bool {
        *self == Self::Cls
    }
}

/// Which network sees the pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VisionKind {
    /// A vision transformer.
    #[default]
    Vit,
    /// A ResNet-50 in torchvision's layout, with a projection in the place of its last layer.
    Resnet50,
}

/// Bottlenecks of each stage of a ResNet-50 (He et al. 2016, table 1).
pub const RESNET50_DEPTHS: [usize; 4] = [3, 4, 6, 3];

fn resnet50_depths() -> [usize; 4] {
    RESNET50_DEPTHS
}

/// Sizes of the vision tower. A ResNet has `image_size`, `width` and `depths` alone; the others are then 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    /// The network.
    #[serde(default)]
    pub kind: VisionKind,
    /// Height and width of the input in pixels.
    pub image_size: usize,
    /// Height and width of a patch in pixels.
    #[serde(default)]
    pub patch_size: usize,
    /// Width of the residual stream; of a ResNet, the channels of its stem (64 as published).
    pub width: usize,
    /// Number of blocks.
    #[serde(default)]
    pub layers: usize,
    /// Attention heads in a block.
    #[serde(default)]
    pub heads: usize,
    /// Hidden units of the feed-forward layer over `width`.
    #[serde(default = "default_mlp_ratio")]
    pub mlp_ratio: f64,
    /// How tokens become one row.
    #[serde(default)]
    pub pool: Pool,
    /// Bottlenecks of each stage of a ResNet.
    #[serde(default = "resnet50_depths")]
    pub depths: [usize; 4],
}

/// Sizes of the text transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Most tokens in a caption, with its start and end.
    pub context_length: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads in a block.
    pub heads: usize,
    /// Hidden units of the feed-forward layer over `width`.
    #[serde(default = "default_mlp_ratio")]
    pub mlp_ratio: f64,
}

/// Sizes of both towers and of the space they share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipConfig {
    /// Width of the shared space.
    pub embed_dim: usize,
    /// The image side.
    pub vision: VisionConfig,
    /// The text side.
    pub text: TextConfig,
    /// Non-linearity of every feed-forward layer.
    #[serde(default)]
    pub activation: Activation,
    /// Temperature at the start; logits are multiplied by its inverse.
    #[serde(default = "default_temperature")]
    pub init_temperature: f64,
    /// Whether training changes the temperature.
    #[serde(default = "default_learn_temperature")]
    pub learn_temperature: bool,
    /// Initial value of a learned bias of the logits, which SigLIP has; no such parameter if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_logit_bias: Option<f64>,
}

fn default_mlp_ratio() -> f64 {
    4.0
}

fn default_temperature() -> f64 {
    0.07
}

fn default_learn_temperature() -> bool {
    true
}

impl VisionConfig {
    /// Hidden units of the feed-forward layer.
    pub fn hidden(&self) -> usize {
        (self.width as f64 * self.mlp_ratio) as usize
    }

    /// A ResNet-50 whose stem has `width` channels (64 as published).
    pub fn resnet50(image_size: usize, width: usize) -> Self {
        Self {
            kind: VisionKind::Resnet50,
            image_size,
            patch_size: 0,
            width,
            layers: 0,
            heads: 0,
            mlp_ratio: default_mlp_ratio(),
            pool: Pool::Cls,
            depths: RESNET50_DEPTHS,
        }
    }

    fn check_resnet(&self, problems: &mut Vec<String>) {
        if self.image_size == 0 || self.width == 0 || self.depths.contains(&0) {
            problems.push(format!(
                "vision.image_size {}, vision.width {} and vision.depths {:?} of a resnet50 must be at least 1",
                self.image_size, self.width, self.depths
            ));
        }
        let sizes = [("patch_size", self.patch_size), ("layers", self.layers), ("heads", self.heads)];
        for (name, _) in sizes.iter().filter(|(_, size)| *size != 0) {
            problems.push(format!("vision.{name} is no size of a resnet50"));
        }
        if !self.pool.is_cls() {
            problems.push("vision.pool is no choice of a resnet50".to_owned());
        }
    }

    /// Patches of an image.
    pub fn patches(&self) -> usize {
        let side = self.image_size.checked_div(self.patch_size).unwrap_or(0);
        side * side
    }
}

impl TextConfig {
    /// Hidden units of the feed-forward layer.
    pub fn hidden(&self) -> usize {
        (self.width as f64 * self.mlp_ratio) as usize
    }
}

impl ClipConfig {
    /// Every problem with these sizes, one sentence each; empty when the model can be built.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let vision = &self.vision;
        if vision.kind == VisionKind::Resnet50 {
            vision.check_resnet(&mut problems);
        } else if vision.image_size == 0 || !vision.image_size.is_multiple_of(vision.patch_size) {
            problems.push(format!(
                "vision.patch_size {} does not divide vision.image_size {}",
                vision.patch_size, vision.image_size
            ));
        }
        let text = &self.text;
        if text.context_length < 2 {
            problems
                .push(format!("text.context_length {} has no room for start and end", text.context_length));
        }
        if text.vocab_size < 3 {
            problems
                .push(format!("text.vocab_size {} leaves no token beside start and end", text.vocab_size));
        }
        if vision.kind == VisionKind::Vit {
            if vision.depths != RESNET50_DEPTHS {
                problems.push(format!("vision.depths {:?} is no size of a vit", vision.depths));
            }
            check_tower("vision", vision.width, vision.heads, vision.layers, vision.mlp_ratio, &mut problems);
        }
        check_tower("text", text.width, text.heads, text.layers, text.mlp_ratio, &mut problems);
        if self.embed_dim == 0 {
            problems.push("embed_dim must be at least 1".to_owned());
        }
        if !(0.01..=1.0).contains(&self.init_temperature) {
            problems.push(format!(
                "init_temperature {} is outside 0.01 to 1 (logits are scaled by 1 to 100)",
                self.init_temperature
            ));
        }
        problems
    }

    /// ViT-B/32 with open_clip's sizes: 151 million parameters.
    pub fn vit_b_32() -> Self {
        Self::vit_b(32)
    }

    /// ViT-B/16 with open_clip's sizes: 150 million parameters.
    pub fn vit_b_16() -> Self {
        Self::vit_b(16)
    }

    fn vit_b(patch_size: usize) -> Self {
        Self {
            embed_dim: 512,
            vision: VisionConfig {
                kind: VisionKind::Vit,
                image_size: 224,
                patch_size,
                width: 768,
                layers: 12,
                heads: 12,
                mlp_ratio: 4.0,
                pool: Pool::Cls,
                depths: RESNET50_DEPTHS,
            },
            text: TextConfig {
                context_length: 77,
                vocab_size: 49_408,
                width: 512,
                layers: 12,
                heads: 8,
                mlp_ratio: 4.0,
            },
            activation: Activation::Gelu,
            init_temperature: 0.07,
            learn_temperature: true,
            init_logit_bias: None,
        }
    }

    /// ViT-S/16 beside a text tower of the same width, for training from scratch on one accelerator.
    pub fn vit_s_16() -> Self {
        let mut config = Self::vit_b(16);
        config.embed_dim = 384;
        config.vision.width = 384;
        config.vision.heads = 6;
        config.text.width = 384;
        config.text.heads = 6;
        config
    }

    /// A model that a CPU trains: 64-pixel images in patches of 8.
    pub fn tiny() -> Self {
        Self {
            embed_dim: 128,
            vision: VisionConfig {
                kind: VisionKind::Vit,
                image_size: 64,
                patch_size: 8,
                width: 192,
                layers: 6,
                heads: 6,
                mlp_ratio: 4.0,
                pool: Pool::Cls,
                depths: RESNET50_DEPTHS,
            },
            text: TextConfig {
                context_length: 32,
                vocab_size: 1024,
                width: 128,
                layers: 4,
                heads: 4,
                mlp_ratio: 4.0,
            },
            activation: Activation::Gelu,
            init_temperature: 0.07,
            learn_temperature: true,
            init_logit_bias: None,
        }
    }
}

fn check_tower(
    tower: &str,
    width: usize,
    heads: usize,
    layers: usize,
    mlp_ratio: f64,
    problems: &mut Vec<String>,
) {
    if width == 0 {
        problems.push(format!("{tower}.width must be at least 1"));
    }
    if heads == 0 || !width.is_multiple_of(heads) {
        problems.push(format!("{tower}.heads {heads} does not divide {tower}.width {width}"));
    }
    if layers == 0 {
        problems.push(format!("{tower}.layers must be at least 1"));
    }
    if !(mlp_ratio.is_finite() && mlp_ratio * width as f64 >= 1.0 && mlp_ratio <= 64.0) {
        problems.push(format!("{tower}.mlp_ratio {mlp_ratio} gives no usable hidden width"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_sound() {
        for config in
            [ClipConfig::vit_b_32(), ClipConfig::vit_b_16(), ClipConfig::vit_s_16(), ClipConfig::tiny()]
        {
            assert_eq!(config.validate(), Vec::<String>::new());
        }
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let mut config = ClipConfig::tiny();
        config.vision.patch_size = 7;
        config.vision.heads = 5;
        config.text.layers = 0;
        config.text.vocab_size = 2;
        config.embed_dim = 0;
        config.init_temperature = f64::NAN;
        let problems = config.validate();
        assert_eq!(problems.len(), 6, "{problems:?}");
        config.vision.patch_size = 0;
        config.vision.heads = 0;
        assert_eq!(config.validate().len(), 6);
    }
}
