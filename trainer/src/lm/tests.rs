//! Both families from both kinds of files, against what transformers computed; and files that are none.

use super::gguf::Value;
use super::*;
use candle_core::DType;
use std::collections::HashMap;

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/lm/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn reference() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture("reference.safetensors"), &Device::Cpu).unwrap()
}

fn open(name: &str) -> (LanguageModel, Tokenizer) {
    LanguageModel::open(&fixture(name), "", &Device::Cpu).unwrap()
}

#[test]
fn files_of_both_families_give_the_logits_that_transformers_computed() {
    let reference = reference();
    let ids = reference["input_ids"].to_dtype(DType::U32).unwrap();
    for (file, name) in
        [("llama", "llama"), ("gpt2", "gpt2"), ("gpt2.gguf", "gpt2"), ("llama.gguf", "llama_8bit")]
    {
        let (model, _) = open(file);
        let found = model.logits(&ids).unwrap();
        let expected = &reference[&format!("{name}.logits")];
        assert_eq!(found.dims(), expected.dims());
        let scale: f32 = expected.abs().unwrap().max_all().unwrap().to_scalar().unwrap();
        let off: f32 = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap();
        assert!(off < 1e-5 * scale, "{file}: off by {off} of {scale}");
    }
}

#[test]
fn tokenizers_of_both_kinds_of_files_cut_alike() {
    let (_, folder) = open("gpt2");
    let (_, gguf) = open("gpt2.gguf");
    let (_, digits) = open("llama.gguf");
    let text = "a dog and 12 dogs, 1/2 über";
    let ids = |tokenizer: &Tokenizer| tokenizer.encode(&[text], 64).unwrap();
    assert_eq!(ids(&folder), ids(&gguf));
    assert_eq!(ids(&gguf), ids(&digits), "no merge joins digits here, so that cutting them changes nothing");
    for tokenizer in [&folder, &gguf, &digits] {
        assert_eq!(tokenizer.markers(), (1, 2));
        let encoded = ids(tokenizer);
        let end = encoded.eot_positions[0] as usize;
        assert_eq!(tokenizer.decode(&encoded.input_ids[1..end]).unwrap(), text);
        // " dog" is one token by its merges.
        assert!(encoded.input_ids.contains(&(tokenizer.vocab_size() as u32 - 1)));
    }
}

#[test]
fn every_cut_and_many_changed_bytes_of_a_file_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.gguf");
    let whole = fs_err::read(fixture("llama.gguf")).unwrap();
    let open = |bytes: &[u8]| {
        fs_err::write(&path, bytes).unwrap();
        LanguageModel::open(path.to_str().unwrap(), "", &Device::Cpu)
    };
    assert!(open(&whole).is_ok());
    for length in (0..whole.len() - 64).step_by(397) {
        let told = open(&whole[..length]).unwrap_err().to_string();
        assert!(told.contains("at byte"), "{length}: {told}");
    }
    // A changed byte of the header may make another valid model; it never panics or takes memory without bounds.
    for place in (0..2_000).step_by(7) {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[place] ^= change;
            let _ = open(&bytes);
        }
    }
}

#[test]
fn what_is_no_language_model_is_told_in_a_sentence() {
    let told = |source: &str| LanguageModel::open(source, "", &Device::Cpu).unwrap_err().to_string();
    assert!(told("no/such/folder/model.gguf").contains("no such file"));
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    let here = || told(folder.path().to_str().unwrap());
    write("config.json", "{\"model_type\": \"bert\"}");
    assert!(here().contains("bert"), "{}", here());
    let config = fs_err::read_to_string(fixture("llama/config.json")).unwrap();
    // By its sizes, before there are weights.
    let huge = config.replace("\"intermediate_size\": 64", "\"intermediate_size\": 16000000");
    write("config.json", &huge.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 100000"));
    if loader::available_memory().is_some() {
        assert!(here().contains("take a smaller model"), "{}", here());
    }
    write("config.json", &config);
    assert!(here().contains("there is no model.safetensors.index.json"), "{}", here());
    fs_err::copy(fixture("llama/model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    assert!(here().contains("caption.lm.tokenizer"), "{}", here());
    write("config.json", &config.replace("\"hidden_size\": 32", "\"hidden_size\": 64"));
    fs_err::copy(fixture("llama/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    assert!(here().contains("[263, 32], and the configuration asks for [263, 64]"), "{}", here());
}

#[test]
fn sizes_without_bounds_are_counted_without_overflow() {
    let (model, _) = open("llama");
    let huge = LmSizes { head_width: usize::MAX, heads: usize::MAX, ..model.sizes.clone() };
    assert_eq!(huge.parameters(), u64::MAX);
    let wide = LmSizes { head_width: 1 << 25, ..model.sizes.clone() };
    assert!(wide.check().unwrap_err().contains("head"));
    let parameters: usize = [&model.tokens, &model.output].iter().map(|table| table.elem_count()).sum();
    assert!(model.sizes.parameters() as usize > parameters / 2);
}

#[test]
fn the_digest_is_of_what_the_configuration_says_too() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs_err::copy(fixture(&format!("llama/{name}")), folder.path().join(name)).unwrap();
    }
    let digest = || LanguageModel::open(folder.path().to_str().unwrap(), "", &Device::Cpu).unwrap().0.digest;
    let before = digest();
    assert_eq!(before, open("llama").0.digest);
    let path = folder.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    config["rms_norm_eps"] = serde_json::json!(0.5);
    fs_err::write(&path, config.to_string()).unwrap();
    assert_ne!(digest(), before);
}

/// A GGUF file of metadata and of tensors of one number.
fn gguf(entries: &[(&str, Value)], tensors: &[&str]) -> Vec<u8> {
    let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes(), &(tensors.len() as u64).to_le_bytes()].concat();
    bytes.extend((entries.len() as u64).to_le_bytes());
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    for (key, value) in entries {
        bytes.extend(text(key));
        match value {
            Value::Whole(whole) => bytes.extend([4u32.to_le_bytes(), (*whole as u32).to_le_bytes()].concat()),
            Value::Number(number) => {
                bytes.extend([6u32.to_le_bytes(), (*number as f32).to_le_bytes()].concat());
            }
            Value::Text(word) => bytes.extend([&8u32.to_le_bytes()[..], &text(word)].concat()),
            other => unreachable!("{other:?} is not written here"),
        }
    }
    for name in tensors {
        // One dimension of length 1, f32, at the beginning of the data.
        bytes.extend(text(name));
        bytes.extend(
            [&1u32.to_le_bytes()[..], &1u64.to_le_bytes(), &0u32.to_le_bytes(), &0u64.to_le_bytes()].concat(),
        );
    }
    bytes.extend([0; 64]);
    bytes
}

#[test]
fn rotations_that_are_not_made_here_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turned.gguf");
    let told = |more: (&str, Value), tensors: &[&str]| {
        let text = |key, word: &str| (key, Value::Text(word.to_owned()));
        let whole = |key, number| (key, Value::Whole(number));
        let entries = [
            text("general.architecture", "llama"),
            whole("llama.embedding_length", 32),
            whole("llama.attention.head_count", 4),
            more,
        ];
        fs_err::write(&path, gguf(&entries, tensors)).unwrap();
        LanguageModel::open(path.to_str().unwrap(), "", &Device::Cpu).unwrap_err().to_string()
    };
    let same = || ("llama.rope.dimension_count", Value::Whole(8));
    for (more, tensors, word) in [
        (("llama.rope.scale_linear", Value::Number(4.0)), &[][..], "rotations are scaled"),
        (("llama.rope.scaling.type", Value::Text("yarn".into())), &[], "rotations are scaled"),
        (same(), &["rope_freqs.weight"], "rotations are scaled"),
        (("llama.rope.scaling.type", Value::Whole(1)), &[], "rotations are scaled"),
        (("llama.rope.freq_base", Value::Number(f64::NAN)), &[], "llama.rope.freq_base is no number above 0"),
        (("llama.attention.head_count_kv", Value::Number(2.0)), &[], "head_count_kv is no whole number"),
        (("llama.rope.dimension_count", Value::Whole(4)), &[], "turns 4 of a head's 8 numbers"),
        (same(), &[], "it has no tokens"),
    ] {
        let told = told(more, tensors);
        assert!(told.contains(word), "{told}");
    }
}

/// What would make another model of the same weights is refused where it is not computed here.
#[test]
fn options_that_are_not_computed_here_are_refused() {
    let table = [
        ("gpt2", "scale_attn_by_inverse_layer_idx", "true"),
        ("gpt2", "scale_attn_weights", "false"),
        ("gpt2", "tie_word_embeddings", "false"),
        ("gpt2", "layer_norm_epsilon", "-1.0"),
        ("gpt2", "n_inner", "\"64\""),
        ("gpt2", "n_layer", "1"),
        ("llama", "num_hidden_layers", "1"),
        ("llama", "quantization_config", "{\"quant_method\": \"fp8\"}"),
        ("llama", "rope_theta", "\"500000\""),
        ("llama", "rms_norm_eps", "\"1e-5\""),
        ("llama", "num_key_value_heads", "\"2\""),
    ];
    for (family, key, value) in table {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs_err::copy(format!("{}/{name}", fixture(family)), folder.path().join(name)).unwrap();
        }
        let path = folder.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        config[key] = serde_json::from_str(value).unwrap();
        fs_err::write(&path, config.to_string()).unwrap();
        let told =
            LanguageModel::open(folder.path().to_str().unwrap(), "", &Device::Cpu).unwrap_err().to_string();
        // Layers that nothing reads are found in the weights.
        let is_named = match key {
            "n_layer" | "num_hidden_layers" => told.contains("model.safetensors: ") && told.contains(".1."),
            key => told.contains("config.json") && told.contains(key),
        };
        assert!(is_named, "{key}: {told}");
    }
    // Numbers that need a scale, and one weight under two names.
    let weights =
        candle_core::safetensors::load(format!("{}/model.safetensors", fixture("llama")), &Device::Cpu)
            .unwrap();
    let (name, tensor) = weights.iter().find(|(name, _)| name.ends_with("q_proj.weight")).unwrap();
    let scaled = HashMap::from([(name.clone(), tensor.to_dtype(DType::U8).unwrap())]);
    let bare = name.strip_prefix("model.").unwrap();
    let twice = HashMap::from([(bare.to_owned(), tensor.clone())]);
    let broken = HashMap::from([(name.clone(), (tensor * f64::NAN).unwrap())]);
    for (other, expected) in [(scaled, "with a scale"), (twice, "twice"), (broken, "no finite number")] {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "tokenizer.json"] {
            fs_err::copy(format!("{}/{name}", fixture("llama")), folder.path().join(name)).unwrap();
        }
        let mut weights = weights.clone();
        weights.extend(other);
        candle_core::safetensors::save(&weights, folder.path().join("model.safetensors")).unwrap();
        let told =
            LanguageModel::open(folder.path().to_str().unwrap(), "", &Device::Cpu).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
    }
}
