//! The layout of open_clip's own files. The names are ours; what surrounds them is taken off.
//!
//! Leaves out files and the fit to a model, which are in the parent module.

use crate::checkpoint::Tensors;

/// Buffers that some files carry and no model learns.
const BUFFERS: [&str; 2] = ["attn_mask", "num_batches_tracked"];

/// Whether a file with these names is in this layout.
pub(super) fn is_mine<'a>(mut names: impl Iterator<Item = &'a String>) -> bool {
    names.any(|name| {
        let name = bare(name);
        name.starts_with("visual.") || name == "token_embedding.weight"
    })
}

/// The name without what a wrapper put in front: `module.` of parallel training, and `text.`, under which
/// open_clip's `CustomTextCLIP` keeps the text tower that its `CLIP` has at the top.
fn bare(name: &str) -> &str {
    let name = name.strip_prefix("module.").unwrap_or(name);
    name.strip_prefix("text.").unwrap_or(name)
}

/// Their tensors under our names. `is_ours` says which names the model has: a buffer that it does not have
/// is left out.
pub(super) fn to_ours(theirs: Tensors, is_ours: &dyn Fn(&str) -> bool) -> Tensors {
    let mut ours = Tensors::new();
    for (name, tensor) in theirs {
        let name = bare(&name);
        let last = name.rsplit('.').next().unwrap_or(name);
        if is_ours(name) || !BUFFERS.contains(&last) {
            ours.insert(name.to_owned(), tensor);
        }
    }
    ours
}
