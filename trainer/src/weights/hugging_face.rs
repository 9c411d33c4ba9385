//! The layout of Hugging Face's `CLIPModel`: its names, its split of the packed projections, its transposes.
//!
//! Our names are open_clip's. Leaves out files and the fit to a model, which are in the parent module.

use super::Misfit;
use crate::checkpoint::Tensors;
use candle_core::Tensor;
use std::collections::BTreeMap;

/// Names that stand alone: theirs, ours, and whether the matrix is turned.
const SINGLE: [(&str, &str, bool); 14] = [
    ("logit_scale", "logit_scale", false),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding", false),
    ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight", false),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding", false),
    // Their spelling.
    ("vision_model.pre_layrnorm.weight", "visual.ln_pre.weight", false),
    ("vision_model.pre_layrnorm.bias", "visual.ln_pre.bias", false),
    ("vision_model.post_layernorm.weight", "visual.ln_post.weight", false),
    ("vision_model.post_layernorm.bias", "visual.ln_post.bias", false),
    ("visual_projection.weight", "visual.proj", true),
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight", false),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding", false),
    ("text_model.final_layer_norm.weight", "ln_final.weight", false),
    ("text_model.final_layer_norm.bias", "ln_final.bias", false),
    ("text_projection.weight", "text_projection", true),
];

/// Where the blocks of each tower stand: theirs, ours.
const TOWERS: [(&str, &str); 2] = [
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
];

/// Layers within a block that differ in name alone: theirs, ours.
const IN_BLOCK: [(&str, &str); 5] = [
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
];

/// The three projections in the order in which the packed one holds their rows.
const PROJECTIONS: [&str; 3] = ["q", "k", "v"];

/// Whether a file with these names is in this layout.
pub(super) fn is_mine<'a>(mut names: impl Iterator<Item = &'a String>) -> bool {
    names.any(|name| name.starts_with("vision_model.") || name.starts_with("text_model."))
}

/// A parameter within a block: tower's prefix of the other side, layer, and `layer.weight` or `layer.bias`.
fn split_block<'a>(name: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    name.strip_prefix(prefix)?.split_once('.')
}

/// Their tensors under our names. What has no counterpart keeps its name, to be told as unexpected.
///
/// # Errors
/// [`Misfit`] where a packed projection has not all three parts, or parts that cannot be joined.
pub(super) fn to_ours(theirs: Tensors) -> Result<Tensors, Misfit> {
    let mut ours = Tensors::new();
    let mut packed: BTreeMap<String, [Option<Tensor>; 3]> = BTreeMap::new();
    for (name, tensor) in theirs {
        if name.ends_with(".embeddings.position_ids") {
            continue;
        }
        match our_name(&name) {
            Some(Place::Whole { name: our, turned }) => {
                let tensor = if turned { turn(&name, &tensor)? } else { tensor };
                ours.insert(our, tensor);
            }
            Some(Place::Part { name: our, part }) => {
                packed.entry(our).or_default()[part] = Some(tensor);
            }
            None => {
                ours.insert(name, tensor);
            }
        }
    }
    for (name, parts) in packed {
        let missing = parts.iter().position(Option::is_none);
        if let Some(part) = missing {
            let reason = format!("the {}_proj of which {name} would be made is missing", PROJECTIONS[part]);
            return Err(Misfit(reason));
        }
        let parts: Vec<Tensor> = parts.into_iter().flatten().collect();
        let joined = Tensor::cat(&parts, 0)
            .map_err(|e| Misfit(format!("the three projections of {name} cannot be joined: {e}")))?;
        ours.insert(name, joined);
    }
    Ok(ours)
}

/// Our place for one of their tensors.
enum Place {
    Whole {
        name: String,
        turned: bool,
    },
    /// A third of the rows of a packed projection.
    Part {
        name: String,
        part: usize,
    },
}

fn our_name(name: &str) -> Option<Place> {
    if let Some((_, ours, turned)) = SINGLE.iter().find(|(theirs, ..)| *theirs == name) {
        return Some(Place::Whole { name: (*ours).to_owned(), turned: *turned });
    }
    for (theirs, ours) in TOWERS {
        let Some((layer, rest)) = split_block(name, theirs) else { continue };
        let (inner, kind) = rest.rsplit_once('.')?;
        if let Some((_, our)) = IN_BLOCK.iter().find(|(their, _)| *their == inner) {
            return Some(Place::Whole { name: format!("{ours}{layer}.{our}.{kind}"), turned: false });
        }
        let projection = inner.strip_prefix("self_attn.")?.strip_suffix("_proj")?;
        let part = PROJECTIONS.iter().position(|p| *p == projection)?;
        return Some(Place::Part { name: format!("{ours}{layer}.attn.in_proj_{kind}"), part });
    }
    None
}

/// Our tensors under their names.
///
/// # Errors
/// [`Misfit`] naming a parameter that `CLIPModel` does not have.
pub(super) fn from_ours(ours: &Tensors) -> Result<Tensors, Misfit> {
    let mut theirs = Tensors::new();
    for (name, tensor) in ours {
        if let Some((their, _, turned)) = SINGLE.iter().find(|(_, ours, _)| ours == name) {
            let tensor = if *turned { turn(name, tensor)? } else { tensor.clone() };
            theirs.insert((*their).to_owned(), tensor);
            continue;
        }
        let block = TOWERS.iter().find_map(|(their, our)| Some((*their, split_block(name, our)?)));
        let none = || Misfit(format!("Hugging Face's CLIPModel has no place for {name}"));
        let (tower, (layer, rest)) = block.ok_or_else(none)?;
        if let Some(kind) = rest.strip_prefix("attn.in_proj_") {
            for (part, projection) in PROJECTIONS.iter().enumerate() {
                let their = format!("{tower}{layer}.self_attn.{projection}_proj.{kind}");
                theirs.insert(their, third(name, tensor, part)?);
            }
            continue;
        }
        let (inner, kind) = rest.rsplit_once('.').ok_or_else(none)?;
        let (inner, _) = IN_BLOCK.iter().find(|(_, our)| *our == inner).ok_or_else(none)?;
        theirs.insert(format!("{tower}{layer}.{inner}.{kind}"), tensor.clone());
    }
    Ok(theirs)
}

fn turn(name: &str, tensor: &Tensor) -> Result<Tensor, Misfit> {
    let turned = tensor.t().and_then(|t| t.contiguous());
    turned.map_err(|e| Misfit(format!("{name} of shape {:?} cannot be turned: {e}", tensor.dims())))
}

fn third(name: &str, tensor: &Tensor, part: usize) -> Result<Tensor, Misfit> {
    let rows = tensor.dims().first().copied().unwrap_or(0) / 3;
    let third = tensor.narrow(0, part * rows, rows).and_then(|t| t.contiguous());
    third.map_err(|e| Misfit(format!("{name} of shape {:?} cannot be split: {e}", tensor.dims())))
}
