//! Whether runs could begin or go on: what each reads beside its configuration is opened, towers and language models once
//! for all that read the same.
//!
//! Leaves out what only the beginning itself shows: what a hub has, and how many ids a tokenizer gets that is trained.

use super::caption::{open_tower, require_text};
use crate::captioner::{self, CaptionModel, Tower, tower_view};
use crate::checkpoint::Checkpoints;
use crate::config::Config;
use crate::data;
use crate::error::{Error, Result};
use crate::lm::{self, LanguageModel};
use crate::model::Clip;
use crate::tokenizer::Tokenizer;
use crate::weights;
use candle_core::Device;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// What was opened so far.
#[derive(Debug, Default)]
pub struct Preflight {
    towers: HashMap<String, Tower>,
    /// Models that initial weights fit.
    weights: HashSet<String>,
    /// With the number of its tokenizer's ids.
    language_models: HashMap<[String; 2], (Arc<LanguageModel>, usize)>,
}

impl Preflight {
    /// Opens device, data set, weights, tokenizer and models that the run in the folder `run` begins or goes on with.
    ///
    /// # Errors
    /// Those that [`train`](super::train) would fail with.
    pub fn check(&mut self, config: &Config, data: &Path, run: &Path) -> Result<()> {
        let device = config.train.open_device()?;
        // A run that has made a step keeps what it began with; a folder in disorder is told by the run alone.
        let is_begun = matches!(Checkpoints::of_run(run).latest(), Ok(Some(_)));
        let ids = match config.tokenizer.source.as_str() {
            source if !is_begun && !source.is_empty() && !Tokenizer::is_on_hub(source) => {
                Some(Tokenizer::load(source)?.vocab_size())
            }
            _ => None,
        };
        if config.caption.is_on() {
            let vocab_size = ids.unwrap_or(config.tokenizer.vocab_size);
            return self.check_captioner(config, data, run, (is_begun, vocab_size), &device);
        }
        open_data(config, data)?;
        if !is_begun && !config.model.weights.is_empty() {
            self.check_weights(config, ids, &device)?;
        }
        Ok(())
    }

    /// Initial weights in a model of the run's sizes, once for all runs of these.
    fn check_weights(&mut self, config: &Config, ids: Option<usize>, device: &Device) -> Result<()> {
        let path = Path::new(&config.model.weights);
        let key = format!("{:?} {ids:?}", config.model);
        if self.weights.contains(&key) {
            return Ok(());
        }
        let rows = weights::vocabulary(path, config.model.text.width)?;
        // How many ids a tokenizer has that is yet to be made is not known; a file without any is refused by its names.
        let sizes = config.clip(ids.or(rows).unwrap_or(config.tokenizer.vocab_size));
        let clip = Clip::new(&sizes, 0, device).map_err(Error::tensor("build the model"))?;
        weights::initialise(clip.params(), config, path, device)?;
        self.weights.insert(key);
        Ok(())
    }

    fn check_captioner(
        &mut self,
        config: &Config,
        data: &Path,
        run: &Path,
        (is_begun, vocab_size): (bool, usize),
        device: &Device,
    ) -> Result<()> {
        let kept;
        let tower = if is_begun {
            kept = open_tower(config, run, device)?;
            &kept
        } else {
            self.tower(config, run, device)?
        };
        open_data(&tower_view(config, tower), data)?;
        let shape = tower.shape();
        let source = &config.caption.lm.source;
        if config.caption.family.has_lm() && lm::is_on_hub(source) {
            return Ok(());
        }
        let (lm, vocab_size) = match self.language_model(config, device)? {
            Some((lm, vocab_size)) => (Some(lm), vocab_size),
            None => (None, vocab_size),
        };
        if !is_begun {
            CaptionModel::new(config, shape, lm, vocab_size, device)
                .map_err(Error::tensor("build the captioner"))?;
        }
        Ok(())
    }

    fn tower(&mut self, config: &Config, run: &Path, device: &Device) -> Result<&Tower> {
        let caption = &config.caption;
        let key = format!(
            "{:?}",
            (
                (&caption.tower, &caption.tower_tokenizer, caption.features, caption.skip_blocks),
                (&config.model, config.data.normalize, device.location())
            )
        );
        if !self.towers.contains_key(&key) {
            self.towers.insert(key.clone(), Tower::open(config, run, device)?);
        }
        let tower = &self.towers[&key];
        require_text(config, tower)?;
        Ok(tower)
    }

    /// The language model of a family that has one.
    fn language_model(
        &mut self,
        config: &Config,
        device: &Device,
    ) -> Result<Option<(Arc<LanguageModel>, usize)>> {
        let lm = &config.caption.lm;
        let key = [lm.source.clone(), lm.tokenizer.clone()];
        if let Some(found) = self.language_models.get(&key) {
            return Ok(Some(found.clone()));
        }
        let Some((lm, tokenizer)) = captioner::open_lm(config, device)? else { return Ok(None) };
        let found = (lm, tokenizer.vocab_size());
        self.language_models.insert(key, found.clone());
        Ok(Some(found))
    }
}

fn open_data(view: &Config, data: &Path) -> Result<()> {
    data::open_train(view, data)?;
    data::open_eval(view, data, &view.data.val_split, view.data.val_fraction)?;
    Ok(())
}
