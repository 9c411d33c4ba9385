//! A captioner in the loop: what the tower saw and captions in, captions and their scores out.

use super::{At, Job, Outcome, Parts, Reporter, Task, captions_of, go};
use crate::captioner::{
    self, Author, CaptionBatch, CaptionModel, Captioned, Stored, Tower, page, tower_view,
};
use crate::checkpoint::{self, Checkpoints};
use crate::config::{Config, Family, Monitor};
use crate::data::{self, Tensors};
use crate::error::{Error, Result};
use crate::fsync;
use crate::metrics::{self, CaptionRow, ValRow};
use crate::run::RunFolder;
use crate::step::{CaptionTrainee, TrainState};
use crate::tokenizer::Tokenizer;
use candle_core::Device;
use loader::{Batch, Loader};
use std::path::Path;

/// Pictures of the validation view whose captions are kept at every evaluation.
const SHOWN: usize = 16;

/// Trains a captioner.
pub(super) fn train(job: Job<'_>, reporter: &mut dyn Reporter) -> Result<Outcome> {
    let config = job.config;
    let device = config.train.open_device()?;
    let tower = open_tower(config, job.run, &device)?;
    let view = tower_view(config, &tower);
    let loader = data::open_train(&view, job.data)?;
    let val = data::open_eval(&view, job.data, &config.data.val_split, config.data.val_fraction)?;
    let run = RunFolder::open(job.run, job.resume)?;
    let (lm, tokenizer) = match captioner::open_lm(config, &device)? {
        Some((lm, tokenizer)) => (Some(lm), tokenizer),
        None => (None, run.tokenizer(&config.tokenizer, || captions_of(&loader))?),
    };
    let mut frozen = captioner::frozen(&tower, lm.as_deref());
    let total = config.total_steps(loader.batch_count());
    let model = CaptionModel::new(config, tower.shape(), lm, tokenizer.vocab_size(), &device)
        .and_then(|model| CaptionTrainee::new(model, &device))
        .map_err(Error::tensor("build the captioner"))?;
    let tensors = Tensors::new(&view, &loader, &tokenizer, &device)?;
    // Side tables have what the tower saw of pictures as they are. A run that began without goes on without: the
    // tower's sums over a batch of another size may end in other bits.
    let before = if job.resume { features_before(job.run)? } else { None };
    let (stored, note) = match config.data.augment.is_nothing() && before.as_deref() != Some(COMPUTED) {
        true => Stored::open(&tower, &loader)?,
        false => (None, None),
    };
    frozen.insert(FEATURES.into(), if stored.is_some() { STORED } else { COMPUTED }.into());
    let (stored_val, note_of_val) = Stored::open(&tower, &val)?;
    let notes =
        note.into_iter().chain(note_of_val.map(|note| format!("of {}: {note}", config.data.val_split)));
    let task = Captioning {
        config,
        tensors,
        tower: &tower,
        val: &val,
        tokenizer: &tokenizer,
        device: &device,
        stored,
        stored_val,
    };
    let model = TrainState::of(model.noting(notes), config, total)?;
    let parts = Parts {
        run: &run,
        loader: &loader,
        tokenizer: &tokenizer,
        frozen: &frozen,
        task: &task,
        model,
        total,
    };
    go(job, parts, reporter)
}

/// The tower of a run, which gives what the run asks of it.
pub(super) fn open_tower(config: &Config, run: &Path, device: &Device) -> Result<Tower> {
    let tower = Tower::open(config, run, device)?;
    require_text(config, &tower)?;
    Ok(tower)
}

/// Where the pictures' features come from, as checkpoints have it.
const FEATURES: &str = "picture features";
const STORED: &str = "read from a side table";
const COMPUTED: &str = "computed by the tower";

/// Where the newest checkpoint of a run had them from.
fn features_before(run: &Path) -> Result<Option<String>> {
    let Some(latest) = Checkpoints::of_run(run).latest()? else { return Ok(None) };
    Ok(checkpoint::read_state(&latest)?.fixed.get(FEATURES).cloned())
}

/// Refuses what needs captions to be compared with pictures over a tower that cannot.
pub(super) fn require_text(config: &Config, tower: &Tower) -> Result<()> {
    if tower.has_text() {
        return Ok(());
    }
    let monitor = config.train.monitor;
    let (key, value) = if config.decode.candidates > 1 {
        ("decode.candidates", config.decode.candidates.to_string())
    } else if matches!(monitor, Monitor::ImageProximity | Monitor::TextProximity) {
        ("train.monitor", format!("\"{}\"", monitor.name()))
    } else if config.caption.diffusion.text_condition && config.caption.family == Family::Diffusion {
        ("caption.diffusion.text_condition", "true".to_owned())
    } else {
        return Ok(());
    };
    let allowed = "what needs no text side of the tower, or its tokenizer in caption.tower_tokenizer";
    Err(Error::Config { key: key.into(), value, allowed: allowed.into() })
}

/// Pictures and what is written of them.
struct Captioning<'a> {
    config: &'a Config,
    tensors: Tensors<'a>,
    tower: &'a Tower,
    val: &'a Loader,
    tokenizer: &'a Tokenizer,
    device: &'a Device,
    /// What the tower saw of both splits, where that is stored.
    stored: Option<Stored>,
    stored_val: Option<Stored>,
}

impl Task for Captioning<'_> {
    type Model = CaptionTrainee;

    fn prepare(&self, batch: &Batch) -> Result<CaptionBatch> {
        let seen = match &self.stored {
            Some(stored) => {
                let samples: Vec<u64> = (0..batch.len()).map(|i| batch.sample(i)).collect();
                stored.see(&samples, self.device)?
            }
            None => self.tower.see(&self.tensors.pixels(batch, batch.len())?)?,
        };
        let length = self.config.caption.context_length;
        let captions = self.tensors.drawn(batch);
        let seed = drawn(self.config.train.seed, batch);
        let mut batch =
            CaptionBatch::new(seen.features, &captions, self.tokenizer, length, self.device, seed)?;
        let caption = &self.config.caption;
        if caption.family == Family::Diffusion && caption.diffusion.text_condition {
            batch.text = Some(self.tower.texts(&captions)?);
        }
        Ok(batch)
    }

    fn evaluate(&self, model: &CaptionTrainee, at: &At<'_>) -> Result<ValRow> {
        let config = self.config;
        let limit = Some(config.train.eval_limit).filter(|limit| *limit > 0);
        let author = Author {
            config,
            model: model.plain(),
            tower: self.tower,
            tokenizer: self.tokenizer,
            device: self.device,
            reranks: config.decode.candidates > 1,
            thumbnails: SHOWN,
            stored: self.stored_val.as_ref(),
        };
        let mut pictures = Vec::new();
        let loss = author.caption(self.val, limit, &mut |picture| {
            pictures.push(picture);
            Ok(())
        })?;
        let spread = model.plain().embeddings().map_err(Error::tensor("look at the embeddings"))?;
        let scores = CaptionRow {
            embedding_norm: spread.map(|(norm, _)| norm),
            embedding_cosine: spread.map(|(_, cosine)| cosine),
            ..captioner::scores(&pictures)
        };
        keep_samples(at, &pictures[..pictures.len().min(SHOWN)])?;
        Ok(ValRow {
            step: at.step,
            epoch: at.epoch,
            samples_seen: at.samples_seen,
            split: config.data.val_split.clone(),
            images: pictures.len(),
            captions: pictures.iter().map(|picture| picture.captions.len()).sum(),
            image_to_text: None,
            text_to_image: None,
            caption: Some(scores),
            loss: loss.mean().map(|loss| loss as f32),
            averaged: at.averaged,
            time: metrics::now(),
        })
    }

    fn keep(&self, run: &Path) -> Result<()> {
        self.tower.keep(run)
    }
}

/// What a batch's randomness is drawn from: the same when the run is resumed.
fn drawn(seed: u64, batch: &Batch) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("trainer v1 captioner batches");
    for number in [seed, batch.epoch(), batch.position()] {
        hasher.update(&number.to_le_bytes());
    }
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Writes what is said of the first pictures of the view, the same at every evaluation, as JSON lines and as a page.
fn keep_samples(at: &At<'_>, pictures: &[Captioned]) -> Result<()> {
    let io = || Error::io("write the samples of an evaluation");
    let folder = at.run.join("samples");
    fs_err::create_dir_all(&folder).map_err(io())?;
    let mut lines = String::new();
    for picture in pictures {
        let line = serde_json::to_string(picture)
            .map_err(|e| Error::DamagedFile { path: folder.clone(), reason: e.to_string() })?;
        lines.push_str(&line);
        lines.push('\n');
    }
    let name = format!("step-{:08}", at.step);
    fsync::replace(&folder.join(format!("{name}.jsonl")), lines.as_bytes()).map_err(io())?;
    let page = page(&format!("{}, step {}", at.run.display(), at.step), pictures)?;
    fsync::replace(&folder.join(format!("{name}.html")), page.as_bytes()).map_err(io())
}
