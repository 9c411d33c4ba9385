//! CLIP in the loop: pairs in, recall and validation loss out.

use super::{At, Job, Outcome, Parts, Reporter, Task, captions_of, go};
use crate::config::{Config, Monitor};
use crate::data::{self, TensorBatch, Tensors};
use crate::embed;
use crate::error::{Error, Result};
use crate::metrics::{self, ValRow};
use crate::run::RunFolder;
use crate::step::{ClipTrainee, TrainState};
use crate::tokenizer::Tokenizer;
use candle_core::Device;
use loader::{Batch, Loader};
use std::collections::BTreeMap;
use std::path::Path;

/// Trains a CLIP.
pub(super) fn train(job: Job<'_>, reporter: &mut dyn Reporter) -> Result<Outcome> {
    let config = job.config;
    let device = config.train.open_device()?;
    let loader = data::open_train(config, job.data)?;
    let val = data::open_eval(config, job.data, &config.data.val_split, config.data.val_fraction)?;
    require_val_loss(config, job.data, &val)?;
    let run = RunFolder::open(job.run, job.resume)?;
    let tokenizer = run.tokenizer(&config.tokenizer, || captions_of(&loader))?;
    let total = config.total_steps(loader.batch_count());
    let model = TrainState::new(config, tokenizer.vocab_size(), total, &device)?;
    let tensors = Tensors::new(config, &loader, &tokenizer, &device)?;
    let task = Pairs { config, tensors, val: &val, tokenizer: &tokenizer, device: &device };
    let frozen = BTreeMap::new();
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

/// Refuses to be monitored by a loss that no evaluation will have.
fn require_val_loss(config: &Config, data: &Path, val: &Loader) -> Result<()> {
    let batch_size = config.data.batch_size as u64;
    if config.train.monitor != Monitor::ValLoss || val.len() >= batch_size {
        return Ok(());
    }
    let reason = format!(
        "the view of {:?} has {} samples, fewer than a batch of data.batch_size = {batch_size}, so that there is no loss \
         for train.monitor = \"val_loss\"",
        config.data.val_split,
        val.len()
    );
    Err(Error::Data { data: data.to_path_buf(), reason })
}

/// Images and captions that belong together.
struct Pairs<'a> {
    config: &'a Config,
    tensors: Tensors<'a>,
    val: &'a Loader,
    tokenizer: &'a Tokenizer,
    device: &'a Device,
}

impl Task for Pairs<'_> {
    type Model = ClipTrainee;

    fn prepare(&self, batch: &Batch) -> Result<TensorBatch> {
        self.tensors.train(batch)
    }

    fn evaluate(&self, model: &ClipTrainee, at: &At<'_>) -> Result<ValRow> {
        let (config, clip) = (self.config, model.plain());
        let limit = Some(config.train.eval_limit).filter(|limit| *limit > 0);
        let embedded = embed::embed(clip, config, self.val, self.tokenizer, self.device, limit)?;
        let found = embedded.recall()?;
        Ok(ValRow {
            step: at.step,
            epoch: at.epoch,
            samples_seen: at.samples_seen,
            split: config.data.val_split.clone(),
            images: found.images,
            captions: found.captions,
            image_to_text: Some(found.image_to_text.shares()),
            text_to_image: Some(found.text_to_image.shares()),
            averaged: at.averaged,
            loss: embedded.loss(clip, &config.loss, config.data.batch_size)?,
            caption: None,
            time: metrics::now(),
        })
    }
}
