//! A whole CLIP with a ResNet-50: gradients reach everything, running statistics move when they should.

#![expect(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use candle_core::{Device, Tensor};
use trainer::loss::contrastive_loss;
use trainer::model::{Clip, ClipConfig, VisionConfig};

fn config() -> ClipConfig {
    let mut config = ClipConfig::tiny();
    config.vision = VisionConfig::resnet50(48, 3);
    (config.embed_dim, config.text.layers, config.text.width) = (12, 1, 16);
    config.text.vocab_size = 40;
    config
}

fn batch(count: usize) -> (Tensor, Tensor, Vec<u32>) {
    let noise = |i: usize| ((i as f64 * 0.754_877_666 + 0.1).fract() as f32 - 0.5) * 3.0;
    let pixels: Vec<f32> = (0..count * 3 * 48 * 48).map(|i| noise(i * i % 100_003)).collect();
    let ids: Vec<u32> = (0..count * 6).map(|i| (i * 7 % 40) as u32).collect();
    let pixels = Tensor::from_vec(pixels, (count, 3, 48, 48), &Device::Cpu).unwrap();
    (pixels, Tensor::from_vec(ids, (count, 6), &Device::Cpu).unwrap(), vec![5; count])
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn statistics(clip: &Clip) -> Vec<Vec<u32>> {
    clip.params().iter().filter(|p| p.name.contains("running_")).map(|p| bits(p.var.as_tensor())).collect()
}

#[test]
fn every_trainable_parameter_receives_a_gradient_and_statistics_are_not_trained() {
    let clip = Clip::new(&config(), 1, &Device::Cpu).unwrap();
    let (pixels, ids, eot) = batch(5);
    let loss = contrastive_loss(&clip.forward(&pixels, &ids, &eot).unwrap()).unwrap();
    let grads = clip.backward(&loss).unwrap();
    let (mut learned, mut kept) = (0, 0);
    for param in clip.params().iter() {
        if !param.trainable {
            assert!(param.name.contains("running_") && grads.get(&param.var).is_none(), "{}", param.name);
            kept += 1;
            continue;
        }
        let grad = grads.get(&param.var).unwrap_or_else(|| panic!("{} has no gradient", param.name));
        let size = grad.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(size > 0.0 && size.is_finite(), "{}: {size}", param.name);
        learned += 1;
    }
    // 53 convolutions, each with a normalisation of two parameters and two statistics.
    assert_eq!(kept, 2 * 53);
    assert!(learned > 3 * 53);
}

#[test]
fn statistics_follow_a_training_pass_alone() {
    let clip = Clip::new(&config(), 2, &Device::Cpu).unwrap();
    let (pixels, _, _) = batch(4);
    let before = statistics(&clip);
    let evaluated = clip.for_inference().unwrap().encode_image(&pixels).unwrap();
    let cached = clip.for_caching().unwrap().encode_image(&pixels).unwrap();
    assert_eq!(statistics(&clip), before, "neither evaluation nor caching moves them");
    let learned = clip.encode_image(&pixels).unwrap();
    assert_eq!(bits(&cached), bits(&learned), "caching gives what training gives");
    assert_ne!(bits(&evaluated), bits(&learned), "evaluation uses the running ones");
    let after = statistics(&clip);
    assert!(before.iter().zip(&after).all(|(a, b)| a != b), "all of them moved");
    // Evaluation sees the new ones at once.
    assert_ne!(bits(&clip.for_inference().unwrap().encode_image(&pixels).unwrap()), bits(&evaluated));
    // A frozen layer's stay.
    let frozen = clip.for_training(&|name| name.starts_with("visual.layer1."), false).unwrap();
    frozen.encode_image(&pixels).unwrap();
    let names = clip.params().iter().filter(|p| p.name.contains("running_")).map(|p| &p.name);
    for ((name, a), b) in names.zip(&after).zip(&statistics(&clip)) {
        assert_eq!(a == b, name.starts_with("visual.layer1."), "{name}");
    }
}

#[test]
fn recomputation_changes_no_bit_and_moves_statistics_once() {
    let (pixels, ids, eot) = batch(4);
    let run = |recompute: bool| {
        let clip =
            Clip::new(&config(), 3, &Device::Cpu).unwrap().for_training(&|_| false, recompute).unwrap();
        let loss = contrastive_loss(&clip.forward(&pixels, &ids, &eot).unwrap()).unwrap();
        let grads = clip.backward(&loss).unwrap();
        let learned = clip.params().iter().filter(|p| p.trainable);
        let grads: Vec<Vec<u32>> = learned.map(|p| bits(grads.get(&p.var).unwrap())).collect();
        (bits(&loss), grads, statistics(&clip))
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn stages_have_as_many_bottlenecks_as_are_asked_for() {
    for depths in [[1, 1, 1, 1], [2, 1, 3, 1]] {
        let mut config = config();
        config.vision.depths = depths;
        let clip = Clip::new(&config, 1, &Device::Cpu).unwrap();
        let running = clip.params().iter().filter(|p| p.name.ends_with("running_mean")).count();
        // The stem, three a bottleneck, and one beside the first of each stage.
        assert_eq!(running, 1 + 3 * depths.iter().sum::<usize>() + 4);
        let (pixels, ids, eot) = batch(4);
        let loss = contrastive_loss(&clip.forward(&pixels, &ids, &eot).unwrap()).unwrap();
        let grads = clip.backward(&loss).unwrap();
        assert!(clip.params().iter().filter(|p| p.trainable).all(|p| grads.get(&p.var).is_some()));
        for skip in 0..=4 {
            let (seen, features) = clip.encode_patches(&pixels, skip).unwrap();
            assert_eq!(features.dims(), [4, 12]);
            // 48 pixels are halved twice before the first stage, and by each further one.
            let side = 48usize.div_ceil(4 << 3usize.saturating_sub(skip));
            assert_eq!(seen.dims()[..2], [4, side * side], "{depths:?} {skip}");
        }
    }
    let mut config = config();
    config.vision.depths = [1, 0, 1, 1];
    assert!(Clip::new(&config, 1, &Device::Cpu).unwrap_err().to_string().contains("vision.depths"));
}
