//! Times training steps of a small CLIP on random data: `cargo run --release --example step_time -- 128 64 8`
//! for batch, image size and patch size. Left out: the loader.

use candle_core::{Device, Result, Tensor};
use std::time::Instant;
use trainer::loss::contrastive_loss;
use trainer::model::{Clip, ClipConfig};
use trainer::optim::{AdamW, AdamWConfig};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stdout, reason = "this program's result")]
fn main() -> Result<()> {
    let number = |place: usize, default: usize| {
        std::env::args().nth(place).and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    let mut config = ClipConfig::tiny();
    let batch = number(1, 128);
    config.vision.image_size = number(2, 64);
    config.vision.patch_size = number(3, 8);
    config.vision.width = number(4, 192);
    config.vision.heads = (config.vision.width / 32).max(1);
    config.vision.layers = number(5, 6);
    let tokens = number(6, 24);
    let model = Clip::new(&config, 1, &Device::Cpu)?;
    let mut optimizer = AdamW::new(model.params(), AdamWConfig::default())?;
    let size = config.vision.image_size;
    let pixels = Tensor::randn(0f32, 1f32, (batch, 3, size, size), &Device::Cpu)?;
    let ids =
        Tensor::rand(3f32, 1000f32, (batch, tokens), &Device::Cpu)?.to_dtype(candle_core::DType::U32)?;
    let eot: Vec<u32> = (0..batch).map(|i| (i % tokens) as u32).collect();
    println!("{} parameters", model.params().scalar_count());
    for _ in 0..8 {
        let start = Instant::now();
        let images = model.encode_image(&pixels)?;
        let vision = start.elapsed();
        let output = model.forward(&pixels.narrow(0, 0, 1)?, &ids.narrow(0, 0, 1)?, &eot[..1])?;
        let texts = model.encode_text(&ids, &eot)?;
        let forward = start.elapsed();
        let output = trainer::model::ClipOutput { image_features: images, text_features: texts, ..output };
        let loss = contrastive_loss(&output)?;
        let grads = loss.backward()?;
        let backward = start.elapsed();
        let norm = optimizer.step(&grads, 1e-3)?;
        println!(
            "vision {:.2?}, forward {:.2?}, with backward {:.2?}, whole step {:.2?}, loss {:.4}, norm {norm:.3}",
            vision,
            forward,
            backward,
            start.elapsed(),
            loss.to_scalar::<f32>()?
        );
    }
    Ok(())
}
