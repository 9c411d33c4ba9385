//! The frozen image tower of a captioner: a CLIP, of which the text side measures and re-ranks captions.
//!
//! A captioner's run keeps its tower in `runs/NAME/tower/`, so that it stays whole when the CLIP's run is gone. The
//! tower is named by the digest of its weights and of how pictures are brought to it. Leaves out side tables.

use crate::checkpoint::{self, Checkpoints};
use crate::config::{CaptionConfig, Config, DataConfig, ImageFeatures, ModelConfig};
use crate::data::caption_ids;
use crate::embed::append;
use crate::error::{Error, Result};
use crate::model::{Clip, Params, RESNET50_DEPTHS, VisionKind, resnet_pixels};
use crate::ops;
use crate::retrieval::Features;
use crate::tokenizer::Tokenizer;
use crate::{fsync, run, step, weights};
use candle_core::{Device, Tensor};
use std::path::Path;

/// The folder in a captioner's run.
const FOLDER: &str = "tower";
const CONFIG: &str = "config.toml";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";

/// Texts that pass through the text side at once.
const TEXTS_AT_ONCE: usize = 256;

/// Token ids of a model that a file is compared with, where the file does not tell how many it has.
const NO_VOCABULARY: usize = 300;

/// The shape of what a tower gives of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenShape {
    /// Rows of its features.
    pub rows: usize,
    /// Numbers of a row.
    pub inputs: usize,
    /// Numbers of its embedding.
    pub embed_dim: usize,
}

impl SeenShape {
    /// Of a tower of these sizes.
    pub fn of(model: &ModelConfig, features: ImageFeatures, skip: usize) -> Self {
        let (vision, embed_dim) = (&model.vision, model.embed_dim);
        let (rows, inputs) = match (features, vision.kind) {
            (ImageFeatures::Vector, _) => (1, embed_dim),
            (ImageFeatures::Patches, VisionKind::Resnet50) => {
                resnet_pixels(vision.image_size, vision.width, skip)
            }
            (ImageFeatures::Patches, VisionKind::Vit) => {
                let side = vision.image_size / vision.patch_size.max(1);
                (side * side, vision.width)
            }
        };
        Self { rows, inputs, embed_dim }
    }
}

/// A frozen CLIP.
#[derive(Debug)]
pub struct Tower {
    /// Its sizes, and how pictures are normalised for it.
    pub config: Config,
    clip: Clip,
    tokenizer: Option<Tokenizer>,
    features: ImageFeatures,
    /// Blocks of the image tower that patches do not go through.
    skip: usize,
    device: Device,
    digest: String,
}

/// What a tower gives of some pictures.
#[derive(Debug, Clone)]
pub struct Seen {
    /// (B, rows, numbers): what a captioner gets.
    pub features: Tensor,
    /// (B, E), of length 1: what captions are compared with.
    pub embedding: Tensor,
}

impl Tower {
    /// Opens the tower that a captioner's configuration names; one that the run in `run` keeps comes first.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such tower or it does not give what is asked of it, and what reading it
    /// fails with.
    pub fn open(config: &Config, run: &Path, device: &Device) -> Result<Self> {
        let caption = &config.caption;
        let kept = run.join(FOLDER);
        let tower = Path::new(&caption.tower);
        // A folder without a configuration is what a start left that was killed: no run, and its tower nobody's.
        let is_kept = run.join(CONFIG).exists() && kept.join(CONFIG).exists();
        let (base, clip, tokenizer) = if is_kept {
            open_kept(&kept, device)?
        } else if tower.join(CONFIG).exists() {
            open_run(tower, device)?
        } else if tower.is_file() {
            open_file(tower, config, device)?
        } else {
            return Err(Error::Config {
                key: "caption.tower".into(),
                value: format!("{:?}", caption.tower),
                allowed: "a CLIP run's folder or a safetensors file that exists".into(),
            });
        };
        let blocks = match base.model.vision.kind {
            VisionKind::Vit => base.model.vision.layers,
            VisionKind::Resnet50 => RESNET50_DEPTHS.len(),
        };
        if caption.features == ImageFeatures::Patches && caption.skip_blocks > blocks {
            return Err(Error::Config {
                key: "caption.skip_blocks".into(),
                value: caption.skip_blocks.to_string(),
                allowed: format!("at most {blocks}, the blocks (of a ResNet, stages) of the tower"),
            });
        }
        let digest = digest(&base, &clip, caption).map_err(Error::tensor("read the tower's weights"))?;
        Ok(Self {
            config: base,
            clip,
            tokenizer,
            features: caption.features,
            skip: caption.skip_blocks,
            device: device.clone(),
            digest,
        })
    }

    /// Keeps the tower in a captioner's run.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep(&self, run: &Path) -> Result<()> {
        let folder = run.join(FOLDER);
        if run.join(CONFIG).exists() && folder.join(CONFIG).exists() {
            return Ok(());
        }
        let io = || Error::io("keep the image tower");
        fs_err::create_dir_all(&folder).map_err(io())?;
        let tensors = self.clip.params().tensors();
        let bytes = safetensors::serialize(tensors, None).map_err(|e| Error::Tensor {
            doing: "keep the image tower",
            source: candle_core::Error::wrap(e),
        })?;
        fsync::replace(&folder.join(WEIGHTS), &bytes).map_err(io())?;
        if let Some(tokenizer) = &self.tokenizer {
            fsync::replace(&folder.join(TOKENIZER), tokenizer.json()).map_err(io())?;
        }
        // The configuration last: with it, the tower is whole.
        fsync::replace(&folder.join(CONFIG), self.config.to_toml()?.as_bytes()).map_err(io())
    }

    /// BLAKE3 of the weights, the sizes and how pictures are normalised, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What it hands on.
    pub fn features(&self) -> ImageFeatures {
        self.features
    }

    /// The shape of what a captioner gets.
    pub fn shape(&self) -> SeenShape {
        SeenShape::of(&self.config.model, self.features, self.skip)
    }

    /// A CLIP alone, for scores: a run's folder, a captioner's run, or a file with sizes by `overrides`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn for_scores(path: &Path, overrides: &[String], device: &Device) -> Result<Self> {
        // A captioner's run keeps its tower; whatever is no such run is opened as it is.
        let mut table = vec![
            "caption.family=\"prefix\"".to_owned(),
            format!("caption.tower={}", toml::Value::String(path.display().to_string())),
        ];
        table.extend_from_slice(overrides);
        // Patches or a vector, it is the same CLIP.
        let config = Config::from_toml("", "--set", &table)?;
        Self::open(&config, path, device)
    }

    /// The tokenizer of the text side.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// Whether captions can be compared with pictures.
    pub fn has_text(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// Looks at pictures (B, 3, H, W).
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn see(&self, pixel_values: &Tensor) -> Result<Seen> {
        let seen = match self.features {
            ImageFeatures::Vector => self.clip.encode_image(pixel_values).and_then(|embedding| {
                // Numbers of deviation 1 rather than rows of length 1.
                let scale = (embedding.dim(1)? as f64).sqrt();
                Ok(Seen { features: (&embedding * scale)?.unsqueeze(1)?, embedding })
            }),
            ImageFeatures::Patches => self
                .clip
                .encode_patches(pixel_values, self.skip)
                .map(|(features, embedding)| Seen { features, embedding }),
        };
        seen.map_err(Error::tensor("look at pictures through the tower"))
    }

    /// Texts as rows (B, E) of length 1 on the device.
    ///
    /// # Errors
    /// [`Error::Config`] for a tower without a text side, [`Error::Tokenizer`], [`Error::Tensor`].
    pub fn texts<S: AsRef<str>>(&self, texts: &[S]) -> Result<Tensor> {
        let Some(found) = self.text_features(texts)? else {
            return Err(Error::Config {
                key: "caption.tower_tokenizer".into(),
                value: "\"\"".into(),
                allowed: "the tokenizer of the tower's text side".into(),
            });
        };
        Tensor::from_vec(found.values, (texts.len(), found.width), &self.device)
            .map_err(Error::tensor("bring captions' embeddings to the device"))
    }

    /// One row of length 1 for each text; none of a tower without a text side.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] and [`Error::Tensor`].
    pub fn text_features<S: AsRef<str>>(&self, texts: &[S]) -> Result<Option<Features>> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(None) };
        let mut features = Features { width: self.config.model.embed_dim, ..Features::default() };
        let length = self.config.model.text.context_length;
        for texts in texts.chunks(TEXTS_AT_ONCE) {
            let (ids, ends) = caption_ids(tokenizer, length, &self.device, texts)?;
            let rows = self.clip.encode_text(&ids, &ends).map_err(Error::tensor("embed captions"))?;
            append(&mut features, &rows)?;
        }
        Ok(Some(features))
    }
}

type Parts = (Config, Clip, Option<Tokenizer>);

/// A tower that a captioner's run keeps.
fn open_kept(folder: &Path, device: &Device) -> Result<Parts> {
    let config = run::read_config(folder)?;
    let tokenizer = match folder.join(TOKENIZER).exists() {
        true => Some(run::read_tokenizer(folder)?),
        false => None,
    };
    let bytes = fs_err::read(folder.join(WEIGHTS)).map_err(Error::io("read the image tower"))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, device)
        .map_err(|e| Error::DamagedFile { path: folder.join(WEIGHTS), reason: e.to_string() })?;
    let vocabulary = tokenizer.as_ref().map_or(NO_VOCABULARY, Tokenizer::vocab_size);
    let tensors = tensors.into_iter().collect();
    let clip = step::load_model(&config, vocabulary, tensors, &folder.join(WEIGHTS), device)?;
    Ok((config, clip, tokenizer))
}

/// The newest checkpoint of a CLIP run.
fn open_run(folder: &Path, device: &Device) -> Result<Parts> {
    let config = run::read_config(folder)?;
    if config.caption.is_on() {
        return Err(Error::Config {
            key: "caption.tower".into(),
            value: format!("{:?}", folder.display().to_string()),
            allowed: "a CLIP's run; this is a captioner's".into(),
        });
    }
    let tokenizer = run::read_tokenizer(folder)?;
    let latest = Checkpoints::of_run(folder).latest()?;
    let latest =
        latest.ok_or(Error::NoRun { run: folder.to_path_buf(), missing: "a complete checkpoint" })?;
    let state = checkpoint::read_state(&latest)?;
    state.check_read(&latest, &config, &tokenizer)?;
    let tensors = checkpoint::read_evaluated(&latest, &state, device)?;
    let clip = step::load_model(&config, tokenizer.vocab_size(), tensors, &latest, device)?;
    Ok((config, clip, Some(tokenizer)))
}

/// A file of open_clip or Hugging Face, whose sizes are those of `[model]`.
fn open_file(path: &Path, config: &Config, device: &Device) -> Result<Parts> {
    let source = &config.caption.tower_tokenizer;
    let tokenizer = if source.is_empty() { None } else { Some(Tokenizer::load(source)?) };
    let base = Config {
        model: config.model.clone(),
        // What a captioner is trained by (its monitor, say) is no part of a CLIP.
        data: DataConfig { normalize: config.data.normalize, ..DataConfig::default() },
        ..Config::default()
    };
    let rows = weights::vocabulary(path, base.model.text.width)?;
    if let (Some(tokenizer), Some(rows)) = (&tokenizer, rows)
        && tokenizer.vocab_size() > rows
    {
        let reason =
            format!("it has {} token ids, and {} has {rows}", tokenizer.vocab_size(), path.display());
        return Err(Error::Tokenizer { name: source.clone(), reason });
    }
    let vocabulary = rows.unwrap_or(NO_VOCABULARY);
    let clip =
        Clip::new(&base.clip(vocabulary), 0, device).map_err(Error::tensor("build the image tower"))?;
    weights::initialise(clip.params(), &base, path, device)?;
    let clip = clip.for_inference().map_err(Error::tensor("build the image tower"))?;
    Ok((base, clip, tokenizer))
}

fn digest(config: &Config, clip: &Clip, caption: &CaptionConfig) -> candle_core::Result<String> {
    let mut hasher = blake3::Hasher::new_derive_key("trainer v1 image tower");
    let model = &config.model;
    // A vector has come through all blocks.
    let skip = if caption.features == ImageFeatures::Patches { caption.skip_blocks } else { 0 };
    let sizes = format!(
        "{:?} {:?} {} {:?} {:?} {:?} {skip}",
        model.vision, model.text, model.embed_dim, model.activation, config.data.normalize, caption.features
    );
    hasher.update(sizes.as_bytes());
    add_weights(clip.params(), &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn add_weights(params: &Params, hasher: &mut blake3::Hasher) -> candle_core::Result<()> {
    for (name, tensor) in params.tensors() {
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        hasher.update(format!("{:?}", tensor.dims()).as_bytes());
        let tensor = tensor.to_device(&Device::Cpu)?;
        ops::read(&tensor, |values| {
            for values in values.chunks(1 << 14) {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                hasher.update(&bytes);
            }
            Ok(())
        })?;
    }
    Ok(())
}
