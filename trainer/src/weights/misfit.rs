//! The sentence that says where given weights and a model differ, and which keys of the configuration
//! decide the sizes that do not fit.
//!
//! Leaves out the names of other layouts: both sides have ours here.

use crate::model::Params;
use candle_core::Tensor;
use std::collections::{BTreeSet, HashMap};

/// Where `weights` do not fit `params`; `None` where they do.
///
/// Layers that differ alike are told once, as `transformer.resblocks.*.ln_1.weight`.
pub(super) fn between(params: &Params, weights: &HashMap<String, Tensor>) -> Option<String> {
    let (mut missing, mut reshaped, mut keys) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for param in params.iter() {
        match weights.get(&param.name) {
            None => {
                missing.insert(block(&param.name));
                keys.extend(layers_key(&param.name));
            }
            Some(found) if found.dims() != param.var.dims() => {
                let (found, expected) = (found.dims(), param.var.dims());
                reshaped.insert(format!("{} is {found:?}, not {expected:?}", any_layer(&param.name)));
                keys.extend(size_keys(&param.name, found, expected));
            }
            Some(_) => {}
        }
    }
    let unexpected: Vec<&String> = weights.keys().filter(|name| params.get(name).is_none()).collect();
    keys.extend(unexpected.iter().filter_map(|name| layers_key(name)));
    let unexpected: BTreeSet<String> = unexpected.into_iter().map(|name| block(name)).collect();
    if missing.is_empty() && unexpected.is_empty() && reshaped.is_empty() {
        return None;
    }
    let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    if !reshaped.is_empty() {
        parts.push(list(reshaped));
    }
    if !missing.is_empty() {
        parts.push(format!("missing: {}", list(missing)));
    }
    if !unexpected.is_empty() {
        parts.push(format!("the model has no {}", list(unexpected)));
    }
    let keys: Vec<&str> = keys.into_iter().collect();
    let hint = if keys.is_empty() { String::new() } else { format!(" (look at {})", keys.join(", ")) };
    Some(format!("the weights do not fit the model{hint}: {}", parts.join("; ")))
}

/// Position of the layer's number in a name of a block, as bytes.
fn layer(name: &str) -> Option<std::ops::Range<usize>> {
    let word = "resblocks.";
    let start = name.find(word)? + word.len();
    Some(start..start + name[start..].find('.')?)
}

/// The name with a star for its layer.
fn any_layer(name: &str) -> String {
    match layer(name) {
        Some(range) => format!("{}*{}", &name[..range.start], &name[range.end..]),
        None => name.to_owned(),
    }
}

/// The name of the whole block, with a star for what is in it.
fn block(name: &str) -> String {
    match layer(name) {
        Some(range) => format!("{}.*", &name[..range.end]),
        None => name.to_owned(),
    }
}

/// The key for the number of layers, for a name within one.
fn layers_key(name: &str) -> Option<&'static str> {
    layer(name)?;
    Some(if name.starts_with("visual.") { "model.vision.layers" } else { "model.text.layers" })
}

/// The keys that decide the dimensions in which a parameter differs.
fn size_keys(name: &str, found: &[usize], expected: &[usize]) -> Vec<&'static str> {
    let differs = |dim: usize| found.get(dim) != expected.get(dim);
    let vision = ["model.vision.width"].as_slice();
    let text = ["model.text.width"].as_slice();
    let by_dim: [&[&'static str]; 2] = match name {
        "visual.positional_embedding" => [&["model.vision.image_size", "model.vision.patch_size"], vision],
        "visual.conv1.weight" if differs(0) => [vision, &[]],
        "visual.conv1.weight" => return vec!["model.vision.patch_size"],
        "visual.proj" => [vision, &["model.embed_dim"]],
        "positional_embedding" => [&["model.text.context_length"], text],
        "token_embedding.weight" => [&["tokenizer.source"], text],
        "text_projection" => [text, &["model.embed_dim"]],
        _ if name.starts_with("visual.") => [vision, vision],
        _ => [text, text],
    };
    (0..2).filter(|dim| differs(*dim)).flat_map(|dim| by_dim[dim].iter().copied()).collect()
}
