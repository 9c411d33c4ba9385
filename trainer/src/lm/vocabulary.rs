//! What a GGUF file's metadata say of sizes and tokens.
//!
//! The tokenizer is written as a `tokenizer.json`, which runs keep. Leaves out vocabularies that are not byte-level BPE.

use super::gguf::Gguf;
use super::{Kind, LmSizes};
use crate::ops::Activation;
use serde_json::{Value, json};

/// A token that is no text: llama.cpp's kinds control and user-defined.
const SPECIAL: [i64; 2] = [3, 4];

/// The sizes, or why the file is no model that is known here.
pub(super) fn sizes(file: &Gguf) -> Result<LmSizes, String> {
    let kind = match file.text("general.architecture") {
        Some("llama") => Kind::Llama,
        Some("gpt2") => Kind::Gpt2,
        other => return Err(format!("its architecture is {other:?}; llama and gpt2 are known here")),
    };
    let family = if kind == Kind::Llama { "llama" } else { "gpt2" };
    let find = |key: &str| match file.whole(&format!("{family}.{key}")) {
        None if file.says(&format!("{family}.{key}")) => {
            Err(format!("its {family}.{key} is no whole number, which is not known here"))
        }
        found => Ok(found),
    };
    let get = |key: &str| find(key)?.ok_or(format!("it does not say {family}.{key}"));
    let number = |key: &str| match file.number(&format!("{family}.{key}")) {
        Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
        None if !file.says(&format!("{family}.{key}")) => Ok(None),
        _ => Err(format!("its {family}.{key} is no number above 0")),
    };
    let scaling = format!("{family}.rope.scaling.type");
    if file.says(&scaling) && file.text(&scaling) != Some("none") {
        return Err("its rotations are scaled, which is not known here".into());
    }
    // Factors of llama 3.1 stand beside the weights.
    // Without a type a factor is a linear one.
    let is_linear = !file.says(&scaling);
    let factor = |key: &str| Ok::<_, String>(number(&format!("rope.{key}"))?.unwrap_or(1.0));
    let is_scaled = factor("scale_linear")? != 1.0 || is_linear && factor("scaling.factor")? != 1.0;
    if file.has("rope_freqs.weight") || is_scaled {
        return Err(
            "its rotations are scaled (rope_freqs, rope.scale_linear), which is not known here".into()
        );
    }
    let heads = get("attention.head_count")?;
    let (width, head_width) = (get("embedding_length")?, find("attention.key_length")?.unwrap_or(0));
    let turned = find("rope.dimension_count")?;
    let depth = if head_width == 0 { width.checked_div(heads).unwrap_or(0) } else { head_width };
    if let Some(turned) = turned.filter(|turned| *turned != depth) {
        return Err(format!("it turns {turned} of a head's {depth} numbers, and turning all is known here"));
    }
    let eps = match kind {
        Kind::Llama => number("attention.layer_norm_rms_epsilon")?,
        Kind::Gpt2 => number("attention.layer_norm_epsilon")?,
    };
    let groups = find("attention.head_count_kv")?.unwrap_or(heads);
    let rope_theta = number("rope.freq_base")?.unwrap_or(10_000.0);
    let vocab_size = file.texts("tokenizer.ggml.tokens").map(|tokens| tokens.len());
    Ok(LmSizes {
        kind,
        vocab_size: file.rows("token_embd.weight").or(vocab_size).ok_or("it has no tokens")?,
        context_length: get("context_length")?,
        width,
        layers: get("block_count")?,
        heads,
        groups,
        head_width,
        hidden: get("feed_forward_length")?,
        eps: eps.ok_or("it does not say its norms' epsilon")?,
        rope_theta,
        activation: if kind == Kind::Llama { Activation::Silu } else { Activation::GeluTanh },
        is_tied: !file.has("output.weight"),
    })
}

/// The bytes of a `tokenizer.json`, or why there is none.
pub(super) fn tokenizer(file: &Gguf) -> Result<Vec<u8>, String> {
    let help = "; give its tokenizer.json with caption.lm.tokenizer";
    match file.text("tokenizer.ggml.model") {
        Some("gpt2") => {}
        other => {
            return Err(format!("its tokenizer is {other:?}, and byte-level BPE (gpt2) is known here{help}"));
        }
    }
    let digits = match file.text("tokenizer.ggml.pre") {
        None | Some("gpt-2" | "default") => false,
        Some("smollm") => true,
        other => {
            return Err(format!("its text is cut by the rules {other:?}, which are not known here{help}"));
        }
    };
    let missing = |what: &str| format!("it has no {what}{help}");
    let tokens = file.texts("tokenizer.ggml.tokens").ok_or_else(|| missing("tokens"))?;
    let merges = file.texts("tokenizer.ggml.merges").ok_or_else(|| missing("merges"))?;
    let kinds = file.wholes("tokenizer.ggml.token_type").unwrap_or_default();
    let special: Vec<Value> = (0..)
        .zip(&tokens)
        .filter(|(id, _)| kinds.get(*id).is_some_and(|kind| SPECIAL.contains(kind)))
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let vocab: serde_json::Map<String, Value> =
        (0..).zip(&tokens).map(|(id, token): (usize, _)| ((*token).to_owned(), json!(id))).collect();
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let cut = if digits {
        json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes]})
    } else {
        bytes.clone()
    };
    let document = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": special, "normalizer": null,
        "pre_tokenizer": cut, "post_processor": null, "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab,
            "merges": merges.iter().map(|merge| merge.split(' ').collect::<Vec<_>>()).collect::<Vec<_>>(),
        },
    });
    serde_json::to_vec(&document).map_err(|e| e.to_string())
}
