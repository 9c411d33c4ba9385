//! Whole training steps: a toy batch is memorised, the thread count changes no bit, the fused block equals
//! its parts, and an optimizer that is put back continues exactly.

#![expect(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use trainer::loss::{clamp_logit_scale, contrastive_loss};
use trainer::model::{Clip, ClipConfig, Pool, RESNET50_DEPTHS, TextConfig, VisionConfig, VisionKind};
use trainer::ops::Activation;
use trainer::optim::{AdamW, AdamWConfig};

fn toy() -> ClipConfig {
    ClipConfig {
        embed_dim: 24,
        vision: VisionConfig {
            kind: VisionKind::Vit,
            image_size: 16,
            patch_size: 4,
            width: 32,
            layers: 2,
            heads: 4,
            mlp_ratio: 2.0,
            pool: Pool::Cls,
            depths: RESNET50_DEPTHS,
        },
        text: TextConfig {
            context_length: 9,
            vocab_size: 40,
            width: 24,
            layers: 2,
            heads: 3,
            mlp_ratio: 4.0,
        },
        activation: Activation::Gelu,
        init_temperature: 0.07,
        learn_temperature: true,
        init_logit_bias: None,
    }
}

/// Pairs without any structure, from a fixed sequence.
fn toy_batch(pairs: usize) -> (Tensor, Tensor, Vec<u32>) {
    let mut state = 12345u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let pixels: Vec<f32> = (0..pairs * 3 * 16 * 16).map(|_| next() as f32 / 8_388_608.0 - 1.0).collect();
    let mut ids = Vec::new();
    let mut eot_positions = Vec::new();
    for _ in 0..pairs {
        let len = 4 + next() % 4;
        ids.push(1);
        ids.extend((0..len).map(|_| 3 + next() % 37));
        ids.push(2);
        eot_positions.push(len + 1);
        ids.extend((len + 2..9).map(|_| 0));
    }
    let pixels = Tensor::from_vec(pixels, (pairs, 3, 16, 16), &Device::Cpu).unwrap();
    (pixels, Tensor::from_vec(ids, (pairs, 9), &Device::Cpu).unwrap(), eot_positions)
}

/// One step; its loss before the update and the norm of its gradient.
fn step(model: &Clip, optimizer: &mut AdamW, batch: &(Tensor, Tensor, Vec<u32>)) -> (f32, f64) {
    let loss = contrastive_loss(&model.forward(&batch.0, &batch.1, &batch.2).unwrap()).unwrap();
    let norm = optimizer.step(&model.backward(&loss).unwrap(), 1e-3).unwrap();
    clamp_logit_scale(model.params()).unwrap();
    (loss.to_scalar().unwrap(), norm)
}

fn bits(tensors: &[(String, Tensor)]) -> Vec<(String, Vec<u32>)> {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    tensors.iter().map(|(n, t)| (n.clone(), values(t).iter().map(|v| v.to_bits()).collect())).collect()
}

#[test]
fn eight_pairs_are_memorised() {
    let model = Clip::new(&toy(), 7, &Device::Cpu).unwrap();
    let mut optimizer = AdamW::new(model.params(), AdamWConfig::default()).unwrap();
    let batch = toy_batch(8);
    let (first, _) = step(&model, &mut optimizer, &batch);
    assert!(first > 1.5, "chance is ln 8 = 2.08, got {first}");
    let mut last = first;
    for _ in 0..150 {
        last = step(&model, &mut optimizer, &batch).0;
    }
    assert!(last < 0.05, "loss {last} after 150 steps");
}

#[test]
fn every_trainable_parameter_receives_a_gradient() {
    for pool in [Pool::Cls, Pool::Mean] {
        let mut config = toy();
        config.vision.pool = pool;
        let model = Clip::new(&config, 7, &Device::Cpu).unwrap();
        let (pixels, ids, eot) = toy_batch(6);
        let loss = contrastive_loss(&model.forward(&pixels, &ids, &eot).unwrap()).unwrap();
        let grads = model.backward(&loss).unwrap();
        for param in model.params().iter() {
            let grad = grads.get(&param.var).unwrap_or_else(|| panic!("{} has no gradient", param.name));
            assert_eq!(grad.shape(), param.var.shape(), "{}", param.name);
            let size = grad.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(size > 1e-9 && size.is_finite(), "{}: largest gradient {size}", param.name);
        }
    }
}

#[test]
fn a_fixed_temperature_does_not_move() {
    let mut config = toy();
    config.learn_temperature = false;
    let model = Clip::new(&config, 7, &Device::Cpu).unwrap();
    let scale = || model.params().get("logit_scale").unwrap().to_scalar::<f32>().unwrap();
    let (before, mut optimizer) = (scale(), AdamW::new(model.params(), AdamWConfig::default()).unwrap());
    step(&model, &mut optimizer, &toy_batch(4));
    assert_eq!(before, scale());
}

#[test]
fn thread_count_changes_no_bit() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let model = Clip::new(&toy(), 7, &Device::Cpu).unwrap();
            let mut optimizer = AdamW::new(model.params(), AdamWConfig::default()).unwrap();
            let batch = toy_batch(150);
            let losses: Vec<(u32, u64)> = (0..3)
                .map(|_| step(&model, &mut optimizer, &batch))
                .map(|(loss, norm)| (loss.to_bits(), norm.to_bits()))
                .collect();
            (losses, bits(&model.params().tensors()), bits(&optimizer.state()))
        })
    };
    let one = run(1);
    assert_eq!(one, run(3));
    assert_eq!(one, run(4));
}

#[test]
fn restored_weights_and_moments_continue_exactly() {
    let batch = toy_batch(8);
    let model = Clip::new(&toy(), 7, &Device::Cpu).unwrap();
    let mut optimizer = AdamW::new(model.params(), AdamWConfig::default()).unwrap();
    for _ in 0..3 {
        step(&model, &mut optimizer, &batch);
    }
    let copy = |tensors: Vec<(String, Tensor)>| -> HashMap<String, Tensor> {
        tensors.into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap())).collect()
    };
    let (weights, moments, steps) =
        (copy(model.params().tensors()), copy(optimizer.state()), optimizer.steps());
    let expected: Vec<_> = (0..3).map(|_| step(&model, &mut optimizer, &batch)).collect();

    let other = Clip::new(&toy(), 8, &Device::Cpu).unwrap();
    other.params().load(&weights).unwrap();
    let mut restored = AdamW::new(other.params(), AdamWConfig::default()).unwrap();
    restored.load_state(&moments, steps).unwrap();
    let found: Vec<_> = (0..3).map(|_| step(&other, &mut restored, &batch)).collect();
    assert_eq!(expected, found);
    assert_eq!(bits(&model.params().tensors()), bits(&other.params().tensors()));
}

#[test]
fn inference_sees_the_same_parameters_and_records_nothing() {
    let model = Clip::new(&toy(), 7, &Device::Cpu).unwrap();
    let inference = model.for_inference().unwrap();
    let batch = toy_batch(5);
    let mut optimizer = AdamW::new(model.params(), AdamWConfig::default()).unwrap();
    step(&model, &mut optimizer, &batch);
    let trained = model.forward(&batch.0, &batch.1, &batch.2).unwrap();
    let plain = inference.forward(&batch.0, &batch.1, &batch.2).unwrap();
    assert!(trained.image_features.track_op() && !plain.image_features.track_op());
    let rows = |t: &Tensor| t.to_vec2::<f32>().unwrap();
    assert_eq!(rows(&trained.image_features), rows(&plain.image_features));
    assert_eq!(rows(&trained.text_features), rows(&plain.text_features));
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let model = Clip::new(&toy(), 7, &Device::Cpu).unwrap();
    let mut weights: HashMap<String, Tensor> = model.params().tensors().into_iter().collect();
    weights.remove("visual.proj");
    weights.insert("extra.weight".into(), Tensor::new(1f32, &Device::Cpu).unwrap());
    weights.insert("ln_final.bias".into(), Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap());
    let message = model.params().load(&weights).unwrap_err().to_string();
    for part in ["1 missing [\"visual.proj\"]", "extra.weight", "ln_final.bias: expected [24], found [2]"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn wrong_inputs_are_errors() {
    let model = Clip::new(&toy(), 7, &Device::Cpu).unwrap();
    let (pixels, ids, eot) = toy_batch(2);
    assert!(model.encode_image(&pixels.narrow(2, 0, 8).unwrap()).is_err());
    assert!(model.encode_text(&ids, &eot[..1]).is_err());
    assert!(model.encode_text(&ids, &[1, 9]).is_err());
    let high = Tensor::from_vec(vec![40u32; 18], (2, 9), &Device::Cpu).unwrap();
    assert!(model.encode_text(&high, &eot).is_err());
    let long = Tensor::zeros((2, 10), candle_core::DType::U32, &Device::Cpu).unwrap();
    assert!(model.encode_text(&long, &eot).is_err());
    let mut config = toy();
    config.text.heads = 5;
    assert!(Clip::new(&config, 7, &Device::Cpu).unwrap_err().to_string().contains("text.heads 5"));
}
