//! Operations, a whole model and the optimizer against values that PyTorch computed in double precision
//! (`fixtures/generate.py`), and the kernels at larger sizes against stock candle operations in f64.

#![expect(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::values::{assert_close, fixture};
use std::collections::HashMap;
use trainer::config::OptimizerKind;
use trainer::loss::contrastive_loss;
use trainer::model::{Clip, ClipConfig, Params, Pool, RESNET50_DEPTHS, TextConfig, VisionConfig, VisionKind};
use trainer::ops::{self, Activation, BlockParams, BlockShape, GradSink};
use trainer::optim::{AdamW, AdamWConfig};

/// Largest difference, as a share of the largest reference value, that counts as equal.
const TOLERANCE: f64 = 1e-5;

/// Runs one operation of the fixture and compares its result and every input's gradient.
fn check(
    values: &HashMap<String, Tensor>,
    name: &str,
    inputs: &[&str],
    op: impl Fn(&[&Tensor]) -> Result<Tensor>,
) {
    check_sunk(values, name, inputs, |t, _| op(t));
}

/// The same for an operation that delivers gradients to a sink.
fn check_sunk(
    values: &HashMap<String, Tensor>,
    name: &str,
    inputs: &[&str],
    op: impl Fn(&[&Tensor], &GradSink) -> Result<Tensor>,
) {
    let at = |key: &str| &values[&format!("{name}.{key}")];
    let vars: Vec<Var> = inputs.iter().map(|key| Var::from_tensor(at(key)).unwrap()).collect();
    let tensors: Vec<&Tensor> = vars.iter().map(Var::as_tensor).collect();
    let sink = GradSink::new(&Device::Cpu).unwrap();
    let result = op(&tensors, &sink).unwrap();
    assert_close(&format!("{name} forward"), &result, at("result"), TOLERANCE);
    let grads = sink.backward(&(&result * at("grad")).unwrap().sum_all().unwrap()).unwrap();
    for (key, var) in inputs.iter().zip(&vars) {
        let grad = grads.get(var).unwrap_or_else(|| panic!("{name}: no gradient for {key}"));
        assert_close(&format!("{name} gradient of {key}"), grad, at(&format!("d{key}")), TOLERANCE);
    }
}

#[test]
fn every_operation_agrees_with_pytorch() {
    let values = fixture("ops");
    let integers = |key: &str| values[key].flatten_all().unwrap().to_vec1::<u32>().unwrap();
    check(&values, "layer_norm", &["x", "weight", "bias"], |t| ops::layer_norm(t[0], t[1], t[2], 1e-5));
    check(&values, "gelu", &["x"], |t| ops::activate(t[0], Activation::Gelu));
    check(&values, "quick_gelu", &["x"], |t| ops::activate(t[0], Activation::QuickGelu));
    check(&values, "linear", &["x", "weight", "bias"], |t| ops::linear(t[0], t[1], Some(t[2])));
    check(&values, "linear_plain", &["x", "weight"], |t| ops::linear(t[0], t[1], None));
    check(&values, "attention", &["qkv"], |t| ops::attention(t[0], 3, false));
    check(&values, "attention_causal", &["qkv"], |t| ops::attention(t[0], 3, true));
    check(&values, "normalize", &["x"], |t| ops::normalize_rows(t[0]));
    let ids = &values["embedding.ids"];
    check_sunk(&values, "embedding", &["table", "positions"], |t, sink| {
        ops::embedding(ids, t[0], t[1], sink)
    });
    let targets = integers("cross_entropy.targets");
    check(&values, "cross_entropy", &["x"], |t| ops::cross_entropy(t[0], &targets, None));
    check(&values, "cross_entropy_ignored", &["x"], |t| ops::cross_entropy(t[0], &targets, Some(9)));
    check(&values, "patch_embedding", &["x", "weight"], |t| {
        ops::linear(&ops::patchify(t[0], 4)?, &t[1].flatten_from(1)?, None)
    });
    check(&values, "assemble", &["patches", "class", "positions"], |t| {
        ops::assemble_tokens(t[0], t[1], t[2])
    });
    check(&values, "select", &["x"], |t| ops::select_positions(t[0], &[0, 3, 1]));
    check(&values, "mean_pool", &["x"], |t| ops::mean_pool(t[0]));
}

#[test]
fn smoothed_and_pairwise_losses_agree_with_pytorch() {
    let values = fixture("losses");
    let targets: Vec<u32> = values["targets"].to_vec1().unwrap();
    check(&values, "smoothed", &["x"], |t| ops::smoothed_cross_entropy(t[0], &targets, None, 0.1));
    check(&values, "smoothed_ignored", &["x"], |t| ops::smoothed_cross_entropy(t[0], &targets, Some(9), 0.3));
    for name in ["siglip", "siglip_saturated"] {
        check(&values, name, &["cosines", "scale", "bias"], |t| ops::sigmoid_loss(t[0], t[1], t[2]));
    }
}

#[test]
fn a_whole_model_agrees_with_pytorch() {
    let values = fixture("clip");
    let config = ClipConfig {
        embed_dim: 10,
        vision: VisionConfig {
            kind: VisionKind::Vit,
            image_size: 8,
            patch_size: 4,
            width: 12,
            layers: 2,
            heads: 3,
            mlp_ratio: 2.0,
            pool: Pool::Cls,
            depths: RESNET50_DEPTHS,
        },
        text: TextConfig { context_length: 6, vocab_size: 14, width: 8, layers: 2, heads: 2, mlp_ratio: 4.0 },
        activation: Activation::Gelu,
        init_temperature: 0.07,
        learn_temperature: true,
        init_logit_bias: None,
    };
    let model = Clip::new(&config, 0, &Device::Cpu).unwrap();
    let weights = values.iter().filter_map(|(name, tensor)| {
        name.strip_prefix("weight.").map(|name| (name.to_owned(), tensor.clone()))
    });
    model.params().load(&weights.collect()).unwrap();
    let eot: Vec<u32> = values["eot_positions"].to_vec1().unwrap();
    let output = model.forward(&values["pixel_values"], &values["input_ids"], &eot).unwrap();
    assert_close("image features", &output.image_features, &values["image_features"], TOLERANCE);
    assert_close("text features", &output.text_features, &values["text_features"], TOLERANCE);
    let loss = contrastive_loss(&output).unwrap();
    assert_close("loss", &loss, &values["loss"], 2e-6);
    let grads = model.backward(&loss).unwrap();
    for param in model.params().iter() {
        let grad = grads.get(&param.var).unwrap_or_else(|| panic!("{} has no gradient", param.name));
        assert_close(&param.name, grad, &values[&format!("grad.{}", param.name)], 2e-5);
    }
}

#[test]
fn five_optimizer_steps_agree_with_pytorch() {
    check_optimizer("adamw", OptimizerKind::Adamw);
    check_optimizer("adam", OptimizerKind::Adam);
}

fn check_optimizer(name: &str, kind: OptimizerKind) {
    let values = fixture(name);
    let names = ["visual.proj", "mlp.c_fc.bias", "ln_1.weight", "logit_scale"];
    let vars =
        names.map(|name| (name.to_owned(), Var::from_tensor(&values[&format!("start.{name}")]).unwrap()));
    let params = Params::from_vars(vars.clone());
    let config =
        AdamWConfig { kind, beta1: 0.9, beta2: 0.98, eps: 1e-6, weight_decay: 0.2, grad_norm_max: Some(1.0) };
    let mut optimizer = AdamW::new(&params, config).unwrap();
    let norms: Vec<f32> = values["norms"].to_vec1().unwrap();
    for step in 0..5 {
        let terms = vars.iter().map(|(name, var)| {
            (var.as_tensor() * &values[&format!("grad.{step}.{name}")]).unwrap().sum_all().unwrap()
        });
        let loss = terms.reduce(|a, b| (a + b).unwrap()).unwrap();
        let norm = optimizer.step(&loss.backward().unwrap(), 1e-2 * (step + 1) as f64).unwrap();
        assert!((norm - f64::from(norms[step])).abs() < 1e-5 * norm, "norm {norm}, expected {}", norms[step]);
        for (name, var) in &vars {
            assert_close(&format!("step {step} {name}"), var, &values[&format!("value.{step}.{name}")], 2e-6);
        }
    }
    assert!(norms.iter().any(|n| *n > 1.0) && norms.iter().any(|n| *n < 1.0), "both cases occur");
    for (name, moment) in optimizer.state() {
        assert_close(&name, &moment, &values[&format!("state.{name}")], 2e-6);
    }
}

/// Deterministic numbers of about unit size.
fn wave(shape: &[usize], phase: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i as f64 * 12.9898 + phase) * 78.233).sin() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Compares a kernel with the stock operations that the same function runs on f64.
fn check_against_stock(what: &str, inputs: &[Tensor], op: impl Fn(&[&Tensor]) -> Result<Tensor>) {
    check_with_sink(what, inputs, |t, _| op(t));
}

/// The same for operations that deliver gradients to a sink.
fn check_with_sink(what: &str, inputs: &[Tensor], op: impl Fn(&[&Tensor], &GradSink) -> Result<Tensor>) {
    let run = |dtype: DType| {
        let vars: Vec<Var> =
            inputs.iter().map(|t| Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()).collect();
        let sink = GradSink::new(&Device::Cpu).unwrap();
        let result = op(&vars.iter().map(Var::as_tensor).collect::<Vec<_>>(), &sink).unwrap();
        let upstream = wave(result.dims(), 0.5).to_dtype(dtype).unwrap();
        let grads = sink.backward(&(&result * upstream).unwrap().sum_all().unwrap()).unwrap();
        let grads: Vec<Tensor> = vars.iter().map(|v| grads.get(v).unwrap().clone()).collect();
        (result, grads)
    };
    let ((found, dfound), (expected, dexpected)) = (run(DType::F32), run(DType::F64));
    assert_close(what, &found, &expected, TOLERANCE);
    for (place, (found, expected)) in dfound.iter().zip(&dexpected).enumerate() {
        // Sums over a thousand rows that nearly cancel lose a digit in f32.
        assert_close(&format!("{what} gradient {place}"), found, expected, 5e-5);
    }
}

#[test]
fn kernels_agree_with_stock_operations_over_many_chunks() {
    let x = wave(&[50, 40, 48], 0.1);
    let row = |phase| wave(&[48], phase);
    check_against_stock("layer_norm", &[x.clone(), row(0.2), row(0.3)], |t| {
        ops::layer_norm(t[0], t[1], t[2], 1e-5)
    });
    for activation in [Activation::Gelu, Activation::QuickGelu] {
        check_against_stock("activate", &[(&x * 3.0).unwrap()], |t| ops::activate(t[0], activation));
    }
    check_against_stock("linear", &[x.clone(), wave(&[20, 48], 0.4), wave(&[20], 0.6)], |t| {
        ops::linear(t[0], t[1], Some(t[2]))
    });
    check_against_stock("normalize", std::slice::from_ref(&x), |t| ops::normalize_rows(t[0]));
    for causal in [false, true] {
        check_against_stock("attention", std::slice::from_ref(&x), |t| ops::attention(t[0], 4, causal));
    }
    check_against_stock("mean_pool", std::slice::from_ref(&x), |t| ops::mean_pool(t[0]));
    let positions: Vec<u32> = (0..50).map(|i| i % 40).collect();
    check_against_stock("select", &[x], |t| ops::select_positions(t[0], &positions));
    let ids = Tensor::from_vec((0..600u32).map(|i| i * i % 70).collect(), (20, 30), &Device::Cpu).unwrap();
    check_with_sink("embedding", &[wave(&[70, 48], 0.7), wave(&[33, 48], 0.8)], |t, sink| {
        ops::embedding(&ids, t[0], t[1], sink)
    });
    check_against_stock("assemble", &[wave(&[7, 9, 16], 0.1), wave(&[16], 0.2), wave(&[10, 16], 0.3)], |t| {
        ops::assemble_tokens(t[0], t[1], t[2])
    });
    check_against_stock("patchify", &[wave(&[3, 3, 24, 16], 0.1)], |t| ops::patchify(t[0], 8));
    let targets: Vec<u32> = (0..900).map(|i| i % 61).collect();
    check_against_stock("cross_entropy", &[wave(&[900, 61], 0.9)], |t| {
        ops::cross_entropy(t[0], &targets, Some(7))
    });
    check_against_stock("smoothed cross_entropy", &[wave(&[900, 61], 0.9)], |t| {
        ops::smoothed_cross_entropy(t[0], &targets, Some(7), 0.2)
    });
    let scalar = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
    for scale in [10.0, 100.0] {
        let inputs = [wave(&[150, 150], 0.3), scalar(scale), scalar(-3.0)];
        check_against_stock("sigmoid_loss", &inputs, |t| ops::sigmoid_loss(t[0], t[1], t[2]));
    }
}

#[test]
fn a_logit_that_is_no_number_is_a_loss_that_is_none() {
    let scalar = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
    let cosines = Tensor::new(&[[0.5f32, f32::NAN], [0.1, 0.2]], &Device::Cpu).unwrap();
    let loss = ops::sigmoid_loss(&cosines, &scalar(10.0), &scalar(0.0)).unwrap();
    assert!(loss.to_scalar::<f32>().unwrap().is_nan());
}

fn block_params(t: &[&Tensor]) -> BlockParams {
    let pair = |place: usize| [t[place].clone(), t[place + 1].clone()];
    BlockParams {
        ln_1: pair(1),
        in_proj: pair(3),
        out_proj: pair(5),
        ln_2: pair(7),
        c_fc: pair(9),
        c_proj: pair(11),
    }
}

/// Result and gradients of a block, with its parameters learned or frozen.
fn run_block(inputs: &[Tensor], shape: BlockShape, is_frozen: bool) -> Vec<Option<Tensor>> {
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let part = |(place, var): (usize, &Var)| {
        if is_frozen && place > 0 { var.as_detached_tensor() } else { var.as_tensor().clone() }
    };
    let tensors: Vec<Tensor> = vars.iter().enumerate().map(part).collect();
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    let sink = GradSink::new(&Device::Cpu).unwrap();
    let result = ops::residual_blocks(tensors[0], &[block_params(&tensors)], shape, &sink).unwrap();
    let grads = sink.backward(&(&result * wave(result.dims(), 0.5)).unwrap().sum_all().unwrap()).unwrap();
    let grads = vars.iter().map(|var| grads.get(var).cloned());
    std::iter::once(Some(result)).chain(grads).collect()
}

/// What a block keeps changes no bit, and frozen parameters get no gradient but pass the input's on.
fn check_block_variants(inputs: &[Tensor], shape: BlockShape) {
    let bits = |tensor: &Option<Tensor>| -> Vec<u32> {
        let values: Vec<f32> = tensor.as_ref().unwrap().flatten_all().unwrap().to_vec1().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    let plain = run_block(inputs, shape, false);
    let again = run_block(inputs, BlockShape { recompute: true, ..shape }, false);
    assert!(plain.iter().zip(&again).all(|(a, b)| bits(a) == bits(b)));
    let frozen = run_block(inputs, shape, true);
    assert!((0..2).all(|place| bits(&plain[place]) == bits(&frozen[place])));
    assert!(frozen[2..].iter().all(Option::is_none));
}

/// The block that computes one row a sample gives what the whole block gives for that row.
fn check_pruned_block(inputs: &[Tensor], shape: BlockShape, positions: &[u32]) {
    let run = |pruned: bool| {
        let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
        let tensors: Vec<&Tensor> = vars.iter().map(Var::as_tensor).collect();
        let params = block_params(&tensors);
        let sink = GradSink::new(&Device::Cpu).unwrap();
        let result = if pruned {
            ops::residual_block_at(tensors[0], &params, shape, positions).unwrap()
        } else {
            let whole = ops::residual_blocks(tensors[0], &[params], shape, &sink).unwrap();
            ops::select_positions(&whole, positions).unwrap()
        };
        let loss = (&result * wave(result.dims(), 0.5)).unwrap().sum_all().unwrap();
        let grads = sink.backward(&loss).unwrap();
        let grads: Vec<Tensor> = vars.iter().map(|v| grads.get(v).unwrap().clone()).collect();
        (result, grads)
    };
    let ((found, dfound), (expected, dexpected)) = (run(true), run(false));
    assert_close("pruned block", &found, &expected, TOLERANCE);
    for (place, (found, expected)) in dfound.iter().zip(&dexpected).enumerate() {
        assert_close(&format!("pruned block gradient {place}"), found, expected, 2e-5);
    }
}

#[test]
fn the_fused_block_agrees_with_its_parts() {
    for (causal, activation) in [(false, Activation::Gelu), (true, Activation::QuickGelu)] {
        let shape = BlockShape { heads: 4, causal, activation, eps: 1e-5, recompute: false };
        let (d, h) = (24, 56);
        let small = |dims: &[usize], phase| (wave(dims, phase) * 0.2).unwrap();
        let inputs = [
            wave(&[61, 17, d], 0.1),
            small(&[d], 1.0),
            small(&[d], 1.1),
            small(&[3 * d, d], 1.2),
            small(&[3 * d], 1.3),
            small(&[d, d], 1.4),
            small(&[d], 1.5),
            small(&[d], 1.6),
            small(&[d], 1.7),
            small(&[h, d], 1.8),
            small(&[h], 1.9),
            small(&[d, h], 2.0),
            small(&[d], 2.1),
        ];
        for recompute in [false, true] {
            check_with_sink("blocks", &inputs, |t, sink| {
                // Twice the same block: gradients of shared parameters add up.
                let blocks = [block_params(t), block_params(t)];
                ops::residual_blocks(t[0], &blocks, BlockShape { recompute, ..shape }, sink)
            });
        }
        let positions: Vec<u32> = (0..61).map(|sample| sample % 17).collect();
        check_pruned_block(&inputs, shape, &positions);
        check_block_variants(&inputs, shape);
    }
}

#[test]
fn bad_arguments_are_errors() {
    let x = wave(&[4, 6], 0.0);
    assert!(ops::layer_norm(&x, &wave(&[5], 0.0), &wave(&[6], 0.0), 1e-5).is_err());
    assert!(ops::linear(&x, &wave(&[3, 5], 0.0), None).is_err());
    assert!(ops::linear(&x, &wave(&[3, 6], 0.0), Some(&wave(&[4], 0.0))).is_err());
    assert!(ops::cross_entropy(&x, &[0, 1, 2], None).is_err());
    assert!(ops::cross_entropy(&x, &[0, 1, 2, 6], None).is_err());
    assert!(ops::smoothed_cross_entropy(&x, &[0, 1, 2, 3], None, 1.0).is_err());
    assert!(ops::sigmoid_loss(&x, &wave(&[], 0.0), &wave(&[], 0.0)).is_err());
    assert!(ops::sigmoid_loss(&wave(&[6, 6], 0.0), &wave(&[1], 0.0), &wave(&[], 0.0)).is_err());
    assert!(ops::attention(&wave(&[1, 2, 10], 0.0), 2, false).is_err());
    assert!(ops::attention(&wave(&[1, 2, 12], 0.0), 0, false).is_err());
    assert!(ops::patchify(&wave(&[1, 3, 8, 8], 0.0), 3).is_err());
    assert!(ops::mean_pool(&wave(&[1, 1, 8], 0.0)).is_err());
    assert!(ops::select_positions(&wave(&[2, 3, 4], 0.0), &[0, 3]).is_err());
}
