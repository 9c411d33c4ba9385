//! Steps of a captioner on noise: features as a tower would give them, captions that fill the context.
//!
//! Leaves out the tower, which runs in a thread of its own or not at all, and data sets.

use super::{Counting, Measured, Plan, run};
use crate::captioner::{CaptionBatch, CaptionModel, SeenShape, Tower, open_lm};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::init::{Init, values};
use crate::ops::Target;
use crate::step::{CaptionTrainee, TrainState};
use candle_core::{Device, Tensor};
use std::path::Path;

pub(super) fn measure(plan: Plan<'_>, device: &Device) -> Result<Measured> {
    let config = plan.config;
    if let Some(data) = plan.data {
        let reason = "the steps of a captioner are measured on noise; leave out --data".to_owned();
        return Err(Error::Data { data: data.to_path_buf(), reason });
    }
    // Without the tower at hand its sizes are those of [model].
    let seen = match Path::new(&config.caption.tower).exists() {
        true => Tower::open(config, Path::new("."), device)?.shape(),
        false => SeenShape::of(&config.model, config.caption.features),
    };
    let lm = open_lm(config, device)?;
    let vocab = lm.as_ref().map_or(config.tokenizer.vocab_size, |(_, tokenizer)| tokenizer.vocab_size());
    let model = CaptionModel::new(config, seen, lm.map(|(lm, _)| lm), vocab, device)
        .and_then(|model| CaptionTrainee::new(model, device))
        .map_err(Error::tensor("build the captioner"))?;
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
        }
    }
}
