//! A folder of Hugging Face's: `config.json`, safetensors in one file or several, `tokenizer.json`.

use super::load::Tensors;
use super::{Kind, LmSizes};
use crate::error::{Error, Result};
use crate::ops::Activation;
use crate::weights::SafetensorsFile;
use candle_core::{Device, Tensor};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What a name may begin with, longer than the names here.
const PREFIXES: [&str; 2] = ["model.", "transformer."];

/// An opened folder.
pub(super) struct HuggingFace {
    folder: PathBuf,
    pub(super) sizes: LmSizes,
    pub(super) digest: String,
    device: Device,
    files: Vec<SafetensorsFile>,
    /// The file of a tensor and its name there, by the name without a prefix.
    places: BTreeMap<String, (usize, String)>,
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = fs_err::read(path).map_err(Error::io("read the language model"))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::Weights { path: path.to_path_buf(), reason: format!("it is no JSON: {e}") })
}

/// The files of weights beside `config`; `fetch` brings the index of several from where the configuration came.
pub(super) fn files_of(config: &Path, fetch: &mut dyn FnMut(&str) -> Result<PathBuf>) -> Result<Vec<String>> {
    let beside = |name: &str| config.with_file_name(name);
    if beside(WEIGHTS).exists() || fetch(WEIGHTS).is_ok() {
        return Ok(vec![WEIGHTS.to_owned()]);
    }
    let index = if beside(INDEX).exists() { beside(INDEX) } else { fetch(INDEX)? };
    let found = read_json(&index)?;
    let names: BTreeSet<String> = found["weight_map"]
        .as_object()
        .into_iter()
        .flat_map(|map| map.values().filter_map(Value::as_str))
        .map(str::to_owned)
        .collect();
    let is_plain = |name: &String| Path::new(name).file_name().is_some_and(|last| last == name.as_str());
    if names.is_empty() || !names.iter().all(is_plain) {
        let reason = "it names no files of weights in its own folder".to_owned();
        return Err(Error::Weights { path: index, reason });
    }
    Ok(names.into_iter().collect())
}

/// Refuses the model of a `config.json` by its sizes, before its weights are fetched or read.
pub(super) fn check(path: &Path) -> Result<()> {
    check_config(path, &read_json(path)?)
}

fn check_config(path: &Path, config: &Value) -> Result<()> {
    sizes(config, true)
        .and_then(|sizes| sizes.check())
        .map_err(|reason| Error::Weights { path: path.to_path_buf(), reason })
}

impl HuggingFace {
    /// Reads sizes and weights.
    pub(super) fn open(folder: &Path, device: &Device) -> Result<Self> {
        let path = folder.join(CONFIG);
        let config = read_json(&path)?;
        let fail = |reason: String| Error::Weights { path: path.clone(), reason };
        check_config(&path, &config)?;
        let mut absent = |name: &str| Err(fail(format!("there is no {name} beside it")));
        let files = files_of(&path, &mut absent)?;
        let (mut hasher, mut places) = (blake3::Hasher::new(), BTreeMap::new());
        let mut opened = Vec::new();
        for file in &files {
            let path = folder.join(file);
            let file = SafetensorsFile::open(&path)?;
            hasher.update_mmap(&path).map_err(Error::io("read the language model"))?;
            for name in file.names() {
                let bare = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(&name);
                if places.insert(bare.to_owned(), (opened.len(), name.clone())).is_some() {
                    let reason =
                        format!("it has {bare} twice, as {name} too, and one of them is not the model's");
                    return Err(Error::Weights { path, reason });
                }
            }
            opened.push(file);
        }
        let sizes = sizes(&config, places.contains_key("lm_head.weight")).map_err(fail)?;
        // The same weights are another model with other rotations.
        hasher.update(format!("{sizes:?}").as_bytes());
        Ok(Self {
            folder: folder.to_path_buf(),
            sizes,
            digest: hasher.finalize().to_hex().to_string(),
            device: device.clone(),
            files: opened,
            places,
        })
    }

    /// The bytes of the tokenizer.
    pub(super) fn tokenizer(&self) -> Result<Vec<u8>> {
        let path = self.folder.join(TOKENIZER);
        if !path.exists() {
            let reason = "there is none; give another with caption.lm.tokenizer".to_owned();
            return Err(Error::Tokenizer { name: path.display().to_string(), reason });
        }
        fs_err::read(path).map_err(Error::io("read the tokenizer"))
    }
}

impl Tensors for HuggingFace {
    fn dims(&self, name: &str) -> Option<Vec<usize>> {
        let (file, name) = self.places.get(name)?;
        self.files[*file].dims(name).map(<[usize]>::to_vec)
    }

    fn find(&mut self, name: &str) -> Result<Option<Tensor>> {
        let Some((file, name)) = self.places.remove(name) else { return Ok(None) };
        self.files[file].read(&name, &self.device).map(Some)
    }

    fn rest(&self) -> Vec<&str> {
        // Masks and tables of rotations are made here; a tied output layer is the table of tokens.
        let is_read = |name: &&str| {
            let is_made = ["attn.bias", "attn.masked_bias", "rotary_emb.inv_freq"];
            !is_made.iter().any(|end| name.ends_with(end)) && *name != "lm_head.weight"
        };
        self.places.keys().map(String::as_str).filter(is_read).collect()
    }

    fn fail(&self, reason: String) -> Error {
        let path = match self.files.as_slice() {
            [file] => file.path().to_path_buf(),
            _ => self.folder.join(INDEX),
        };
        Error::Weights { path, reason }
    }
}

fn sizes(config: &Value, has_output: bool) -> std::result::Result<LmSizes, String> {
    let kind = match config["model_type"].as_str() {
        Some("llama") => Kind::Llama,
        Some("gpt2") => Kind::Gpt2,
        other => return Err(format!("its model_type is {other:?}; llama and gpt2 are known here")),
    };
    if !config["quantization_config"].is_null() {
        return Err("its weights are quantised (quantization_config), which is not known here".into());
    }
    let find = |key: &str| match &config[key] {
        Value::Null => Ok(None),
        value => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("its {key} is {value}, and a whole number is wanted")),
        },
    };
    let get = |key: &str| find(key)?.ok_or(format!("it does not say {key}"));
    let number = |of: &Value, key: &str| match &of[key] {
        Value::Null => Ok(None),
        value => match value.as_f64().filter(|number| *number > 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("its {key} is {value}, and a number above 0 is wanted")),
        },
    };
    let activation = |key: &str| match config[key].as_str() {
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
        Some("gelu") => Ok(Activation::Gelu),
        other => Err(format!("its {key} is {other:?}, which is not known here")),
    };
    match kind {
        Kind::Llama => {
            let scaled = [&config["rope_scaling"], &config["rope_parameters"]];
            let scaling = |of: &Value| {
                let word = of["rope_type"].as_str().or(of["type"].as_str());
                word.filter(|word| *word != "default").map(str::to_owned)
            };
            if let Some(word) = scaled.into_iter().find_map(scaling) {
                return Err(format!("its rotations are scaled ({word}), which is not known here"));
            }
            let mut theta = number(config, "rope_theta")?;
            for inner in scaled {
                theta = number(inner, "rope_theta")?.or(theta);
            }
            let tied = config["tie_word_embeddings"].as_bool();
            if tied == Some(false) && !has_output {
                return Err("tie_word_embeddings is false, and there is no lm_head.weight".into());
            }
            let heads = get("num_attention_heads")?;
            Ok(LmSizes {
                kind,
                vocab_size: get("vocab_size")?,
                context_length: get("max_position_embeddings")?,
                width: get("hidden_size")?,
                layers: get("num_hidden_layers")?,
                heads,
                groups: find("num_key_value_heads")?.unwrap_or(heads),
                head_width: find("head_dim")?.unwrap_or(0),
                hidden: get("intermediate_size")?,
                eps: number(config, "rms_norm_eps")?.unwrap_or(1e-6),
                rope_theta: theta.unwrap_or(10_000.0),
                activation: activation("hidden_act")?,
                is_tied: tied.unwrap_or(!has_output) || !has_output,
            })
        }
        Kind::Gpt2 => {
            let (width, heads) = (get("n_embd")?, get("n_head")?);
            let other = [
                ("scale_attn_by_inverse_layer_idx", false),
                ("scale_attn_weights", true),
                ("tie_word_embeddings", true),
            ];
            if let Some((key, known)) =
                other.into_iter().find(|(key, known)| config[*key].as_bool().is_some_and(|is| is != *known))
            {
                return Err(format!("its {key} is not {known}, which is not known here"));
            }
            Ok(LmSizes {
                kind,
                vocab_size: get("vocab_size")?,
                context_length: find("n_positions")?.map_or_else(|| get("n_ctx"), Ok)?,
                width,
                layers: get("n_layer")?,
                heads,
                groups: heads,
                head_width: 0,
                hidden: find("n_inner")?.unwrap_or(4 * width),
                eps: number(config, "layer_norm_epsilon")?.unwrap_or(1e-5),
                rope_theta: 0.0,
                activation: activation("activation_function")?,
                is_tied: true,
            })
        }
    }
}
