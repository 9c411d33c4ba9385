//! Every file in configs/ parses, and the COCO ones say what the guide says.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

use std::path::{Path, PathBuf};
use trainer::config::Config;
use trainer::model::VisionKind;
use trainer::schedule::Decay;
use trainer::zeroshot;

/// The files of many runs, with how many.
const SWEEPS: [(&str, usize); 7] = [
    ("demo_sweep", 8),
    ("caption_prefix_sweep", 288),
    ("caption_lora_sweep", 12),
    ("caption_diffusion_sweep_rounding", 12),
    ("caption_diffusion_sweep_condition", 24),
    ("caption_diffusion_sweep_noise", 18),
    ("caption_diffusion_sweep_rate", 9),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

#[test]
fn every_configuration_is_valid_and_survives_a_round_trip() {
    let mut count = 0;
    for entry in fs_err::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("zeroshot") {
            continue;
        }
        assert_eq!(path.extension().unwrap(), "toml", "{}", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name.contains("_sweep") {
            let runs = SWEEPS.iter().find(|(of, _)| *of == name).map(|(_, runs)| *runs);
            assert_eq!(Some(Config::load_sweep(&path, &[]).unwrap().len()), runs, "{name}");
            continue;
        }
        let config = Config::load(&path, &[]).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let again = Config::from_toml(&config.to_toml().unwrap(), "resolved", &[]).unwrap();
        assert_eq!(again, config, "{}", path.display());
        count += 1;
    }
    assert!(count >= 8, "only {count} files");
}

#[test]
fn the_coco_configurations_follow_the_guide() {
    let table = [
        ("tiny", 0.01, 0.05, 16, 5.0),
        ("small", 0.1, 0.2, 32, 10.0),
        ("medium", 0.5, 1.0, 64, 20.0),
        ("full", 1.0, 1.0, 128, 50.0),
    ];
    for (name, fraction, val_fraction, batch_size, epochs) in table {
        let config = Config::load(&folder().join(format!("clip_coco_{name}.toml")), &[]).unwrap();
        let data = &config.data;
        assert_eq!((data.fraction, data.val_fraction, data.batch_size), (fraction, val_fraction, batch_size));
        assert_eq!((config.optim.epochs, config.optim.steps), (epochs, 0));
        assert_eq!((config.optim.lr, config.optim.weight_decay, config.optim.clip), (1e-4, 0.01, 1.0));
        assert_eq!((config.model.embed_dim, config.model.temperature), (256, 0.07));
        let vision = &config.model.vision;
        assert_eq!((vision.kind, vision.width, vision.image_size), (VisionKind::Resnet50, 64, 224));
    }
}

#[test]
fn the_three_large_runs_differ_in_length_rate_and_warm_up() {
    let table = [(1, 0.5, 3e-4, 0.02), (2, 0.5, 1e-3, 0.1), (3, 2.0, 3e-4, 0.02)];
    for (number, epochs, lr, warmup) in table {
        let config = Config::load(&folder().join(format!("clip_t2i_run{number}.toml")), &[]).unwrap();
        let optim = &config.optim;
        assert_eq!((optim.epochs, optim.lr, optim.warmup_fraction), (epochs, lr, warmup));
        assert_eq!((optim.schedule, optim.final_lr_fraction), (Decay::Cosine, 0.1));
        assert_eq!(config.data.batch_size, 1024);
        assert!((1..=128).contains(&config.train.chunk_size), "a batch of 1024 must fit anywhere");
        let clip = config.clip(49_408);
        let (text, vision) = (&clip.text, &clip.vision);
        assert_eq!((text.layers, text.heads, text.width, text.context_length), (6, 8, 512, 77));
        assert_eq!((vision.layers, vision.heads, vision.width, vision.patch_size), (8, 6, 768, 16));
        assert_eq!((clip.embed_dim, clip.init_temperature), (512, 0.07));
        // 1953 batches of 1024 are two million samples.
        let expected = if number == 3 { 3906 } else { 977 };
        assert_eq!(config.total_steps(1953), expected);
    }
}

#[test]
fn the_lists_for_zero_shot_classification_are_whole() {
    let at = |name: &str| folder().join("zeroshot").join(name);
    let names = |file: &str| -> Vec<String> {
        zeroshot::read_classes(&at(file)).unwrap().into_iter().map(|class| class.name).collect()
    };
    let imagenet = names("imagenet_classes.txt");
    assert_eq!(imagenet.len(), 1000);
    assert_eq!((imagenet[0].as_str(), imagenet[1].as_str()), ("tench", "goldfish"));
    assert_eq!((imagenet[281].as_str(), imagenet[999].as_str()), ("tabby cat", "toilet paper"));
    let shapes = names("shapes_classes.txt");
    assert_eq!((shapes.len(), shapes[0].as_str(), shapes[79].as_str()), (80, "red circle", "white ring"));
    for (file, count) in
        [("imagenet_templates.txt", 80), ("imagenet_templates_simple.txt", 7), ("shapes_templates.txt", 5)]
    {
        let mut templates = zeroshot::read_templates(&at(file)).unwrap();
        assert_eq!(templates.len(), count, "{file}");
        templates.sort();
        templates.dedup();
        assert_eq!(templates.len(), count, "{file} says something twice");
    }
}
