//! A run's measurements: `metrics.jsonl`, one row a line, and TensorBoard events as a view of it.
//!
//! On resume the rows behind the checkpoint's step are dropped and the events are written anew from the
//! rows that stay, so that both always tell one run's story. Leaves out plots.

use crate::error::{Error, Result};
use crate::fsync;
use crate::tensorboard::EventWriter;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file in a run's folder.
pub const FILE: &str = "metrics.jsonl";

/// One row of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Row {
    /// A training step.
    Train(TrainRow),
    /// An evaluation.
    Val(ValRow),
    /// The gradient's norm by layer.
    Norms(NormsRow),
}

/// What one training step measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainRow {
    /// Optimizer steps made, this one included.
    pub step: u64,
    /// The epoch that the batch came from, from 0.
    pub epoch: u64,
    /// Samples learned from in all.
    pub samples_seen: u64,
    /// The step's loss, in nats.
    pub loss: f32,
    /// The step's learning rate.
    pub lr: f64,
    /// The gradient's global norm before clipping.
    pub grad_norm: f64,
    /// The logit scale after the step (its exponential: 1/temperature); none for a model without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_scale: Option<f64>,
    /// Samples a second since the last row.
    pub samples_per_s: f64,
    /// Share of the time since the last row that was spent waiting for data.
    pub data_wait: f64,
    /// Seconds since 1970.
    pub time: f64,
}

/// What one evaluation measured; recall as shares from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValRow {
    /// Optimizer steps made.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Samples learned from in all.
    pub samples_seen: u64,
    /// The split.
    pub split: String,
    /// Images searched among.
    pub images: usize,
    /// Captions searched among.
    pub captions: usize,
    /// Recall at 1, 5 and 10 from image to text; none for a captioner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_to_text: Option<[f64; 3]>,
    /// Recall at 1, 5 and 10 from text to image; none for a captioner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_to_image: Option<[f64; 3]>,
    /// What was measured of a captioner's captions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<CaptionRow>,
    /// The mean loss in nats: a CLIP's over whole batches of the configured size (none with fewer samples), a
    /// captioner's over tokens.
    #[serde(default)]
    pub loss: Option<f32>,
    /// Whether the averaged weights were evaluated (`train.ema_decay`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub averaged: bool,
    /// Seconds since 1970.
    pub time: f64,
}

/// What one evaluation measured of a captioner's captions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptionRow {
    /// CIDEr of the captions against all references.
    pub cider: f64,
    /// BLEU-4 of the corpus.
    pub bleu_4: f64,
    /// ROUGE-L.
    pub rouge_l: f64,
    /// Mean cosine of a caption to its picture, by the tower; none where the tower has no text side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_proximity: Option<f64>,
    /// Mean cosine of a caption to its best reference, by the tower; none where the tower has no text side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_proximity: Option<f64>,
    /// Share of a caption's bigrams that occurred earlier in it, the mean over captions.
    pub repeated_bigrams: f64,
    /// Different words over all words of the captions.
    pub distinct_1: f64,
    /// Tokens of a caption, the mean.
    pub length: f64,
    /// Share of captions that were cut before they ended.
    pub without_end: f64,
    /// Of embeddings that a diffusion learns: the mean norm of a token's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_norm: Option<f64>,
    /// And the mean cosine of two tokens': near 1 they have fallen together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_cosine: Option<f64>,
}

/// The gradient of one training step by layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NormsRow {
    /// Optimizer steps made, this one included.
    pub step: u64,
    /// The gradient's norm before clipping, of each block of the towers and each tensor outside of them.
    pub grad_norms: BTreeMap<String, f64>,
    /// Seconds since 1970.
    pub time: f64,
}

impl Row {
    /// Optimizer steps made.
    pub fn step(&self) -> u64 {
        match self {
            Self::Train(row) => row.step,
            Self::Val(row) => row.step,
            Self::Norms(row) => row.step,
        }
    }

    fn time(&self) -> f64 {
        match self {
            Self::Train(row) => row.time,
            Self::Val(row) => row.time,
            Self::Norms(row) => row.time,
        }
    }

    fn scalars(&self) -> Vec<(&'static str, f64)> {
        match self {
            Self::Train(row) => [
                ("train/loss", f64::from(row.loss)),
                ("train/lr", row.lr),
                ("train/grad_norm", row.grad_norm),
            ]
            .into_iter()
            .chain(row.logit_scale.map(|scale| ("train/logit_scale", scale)))
            .chain([("train/samples_per_s", row.samples_per_s), ("train/data_wait", row.data_wait)])
            .collect(),
            Self::Val(row) => row.scalars(),
            // Their names are the model's, see `events`.
            Self::Norms(_) => Vec::new(),
        }
    }

    /// Writes the row's figures as one event.
    fn events(&self, events: &mut EventWriter) -> Result<()> {
        let Self::Norms(row) = self else { return events.scalars(self.time(), self.step(), &self.scalars()) };
        let tags: Vec<String> = row.grad_norms.keys().map(|layer| format!("grad_norm/{layer}")).collect();
        let values: Vec<(&str, f64)> =
            tags.iter().map(String::as_str).zip(row.grad_norms.values().copied()).collect();
        events.scalars(row.time, row.step, &values)
    }
}

impl ValRow {
    fn scalars(&self) -> Vec<(&'static str, f64)> {
        let recall = |tags: [&'static str; 3], shares: Option<[f64; 3]>| {
            shares.into_iter().flat_map(move |shares| tags.into_iter().zip(shares))
        };
        let image_to_text = [
            "val/image_to_text_recall_at_1",
            "val/image_to_text_recall_at_5",
            "val/image_to_text_recall_at_10",
        ];
        let text_to_image = [
            "val/text_to_image_recall_at_1",
            "val/text_to_image_recall_at_5",
            "val/text_to_image_recall_at_10",
        ];
        let mut scalars: Vec<_> = recall(image_to_text, self.image_to_text)
            .chain(recall(text_to_image, self.text_to_image))
            .chain(self.loss.map(|loss| ("val/loss", f64::from(loss))))
            .collect();
        if let Some(row) = &self.caption {
            scalars.extend([
                ("val/cider", row.cider),
                ("val/bleu_4", row.bleu_4),
                ("val/rouge_l", row.rouge_l),
            ]);
            scalars.extend(row.image_proximity.map(|value| ("val/image_proximity", value)));
            scalars.extend(row.text_proximity.map(|value| ("val/text_proximity", value)));
            scalars.extend([
                ("val/repeated_bigrams", row.repeated_bigrams),
                ("val/distinct_1", row.distinct_1),
                ("val/length", row.length),
                ("val/without_end", row.without_end),
            ]);
            scalars.extend(row.embedding_norm.map(|value| ("val/embedding_norm", value)));
            scalars.extend(row.embedding_cosine.map(|value| ("val/embedding_cosine", value)));
        }
        scalars
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// The rows of a run so far; a last line that was cut short is left out.
///
/// # Errors
/// [`Error::Io`], and [`Error::DamagedFile`] for a line in the middle that is no row.
pub fn read(run: &Path) -> Result<Vec<Row>> {
    let path = run.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs_err::read(&path).map_err(Error::io("read the metrics"))?;
    let text = String::from_utf8_lossy(&text);
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    let mut rows = Vec::new();
    for (number, line) in complete.lines().enumerate() {
        let row = serde_json::from_str(line).map_err(|e| Error::DamagedFile {
            path: path.clone(),
            reason: format!("line {} is not a row: {e}", number + 1),
        })?;
        rows.push(row);
    }
    Ok(rows)
}

/// Writes rows as they come.
#[derive(Debug)]
pub struct MetricsLog {
    file: fs_err::File,
    events: EventWriter,
}

impl MetricsLog {
    /// Opens the log of a run with the rows up to and including `step`; later ones are dropped.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::DamagedFile`].
    pub fn open(run: &Path, step: u64) -> Result<Self> {
        let mut rows = read(run)?;
        rows.retain(|row| row.step() <= step);
        let mut text = String::new();
        for row in &rows {
            text.push_str(&line(row)?);
        }
        let path = run.join(FILE);
        fsync::replace(&path, text.as_bytes()).map_err(Error::io("write the metrics"))?;
        remove_events(run)?;
        let begun = rows.first().map_or_else(now, Row::time);
        let mut events = EventWriter::create(run, begun)?;
        for row in &rows {
            row.events(&mut events)?;
        }
        events.flush()?;
        let file =
            fs_err::OpenOptions::new().append(true).open(&path).map_err(Error::io("open the metrics"))?;
        Ok(Self { file, events })
    }

    /// Adds a row to both files.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add(&mut self, row: &Row) -> Result<()> {
        self.file.write_all(line(row)?.as_bytes()).map_err(Error::io("write the metrics"))?;
        row.events(&mut self.events)?;
        self.events.flush()
    }

    /// Waits until the disk has every row.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_all().map_err(Error::io("write the metrics"))
    }
}

fn line(row: &Row) -> Result<String> {
    let mut line = serde_json::to_string(row)
        .map_err(|e| Error::DamagedFile { path: PathBuf::from(FILE), reason: e.to_string() })?;
    line.push('\n');
    Ok(line)
}

fn remove_events(run: &Path) -> Result<()> {
    for entry in fs_err::read_dir(run).map_err(Error::io("list the run's folder"))? {
        let entry = entry.map_err(Error::io("list the run's folder"))?;
        if entry.file_name().to_string_lossy().starts_with("events.out.tfevents.") {
            fs_err::remove_file(entry.path()).map_err(Error::io("remove the earlier event file"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64) -> Row {
        Row::Train(TrainRow {
            step,
            epoch: 0,
            samples_seen: step * 4,
            loss: 0.1 + step as f32,
            lr: 1e-3,
            grad_norm: 0.5,
            logit_scale: Some(14.3),
            samples_per_s: 10.0,
            data_wait: 0.01,
            time: 1.7e9 + step as f64,
        })
    }

    fn event_files(run: &Path) -> usize {
        let names = fs_err::read_dir(run).unwrap().map(|e| e.unwrap().file_name());
        names.filter(|n| n.to_string_lossy().starts_with("events")).count()
    }

    #[test]
    fn resuming_drops_the_rows_behind_the_checkpoint() {
        let run = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(run.path(), 0).unwrap();
        (1..=5).for_each(|step| log.add(&row(step)).unwrap());
        log.sync().unwrap();
        let mut log = MetricsLog::open(run.path(), 3).unwrap();
        assert_eq!(read(run.path()).unwrap(), (1..=3).map(row).collect::<Vec<_>>());
        log.add(&row(4)).unwrap();
        assert_eq!(read(run.path()).unwrap(), (1..=4).map(row).collect::<Vec<_>>());
        assert_eq!(event_files(run.path()), 1);
    }

    #[test]
    fn a_last_line_cut_short_is_left_out_and_one_in_the_middle_is_damage() {
        let run = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(run.path(), 0).unwrap();
        (1..=2).for_each(|step| log.add(&row(step)).unwrap());
        let path = run.path().join(FILE);
        let text = fs_err::read_to_string(&path).unwrap();
        fs_err::write(&path, &text[..text.len() - 9]).unwrap();
        assert_eq!(read(run.path()).unwrap(), [row(1)]);
        fs_err::write(&path, format!("{{\n{text}")).unwrap();
        assert!(read(run.path()).unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn a_loss_keeps_its_bits() {
        let exact = f32::from_bits(0x4012_3457);
        let text = serde_json::to_string(&exact).unwrap();
        assert_eq!(serde_json::from_str::<f32>(&text).unwrap().to_bits(), exact.to_bits());
    }
}
