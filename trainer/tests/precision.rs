//! Mixed precision: half-precision activations over f32 parameters, as CUDA runs them, here with f16 on the CPU's stock
//! operations (which have no bf16 product).

#![expect(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

mod common;

use candle_core::{DType, Device, Tensor};
use common::values::numbers;
use std::collections::BTreeMap;
use trainer::config::Config;
use trainer::loss::contrastive_loss;
use trainer::model::Clip;

/// Loss and gradients by name.
fn run(clip: &Clip, pixels: &Tensor, ids: &Tensor) -> (f64, BTreeMap<String, Tensor>) {
    let output = clip.forward(pixels, ids, &[8, 5, 3, 8, 7, 6]).unwrap();
    assert_eq!([output.image_features.dtype(), output.text_features.dtype()], [DType::F32; 2]);
    let loss = contrastive_loss(&output).unwrap();
    let grads = clip.backward(&loss).unwrap();
    let of = |name: &str, tensor: &Tensor| Some((name.to_owned(), grads.get(tensor)?.clone()));
    let grads = clip.params().iter().filter_map(|param| of(&param.name, &param.var)).collect();
    (f64::from(loss.to_scalar::<f32>().unwrap()), grads)
}

/// The largest distance of a gradient from its reference, as a share of its norm.
fn farthest(reference: &BTreeMap<String, Tensor>, found: &BTreeMap<String, Tensor>) -> f64 {
    assert_eq!(reference.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    let off = |(name, grad): (&String, &Tensor)| {
        let other = &found[name];
        assert_eq!((other.dtype(), other.dims()), (DType::F32, grad.dims()), "{name}");
        let length = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let (a, b) = (numbers(grad), numbers(other));
        let difference: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        // Some gradients are zero but for rounding: those of biases in front of a normalisation.
        length(&difference) / length(&a).max(1e-3)
    };
    reference.iter().map(off).fold(0.0, f64::max)
}

#[test]
fn activations_of_another_precision_give_f32_gradients_near_those_of_f32() {
    for preset in ["nano", "nano-rn"] {
        let config = Config::from_toml(&format!("model.preset = \"{preset}\""), "test.toml", &[]).unwrap();
        let clip = Clip::new(&config.clip(300), 1, &Device::Cpu).unwrap();
        let wave = |len: usize| (0..len).map(|i| ((i * i) as f32 * 0.37).sin()).collect::<Vec<f32>>();
        let pixels = Tensor::from_vec(wave(6 * 3 * 32 * 32), (6, 3, 32, 32), &Device::Cpu).unwrap();
        let ids: Vec<u32> = (0..6 * 9).map(|i| 3 + i * i % 290).collect();
        let ids = Tensor::from_vec(ids, (6, 9), &Device::Cpu).unwrap();
        let (loss, grads) = run(&clip, &pixels, &ids);
        // The same path through casts, without their rounding; f32 has its own, which the ResNet magnifies.
        let (double_loss, double) = run(&clip.clone().in_precision(DType::F64), &pixels, &ids);
        assert!((loss - double_loss).abs() < 1e-3, "{preset}: {loss} and {double_loss}");
        let off = farthest(&grads, &double);
        assert!(off < if preset == "nano" { 1e-4 } else { 1e-2 }, "{preset}: off by {off}");
        // An untrained ResNet of 6 tiny pictures magnifies half precision's rounding, so its loss alone is looked at.
        let (half_loss, half) = run(&clip.in_precision(DType::F16), &pixels, &ids);
        assert!((loss - half_loss).abs() < 0.1 && loss != half_loss, "{preset}: {loss} and {half_loss}");
        let off = farthest(&grads, &half);
        assert!(preset == "nano-rn" || off < 0.05, "{preset}: off by {off}");
    }
}
