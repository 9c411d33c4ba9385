//! Times training steps of CLIP on random data: `cargo run --release --example step_time -- vit_s 16 4`
//! for model, batch and steps. Left out: the loader.

use candle_core::{Device, Result, Tensor};
use std::time::Instant;
use trainer::loss::contrastive_loss;
use trainer::model::{Clip, ClipConfig};
use trainer::optim::{AdamW, AdamWConfig};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stdout, reason = "this program's result")]
fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let number =
        |place: usize, default: usize| args.get(place).and_then(|v| v.parse().ok()).unwrap_or(default);
    let mut config = ClipConfig::vit_b_16();
    config.embed_dim = 512;
    match args.get(1).map(String::as_str) {
        Some("vit_b") => {
            config.vision.layers = 8;
            config.vision.heads = 6;
            config.text.layers = 6;
        }
        _ => {
            config.vision.width = 384;
            config.vision.layers = 6;
            config.vision.heads = 6;
            config.text.width = 384;
            config.text.layers = 6;
            config.text.heads = 6;
        }
    }
    let batch = number(2, 16);
    let model = Clip::new(&config, 1, &Device::Cpu)?;
    let mut optimizer = AdamW::new(model.params(), AdamWConfig::default())?;
    let size = config.vision.image_size;
    let pixels = Tensor::randn(0f32, 1f32, (batch, 3, size, size), &Device::Cpu)?;
    let ids = Tensor::rand(3f32, 49000f32, (batch, 77), &Device::Cpu)?.to_dtype(candle_core::DType::U32)?;
    let eot: Vec<u32> = (0..batch).map(|i| (76 - i % 3) as u32).collect();
    println!("{} parameters", model.params().scalar_count());
    for _ in 0..number(3, 4) {
        let start = Instant::now();
        let output = model.forward(&pixels, &ids, &eot)?;
        let loss = contrastive_loss(&output)?;
        let value = loss.to_scalar::<f32>()?;
        let forward = start.elapsed();
        let grads = model.backward(&loss)?;
        let backward = start.elapsed();
        let norm = optimizer.step(&grads, 1e-4)?;
        println!(
            "forward {forward:.2?}, backward {:.2?}, optimizer {:.2?}, step {:.3?}, loss {value:.4}, norm {norm:.3}, peak {} MB",
            backward - forward,
            start.elapsed() - backward,
            start.elapsed(),
            peak_mb()
        );
    }
    Ok(())
}

fn peak_mb() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0) / 1024
}
