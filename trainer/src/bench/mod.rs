//! How long a training step takes, by phase, and what share of the machine's arithmetic it uses.
//!
//! Batches come from a data set through the loader, or are noise made before the clock starts. Leaves out
//! printing, and the cost of logs, evaluations and checkpoints.

mod captions;
mod flops;
mod machine;

pub use captions::{Written, write};
pub use flops::step_flops;
pub use machine::{gemm_rate, peak_memory};

use crate::ahead::{Numbering, with_batches};
use crate::config::Config;
use crate::data::{self, TensorBatch, Tensors};
use crate::error::{Error, Result};
use crate::init::{self, Init};
use crate::step::{Phases, TrainState, Trainee};
use crate::tokenizer::Tokenizer;
use candle_core::{Device, Tensor};
use loader::{Batch, Loader};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The resolved configuration.
    pub config: &'a Config,
    /// The data set; noise without one.
    pub data: Option<&'a Path>,
    /// Steps that are not counted.
    pub warmup: u64,
    /// Steps that are.
    pub steps: u64,
}

/// Seconds of one step by phase.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Seconds {
    /// Waiting for a batch that is not ready yet.
    pub data: f64,
    /// Towers and loss.
    pub forward: f64,
    /// Gradients.
    pub backward: f64,
    /// Norm, clipping and update.
    pub optimizer: f64,
    /// The whole step.
    pub step: f64,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// The model in a few words.
    pub model: String,
    /// Scalars in all parameters.
    pub parameters: usize,
    /// Samples a step.
    pub batch_size: usize,
    /// Tokens of the longest caption in a batch, the largest over all steps.
    pub tokens: usize,
    /// Threads that compute.
    pub threads: usize,
    /// Counted steps.
    pub steps: u64,
    /// Medians over the steps, each phase for itself.
    pub seconds: Seconds,
    /// The fastest step.
    pub step_min: f64,
    /// The slowest step.
    pub step_max: f64,
    /// Samples a second, by the median step.
    pub samples_per_s: f64,
    /// Share of the time that was spent waiting for data, over all counted steps; none for noise.
    pub data_wait: Option<f64>,
    /// Floating-point operations that the model asks of a step (three times the forward pass); none of a captioner.
    pub step_flops: Option<f64>,
    /// Floating-point operations a second of large matrix products on this machine, measured before the steps.
    pub gemm_flops_per_s: Option<f64>,
    /// `step_flops` a second over `gemm_flops_per_s`.
    pub mfu: Option<f64>,
    /// The process's largest resident memory in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Loss of the last step.
    pub loss: f32,
}

/// Runs the steps.
///
/// # Errors
/// What training fails with; [`Error::Data`] when the loss is no number, which noise can do at a high rate.
pub fn measure(plan: Plan<'_>) -> Result<Measured> {
    let config = plan.config;
    let device = config.train.open_device()?;
    let gemm_flops_per_s = device.is_cpu().then(gemm_rate);
    if config.caption.is_on() {
        return captions::measure(plan, &device);
    }
    match plan.data {
        Some(data) => {
            let loader = data::open_train(config, data)?;
            let tokenizer = open_tokenizer(config, &loader)?;
            let tensors = Tensors::new(config, &loader, &tokenizer, &device)?;
            // The loader's own batches, epoch after epoch; one that does not begin ends them with its error.
            let epochs = (0..).map(|epoch| loader.epoch(epoch));
            let batches = epochs.flat_map(|epoch| {
                let (batches, error) = match epoch {
                    Ok(batches) => (Some(batches), None),
                    Err(error) => (None, Some(Err(error))),
                };
                batches.into_iter().flatten().chain(error)
            });
            let numbering = Numbering { steps: 0, gathered: 0, accum_steps: config.optim.accum_steps };
            with_batches(&|batch: &Batch| tensors.train(batch), batches, numbering, |next| {
                let mut source = || match next() {
                    Some(ready) => ready.map(|(_, inputs)| inputs),
                    None => Err(Error::Data { data: data.to_path_buf(), reason: "it has no batch".into() }),
                };
                clip(plan, tokenizer.vocab_size(), &device, gemm_flops_per_s, &mut source)
            })
        }
        None => {
            let noise = noise(config, &device).map_err(Error::tensor("make noise"))?;
            let mut source = || Ok(noise.clone());
            clip(plan, config.tokenizer.vocab_size, &device, gemm_flops_per_s, &mut source)
        }
    }
}

fn open_tokenizer(config: &Config, loader: &Loader) -> Result<Tokenizer> {
    if !config.tokenizer.source.is_empty() {
        return Tokenizer::load(&config.tokenizer.source);
    }
    let captions = loader.captions().map(|caption| caption.map(str::to_owned));
    let captions = captions.collect::<Result<Vec<_>, _>>().map_err(Error::loader("read the captions"))?;
    Tokenizer::train(captions, config.tokenizer.vocab_size)
}

fn noise(config: &Config, device: &Device) -> candle_core::Result<TensorBatch> {
    let (batch, size) = (config.data.batch_size, config.model.vision.image_size);
    let tokens = config.model.text.context_length;
    let drawn = |init, name, len| init::values(init, config.train.seed, name, len);
    let pixels = drawn(Init::Normal(1.0), "noise pixel_values", batch * 3 * size * size);
    let pixel_values = Tensor::from_vec(pixels, (batch, 3, size, size), device)?;
    // Uniform in (−½, ½]; the place of the end marker is given apart, so that any id may stand anywhere.
    let uniform = drawn(Init::Uniform(0.5), "noise input_ids", batch * tokens);
    let last = config.tokenizer.vocab_size as f32 - 1.0;
    let ids: Vec<u32> = uniform.into_iter().map(|u| ((u + 0.5) * last) as u32).collect();
    let input_ids = Tensor::from_vec(ids, (batch, tokens), device)?;
    Ok(TensorBatch { pixel_values, input_ids, eot_positions: vec![tokens as u32 - 1; batch] })
}

/// What is asked of a model beside its steps.
struct Counting<'a, T: Trainee> {
    /// Tokens of a batch's longest caption.
    tokens: &'a dyn Fn(&T::Inputs) -> usize,
    /// Operations of a step whose captions have so many tokens; none where they are not counted.
    flops: &'a dyn Fn(usize) -> Option<f64>,
    gemm_flops_per_s: Option<f64>,
}

fn run<T: Trainee>(
    plan: Plan<'_>,
    mut model: TrainState<T>,
    counting: &Counting<'_, T>,
    source: &mut dyn FnMut() -> Result<T::Inputs>,
) -> Result<Measured> {
    let config = plan.config;
    let (mut steps, mut tokens, mut loss): (Vec<Seconds>, usize, f32) = (Vec::new(), 0, 0.0);
    for number in 0..plan.warmup + plan.steps {
        let begun = Instant::now();
        let mut waited = Duration::ZERO;
        for _ in 0..config.optim.accum_steps {
            let waiting = Instant::now();
            let batch = source()?;
            waited += waiting.elapsed();
            tokens = tokens.max((counting.tokens)(&batch));
            model.accumulate(&batch)?.map_err(|broken| not_finite(plan, number, broken.what))?;
        }
        loss = model.update()?.map_err(|broken| not_finite(plan, number, broken.what))?.loss;
        let Phases { forward, backward, optimizer } = model.take_phases();
        if number >= plan.warmup {
            steps.push(Seconds {
                data: waited.as_secs_f64(),
                forward: forward.as_secs_f64(),
                backward: backward.as_secs_f64(),
                optimizer: optimizer.as_secs_f64(),
                step: begun.elapsed().as_secs_f64(),
            });
        }
    }
    let of = |phase: fn(&Seconds) -> f64| median(steps.iter().map(phase).collect());
    let total: f64 = steps.iter().map(|s| s.step).sum();
    let seconds = Seconds {
        data: of(|s| s.data),
        forward: of(|s| s.forward),
        backward: of(|s| s.backward),
        optimizer: of(|s| s.optimizer),
        step: of(|s| s.step),
    };
    let step_flops = (counting.flops)(tokens);
    let samples = config.data.batch_size * config.optim.accum_steps as usize;
    let reached = |rate: f64| step_flops.map(|flops| flops / seconds.step.max(1e-12) / rate);
    Ok(Measured {
        model: model.describe(),
        parameters: model.parameter_count(),
        batch_size: samples,
        tokens,
        threads: rayon::current_num_threads(),
        steps: plan.steps,
        seconds,
        step_min: steps.iter().map(|s| s.step).fold(f64::INFINITY, f64::min),
        step_max: steps.iter().map(|s| s.step).fold(0.0, f64::max),
        samples_per_s: samples as f64 / seconds.step.max(1e-12),
        data_wait: plan.data.map(|_| steps.iter().map(|s| s.data).sum::<f64>() / total.max(1e-12)),
        step_flops,
        gemm_flops_per_s: counting.gemm_flops_per_s,
        mfu: counting.gemm_flops_per_s.and_then(reached),
        peak_memory_bytes: peak_memory(),
        loss,
    })
}

/// Steps of a CLIP.
fn clip(
    plan: Plan<'_>,
    vocab_size: usize,
    device: &Device,
    gemm_flops_per_s: Option<f64>,
    source: &mut dyn FnMut() -> Result<TensorBatch>,
) -> Result<Measured> {
    let config = plan.config;
    let model = TrainState::new(config, vocab_size, plan.warmup + plan.steps, device)?;
    let samples = config.data.batch_size * config.optim.accum_steps as usize;
    let counting = Counting {
        tokens: &|batch: &TensorBatch| batch.input_ids.dims().last().copied().unwrap_or(0),
        flops: &|tokens| Some(step_flops(&config.clip(vocab_size), samples, tokens)),
        gemm_flops_per_s,
    };
    run(plan, model, &counting, source)
}

fn not_finite(plan: Plan<'_>, number: u64, what: &str) -> Error {
    Error::Data {
        data: plan.data.unwrap_or_else(|| Path::new("noise")).to_path_buf(),
        reason: format!("the {what} of step {} is no number; a lower optim.lr may help", number + 1),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => 0.5 * (values[n / 2 - 1] + values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn noise_is_measured_by_phase() {
        for preset in ["nano", "nano-rn"] {
            let set = ["data.batch_size=4".to_owned(), "tokenizer.vocab_size=300".to_owned()];
            let text = format!("model.preset = \"{preset}\"");
            let config = Config::from_toml(&text, "test.toml", &set).unwrap();
            let plan = Plan { config: &config, data: None, warmup: 1, steps: 3 };
            let found = measure(plan).unwrap();
            assert_eq!(found.loss, measure(plan).unwrap().loss);
            let s = found.seconds;
            assert!(s.forward > 0.0 && s.backward > 0.0 && s.optimizer > 0.0);
            assert!(s.step >= found.step_min && s.step <= found.step_max);
            assert!(found.loss.is_finite() && found.step_flops > Some(0.0) && found.data_wait.is_none());
            assert_eq!((found.batch_size, found.tokens), (4, 16));
        }
    }
}
