//! Weights from and to other programs: safetensors in the layouts of open_clip and of Hugging Face's CLIP.
//!
//! [`initialise`] begins a run with a file (`model.weights`), [`export`] writes a run's model with the
//! configuration that the other program needs. Leaves out checkpoints, which keep more than weights, and
//! files that are not safetensors.

mod describe;
mod hugging_face;
mod misfit;
mod open_clip;
mod safetensors_file;

pub(crate) use safetensors_file::SafetensorsFile;

use crate::checkpoint::Tensors;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::fsync;
use crate::model::Params;
use crate::trained::Trained;
use candle_core::{DType, Device};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Whose names and shapes a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// open_clip's, whose names are ours.
    OpenClip,
    /// That of `CLIPModel` in Hugging Face's transformers.
    HuggingFace,
}

/// Why tensors are not those of a model, in a clause.
struct Misfit(String);

impl Layout {
    /// The layout of a file with these names.
    fn detect<'a>(names: impl Iterator<Item = &'a String> + Clone) -> Option<Self> {
        // First theirs: its names are told apart by their beginnings alone.
        if hugging_face::is_mine(names.clone()) {
            Some(Self::HuggingFace)
        } else if open_clip::is_mine(names) {
            Some(Self::OpenClip)
        } else {
            None
        }
    }

    /// The name of the configuration that the other program looks for beside the weights.
    pub fn description_name(self) -> &'static str {
        match self {
            Self::OpenClip => "open_clip_config.json",
            Self::HuggingFace => "config.json",
        }
    }
}

/// Sets every parameter of a model from `path`, whichever layout it has.
///
/// A configuration that lies beside the file is compared with `config` where the shapes do not tell: heads
/// and activation.
///
/// # Errors
/// [`Error::Io`], and [`Error::Weights`] naming every parameter that is missing, unexpected or of another
/// shape, with the keys of the configuration that decide its size. No parameter is changed then.
pub fn initialise(params: &Params, config: &Config, path: &Path, device: &Device) -> Result<Layout> {
    let fail = |reason: String| Error::Weights { path: path.to_path_buf(), reason };
    let file = SafetensorsFile::open(path)?;
    let read = |name: String| file.read(&name, device).map(|tensor| (name, tensor));
    let theirs: Tensors = file.names().into_iter().map(read).collect::<Result<_>>()?;
    let layout = Layout::detect(theirs.keys()).ok_or_else(|| {
        let first = theirs.keys().next().map_or("no tensor at all".to_owned(), |name| format!("{name} …"));
        fail(format!("it has neither open_clip's names nor those of Hugging Face's CLIP, but {first}"))
    })?;
    let ours = match layout {
        Layout::OpenClip => open_clip::to_ours(theirs, &|name| params.get(name).is_some()),
        Layout::HuggingFace => hugging_face::to_ours(theirs).map_err(|misfit| fail(misfit.0))?,
    };
    let ours: HashMap<_, _> = ours.into_iter().collect();
    if let Some(reason) = misfit::between(params, &ours) {
        return Err(fail(reason));
    }
    // Narrower ones stand for numbers only with a scale.
    let is_plain = |kind| matches!(kind, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
    if let Some((name, tensor)) = ours.iter().find(|(_, tensor)| !is_plain(tensor.dtype())) {
        let found = tensor.dtype().as_str();
        return Err(fail(format!(
            "{name} is of {found}, and weights of F16, BF16, F32 or F64 are read here"
        )));
    }
    describe::check(layout, config, path)?;
    params.load(&ours).map_err(|e| fail(e.to_string()))?;
    Ok(layout)
}

/// Token ids that a file's text tower has, each a row of `width` numbers; none for a file without one.
///
/// # Errors
/// [`Error::Io`], and [`Error::Weights`] for what is no safetensors file or has rows of another width.
pub fn vocabulary(path: &Path, width: usize) -> Result<Option<usize>> {
    let file = SafetensorsFile::open(path)?;
    let names = file.names();
    let name = names.iter().find(|name| name.ends_with("token_embedding.weight"));
    let Some((name, shape)) = name.and_then(|name| Some((name, file.dims(name)?))) else {
        return Ok(None);
    };
    match *shape {
        [rows, columns] if columns == width => Ok(Some(rows)),
        _ => {
            let reason = format!("{name} is {shape:?}, and model.text.width asks for rows of {width}");
            Err(Error::Weights { path: path.to_path_buf(), reason })
        }
    }
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The weights.
    pub weights: PathBuf,
    /// The other program's configuration; none where it has no words for this model.
    pub description: Option<PathBuf>,
    /// The tokenizer that the model was trained with.
    pub tokenizer: PathBuf,
    /// How many tensors.
    pub tensors: usize,
}

/// Writes the model to `out`, and beside it the other program's configuration and the run's tokenizer.
///
/// # Errors
/// [`Error::Weights`] when the layout has no place for the model, or when another configuration or
/// tokenizer lies beside `out`; [`Error::Io`].
pub fn export(trained: &Trained, layout: Layout, out: &Path) -> Result<Exported> {
    let fail = |reason: String| Error::Weights { path: out.to_path_buf(), reason };
    let ours: Tensors = trained.clip.params().tensors().into_iter().collect();
    let description = describe::of(layout, trained).map_err(|misfit| fail(misfit.0))?;
    let theirs = match layout {
        Layout::OpenClip => ours,
        Layout::HuggingFace => hugging_face::from_ours(&ours).map_err(|misfit| fail(misfit.0))?,
    };
    let beside = |name: &str| out.with_file_name(name);
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    if let Some(description) = description {
        files.push((beside(layout.description_name()), format!("{description:#}\n").into_bytes()));
    }
    let tokenizer = beside("tokenizer.json");
    files.push((tokenizer.clone(), trained.tokenizer.json().to_vec()));
    for (path, bytes) in &files {
        if path.exists() && fs_err::read(path).map_err(Error::io("look beside the export"))? != *bytes {
            let reason = format!("{} is there already and says something else", path.display());
            return Err(fail(format!("{reason}; give --out in a folder of its own")));
        }
    }
    // transformers asks for this word.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(theirs.iter(), Some(metadata))
        .map_err(|e| Error::Tensor { doing: "export the weights", source: candle_core::Error::wrap(e) })?;
    let io = || Error::io("export the weights");
    fsync::replace(out, &bytes).map_err(io())?;
    for (path, bytes) in &files {
        fsync::replace(path, bytes).map_err(io())?;
    }
    let description = (files.len() > 1).then(|| beside(layout.description_name()));
    Ok(Exported { weights: out.to_path_buf(), description, tokenizer, tensors: theirs.len() })
}
