//! A trained model as evaluation uses it: a run's newest checkpoint with its configuration and tokenizer.
//!
//! Leaves out data sets, and what is asked of the features.

use crate::checkpoint::{self, Checkpoints, State};
use crate::config::Config;
use crate::data::{self, Tensors, caption_ids};
use crate::embed::{self, append};
use crate::error::{Error, Result};
use crate::model::Clip;
use crate::retrieval::Features;
use crate::tokenizer::Tokenizer;
use crate::{imagefolder, run, step};
use candle_core::{Device, Tensor};
use loader::{Batch, Loader};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// Texts that pass through the text tower at once.
const TEXTS_AT_ONCE: usize = 256;

/// Pictures that are decoded and pass through the image tower at once.
const FILES_AT_ONCE: usize = 64;

/// A model of a run, for evaluation only.
#[derive(Debug)]
pub struct Trained {
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
    /// The model; it records nothing for a backward pass.
    pub clip: Clip,
}

impl Trained {
    /// Opens the newest checkpoint of the run in `folder`.
    ///
    /// # Errors
    /// [`Error::NoRun`] when there is no run or no checkpoint, [`Error::DamagedFile`], [`Error::Io`],
    /// [`Error::Tokenizer`], [`Error::Changed`], and [`Error::Weights`] naming weights that do not fit the configuration.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = run::read_config(folder)?;
        if config.caption.is_on() {
            let missing = "a CLIP: it trained a captioner, whose CLIP is in its folder `tower`";
            return Err(Error::NoRun { run: folder.to_path_buf(), missing });
        }
        let tokenizer = run::read_tokenizer(folder)?;
        let latest = Checkpoints::of_run(folder).latest()?;
        let checkpoint =
            latest.ok_or(Error::NoRun { run: folder.to_path_buf(), missing: "a complete checkpoint" })?;
        let state = checkpoint::read_state(&checkpoint)?;
        state.check_read(&checkpoint, &config, &tokenizer)?;
        let device = config.train.open_device()?;
        let weights = checkpoint::read_evaluated(&checkpoint, &state, &device)?;
        let clip = step::load_model(&config, tokenizer.vocab_size(), weights, &checkpoint, &device)?;
        Ok(Self { config, tokenizer, checkpoint, state, device, clip })
    }

    /// Pixels a side of what the image tower sees.
    pub fn image_size(&self) -> usize {
        self.config.model.vision.image_size
    }

    /// Opens a split for evaluation; for `None` the configuration's validation split and share of it.
    ///
    /// # Errors
    /// As [`data::open_eval`].
    pub fn open_data(&self, data: &Path, split: Option<&str>) -> Result<(String, Loader)> {
        let view = &self.config.data;
        let split = split.unwrap_or(&view.val_split).to_owned();
        let fraction = if split == view.val_split { view.val_fraction } else { 1.0 };
        let loader = data::open_eval(&self.config, data, &split, fraction)?;
        Ok((split, loader))
    }

    /// Embeds the images of the first `limit` samples (all for `None`) and shows `visit` each batch: the
    /// batch, how many of its samples count, and their features of length 1. Returns how many there were.
    ///
    /// # Errors
    /// [`Error::Loader`] naming a damaged sample, [`Error::Tensor`], and what `visit` fails with.
    pub fn each_batch(
        &self,
        loader: &Loader,
        limit: Option<usize>,
        visit: &mut dyn FnMut(&Batch, usize, Features) -> Result<()>,
    ) -> Result<usize> {
        let tensors = Tensors::new(&self.config, loader, &self.tokenizer, &self.device)?;
        embed::each_batch(&self.clip, &tensors, loader, limit, visit)
    }

    /// One row of length 1 for each text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] and [`Error::Tensor`].
    pub fn text_features<S: AsRef<str>>(&self, texts: &[S]) -> Result<Features> {
        let mut features = Features { width: self.config.model.embed_dim, ..Features::default() };
        let context_length = self.config.model.text.context_length;
        for texts in texts.chunks(TEXTS_AT_ONCE) {
            let (ids, eot_positions) = caption_ids(&self.tokenizer, context_length, &self.device, texts)?;
            let rows = self.clip.encode_text(&ids, &eot_positions).map_err(Error::tensor("embed texts"))?;
            append(&mut features, &rows)?;
        }
        Ok(features)
    }

    /// One row of length 1 for each picture; `pixel_values` are normalised, 3 × size × size a picture.
    ///
    /// # Errors
    /// [`Error::Tensor`], also when the values are not whole pictures.
    pub fn image_features(&self, pixel_values: Vec<f32>) -> Result<Features> {
        let mut features = Features { width: self.config.model.embed_dim, ..Features::default() };
        let size = self.image_size();
        let count = pixel_values.len() / (3 * size * size);
        let rows = Tensor::from_vec(pixel_values, (count, 3, size, size), &self.device)
            .and_then(|pixels| self.clip.encode_image(&pixels))
            .map_err(Error::tensor("embed images"))?;
        append(&mut features, &rows)?;
        Ok(features)
    }

    /// One row of length 1 for each file of a picture, JPEG or PNG, as
    /// [`imagefolder::pixel_values`] makes it model input.
    ///
    /// # Errors
    /// [`Error::DamagedFile`] naming the first file that is no picture, [`Error::Io`], [`Error::Tensor`].
    pub fn file_features(&self, files: &[PathBuf]) -> Result<Features> {
        let mut features = Features { width: self.config.model.embed_dim, ..Features::default() };
        let mut chunks = files.chunks(FILES_AT_ONCE);
        let mut next = chunks.next().map(|files| self.read_files(files));
        while let Some(pixels) = next {
            let pixels = pixels?;
            // The next files are decoded while the tower computes.
            let (rows, decoded) = rayon::join(
                || self.image_features(pixels),
                || chunks.next().map(|files| self.read_files(files)),
            );
            features.values.extend(rows?.values);
            next = decoded;
        }
        Ok(features)
    }

    fn read_files(&self, files: &[PathBuf]) -> Result<Vec<f32>> {
        let mean_std = self.config.data.normalize.mean_std();
        let read = |path: &PathBuf| {
            Ok(imagefolder::pixel_values(&imagefolder::decode(path)?, self.image_size(), mean_std))
        };
        // Collected before the errors are looked at, so that the first damaged file is the one named.
        let pictures: Vec<Result<Vec<f32>>> = files.par_iter().map(read).collect();
        Ok(pictures.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }
}
