//! Weights in the layouts of open_clip and Hugging Face's CLIP: files that those programs saved give the
//! features that those programs computed, and what is exported comes back bit for bit.

#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

mod common;

use candle_core::{DType, Device, Tensor};
use common::values::{fixture, fixture_path};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use trainer::Error;
use trainer::config::Config;
use trainer::model::Clip;
use trainer::tokenizer::Tokenizer;
use trainer::trained::Trained;
use trainer::weights::{self, Layout};

const VOCAB: usize = 300;

/// The sizes of the fixtures' models.
fn config(activation: &str, overrides: &[&str]) -> Config {
    let sizes = [
        "model.vision.image_size=16",
        "model.vision.patch_size=8",
        "model.vision.width=24",
        "model.vision.heads=3",
        "model.text.context_length=8",
        "model.text.width=16",
        "model.embed_dim=12",
    ];
    let activation = format!("model.activation={activation}");
    common::config(&[&sizes[..], &[activation.as_str()], overrides].concat())
}

fn model(config: &Config) -> Clip {
    Clip::new(&config.model.clip(VOCAB), 1, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(model: &Clip) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let bits = |t: &Tensor| values(t).iter().map(|v| v.to_bits()).collect();
    model.params().tensors().iter().map(|(name, t)| (name.clone(), t.dims().to_vec(), bits(t))).collect()
}

#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), expected.dims());
    let worst = values(found).iter().zip(values(expected)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "off by {worst}");
}

#[test]
fn files_of_both_programs_give_the_features_that_they_computed() {
    let layouts = [("layout_hugging_face", Layout::HuggingFace), ("layout_open_clip", Layout::OpenClip)];
    for (name, layout) in layouts {
        let reference: HashMap<String, Tensor> = fixture(&format!("{name}_reference"));
        let eot_positions: Vec<u32> = reference["eot_positions"].to_vec1().unwrap();
        for activation in ["gelu", "quick_gelu"] {
            let config = config(activation, &[]);
            let model = model(&config);
            let found =
                weights::initialise(model.params(), &config, &fixture_path(name), &Device::Cpu).unwrap();
            assert_eq!(found, layout);
            let (pixels, ids) = (&reference["pixel_values"], &reference["input_ids"]);
            let output = model.forward(pixels, ids, &eot_positions).unwrap();
            let expected = |key: &str| &reference[&format!("{activation}.{key}")];
            assert_close(&output.image_features, expected("image_features"), 1e-5);
            assert_close(&output.text_features, expected("text_features"), 1e-5);
            let logits = output.image_features.matmul(&output.text_features.t().unwrap()).unwrap();
            let logits = logits.broadcast_mul(&output.logit_scale).unwrap();
            // Cosines times exp(2) = 7.4.
            assert_close(&logits, expected("logits_per_image"), 5e-5);
        }
    }
}

/// A short run that began with a file of each program, and its folder.
fn run(weights: &str, at: &Path) -> PathBuf {
    let data = common::data();
    let words = (0..300).map(|i| format!("word{} of {}", i * 7, i * 31));
    let tokenizer = at.join("tokenizer.json");
    fs_err::write(&tokenizer, Tokenizer::train(words, VOCAB).unwrap().json()).unwrap();
    let source = format!("tokenizer.source={}", tokenizer.display());
    let weights = format!("model.weights={}", fixture_path(weights).display());
    let overrides = [weights.as_str(), source.as_str(), "optim.steps=1", "optim.lr=1e-9"];
    let run = at.join("run");
    common::train(&config("quick_gelu", &overrides), data.path(), &run, false, &mut common::Keep::default())
        .unwrap();
    run
}

#[test]
fn what_is_exported_comes_back_bit_for_bit_in_both_layouts() {
    let folder = tempfile::tempdir().unwrap();
    let trained = Trained::open(&run("layout_hugging_face", folder.path())).unwrap();
    assert_eq!(trained.tokenizer.vocab_size(), VOCAB);
    for (layout, name) in [(Layout::OpenClip, "open_clip"), (Layout::HuggingFace, "hf")] {
        let out = folder.path().join(name);
        fs_err::create_dir(&out).unwrap();
        let out = out.join("model.safetensors");
        let exported = weights::export(&trained, layout, &out).unwrap();
        let description = fs_err::read_to_string(exported.description.unwrap()).unwrap();
        let description: serde_json::Value = serde_json::from_str(&description).unwrap();
        match layout {
            Layout::OpenClip => {
                assert_eq!(description["model_cfg"]["vision_cfg"]["head_width"], 8);
                assert_eq!(description["model_cfg"]["text_cfg"]["eos_id"], 1);
                assert_eq!(description["model_cfg"]["quick_gelu"], true);
            }
            _ => {
                assert_eq!(description["vision_config"]["intermediate_size"], 96);
                assert_eq!(description["text_config"]["vocab_size"], 300);
            }
        }
        assert_eq!(fs_err::read(exported.tokenizer).unwrap(), trained.tokenizer.json());
        let back = model(&trained.config);
        let found = weights::initialise(back.params(), &trained.config, &out, &Device::Cpu).unwrap();
        assert_eq!(found, layout);
        assert_eq!(bits(&back), bits(&trained.clip));
        // Again over itself, but not over another's.
        weights::export(&trained, layout, &out).unwrap();
        let other = out.with_file_name(layout.description_name());
        fs_err::write(&other, "{}").unwrap();
        let error = weights::export(&trained, layout, &out).unwrap_err().to_string();
        assert!(error.contains("a folder of its own"), "{error}");
    }
}

#[test]
fn a_run_that_begins_with_a_file_has_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let trained = Trained::open(&run("layout_open_clip", folder.path())).unwrap();
    let begun = model(&trained.config);
    weights::initialise(begun.params(), &trained.config, &fixture_path("layout_open_clip"), &Device::Cpu)
        .unwrap();
    // One step at a rate of 1e-9.
    for ((name, begun), (_, now)) in begun.params().tensors().iter().zip(trained.clip.params().tensors()) {
        let moved = values(begun).iter().zip(values(&now)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(moved < 1e-6, "{name} moved by {moved}");
    }
}

fn refused(path: &Path, config: &Config) -> String {
    let model = model(config);
    let before = bits(&model);
    let error = weights::initialise(model.params(), config, path, &Device::Cpu).unwrap_err();
    assert!(matches!(error, Error::Weights { .. }), "{error:?}");
    assert_eq!(bits(&model), before, "a refused file changes nothing");
    error.to_string()
}

#[test]
fn sizes_that_do_not_fit_name_the_key() {
    let table = [
        (
            "model.vision.patch_size=4",
            "model.vision.patch_size",
            "visual.conv1.weight is [24, 3, 8, 8], not [24, 3, 4, 4]",
        ),
        (
            "model.vision.image_size=32",
            "model.vision.image_size",
            "visual.positional_embedding is [5, 24], not [17, 24]",
        ),
        (
            "model.vision.width=27",
            "model.vision.width",
            "visual.transformer.resblocks.*.ln_1.weight is [24], not [27]",
        ),
        (
            "model.vision.layers=4",
            "model.vision.layers",
            "missing: visual.transformer.resblocks.2.*, visual.transformer.resblocks.3.*",
        ),
        ("model.text.layers=1", "model.text.layers", "the model has no transformer.resblocks.1.*"),
        (
            "model.text.context_length=9",
            "model.text.context_length",
            "positional_embedding is [8, 16], not [9, 16]",
        ),
        ("model.embed_dim=13", "model.embed_dim", "text_projection is [16, 12], not [16, 13]"),
    ];
    for (over, key, words) in table {
        let config = config("gelu", &[over]);
        for name in ["layout_hugging_face", "layout_open_clip"] {
            let text = refused(&fixture_path(name), &config);
            assert!(
                text.contains(&format!("look at {key}")) || text.contains(&format!(", {key})")),
                "{text}"
            );
            assert!(text.contains(words), "{text}");
        }
    }
}

#[test]
fn foreign_and_damaged_files_and_other_heads_are_refused_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = refused(&fixture_path("ops"), &config("gelu", &[]));
    assert!(text.contains("neither open_clip's names nor"), "{text}");
    fs_err::write(at("x.safetensors"), b"not one").unwrap();
    assert!(refused(&at("x.safetensors"), &config("gelu", &[])).contains("no safetensors file"));

    let mut tensors: HashMap<String, Tensor> = fixture("layout_hugging_face");
    tensors.remove("text_model.encoder.layers.1.self_attn.v_proj.bias").unwrap();
    candle_core::safetensors::save(&tensors, at("part.safetensors")).unwrap();
    let text = refused(&at("part.safetensors"), &config("gelu", &[]));
    assert!(text.contains("the v_proj of which transformer.resblocks.1.attn.in_proj_bias"), "{text}");

    fs_err::copy(fixture_path("layout_hugging_face"), at("model.safetensors")).unwrap();
    let said = r#"{"vision_config": {"hidden_act": "gelu", "num_attention_heads": 4}}"#;
    fs_err::write(at("config.json"), said).unwrap();
    let text = refused(&at("model.safetensors"), &config("gelu", &[]));
    assert!(text.contains("says 4 where this run has model.vision.heads = 3"), "{text}");
    let text = refused(&at("model.safetensors"), &config("quick_gelu", &[]));
    assert!(text.contains("says gelu where this run has model.activation = quick_gelu"), "{text}");
}

#[test]
fn names_of_wrappers_and_old_buffers_are_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let tensors: HashMap<String, Tensor> = fixture("layout_open_clip");
    assert!(tensors.contains_key("attn_mask"), "the fixture has the buffer of older releases");
    let is_text = |name: &str| !name.starts_with("visual.") && name != "logit_scale";
    let custom = tensors.iter().map(|(name, tensor)| {
        let name = if is_text(name) { format!("text.{name}") } else { name.clone() };
        (format!("module.{name}"), tensor.clone())
    });
    let path = folder.path().join("custom.safetensors");
    candle_core::safetensors::save(&custom.collect::<HashMap<_, _>>(), &path).unwrap();
    let config = config("gelu", &[]);
    let (one, other) = (model(&config), model(&config));
    weights::initialise(one.params(), &config, &path, &Device::Cpu).unwrap();
    weights::initialise(other.params(), &config, &fixture_path("layout_open_clip"), &Device::Cpu).unwrap();
    assert_eq!(bits(&one), bits(&other));
}

#[test]
fn files_in_half_precision_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let config = config("gelu", &[]);
    for name in ["layout_hugging_face", "layout_open_clip"] {
        let whole = model(&config);
        weights::initialise(whole.params(), &config, &fixture_path(name), &Device::Cpu).unwrap();
        for (dtype, bits) in [(DType::F16, 11), (DType::BF16, 8)] {
            let tensors = fixture(name);
            let half = tensors.into_iter().map(|(name, t)| (name, t.to_dtype(dtype).unwrap()));
            let path = folder.path().join("half.safetensors");
            candle_core::safetensors::save(&half.collect::<HashMap<_, _>>(), &path).unwrap();
            let model = model(&config);
            weights::initialise(model.params(), &config, &path, &Device::Cpu).unwrap();
            for ((name, found), (_, exact)) in model.params().tensors().iter().zip(whole.params().tensors()) {
                for (found, exact) in values(found).iter().zip(values(&exact)) {
                    // Half a unit in the last place, and what is too small for f16.
                    let allowed = exact.abs() * 0.5f32.powi(bits) + 1e-7;
                    assert!((found - exact).abs() <= allowed, "{name}: {found} for {exact}");
                }
            }
        }
    }
}

#[test]
fn a_model_that_hugging_face_has_no_place_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = common::data();
    let run = folder.path().join("run");
    let config = common::config(&["model.vision.pool=mean", "optim.steps=1"]);
    common::train(&config, data.path(), &run, false, &mut common::Keep::default()).unwrap();
    let trained = Trained::open(&run).unwrap();
    let out = folder.path().join("model.safetensors");
    let text = weights::export(&trained, Layout::HuggingFace, &out).unwrap_err().to_string();
    assert!(text.contains("model.vision.pool = \"mean\"") && text.contains("open_clip"), "{text}");
    assert!(!out.exists());
    weights::export(&trained, Layout::OpenClip, &out).unwrap();
}
