//! The kernel against single operations in double precision, for both kinds of blocks.

use super::*;
use candle_core::{DType, Device, Var};

fn values(shape: &[usize], phase: f64, scale: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count).map(|i| scale * (i as f64 * 0.731 + phase).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

struct Case {
    heads: usize,
    groups: usize,
    rope_theta: Option<f64>,
    is_gated: bool,
    /// Which layers have corrections.
    corrected: &'static [&'static str],
}

const WIDTH: usize = 24;
const HIDDEN: usize = 40;
const DEPTH: usize = 6;

impl Case {
    /// A block, and the variables of its corrections by name.
    fn block(&self, dtype: DType, number: f64) -> (LmBlockParams, Vec<(String, Var)>) {
        let mut vars = Vec::new();
        let mut phase = 10.0 * number;
        let mut linear = |name: &str, outputs: usize, inputs: usize| {
            phase += 1.0;
            let weight = values(&[outputs, inputs], phase, 0.3).to_dtype(dtype).unwrap();
            let bias =
                (!self.is_gated).then(|| values(&[outputs], phase + 0.5, 0.1).to_dtype(dtype).unwrap());
            let lora = self.corrected.contains(&name).then(|| {
                let var = |shape: &[usize], phase: f64| {
                    Var::from_tensor(&values(shape, phase, 0.2).to_dtype(dtype).unwrap()).unwrap()
                };
                let (a, b) = (var(&[3, inputs], phase + 0.2), var(&[outputs, 3], phase + 0.7));
                let lora = Lora { a: a.as_tensor().clone(), b: b.as_tensor().clone() };
                vars.extend([(format!("{number}.{name}.a"), a), (format!("{number}.{name}.b"), b)]);
                lora
            });
            LmLinear { weight, bias, lora }
        };
        let (wide, narrow) = (self.heads * DEPTH, self.groups * DEPTH);
        let q = linear("q", wide, WIDTH);
        let (k, v) = (linear("k", narrow, WIDTH), linear("v", narrow, WIDTH));
        let out = linear("out", WIDTH, wide);
        let gate = self.is_gated.then(|| linear("gate", HIDDEN, WIDTH));
        let (up, down) = (linear("up", HIDDEN, WIDTH), linear("down", WIDTH, HIDDEN));
        let norm = |phase| LmNorm {
            weight: (values(&[WIDTH], phase, 0.2) + 1.0).unwrap().to_dtype(dtype).unwrap(),
            bias: (!self.is_gated).then(|| values(&[WIDTH], phase + 1.0, 0.2).to_dtype(dtype).unwrap()),
        };
        let mlp = LmMlp { gate, up, down };
        (LmBlockParams { norm_1: norm(0.3), q, k, v, out, norm_2: norm(0.9), mlp }, vars)
    }

    fn shape(&self, recompute: bool) -> LmShape {
        LmShape {
            heads: self.heads,
            groups: self.groups,
            rope_theta: self.rope_theta,
            activation: if self.is_gated { Activation::Silu } else { Activation::GeluTanh },
            eps: 1e-5,
            recompute,
        }
    }

    /// The output, and the gradients of the input and of every correction.
    fn run(&self, dtype: DType, pass: LoraPass, recompute: bool) -> Vec<(String, Vec<f32>)> {
        let sink = GradSink::new(&Device::Cpu).unwrap();
        // 90 samples of 7 tokens are two tasks.
        let x = Var::from_tensor(&values(&[90, 7, WIDTH], 0.4, 1.0).to_dtype(dtype).unwrap()).unwrap();
        let (one, mut vars) = self.block(dtype, 0.0);
        let (two, more) = self.block(dtype, 1.0);
        vars.extend(more);
        let y = lm_blocks(x.as_tensor(), &[one, two], &self.shape(recompute), &pass, &sink).unwrap();
        let weight = values(&[90, 7, WIDTH], 2.2, 1.0).to_dtype(dtype).unwrap();
        let grads = sink.backward(&(&y * weight).unwrap().sum_all().unwrap()).unwrap();
        let numbers = |t: &Tensor| -> Vec<f32> {
            t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        let mut all = vec![("y".to_owned(), numbers(&y)), ("dx".into(), numbers(grads.get(&x).unwrap()))];
        all.extend(vars.into_iter().map(|(name, var)| (name, numbers(grads.get(&var).unwrap()))));
        all
    }
}

fn cases() -> [Case; 3] {
    let all: &[&str] = &["q", "k", "v", "out", "gate", "up", "down"];
    [
        Case { heads: 6, groups: 2, rope_theta: Some(10_000.0), is_gated: true, corrected: all },
        Case { heads: 4, groups: 4, rope_theta: None, is_gated: false, corrected: all },
        Case { heads: 4, groups: 1, rope_theta: Some(100.0), is_gated: true, corrected: &["q", "v", "down"] },
    ]
}

const PLAIN: LoraPass = LoraPass { scale: 1.5, dropout: 0.0, seed: 0 };

#[test]
fn the_kernel_is_the_composite_of_single_operations() {
    let dropped = LoraPass { dropout: 0.4, seed: 8, ..PLAIN };
    for (case, pass) in cases().iter().flat_map(|case| [(case, PLAIN), (case, dropped)]) {
        let (fused, stock) = (case.run(DType::F32, pass, false), case.run(DType::F64, pass, false));
        for ((name, fused), (_, stock)) in fused.iter().zip(&stock) {
            let scale = stock.iter().fold(1.0f32, |a, b| a.max(b.abs()));
            for (a, b) in fused.iter().zip(stock) {
                assert!((a - b).abs() < 2e-5 * scale, "{name}: {a} against {b}");
            }
        }
    }
}

#[test]
fn recomputing_and_repeating_give_the_same_bits() {
    let pass = LoraPass { dropout: 0.3, seed: 9, ..PLAIN };
    for case in cases() {
        let once = case.run(DType::F32, pass, false);
        assert_eq!(once, case.run(DType::F32, pass, true));
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(once, one.install(|| case.run(DType::F32, pass, false)));
        assert_ne!(once, case.run(DType::F32, LoraPass { seed: 10, ..pass }, false));
    }
}

#[test]
fn the_gradient_under_dropout_is_that_of_what_was_kept() {
    // By finite differences of the sum along a correction's gradient: the masks are the same in every pass.
    let case = &cases()[2];
    let pass = LoraPass { dropout: 0.5, seed: 3, ..PLAIN };
    let sink = GradSink::new(&Device::Cpu).unwrap();
    let x = values(&[3, 5, WIDTH], 0.4, 1.0).to_dtype(DType::F32).unwrap();
    let (block, vars) = case.block(DType::F32, 0.0);
    let blocks = [block];
    let run = || lm_blocks(&x, &blocks, &case.shape(false), &pass, &sink).unwrap().sum_all().unwrap();
    let grads = sink.backward(&run()).unwrap();
    for (name, var) in &vars {
        let (grad, at) = (grads.get(var).unwrap().clone(), var.as_detached_tensor().copy().unwrap());
        let square: f32 = grad.sqr().unwrap().sum_all().unwrap().to_scalar().unwrap();
        let step = 0.01 / f64::from(square.sqrt());
        let moved = |by: f64| {
            var.set(&(&at + (&grad * by).unwrap()).unwrap()).unwrap();
            f64::from(run().to_scalar::<f32>().unwrap())
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        var.set(&at).unwrap();
        assert!((slope / f64::from(square) - 1.0).abs() < 0.02, "{name}: {slope} against {square}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let case = &cases()[0];
    let sink = GradSink::new(&Device::Cpu).unwrap();
    let (block, _) = case.block(DType::F32, 0.0);
    let x = |width: usize| Tensor::zeros((1, 2, width), DType::F32, &Device::Cpu).unwrap();
    let shape = case.shape(false);
    let run = |x: &Tensor, shape: &LmShape| lm_blocks(x, std::slice::from_ref(&block), shape, &PLAIN, &sink);
    assert!(run(&x(WIDTH), &shape).is_ok());
    assert!(run(&x(WIDTH + 1), &shape).is_err());
    assert!(run(&x(WIDTH), &LmShape { heads: 5, ..shape }).is_err());
    assert!(run(&x(WIDTH), &LmShape { groups: 4, ..shape }).is_err());
    assert!(run(&x(WIDTH), &LmShape { heads: 12, groups: 4, ..shape }).is_err());
}
