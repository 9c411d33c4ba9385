//! Steps of a captioner on noise, and how fast it writes: features as a tower would give them, captions that fill the
//! context.
//!
//! Leaves out the tower, which runs in a thread of its own or not at all, and data sets.

use super::{Counting, Measured, Plan, median, peak_memory, run};
use crate::captioner::write::Writing;
use crate::captioner::{CaptionBatch, CaptionModel, SeenShape, Tower, open_lm};
use crate::config::{Config, DecodeConfig, DecodeMethod};
use crate::error::{Error, Result};
use crate::init::{Init, values};
use crate::ops::Target;
use crate::step::{CaptionTrainee, TrainState};
use candle_core::{Device, Tensor};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// How fast captions are written.
#[derive(Debug, Clone, Serialize)]
pub struct Written {
    /// The model in a few words.
    pub model: String,
    /// Pictures at once.
    pub pictures: usize,
    /// Captions that are followed at once.
    pub captions: usize,
    /// Tokens a caption: as many as there is room for.
    pub tokens: usize,
    /// Threads that compute.
    pub threads: usize,
    /// Seconds of one batch, the median.
    pub seconds: f64,
    /// Tokens of kept captions a second.
    pub tokens_per_s: f64,
    /// The process's largest resident memory in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

/// Writes captions of the greatest length for a batch of noise, `rounds` times after once.
///
/// # Errors
/// [`Error::Config`] for a configuration without a captioner; what building the model fails with.
pub fn write(config: &Config, rounds: u64) -> Result<Written> {
    if !config.caption.is_on() {
        return Err(Error::Config {
            key: "caption.family".into(),
            value: "\"none\"".into(),
            allowed: "a captioner's family, to write captions".into(),
        });
    }
    let device = config.train.open_device()?;
    let (model, seen, vocab) = build(config, &device)?;
    let model = model.for_inference().map_err(Error::tensor("build the captioner"))?;
    let noise = noise(config, seen, vocab, &device).map_err(Error::tensor("make noise"))?;
    let room = config.caption.context_length - 2;
    // No caption ends before its room does.
    let decode = DecodeConfig { min_length: room, ..config.decode.clone() };
    let pictures = config.data.batch_size;
    let names: Vec<String> = (0..pictures).map(|picture| picture.to_string()).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let writing = Writing { decode: &decode, room, markers: (0, 1) };
    let writer = model.writer(0).map_err(Error::tensor("make the captioner ready to write"))?;
    let mut seconds = Vec::new();
    for round in 0..=rounds {
        let begun = Instant::now();
        writer.write(&noise.features, &keys, &writing).map_err(Error::tensor("write captions"))?;
        if round > 0 {
            seconds.push(begun.elapsed().as_secs_f64());
        }
    }
    let seconds = median(seconds);
    let tokens = pictures * decode.candidates * room;
    Ok(Written {
        model: model.describe(),
        pictures,
        captions: pictures
            * if decode.method == DecodeMethod::Beam { decode.beams } else { decode.candidates },
        tokens: room,
        threads: rayon::current_num_threads(),
        seconds,
        tokens_per_s: tokens as f64 / seconds.max(1e-12),
        peak_memory_bytes: peak_memory(),
    })
}

/// The captioner that a configuration asks for; its tower need not be there.
fn build(config: &Config, device: &Device) -> Result<(CaptionModel, SeenShape, usize)> {
    // Without the tower at hand its sizes are those of [model].
    let seen = match Path::new(&config.caption.tower).exists() {
        true => Tower::open(config, Path::new("."), device)?.shape(),
        false => SeenShape::of(&config.model, config.caption.features, config.caption.skip_blocks),
    };
    let lm = open_lm(config, device)?;
    let vocab = lm.as_ref().map_or(config.tokenizer.vocab_size, |(_, tokenizer)| tokenizer.vocab_size());
    let model = CaptionModel::new(config, seen, lm.map(|(lm, _)| lm), vocab, device)
        .map_err(Error::tensor("build the captioner"))?;
    Ok((model, seen, vocab))
}

pub(super) fn measure(plan: Plan<'_>, device: &Device) -> Result<Measured> {
    let config = plan.config;
    if let Some(data) = plan.data {
        let reason = "the steps of a captioner are measured on noise; leave out --data".to_owned();
        return Err(Error::Data { data: data.to_path_buf(), reason });
    }
    let (model, seen, vocab) = build(config, device)?;
    let model = CaptionTrainee::new(model, device).map_err(Error::tensor("build the captioner"))?;
    let model = TrainState::of(model, config, plan.warmup + plan.steps)?;
    let noise = noise(config, seen, vocab, device).map_err(Error::tensor("make noise"))?;
    let counting = Counting {
        tokens: &|batch: &CaptionBatch| batch.input_ids.dims().last().copied().unwrap_or(0),
        flops: &|_| None,
        gemm_flops_per_s: None,
    };
    run(plan, model, &counting, &mut || Ok(noise.clone()))
}

fn noise(
    config: &Config,
    seen: SeenShape,
    vocab: usize,
    device: &Device,
) -> candle_core::Result<CaptionBatch> {
    let (batch, tokens) = (config.data.batch_size, config.caption.context_length - 1);
    let drawn = |init: Init, name: &str, len: usize| values(init, config.train.seed, name, len);
    let rows = seen.rows * seen.inputs;
    let features = drawn(Init::Normal(1.0), "noise features", batch * rows);
    let features = Tensor::from_vec(features, (batch, seen.rows, seen.inputs), device)?;
    let text = drawn(Init::Normal(1.0), "noise text", batch * seen.embed_dim);
    let text = Tensor::from_vec(text, (batch, seen.embed_dim), device)?;
    let last = vocab as f32 - 1.0;
    let ids = |name: &str| -> Vec<u32> {
        let uniform = drawn(Init::Uniform(0.5), name, batch * tokens);
        uniform.into_iter().map(|u| ((u + 0.5) * last) as u32).collect()
    };
    let targets = (0..).zip(ids("noise targets")).map(|(row, class)| Target { row, class }).collect();
    let input_ids = Tensor::from_vec(ids("noise input_ids"), (batch, tokens), device)?;
    Ok(CaptionBatch { features, text: Some(text), input_ids, targets, end: 1, seed: config.train.seed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_every_family_are_measured_on_noise() {
        let fixture = |name: &str| format!("{}/tests/fixtures/lm/{name}", env!("CARGO_MANIFEST_DIR"));
        for (family, lm) in [("prefix", ""), ("prefix_lm", "gpt2"), ("lora", "llama"), ("diffusion", "")] {
            let source = if lm.is_empty() { String::new() } else { fixture(lm) };
            let text = format!(
                "model.preset = \"nano\"\ndata.batch_size = 3\ntokenizer.vocab_size = 300\n[caption]\n\
                 family = {family:?}\ntower = \"none\"\nfeatures = \"patches\"\ncontext_length = 8\n\
                 decoder = {{ width = 16, layers = 1, heads = 2 }}\n\
                 diffusion = {{ width = 16, layers = 1, heads = 2 }}\nlm = {{ source = {source:?} }}"
            );
            let config = Config::from_toml(&text, "test.toml", &[]).unwrap();
            let plan = Plan { config: &config, data: None, warmup: 1, steps: 2 };
            let found = measure(plan, &Device::Cpu).unwrap();
            assert!(found.loss.is_finite() && found.seconds.forward > 0.0 && found.mfu.is_none(), "{family}");
            assert_eq!((found.batch_size, found.tokens), (3, 7));
            let found = write(&config, 1).unwrap();
            assert!(found.tokens_per_s > 0.0 && found.tokens == 6 && found.pictures == 3, "{family}");
        }
    }
}
