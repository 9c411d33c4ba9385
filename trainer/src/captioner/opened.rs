//! A trained captioner as it is asked for captions: a run's newest checkpoint with its tower and tokenizer.

use super::captions::{Author, Captioned, ReferenceLoss};
use super::{CaptionModel, Stored, Tower, tower_view};
use crate::checkpoint::{self, Checkpoints, State};
use crate::config::Config;
use crate::data;
use crate::error::{Error, Result};
use crate::lm::LanguageModel;
use crate::tokenizer::Tokenizer;
use crate::{imagefolder, run, step};
use candle_core::{Device, Tensor};
use loader::Loader;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that are decoded and captioned at once.
const FILES_AT_ONCE: usize = 32;

/// The frozen language model of a family that has one, with its tokenizer.
///
/// # Errors
/// As [`LanguageModel::open`].
pub fn open_lm(config: &Config, device: &Device) -> Result<Option<(Arc<LanguageModel>, Tokenizer)>> {
    let caption = &config.caption;
    if !caption.family.has_lm() {
        return Ok(None);
    }
    let (lm, tokenizer) = LanguageModel::open(&caption.lm.source, &caption.lm.tokenizer, device)?;
    Ok(Some((Arc::new(lm), tokenizer)))
}

/// Digests of what a captioner reads beside its checkpoints.
pub(crate) fn frozen(tower: &Tower, lm: Option<&LanguageModel>) -> BTreeMap<String, String> {
    let image = Some(("the image tower of digest".to_owned(), tower.digest().to_owned()));
    let text = tower.tokenizer().map(|t| ("the tower's tokenizer of digest".to_owned(), t.digest()));
    let lm = lm.map(|lm| ("the language model of digest".to_owned(), lm.digest.clone()));
    [image, text, lm].into_iter().flatten().collect()
}

/// A captioner of a run, for writing only.
#[derive(Debug)]
pub struct Captioner {
    /// The resolved configuration of the run.
    pub config: Config,
    /// The run's tokenizer.
    pub tokenizer: Tokenizer,
    /// The checkpoint's folder.
    pub checkpoint: PathBuf,
    /// Where the run stood, and on which data set.
    pub state: State,
    /// What the model computes on.
    pub device: Device,
    /// The frozen image tower.
    pub tower: Tower,
    /// The network; it records nothing for a backward pass.
    pub model: CaptionModel,
    /// Whether a picture's captions are put in the order of their proximity.
    pub reranks: bool,
    /// How many pictures are kept beside their captions.
    pub thumbnails: usize,
}

impl Captioner {
    /// Opens the best checkpoint of the run in `folder`, or the newest where none is marked, with `overrides` of
    /// `decode.…` keys.
    ///
    /// # Errors
    /// [`Error::NoRun`] when there is no run or no checkpoint, [`Error::Config`] for a run that is no captioner's or
    /// overrides of other keys, and what reading fails with.
    pub fn open(folder: &Path, overrides: &[String]) -> Result<Self> {
        if let Some(other) = overrides.iter().find(|given| !given.trim_start().starts_with("decode.")) {
            let (key, value) = other.split_once('=').unwrap_or((other, ""));
            return Err(Error::Config {
                key: key.to_owned(),
                value: value.to_owned(),
                allowed: "keys of [decode] only, for a run that is trained".into(),
            });
        }
        let config = run::read_config_with(folder, overrides)?;
        if !config.caption.is_on() {
            return Err(Error::NoRun {
                run: folder.to_path_buf(),
                missing: "a captioner; it trained a CLIP",
            });
        }
        let tokenizer = run::read_tokenizer(folder)?;
        let checkpoints = Checkpoints::of_run(folder);
        let chosen = match checkpoints.best()? {
            Some((_, path)) => Some(path),
            None => checkpoints.latest()?,
        };
        let checkpoint =
            chosen.ok_or(Error::NoRun { run: folder.to_path_buf(), missing: "a complete checkpoint" })?;
        let state = checkpoint::read_state(&checkpoint)?;
        state.check_read(&checkpoint, &config, &tokenizer)?;
        let device = config.train.open_device()?;
        let tower = Tower::open(&config, folder, &device)?;
        let failed = || Error::tensor("build the captioner");
        let lm = open_lm(&config, &device)?.map(|(lm, _)| lm);
        state.check_frozen(&checkpoint, &frozen(&tower, lm.as_deref()))?;
        let model = CaptionModel::new(&config, tower.shape(), lm, tokenizer.vocab_size(), &device)
            .map_err(failed())?;
        step::load(model.params(), checkpoint::read_evaluated(&checkpoint, &state, &device)?, &checkpoint)?;
        let model = model.for_inference().map_err(failed())?;
        let reranks = config.decode.candidates > 1;
        Ok(Self { config, tokenizer, checkpoint, state, device, tower, model, reranks, thumbnails: 0 })
    }

    fn author(&self) -> Author<'_> {
        Author {
            config: &self.config,
            model: &self.model,
            tower: &self.tower,
            tokenizer: &self.tokenizer,
            device: &self.device,
            reranks: self.reranks,
            thumbnails: self.thumbnails,
            stored: None,
        }
    }

    /// Opens a split for evaluation; for `None` the configuration's validation split and share of it.
    ///
    /// # Errors
    /// As [`data::open_eval`].
    pub fn open_data(&self, data: &Path, split: Option<&str>) -> Result<(String, Loader)> {
        let view = tower_view(&self.config, &self.tower);
        let split = split.unwrap_or(&view.data.val_split).to_owned();
        let fraction = if split == view.data.val_split { view.data.val_fraction } else { 1.0 };
        let loader = data::open_eval(&view, data, &split, fraction)?;
        Ok((split, loader))
    }

    /// Writes captions for the first `limit` samples of a loader, and shows each to `visit`.
    ///
    /// # Errors
    /// [`Error::Loader`] naming a damaged sample, [`Error::Tensor`], and what `visit` fails with.
    pub fn caption(
        &self,
        loader: &Loader,
        limit: Option<usize>,
        visit: &mut dyn FnMut(Captioned) -> Result<()>,
    ) -> Result<ReferenceLoss> {
        let (stored, _) = Stored::open(&self.tower, loader)?;
        Author { stored: stored.as_ref(), ..self.author() }.caption(loader, limit, visit)
    }

    /// Writes captions for files of pictures, JPEG or PNG, and shows each to `visit`. A file's name seeds what is drawn.
    ///
    /// # Errors
    /// [`Error::DamagedFile`] naming a file that is no picture, [`Error::Io`], [`Error::Tensor`], and what `visit`
    /// fails with.
    pub fn caption_files(
        &self,
        files: &[PathBuf],
        visit: &mut dyn FnMut(Captioned) -> Result<()>,
    ) -> Result<()> {
        let size = self.tower.config.model.vision.image_size;
        let normalize = self.tower.config.data.normalize;
        let author = self.author();
        let writer = author.writer()?;
        let mut done = 0;
        for files in files.chunks(FILES_AT_ONCE) {
            let mut values = Vec::with_capacity(files.len() * 3 * size * size);
            for file in files {
                let picture = imagefolder::decode_upright(file)?;
                values.extend(imagefolder::pixel_values(&picture, size, normalize.mean_std()));
            }
            let pixel_values = Tensor::from_vec(values, (files.len(), 3, size, size), &self.device)
                .map_err(Error::tensor("bring pictures to the device"))?;
            let keys: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            let names: Vec<String> = files
                .iter()
                .map(|file| file.file_name().unwrap_or_default().to_string_lossy().into_owned())
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let written = author.write(&writer, &self.tower.see(&pixel_values)?, &names)?;
            let wanted = self.thumbnails.saturating_sub(done).min(files.len());
            let mut thumbnails = super::captions::thumbnails(&pixel_values, wanted, normalize)?.into_iter();
            for (key, captions) in keys.into_iter().zip(written) {
                let thumbnail = thumbnails.next();
                visit(Captioned { key, captions, text_proximity: None, references: Vec::new(), thumbnail })?;
            }
            done += files.len();
        }
        Ok(())
    }
}
