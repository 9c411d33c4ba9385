//! Large batches and many steps in little memory: gradient caching, accumulation, recomputation and freezing
//! give the gradient that they promise.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use trainer::checkpoint::Tensors;
use trainer::config::Config;
use trainer::data::TensorBatch;
use trainer::step::{StepResult, TrainState, Trainee};

const VOCABULARY: usize = 300;

/// A step of plain gradient descent in disguise: with no first moment kept and ε of 1, an update is nearly the
/// gradient's size, and the first moment is the gradient itself.
fn config(set: &[&str]) -> Config {
    let text = "model.preset = \"nano\"
        data = { batch_size = 24 }
        optim = { steps = 10, lr = 1e-3, beta1 = 0.0, eps = 1.0, clip = 0.0, weight_decay = 0.0 }";
    let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
    Config::from_toml(text, "test.toml", &set).unwrap()
}

fn state(set: &[&str]) -> TrainState {
    TrainState::new(&config(set), VOCABULARY, 10, &Device::Cpu).unwrap()
}

/// Numbers without structure in [−1, 1).
fn numbers(count: usize, mut seed: u32) -> impl Iterator<Item = u32> {
    (0..count).map(move |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    })
}

fn batch(pairs: usize, seed: u32) -> TensorBatch {
    let pixels: Vec<f32> = numbers(pairs * 3 * 32 * 32, seed).map(|n| n as f32 / 8_388_608.0 - 1.0).collect();
    let ids: Vec<u32> = numbers(pairs * 9, seed + 1).map(|n| 3 + n % 290).collect();
    TensorBatch {
        pixel_values: Tensor::from_vec(pixels, (pairs, 3, 32, 32), &Device::Cpu).unwrap(),
        input_ids: Tensor::from_vec(ids, (pairs, 9), &Device::Cpu).unwrap(),
        eot_positions: numbers(pairs, seed + 2).map(|n| 2 + n % 7).collect(),
    }
}

fn part(batch: &TensorBatch, first: usize, len: usize) -> TensorBatch {
    TensorBatch {
        pixel_values: batch.pixel_values.narrow(0, first, len).unwrap(),
        input_ids: batch.input_ids.narrow(0, first, len).unwrap(),
        eot_positions: batch.eot_positions[first..first + len].to_vec(),
    }
}

/// The gradient of the last step, which is the first moment when none is kept, copied.
fn gradient(state: &TrainState) -> BTreeMap<String, Vec<f32>> {
    let values = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let moments: Tensors = state.moments();
    let firsts = moments.into_iter().filter_map(|(name, moment)| {
        name.strip_suffix(".exp_avg").map(|name| (name.to_owned(), values(moment)))
    });
    firsts.collect()
}

/// One step on `batch`: its figures and its gradient.
fn step(set: &[&str], batch: &TensorBatch) -> (StepResult, BTreeMap<String, Vec<f32>>) {
    let mut state = state(set);
    let result = state.train_step(batch).unwrap().unwrap();
    let gradient = gradient(&state);
    (result, gradient)
}

/// Largest difference of two gradients as a share of the tensor's largest number.
fn difference(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f32 {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let of = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        let scale = a.iter().fold(1e-7f32, |max, v| max.max(v.abs()));
        a.iter().zip(b).fold(0f32, |max, (a, b)| max.max((a - b).abs())) / scale
    };
    a.values().zip(b.values()).map(of).fold(0f32, f32::max)
}

#[test]
fn the_cached_gradient_is_that_of_the_whole_batch() {
    let batch = batch(24, 1);
    for loss in ["infonce", "siglip"] {
        let kind = format!("loss.kind={loss}");
        let (whole, expected) = step(&[&kind], &batch);
        assert!(expected.contains_key("logit_bias") == (loss == "siglip"));
        for chunk in [1, 5, 8, 23] {
            let chunk = format!("train.chunk_size={chunk}");
            let (found, gradient) = step(&[&kind, &chunk], &batch);
            assert!((found.loss - whole.loss).abs() < 1e-5 * whole.loss, "{loss} {chunk}");
            let off = difference(&expected, &gradient);
            assert!(off < 2e-4, "{loss} {chunk}: the gradient is off by {off}");
            assert!((found.grad_norm / whole.grad_norm - 1.0).abs() < 1e-5);
        }
        // The check can fail: smaller batches have other negatives and another gradient.
        let (_, other) = step(&[&kind], &part(&batch, 0, 12));
        assert!(difference(&expected, &other) > 0.1);
    }
}

#[test]
fn a_chunk_of_a_batch_and_more_is_the_plain_step() {
    let batch = batch(24, 2);
    let (plain, expected) = step(&[], &batch);
    let (found, gradient) = step(&["train.chunk_size=24"], &batch);
    assert_eq!((found, gradient), (plain, expected));
}

#[test]
fn accumulation_averages_the_gradients_of_its_batches() {
    let whole = batch(24, 3);
    let parts = [part(&whole, 0, 8), part(&whole, 8, 8), part(&whole, 16, 8)];
    let alone: Vec<_> = parts.iter().map(|part| step(&[], part)).collect();
    let mut expected = alone[0].1.clone();
    for (name, sum) in &mut expected {
        for (place, value) in sum.iter_mut().enumerate() {
            *value = alone.iter().map(|(_, grads)| grads[name][place]).sum::<f32>() / 3.0;
        }
    }
    let loss = alone.iter().map(|(result, _)| result.loss).sum::<f32>() / 3.0;
    for chunk in ["train.chunk_size=0", "train.chunk_size=3"] {
        let mut state = state(&["optim.accum_steps=3", chunk]);
        parts.iter().for_each(|part| state.accumulate(part).unwrap().unwrap());
        let result = state.update().unwrap().unwrap();
        assert!((result.loss - loss).abs() < 1e-6 * loss);
        let off = difference(&expected, &gradient(&state));
        assert!(off < 2e-4, "{chunk}: off by {off}");
    }
    assert!(difference(&expected, &step(&[], &whole).1) > 0.1, "three small batches are not one large");
}

#[test]
fn recomputation_changes_no_bit() {
    let batch = batch(24, 4);
    assert_eq!(step(&[], &batch), step(&["train.recompute=true"], &batch));
}

#[test]
fn what_is_frozen_stays_and_the_rest_learns_as_before() {
    let batch = batch(24, 5);
    let freeze = "train.freeze=[\"visual\", \"transformer.resblocks.0\", \"token_embedding\", \"positional_embedding\"]";
    let (_, all) = step(&[], &batch);
    for chunk in ["train.chunk_size=0", "train.chunk_size=7"] {
        let mut state = state(&[freeze, chunk]);
        let values = |state: &TrainState| -> BTreeMap<String, Vec<f32>> {
            let list = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            state.weights().into_iter().map(|(name, tensor)| (name, list(tensor))).collect()
        };
        let before = values(&state);
        state.train_step(&batch).unwrap().unwrap();
        let learned = gradient(&state);
        let is_frozen = |name: &str| {
            name.starts_with("visual.")
                || name.starts_with("transformer.resblocks.0.")
                || name.starts_with("token_embedding.")
                || name == "positional_embedding"
        };
        let after = values(&state);
        for (name, value) in &before {
            assert_eq!(*value == after[name], is_frozen(name), "{name}");
            assert_eq!(learned.contains_key(name), !is_frozen(name), "{name}");
        }
        let expected: BTreeMap<_, _> =
            all.iter().filter(|(name, _)| !is_frozen(name)).map(|(n, g)| (n.clone(), g.clone())).collect();
        let off = difference(&expected, &learned);
        assert!(off < 2e-4, "{chunk}: off by {off}");
        assert!(state.notes().iter().any(|note| note.contains("are learned")));
    }
}

#[test]
fn averaged_weights_lie_between_the_first_and_the_last() {
    let (batch, mut state) = (batch(24, 6), state(&["train.ema_decay=0.9"]));
    let value = |tensors: &Tensors| -> f32 {
        tensors["text_projection"].flatten_all().unwrap().get(0).unwrap().to_scalar().unwrap()
    };
    let start = value(&state.weights());
    assert_eq!(value(&state.averaged().unwrap()), start);
    state.train_step(&batch).unwrap().unwrap();
    let (now, averaged) = (value(&state.weights()), value(&state.averaged().unwrap()));
    // After the first step, 2/11 of the average is the start.
    let expected = start * 2.0 / 11.0 + now * 9.0 / 11.0;
    assert!(now != start && (averaged - expected).abs() < 1e-6, "{start} {now} {averaged}");
    let evaluated: f32 = {
        let tensors: Tensors = state.evaluated().params().tensors().into_iter().collect();
        value(&tensors)
    };
    assert_eq!(evaluated, averaged);
}
