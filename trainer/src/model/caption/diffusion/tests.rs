//! Every variant of the loss: all that is learned gets a gradient, and the gradient is the slope.

use super::*;
use crate::config::{ImageFeatures, MapperConfig, MapperKind};
use crate::model::caption::mapper::MapperSizes;

fn sizes(change: impl FnOnce(&mut DiffusionConfig)) -> DiffusionSizes {
    let mut config =
        DiffusionConfig { width: 16, layers: 1, heads: 2, embed_dim: 6, ..DiffusionConfig::default() };
    change(&mut config);
    let mapper = MapperConfig { kind: MapperKind::Linear, tokens: 2, ..MapperConfig::default() };
    DiffusionSizes {
        mapper: MapperSizes {
            config: mapper,
            features: ImageFeatures::Vector,
            rows: 1,
            inputs: 5,
            width: 16,
        },
        config,
        text_dim: 4,
        context_length: 7,
        vocab_size: 20,
    }
}

fn numbers(shape: &[usize], phase: f32) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.61 + phase).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Three captions of three, none and five tokens.
fn batch() -> (Tensor, Tensor, Tensor, Vec<Target>) {
    let ids = Tensor::from_vec(vec![0u32; 18], (3, 6), &Device::Cpu).unwrap();
    let target = |row: u32, place: u32, class: u32| Target { row: row * 6 + place, class };
    let mut targets: Vec<Target> =
        [5, 9, 3, 1].into_iter().zip(0..).map(|(class, place)| target(0, place, class)).collect();
    targets.extend([7, 7, 12, 19, 2, 1].into_iter().zip(0..).map(|(class, place)| target(2, place, class)));
    (numbers(&[3, 1, 5], 0.2), numbers(&[3, 4], 0.9), ids, targets)
}

fn loss(model: &DiffusionCaptioner, seed: u64) -> DiffusionTerms {
    let (features, text, ids, targets) = batch();
    model.loss(Told { features: &features, text: Some(&text) }, &ids, &targets, 1, seed).unwrap()
}

type Change = fn(&mut DiffusionConfig);

const VARIANTS: [(&str, Change); 13] = [
    ("as it is", |_| ()),
    ("add", |c| c.condition = Condition::Add),
    ("an earlier step", |c| (c.predicts, c.stride) = (Predicts::Previous, 300)),
    ("an earlier step without the first", |c| {
        (c.predicts, c.stride, c.first_weight) = (Predicts::Previous, 900, 0.0);
    }),
    ("the step before", |c| (c.predicts, c.stride) = (Predicts::Previous, 1)),
    ("squared", |c| c.loss = DiffusionLoss::Mse),
    ("the sample's words", |c| c.rounding_of = Rounding::Sample),
    ("frozen embeddings", |c| c.embeddings = Embeddings::Frozen),
    ("pictures always told", |c| c.mask_probability = 0.0),
    ("texts", |c| c.text_condition = true),
    ("no time", |c| c.time_embedding = false),
    ("three draws, summed", |c| (c.draws, c.reduction) = (3, Reduction::Sum)),
    ("a square root", |c| c.schedule = crate::config::NoiseSchedule::Sqrt),
];

#[test]
fn the_gradient_of_every_variant_is_the_slope() {
    for (name, change) in VARIANTS {
        let model = DiffusionCaptioner::new(&sizes(change), 3, &Device::Cpu).unwrap();
        let terms = loss(&model, 11);
        let grads = model.backward(&terms.loss).unwrap();
        let learned: Vec<_> = model.params().iter().filter(|param| param.trainable).collect();
        let mut square = 0.0;
        for param in &learned {
            let grad =
                grads.get(&param.var).unwrap_or_else(|| panic!("{name}: {} has no gradient", param.name));
            square += f64::from(grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
        }
        let before: Vec<Tensor> =
            learned.iter().map(|p| p.var.as_detached_tensor().copy().unwrap()).collect();
        let step = 2e-3 / square.sqrt();
        let moved = |by: f64| {
            for (param, before) in learned.iter().zip(&before) {
                let grad = grads.get(&param.var).unwrap();
                param.var.set(&(before + (grad * by).unwrap()).unwrap()).unwrap();
            }
            f64::from(loss(&model, 11).loss.to_scalar::<f32>().unwrap())
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((slope / square - 1.0).abs() < 0.03, "{name}: {slope} against {square}");
    }
}

#[test]
fn a_batch_is_what_its_seed_says() {
    let model = DiffusionCaptioner::new(&sizes(|c| c.self_conditioning = true), 3, &Device::Cpu).unwrap();
    let value = |seed| loss(&model, seed).loss.to_scalar::<f32>().unwrap();
    assert_eq!(value(1), value(1));
    assert_ne!(value(1), value(2));
}

#[test]
fn a_weight_that_follows_makes_the_words_count_so_many_times_the_distance() {
    let model = DiffusionCaptioner::new(&sizes(|c| c.rounding_ratio = 0.5), 3, &Device::Cpu).unwrap();
    let terms = loss(&model, 4);
    let value = terms.loss.to_scalar::<f32>().unwrap();
    assert!((value - 1.5 * terms.distance).abs() < 1e-4 * value, "{value} of {}", terms.distance);
    assert!(terms.rounding > 0.0);
}

#[test]
fn captions_fill_the_context_with_ends() {
    let model = DiffusionCaptioner::new(&sizes(|_| ()), 3, &Device::Cpu).unwrap();
    let (_, _, ids, targets) = batch();
    let filled = model.filled(&ids, &targets, 1).unwrap();
    assert_eq!(filled[..7], [5, 9, 3, 1, 1, 1, 1]);
    assert_eq!(filled[7..14], [1; 7]);
    assert_eq!(filled[14..], [7, 7, 12, 19, 2, 1, 1]);
}

#[test]
fn tokens_that_are_alike_are_seen() {
    let model = DiffusionCaptioner::new(&sizes(|_| ()), 3, &Device::Cpu).unwrap();
    let (norm, cosine) = model.spread().unwrap();
    assert!((norm - 6f64.sqrt()).abs() < 0.5 && cosine.abs() < 0.2, "{norm} {cosine}");
    let table = model.params().get("token_embedding.weight").unwrap();
    table.set(&table.as_detached_tensor().affine(0.01, 1.0).unwrap()).unwrap();
    let (_, cosine) = model.spread().unwrap();
    assert!(cosine > 0.99, "{cosine}");
}

#[test]
fn an_estimate_undoes_what_an_earlier_step_mixes_in() {
    let model = DiffusionCaptioner::new(
        &sizes(|c| (c.predicts, c.stride) = (Predicts::Previous, 250)),
        3,
        &Device::Cpu,
    )
    .unwrap();
    let (start, noise) = (numbers(&[2, 7, 6], 0.1), numbers(&[2, 7, 6], 1.7));
    let steps = [300, 1000];
    let noisy = model.noised(&start, &noise, &steps).unwrap();
    let wanted = model.wanted(&start, &noisy, &steps).unwrap();
    let found = model.estimate(&wanted, &noisy, &steps).unwrap();
    let apart: f32 = (found - start).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap();
    assert!(apart < 1e-3, "{apart}");
}

#[test]
fn nothing_is_learned_of_empty_captions() {
    let model = DiffusionCaptioner::new(&sizes(|c| c.mask_probability = 0.0), 3, &Device::Cpu).unwrap();
    let (features, _, ids, targets) = batch();
    let of = |features: &Tensor, targets: &[Target]| {
        let terms = model.loss(Told { features, text: None }, &ids, targets, 1, 5).unwrap();
        (terms.loss.to_scalar::<f32>().unwrap(), model.backward(&terms.loss).unwrap())
    };
    // The second picture's caption is empty: whatever the picture is, the loss is the same.
    let other = Tensor::cat(
        &[features.narrow(0, 0, 1).unwrap(), numbers(&[1, 1, 5], 9.0), features.narrow(0, 2, 1).unwrap()],
        0,
    )
    .unwrap();
    assert_eq!(of(&features, &targets).0, of(&other, &targets).0);
    let (loss, grads) = of(&features, &[]);
    assert_eq!(loss, 0.0);
    for param in model.params().iter().filter(|param| param.trainable) {
        let grad = grads.get(&param.var).unwrap_or_else(|| panic!("{} has no gradient", param.name));
        let most: f32 = grad.abs().unwrap().max_all().unwrap().to_scalar().unwrap();
        assert_eq!(most, 0.0, "{}", param.name);
    }
}
