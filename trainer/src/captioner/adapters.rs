//! A LoRA captioner's corrections for other programs: alone, as PEFT keeps them, or merged into the language model.
//!
//! `merged = W + (alpha/rank)·B·A`. The projector from pictures to tokens, for which neither layout has a place, goes to
//! `mapper.safetensors` beside them. GPT-2 keeps queries, keys and values in one transposed matrix: merged they are put
//! back together, and as corrections of their own PEFT has no names for them. Leaves out reading adapters back, which a
//! run's checkpoint is for.

use super::{CaptionModel, Captioner};
use crate::error::{Error, Result};
use crate::fsync;
use crate::lm::{Kind, LanguageModel, LmSizes};
use crate::model::caption::LoraCaptioner;
use crate::ops::{Activation, LmBlockParams, LmLinear, LmNorm};
use candle_core::{Device, Tensor};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportedAdapters {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Tensors in the first of them.
    pub tensors: usize,
}

type Named = BTreeMap<String, Tensor>;

/// Hugging Face's name of a llama layer within its block.
fn llama_name(linear: &str) -> String {
    match linear {
        "q" | "k" | "v" => format!("self_attn.{linear}_proj"),
        "out" => "self_attn.o_proj".to_owned(),
        other => format!("mlp.{other}_proj"),
    }
}

fn lora(captioner: &Captioner) -> Result<LoraCaptioner> {
    match &captioner.model {
        CaptionModel::Lora(model) => Ok(model.clone()),
        _ => Err(Error::Weights {
            path: captioner.checkpoint.clone(),
            reason: "it has no corrections of a language model: caption.family is not \"lora\"".into(),
        }),
    }
}

/// Writes the corrections as PEFT's `adapter_model.safetensors` with `adapter_config.json` and `mapper.safetensors` into
/// the folder `out`.
///
/// # Errors
/// [`Error::Weights`] for another family or for GPT-2's, [`Error::Tensor`], [`Error::Io`].
pub fn export_peft(captioner: &Captioner, out: &Path) -> Result<ExportedAdapters> {
    let model = lora(captioner)?;
    if model.lm().sizes.kind == Kind::Gpt2 {
        let reason =
            "PEFT has no names for GPT-2's queries, keys and values apart: export them merged".to_owned();
        return Err(Error::Weights { path: out.to_path_buf(), reason });
    }
    let mut tensors = Named::new();
    let mut modules: Vec<String> = Vec::new();
    for (number, block) in model.blocks().iter().enumerate() {
        for (linear, layer) in block.linears() {
            let Some(lora) = &layer.lora else { continue };
            let name = llama_name(linear);
            let module = name.rsplit('.').next().unwrap_or(&name).to_owned();
            if !modules.contains(&module) {
                modules.push(module);
            }
            let at = format!("base_model.model.model.layers.{number}.{name}");
            tensors.insert(format!("{at}.lora_A.weight"), lora.a.clone());
            tensors.insert(format!("{at}.lora_B.weight"), lora.b.clone());
        }
    }
    let config = &captioner.config.caption.lm;
    let description = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": config.source,
        "r": config.rank, "lora_alpha": config.alpha, "lora_dropout": config.dropout, "target_modules": modules,
        "bias": "none", "fan_in_fan_out": false, "inference_mode": true,
    });
    let files = [("adapter_model.safetensors", &tensors), ("mapper.safetensors", &mapper(captioner))];
    write(out, &files, &[("adapter_config.json", &description)], None)
}

/// Writes the language model with the corrections in its matrices, as Hugging Face's `model.safetensors` with
/// `config.json`, `tokenizer.json` and `mapper.safetensors`, into the folder `out`.
///
/// # Errors
/// [`Error::Weights`] for another family, [`Error::Tensor`], [`Error::Io`].
pub fn export_merged(captioner: &Captioner, out: &Path) -> Result<ExportedAdapters> {
    let model = lora(captioner)?;
    let tensors = merged(&model).map_err(Error::tensor("merge the corrections"))?;
    let description = description(model.lm(), &tensors);
    let files = [("model.safetensors", &tensors), ("mapper.safetensors", &mapper(captioner))];
    write(out, &files, &[("config.json", &description)], Some(captioner.tokenizer.json()))
}

/// The projector's parameters.
fn mapper(captioner: &Captioner) -> Named {
    captioner.model.params().tensors().into_iter().filter(|(name, _)| name.starts_with("mapper.")).collect()
}

fn write(
    out: &Path,
    weights: &[(&str, &Named)],
    descriptions: &[(&str, &Value)],
    tokenizer: Option<&[u8]>,
) -> Result<ExportedAdapters> {
    let io = || Error::io("export the corrections");
    fs_err::create_dir_all(out).map_err(io())?;
    let names = weights.iter().map(|(name, _)| *name).chain(descriptions.iter().map(|(name, _)| *name));
    check_folder(out, &names.chain(tokenizer.map(|_| "tokenizer.json")).collect::<Vec<_>>())?;
    let mut files = Vec::new();
    for (name, tensors) in weights {
        let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let bytes = safetensors::serialize(tensors.iter(), Some(metadata)).map_err(|e| Error::Tensor {
            doing: "export the corrections",
            source: candle_core::Error::wrap(e),
        })?;
        fsync::replace(&out.join(name), &bytes).map_err(io())?;
        files.push(out.join(name));
    }
    for (name, description) in descriptions {
        fsync::replace(&out.join(name), format!("{description:#}\n").as_bytes()).map_err(io())?;
        files.push(out.join(name));
    }
    if let Some(tokenizer) = tokenizer {
        let path = out.join("tokenizer.json");
        fsync::replace(&path, tokenizer).map_err(io())?;
        files.push(path);
    }
    Ok(ExportedAdapters { files, tensors: weights.first().map_or(0, |(_, tensors)| tensors.len()) })
}

/// Refuses a folder with other files than this export's: PEFT's beside merged ones, say, would be applied to them.
fn check_folder(out: &Path, names: &[&str]) -> Result<()> {
    let io = || Error::io("look into the export's folder");
    for entry in fs_err::read_dir(out).map_err(io())? {
        let name = entry.map_err(io())?.file_name();
        if !names.iter().any(|ours| name == *ours) {
            return Err(Error::Weights {
                path: out.join(name),
                reason: "it is no part of this export; give --out in a folder of its own".into(),
            });
        }
    }
    Ok(())
}

/// A layer's matrix with its correction.
fn whole(layer: &LmLinear, scale: f32) -> candle_core::Result<Tensor> {
    let weight = layer.weight.detach().to_device(&Device::Cpu)?;
    match &layer.lora {
        Some(lora) => weight + (lora.b.detach().matmul(&lora.a.detach())? * f64::from(scale))?,
        None => Ok(weight),
    }
}

fn merged(model: &LoraCaptioner) -> candle_core::Result<Named> {
    let (lm, scale) = (model.lm(), model.scale());
    let mut tensors = Named::new();
    let is_llama = lm.sizes.kind == Kind::Llama;
    let (root, norm) = if is_llama { ("model", "model.norm") } else { ("transformer", "transformer.ln_f") };
    tensors.insert(
        format!("{root}.{}.weight", if is_llama { "embed_tokens" } else { "wte" }),
        lm.tokens.clone(),
    );
    if let Some(positions) = &lm.positions {
        tensors.insert(format!("{root}.wpe.weight"), positions.clone());
    }
    if !lm.sizes.is_tied {
        tensors.insert("lm_head.weight".into(), lm.output.clone());
    }
    add_norm(&mut tensors, norm, &lm.norm);
    for (number, block) in model.blocks().iter().enumerate() {
        if is_llama {
            add_llama(&mut tensors, &format!("model.layers.{number}"), block, scale)?;
        } else {
            add_gpt2(&mut tensors, &format!("transformer.h.{number}"), block, scale)?;
        }
    }
    Ok(tensors)
}

fn add_norm(tensors: &mut Named, name: &str, norm: &LmNorm) {
    tensors.insert(format!("{name}.weight"), norm.weight.clone());
    if let Some(bias) = &norm.bias {
        tensors.insert(format!("{name}.bias"), bias.clone());
    }
}

fn add_llama(tensors: &mut Named, at: &str, block: &LmBlockParams, scale: f32) -> candle_core::Result<()> {
    add_norm(tensors, &format!("{at}.input_layernorm"), &block.norm_1);
    add_norm(tensors, &format!("{at}.post_attention_layernorm"), &block.norm_2);
    for (linear, layer) in block.linears() {
        let name = format!("{at}.{}", llama_name(linear));
        tensors.insert(format!("{name}.weight"), whole(layer, scale)?);
        if let Some(bias) = &layer.bias {
            tensors.insert(format!("{name}.bias"), bias.clone());
        }
    }
    Ok(())
}

fn add_gpt2(tensors: &mut Named, at: &str, block: &LmBlockParams, scale: f32) -> candle_core::Result<()> {
    add_norm(tensors, &format!("{at}.ln_1"), &block.norm_1);
    add_norm(tensors, &format!("{at}.ln_2"), &block.norm_2);
    let mut add = |name: &str, layers: &[&LmLinear]| -> candle_core::Result<()> {
        let weights =
            layers.iter().map(|layer| whole(layer, scale)).collect::<candle_core::Result<Vec<_>>>()?;
        // The other way around than everybody's.
        tensors.insert(format!("{at}.{name}.weight"), Tensor::cat(&weights, 0)?.t()?.contiguous()?);
        let biases: Vec<Tensor> = layers.iter().filter_map(|layer| layer.bias.clone()).collect();
        if biases.len() == layers.len() {
            tensors.insert(format!("{at}.{name}.bias"), Tensor::cat(&biases, 0)?);
        }
        Ok(())
    };
    add("attn.c_attn", &[&block.q, &block.k, &block.v])?;
    add("attn.c_proj", &[&block.out])?;
    add("mlp.c_fc", &[&block.mlp.up])?;
    add("mlp.c_proj", &[&block.mlp.down])
}

/// Hugging Face's configuration of a language model with these tensors.
fn description(lm: &LanguageModel, tensors: &Named) -> Value {
    let has_bias = |layer: &str| tensors.keys().any(|name| name.ends_with(&format!("{layer}.bias")));
    let LmSizes { kind, vocab_size, context_length, width, layers, heads, groups, hidden, eps, .. } =
        lm.sizes;
    let activation = match lm.sizes.activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_new",
        Activation::Gelu | Activation::QuickGelu => "gelu",
    };
    match kind {
        Kind::Llama => json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocab_size,
            "max_position_embeddings": context_length, "hidden_size": width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": groups, "head_dim": lm.sizes.depth(),
            "intermediate_size": hidden, "rms_norm_eps": eps, "rope_theta": lm.sizes.rope_theta,
            "hidden_act": activation, "tie_word_embeddings": lm.sizes.is_tied, "torch_dtype": "float32",
            "attention_bias": has_bias("self_attn.o_proj"), "mlp_bias": has_bias("mlp.up_proj"),
        }),
        Kind::Gpt2 => json!({
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": vocab_size,
            "n_positions": context_length, "n_embd": width, "n_layer": layers, "n_head": heads, "n_inner": hidden,
            "layer_norm_epsilon": eps, "activation_function": activation, "tie_word_embeddings": lm.sizes.is_tied,
            "torch_dtype": "float32",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ImageFeatures, LmConfig, LoraTargets, MapperConfig};
    use crate::lm::LanguageModel;
    use crate::model::caption::MapperSizes;
    use crate::ops::{GradSink, LoraPass, linear, lm_blocks, lm_norm};
    use std::sync::Arc;

    #[test]
    fn the_merged_model_says_what_the_corrected_one_says() {
        for source in ["llama", "gpt2"] {
            let path = format!("{}/tests/fixtures/lm/{source}", env!("CARGO_MANIFEST_DIR"));
            let (lm, _) = LanguageModel::open(&path, "", &Device::Cpu).unwrap();
            let config = MapperConfig::default();
            let mapper = MapperSizes {
                config,
                features: ImageFeatures::Vector,
                rows: 1,
                inputs: 4,
                width: lm.sizes.width,
            };
            let lora = LmConfig { rank: 3, targets: LoraTargets::All, ..LmConfig::default() };
            let model = LoraCaptioner::new(&mapper, &lora, Arc::new(lm), 1, &Device::Cpu).unwrap();
            // B is 0 at first; give it something to say.
            for param in model.params().iter().filter(|param| param.name.ends_with("lora_b")) {
                let numbers: Vec<f32> =
                    (0..param.var.elem_count()).map(|i| (i as f32 * 0.9).sin() * 0.05).collect();
                param.var.set(&Tensor::from_vec(numbers, param.var.shape(), &Device::Cpu).unwrap()).unwrap();
            }
            let ids = Tensor::from_vec(vec![5u32, 77, 130, 9, 200, 41], (2, 3), &Device::Cpu).unwrap();
            let pass = LoraPass { scale: model.scale(), dropout: 0.0, seed: 0 };
            let sink = GradSink::detached(&Device::Cpu).unwrap();
            let rows = model.lm().embed(&ids, 0).unwrap();
            let hidden = lm_blocks(&rows, model.blocks(), &model.lm().shape(false), &pass, &sink).unwrap();
            let hidden = lm_norm(&hidden, &model.lm().norm, model.lm().sizes.eps as f32).unwrap();
            let expected = linear(&hidden, &model.lm().output, None).unwrap();
            let plain = model.lm().logits(&ids).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let tensors = merged(&model).unwrap();
            let description = description(model.lm(), &tensors);
            let tokenizer = fs_err::read(format!("{path}/tokenizer.json")).unwrap();
            let files = [("model.safetensors", &tensors)];
            write(folder.path(), &files, &[("config.json", &description)], Some(&tokenizer)).unwrap();
            let (merged, _) = LanguageModel::open(folder.path().to_str().unwrap(), "", &Device::Cpu).unwrap();
            let found = merged.logits(&ids).unwrap();
            let apart = |a: &Tensor, b: &Tensor| -> f32 {
                (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
            };
            assert!(apart(&found, &expected) < 1e-3, "{source}: {}", apart(&found, &expected));
            assert!(apart(&plain, &expected) > 0.05, "{source}: the corrections say something");
        }
    }
}
