//! Convolution, batch normalisation, pooling and a residual network against PyTorch's values
//! (`fixtures/generate_resnet.py`), and the kernels at larger sizes against stock candle operations in f64.

#![expect(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::values::{assert_close, fixture};
use std::collections::HashMap;
use trainer::ops::{self, BottleneckParams, ConvNorm, GradSink, ResNetParams, Statistics};

type Values = HashMap<String, Tensor>;

/// Runs one operation of the fixture in f32 and in f64 and compares its result and every input's gradient.
fn check(values: &Values, name: &str, inputs: &[&str], op: impl Fn(&[&Tensor], &GradSink) -> Result<Tensor>) {
    for dtype in [DType::F32, DType::F64] {
        let at = |key: &str| values[&format!("{name}.{key}")].to_dtype(dtype).unwrap();
        let vars: Vec<Var> = inputs.iter().map(|key| Var::from_tensor(&at(key)).unwrap()).collect();
        let tensors: Vec<&Tensor> = vars.iter().map(Var::as_tensor).collect();
        let sink = GradSink::new(&Device::Cpu).unwrap();
        let result = op(&tensors, &sink).unwrap();
        assert_close(&format!("{name} forward"), &result, &at("result"), 1e-5);
        let grads = sink.backward(&(&result * at("grad")).unwrap().sum_all().unwrap()).unwrap();
        for (key, var) in inputs.iter().zip(&vars) {
            let grad = grads.get(var).unwrap_or_else(|| panic!("{name}: no gradient for {key}"));
            assert_close(&format!("{name} gradient of {key}"), grad, &at(&format!("d{key}")), 1e-5);
        }
    }
}

#[test]
fn convolutions_and_pooling_agree_with_pytorch() {
    let values = fixture("resnet");
    for (name, stride) in
        [("conv_1", 1), ("conv_1_2", 2), ("conv_3", 1), ("conv_3_2", 2), ("conv_7_2", 2), ("conv_3_small", 1)]
    {
        check(&values, name, &["x", "weight"], |t, sink| ops::conv2d(t[0], t[1], stride, sink));
    }
    for name in ["max_pool", "max_pool_even"] {
        check(&values, name, &["x"], |t, sink| ops::max_pool(t[0], sink));
    }
}

#[test]
fn batch_normalisation_agrees_with_pytorch_and_moves_its_running_statistics() {
    let values = fixture("resnet");
    let start = |key: &str| values[&format!("batch_norm.start_{key}")].clone();
    let running = Statistics::Running { mean: start("mean"), variance: start("variance") };
    check(&values, "batch_norm_running", &["x", "weight", "bias"], |t, sink| {
        ops::batch_norm(t[0], t[1], t[2], &running, sink)
    });
    for follow in [true, false] {
        check(&values, "batch_norm", &["x", "weight", "bias"], |t, sink| {
            let of = |key| Var::from_tensor(&start(key)).unwrap();
            let (m, v) = (of("mean"), of("variance"));
            let statistics = Statistics::Batch { mean: m.clone(), variance: v.clone(), follow };
            let result = ops::batch_norm(t[0], t[1], t[2], &statistics, sink);
            let expected = |key: &str| {
                if follow { values[&format!("batch_norm.{key}")].clone() } else { start(key) }
            };
            assert_close("running mean", &m, &expected("mean"), 1e-6);
            assert_close("running variance", &v, &expected("variance"), 1e-6);
            result
        });
    }
}

/// The fixture's network in torchvision's layout, over variables that a name finds.
struct Net {
    vars: HashMap<String, Var>,
}

impl Net {
    fn new(values: &Values) -> Self {
        let named = values.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix("resnet.start.")?.to_owned(), Var::from_tensor(tensor).unwrap()))
        });
        Self { vars: named.collect() }
    }

    fn layer(&self, conv: &str, norm: &str, training: bool) -> ConvNorm {
        let at = |name: String| self.vars[&name].clone();
        let (mean, variance) = (at(format!("{norm}.running_mean")), at(format!("{norm}.running_var")));
        ConvNorm {
            weight: at(format!("{conv}.weight")).as_tensor().clone(),
            affine: ["weight", "bias"].map(|part| at(format!("{norm}.{part}")).as_tensor().clone()),
            statistics: if training {
                Statistics::Batch { mean, variance, follow: true }
            } else {
                Statistics::Running {
                    mean: mean.as_detached_tensor(),
                    variance: variance.as_detached_tensor(),
                }
            },
        }
    }

    fn params(&self, training: bool) -> ResNetParams {
        let bottleneck = |prefix: &str, stride: usize, changes: bool| BottleneckParams {
            layers: [1, 2, 3]
                .map(|n| self.layer(&format!("{prefix}.conv{n}"), &format!("{prefix}.bn{n}"), training)),
            downsample: changes.then(|| {
                self.layer(&format!("{prefix}.downsample.0"), &format!("{prefix}.downsample.1"), training)
            }),
            stride,
        };
        ResNetParams {
            stem: self.layer("conv1", "bn1", training),
            bottlenecks: vec![
                bottleneck("layer1.0", 1, true),
                bottleneck("layer1.1", 1, false),
                bottleneck("layer2.0", 2, true),
            ],
        }
    }
}

#[test]
fn a_residual_network_agrees_with_pytorch() {
    let values = fixture("resnet");
    for recompute in [false, true] {
        let net = Net::new(&values);
        let sink = GradSink::new(&Device::Cpu).unwrap();
        let pixels = Var::from_tensor(&values["resnet.pixels"]).unwrap();
        let features = ops::resnet(&pixels, &net.params(true), recompute, &sink).unwrap();
        assert_close("features", &features, &values["resnet.features"], 1e-5);
        let loss = (&features * &values["resnet.grad"]).unwrap().sum_all().unwrap();
        let grads = sink.backward(&loss).unwrap();
        assert_close("pixels", grads.get(&pixels).unwrap(), &values["resnet.dpixels"], 2e-5);
        for (name, var) in &net.vars {
            match values.get(&format!("resnet.after.{name}")) {
                Some(after) => assert_close(name, var, after, 1e-5),
                None => {
                    let grad = grads.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
                    assert_close(name, grad, &values[&format!("resnet.grad.{name}")], 2e-5);
                }
            }
        }
        let evaluated = ops::resnet(&pixels, &net.params(false), false, &sink).unwrap();
        assert_close("with running statistics", &evaluated, &values["resnet.eval"], 1e-5);
    }
}

/// Noise of about unit size: sums of four uniform numbers from a hash of place and phase.
#[test]
fn pixels_of_any_depth_lead_to_the_same_features() {
    let values = fixture("resnet");
    let net = Net::new(&values);
    let sink = GradSink::new(&Device::Cpu).unwrap();
    let pixels = &values["resnet.pixels"];
    let params = net.params(false);
    let expected = ops::resnet(pixels, &params, false, &sink).unwrap();
    for (blocks, halvings) in [(0, 2), (1, 2), (2, 2), (3, 3), (9, 3)] {
        let (found, features) = ops::resnet_with_pixels(pixels, &params, blocks, &sink).unwrap();
        assert_close("features", &features, &expected, 1e-6);
        let (batch, _, height, width) = pixels.dims4().unwrap();
        let halved = |side: usize| (0..halvings).fold(side, |side, _| side.div_ceil(2));
        assert_eq!(found.dims()[..2], [batch, halved(height) * halved(width)]);
        if blocks >= 3 {
            assert_close("the last pixels", &found.mean(1).unwrap(), &features, 1e-5);
        }
        // The path of other devices gives the same.
        let stock = params_in(&params, DType::F64);
        let in_f64 = pixels.to_dtype(DType::F64).unwrap();
        let (stock_pixels, stock_features) = ops::resnet_with_pixels(&in_f64, &stock, blocks, &sink).unwrap();
        assert_close("pixels", &found, &stock_pixels, 1e-5);
        assert_close("features", &features, &stock_features, 1e-5);
    }
}

/// The same parameters in another precision.
fn params_in(params: &ResNetParams, dtype: DType) -> ResNetParams {
    let cast = |t: &Tensor| t.to_dtype(dtype).unwrap();
    let layer = |layer: &ConvNorm| ConvNorm {
        weight: cast(&layer.weight),
        affine: layer.affine.each_ref().map(cast),
        statistics: layer.statistics.clone(),
    };
    let bottlenecks = params.bottlenecks.iter().map(|b| BottleneckParams {
        layers: b.layers.each_ref().map(layer),
        downsample: b.downsample.as_ref().map(layer),
        stride: b.stride,
    });
    ResNetParams { stem: layer(&params.stem), bottlenecks: bottlenecks.collect() }
}

fn wave(shape: &[usize], phase: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let uniform = |i: u64| {
        let mut z = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ phase.to_bits();
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    };
    let values = (0..count as u64).map(|i| (0..4).map(|k| uniform(4 * i + k)).sum::<f32>() * 1.7 - 3.4);
    Tensor::from_vec(values.collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
}

/// Layers of given sizes with their variables.
fn layer(sizes: &[usize; 4], dtype: DType, vars: &mut Vec<Var>) -> ConvNorm {
    let phase = vars.len() as f64;
    let mut var = |tensor: Tensor| {
        vars.push(Var::from_tensor(&tensor.to_dtype(dtype).unwrap()).unwrap());
        vars[vars.len() - 1].as_tensor().clone()
    };
    let fan_in: usize = sizes[1..].iter().product();
    let weight = var((wave(sizes, phase) * (2.0 / fan_in as f64).sqrt()).unwrap());
    let scale = var((wave(&[sizes[0]], phase + 0.3) * 0.4).unwrap().affine(1.0, 1.0).unwrap());
    let shift = var((wave(&[sizes[0]], phase + 0.6) * 0.3).unwrap());
    let zeros = || Var::zeros(sizes[0], DType::F32, &Device::Cpu).unwrap();
    let statistics = Statistics::Batch { mean: zeros(), variance: zeros(), follow: false };
    ConvNorm { weight, affine: [scale, shift], statistics }
}

/// Pictures large enough for several tiles and groups, at widths that no vector register divides.
#[test]
fn kernels_agree_with_stock_operations_over_many_tiles() {
    let run = |dtype: DType| {
        let mut vars = Vec::new();
        let stem = layer(&[10, 3, 7, 7], dtype, &mut vars);
        let mut inputs = 10;
        let mut bottlenecks = Vec::new();
        for (inner, outputs, stride) in [(9, 20, 1), (9, 20, 1), (12, 26, 2), (12, 26, 1)] {
            let layers = [[inner, inputs, 1, 1], [inner, inner, 3, 3], [outputs, inner, 1, 1]]
                .map(|sizes| layer(&sizes, dtype, &mut vars));
            let downsample = (inputs != outputs).then(|| layer(&[outputs, inputs, 1, 1], dtype, &mut vars));
            bottlenecks.push(BottleneckParams { layers, downsample, stride });
            inputs = outputs;
        }
        let sink = GradSink::new(&Device::Cpu).unwrap();
        // Noise: repeating pictures give normalised columns whose gradients nearly cancel.
        let pixels = wave(&[4, 3, 150, 118], 0.7).to_dtype(dtype).unwrap();
        let features = ops::resnet(&pixels, &ResNetParams { stem, bottlenecks }, false, &sink).unwrap();
        let upstream = wave(features.dims(), 0.9).to_dtype(dtype).unwrap();
        let grads = sink.backward(&(&features * upstream).unwrap().sum_all().unwrap()).unwrap();
        let grads: Vec<Tensor> = vars.iter().map(|var| grads.get(var).unwrap().clone()).collect();
        (features, grads)
    };
    let ((found, dfound), (expected, dexpected)) = (run(DType::F32), run(DType::F64));
    assert_close("features", &found, &expected, 2e-5);
    for (place, (found, expected)) in dfound.iter().zip(&dexpected).enumerate() {
        assert_close(&format!("gradient {place}"), found, expected, 3e-4);
    }
}

#[test]
fn results_have_the_same_bits_for_any_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let values = fixture("resnet");
            let net = Net::new(&values);
            let sink = GradSink::new(&Device::Cpu).unwrap();
            let pixels = wave(&[5, 3, 90, 70], 0.2);
            let features = ops::resnet(&pixels, &net.params(true), false, &sink).unwrap();
            let grads = sink.backward(&features.sqr().unwrap().sum_all().unwrap()).unwrap();
            let mut all: Vec<(String, Vec<u32>)> = Vec::new();
            for (name, var) in &net.vars {
                let tensor = grads.get(var).unwrap_or(var);
                let bits = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                all.push((name.clone(), bits.iter().map(|v| v.to_bits()).collect()));
            }
            all.sort();
            all
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn bad_shapes_are_errors() {
    let sink = GradSink::new(&Device::Cpu).unwrap();
    let x = wave(&[1, 4, 4, 3], 0.0);
    assert!(ops::conv2d(&x, &wave(&[2, 4, 3, 3], 0.0), 1, &sink).is_err());
    assert!(ops::conv2d(&x, &wave(&[2, 3, 2, 2], 0.0), 1, &sink).is_err());
    assert!(ops::conv2d(&x, &wave(&[2, 3, 3, 3], 0.0), 0, &sink).is_err());
    assert!(ops::max_pool(&wave(&[4, 4, 3], 0.0), &sink).is_err());
    let zeros = || Var::zeros(3, DType::F32, &Device::Cpu).unwrap();
    let statistics = Statistics::Batch { mean: zeros(), variance: zeros(), follow: true };
    assert!(ops::batch_norm(&x, &wave(&[2], 0.0), &wave(&[3], 0.0), &statistics, &sink).is_err());
}
