//! Floating-point operations of a training step, from the model's sizes alone.
//!
//! Counted are matrix products and convolutions of the forward pass, two operations a multiplication, and twice as
//! much for the backward pass. What a program saves or repeats (a pruned last block, recomputation) does not
//! count, so that figures of different programs compare.

use crate::model::{ClipConfig, VisionConfig, VisionKind, resnet_convolutions};

/// Operations of a step of `batch` pairs whose captions have `tokens` tokens.
pub fn step_flops(config: &ClipConfig, batch: usize, tokens: usize) -> f64 {
    let text = &config.text;
    let text_flops = transformer(text.width, text.hidden(), text.layers, tokens)
        + 2.0 * (text.width * config.embed_dim) as f64;
    let logits = 2.0 * 2.0 * (batch * config.embed_dim) as f64;
    3.0 * batch as f64 * (vision(&config.vision, config.embed_dim) + text_flops + logits)
}

fn vision(config: &VisionConfig, embed_dim: usize) -> f64 {
    match config.kind {
        VisionKind::Vit => {
            let tokens = config.patches() + 1;
            let patch = 2.0 * (config.patches() * 3 * config.patch_size.pow(2) * config.width) as f64;
            let proj = 2.0 * (config.width * embed_dim) as f64;
            patch + transformer(config.width, config.hidden(), config.layers, tokens) + proj
        }
        VisionKind::Resnet50 => {
            let convolutions = resnet_convolutions(config);
            let products =
                convolutions.iter().map(|(pixels, taps, outputs)| (pixels * taps * outputs) as f64);
            let features = convolutions.last().map_or(0, |(_, _, outputs)| *outputs);
            2.0 * (products.sum::<f64>() + (features * embed_dim) as f64)
        }
    }
}

/// Operations of a stack of blocks on one sequence.
fn transformer(width: usize, hidden: usize, layers: usize, tokens: usize) -> f64 {
    let (d, h, t) = (width as f64, hidden as f64, tokens as f64);
    let weights = 4.0 * d * d + 2.0 * d * h;
    2.0 * layers as f64 * t * (weights + 2.0 * t * d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_counts() {
        // ViT-B/16 at 224 pixels has 17.6 billion multiplications an image (Dosovitskiy et al. 2021, in FLOPs of
        // other papers), ResNet-50 4.1 billion (He et al. 2016 count 3.8 with the stride on the first layer).
        let vit = vision(&ClipConfig::vit_b_16().vision, 512) / 2.0;
        assert!((vit / 17.56e9 - 1.0).abs() < 0.01, "{vit}");
        let resnet = vision(&VisionConfig::resnet50(224, 64), 1000) / 2.0;
        assert!((resnet / 4.09e9 - 1.0).abs() < 0.01, "{resnet}");
    }
}
