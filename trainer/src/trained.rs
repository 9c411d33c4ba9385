//! A trained model as evaluation uses it: a run's newest checkpoint with its configuration and tokenizer.
//!
//! Leaves out data sets, and what is asked of the features.

use crate::checkpoint::{self, Checkpoints, State};
use crate::config::Config;
use crate::data::caption_ids;
use crate::embed::append;
use crate::error::{Error, Result};
use crate::model::Clip;
use crate::retrieval::Features;
use crate::tokenizer::Tokenizer;
use crate::{run, step};
use candle_core::{Device, Tensor};
use std::path::{Path, PathBuf};

/// Texts that pass through the text tower at once.
const TEXTS_AT_ONCE: usize = 256;

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
    /// [`Error::Tokenizer`], and [`Error::Tensor`] naming weights that do not fit the configuration.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = run::read_config(folder)?;
        let tokenizer = run::read_tokenizer(folder)?;
        let latest = Checkpoints::of_run(folder).latest()?;
        let checkpoint =
            latest.ok_or(Error::NoRun { run: folder.to_path_buf(), missing: "a complete checkpoint" })?;
        let state = checkpoint::read_state(&checkpoint)?;
        let device = config.train.device.open()?;
        let weights = checkpoint::read_model(&checkpoint, &state, &device)?;
        let clip = step::load_model(&config, tokenizer.vocab_size(), weights, &device)?;
        Ok(Self { config, tokenizer, checkpoint, state, device, clip })
    }

    /// Pixels a side of what the image tower sees.
    pub fn image_size(&self) -> usize {
        self.config.model.vision.image_size
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
}
