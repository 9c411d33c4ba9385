//! The configurations of open_clip (`open_clip_config.json`) and transformers (`config.json`): written
//! beside an export, and compared with a run's where the shapes of weights tell nothing.
//!
//! Leaves out what neither program's towers can be told.

use super::{Layout, Misfit};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::Pool;
use crate::ops::Activation;
use crate::tokenizer::PADDING;
use crate::trained::Trained;
use serde_json::{Value, json};
use std::path::Path;

/// The configuration for the other program; `None` where it has no such towers but could hold the weights.
///
/// # Errors
/// [`Misfit`] where the other program has no such model.
pub(super) fn of(layout: Layout, trained: &Trained) -> Result<Option<Value>, Misfit> {
    let is_vit = trained.clip.params().get("visual.class_embedding").is_some();
    match layout {
        // open_clip's own ResNet is another one, so nothing it could be told would take these weights.
        Layout::OpenClip => Ok(is_vit.then(|| open_clip(trained))),
        Layout::HuggingFace if !is_vit => {
            Err(Misfit("Hugging Face's CLIPModel has a ViT alone; give --layout open_clip".into()))
        }
        Layout::HuggingFace if trained.config.model.vision.pool != Pool::Cls => {
            let reason = "Hugging Face's CLIPModel pools by the class token, and this model has \
                          model.vision.pool = \"mean\"; give --layout open_clip";
            Err(Misfit(reason.into()))
        }
        Layout::HuggingFace => Ok(Some(hugging_face(trained))),
    }
}

/// Hidden units over width, from the first block of a tower.
fn hidden(trained: &Trained, prefix: &str) -> usize {
    let name = format!("{prefix}transformer.resblocks.0.mlp.c_fc.weight");
    trained.clip.params().get(&name).map_or(0, |var| var.dims()[0])
}

fn open_clip(trained: &Trained) -> Value {
    let model = &trained.config.model;
    let (vision, text) = (&model.vision, &model.text);
    let ratio = |prefix: &str, width: usize| hidden(trained, prefix) as f64 / width as f64;
    let (mean, std) = trained.config.data.normalize.mean_std();
    let mut value = json!({
        "model_cfg": {
            "embed_dim": model.embed_dim,
            "quick_gelu": model.activation == Activation::QuickGelu,
            "vision_cfg": {
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
                "width": vision.width,
                "layers": vision.layers,
                "head_width": vision.width / vision.heads,
                "mlp_ratio": ratio("visual.", vision.width),
                "pool_type": match vision.pool { Pool::Cls => "tok", Pool::Mean => "avg" },
            },
            "text_cfg": {
                "context_length": text.context_length,
                "vocab_size": trained.tokenizer.vocab_size(),
                "width": text.width,
                "layers": text.layers,
                "heads": text.heads,
                "mlp_ratio": ratio("", text.width),
                // By its id: the end marker of a tokenizer trained here is not the largest one.
                "pool_type": "eos",
                "eos_id": trained.tokenizer.markers().1,
                "pad_id": PADDING,
            },
        },
        "preprocess_cfg": {
            "mean": mean, "std": std, "interpolation": "bicubic", "resize_mode": "shortest",
        },
    });
    // A model for SigLIP's loss; the number is replaced by the file's.
    if trained.clip.params().get("logit_bias").is_some() {
        value["model_cfg"]["init_logit_bias"] = json!(0.0);
    }
    value
}

fn hugging_face(trained: &Trained) -> Value {
    let model = &trained.config.model;
    let (vision, text) = (&model.vision, &model.text);
    let (start, end) = trained.tokenizer.markers();
    let activation = hidden_act(model.activation);
    json!({
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": "float32",
        "projection_dim": model.embed_dim,
        "logit_scale_init_value": (1.0 / model.temperature).ln(),
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": trained.tokenizer.vocab_size(),
            "hidden_size": text.width,
            "intermediate_size": hidden(trained, ""),
            "projection_dim": model.embed_dim,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context_length,
            "hidden_act": activation,
            "layer_norm_eps": 1e-5,
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": PADDING,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": vision.width,
            "intermediate_size": hidden(trained, "visual."),
            "projection_dim": model.embed_dim,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "num_channels": 3,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "hidden_act": activation,
            "layer_norm_eps": 1e-5,
        },
    })
}

fn hidden_act(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu",
        Activation::QuickGelu => "quick_gelu",
        Activation::GeluTanh => "gelu_new",
        Activation::Silu => "silu",
    }
}

/// Compares what a configuration beside `weights` says of heads and activation with `config`.
///
/// # Errors
/// [`Error::Weights`] naming the key and both values; [`Error::Io`] where the file cannot be read.
pub(super) fn check(layout: Layout, config: &Config, weights: &Path) -> Result<()> {
    let path = weights.with_file_name(layout.description_name());
    if !path.is_file() {
        return Ok(());
    }
    let text = fs_err::read(&path).map_err(Error::io("read the configuration beside the initial weights"))?;
    let Ok(found) = serde_json::from_slice::<Value>(&text) else {
        return Err(Error::DamagedFile { path, reason: "it is not JSON".into() });
    };
    let model = &config.model;
    let (vision, text) = (&model.vision, &model.text);
    let gelu = |of: &Value| of.as_str().map(str::to_owned);
    let number = |of: &Value| of.as_u64().map(|n| n.to_string());
    let told: Vec<(&str, Option<String>, String)> = match layout {
        Layout::OpenClip => {
            let cfg = &found["model_cfg"];
            let heads = |of: &Value| of.as_u64().map(|w| (vision.width as u64 / w.max(1)).to_string());
            let quick = cfg["quick_gelu"].as_bool().map(|quick| if quick { "quick_gelu" } else { "gelu" });
            vec![
                ("model.activation", quick.map(str::to_owned), hidden_act(model.activation).into()),
                ("model.vision.heads", heads(&cfg["vision_cfg"]["head_width"]), vision.heads.to_string()),
                ("model.text.heads", number(&cfg["text_cfg"]["heads"]), text.heads.to_string()),
            ]
        }
        Layout::HuggingFace => {
            let (v, t) = (&found["vision_config"], &found["text_config"]);
            vec![
                ("model.activation", gelu(&v["hidden_act"]), hidden_act(model.activation).into()),
                ("model.activation", gelu(&t["hidden_act"]), hidden_act(model.activation).into()),
                ("model.vision.heads", number(&v["num_attention_heads"]), vision.heads.to_string()),
                ("model.text.heads", number(&t["num_attention_heads"]), text.heads.to_string()),
            ]
        }
    };
    for (key, told, ours) in told {
        if let Some(told) = told.filter(|told| *told != ours) {
            let reason =
                format!("{} beside it says {told} where this run has {key} = {ours}", path.display());
            return Err(Error::Weights { path: weights.to_path_buf(), reason });
        }
    }
    Ok(())
}
