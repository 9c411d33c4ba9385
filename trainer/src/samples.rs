//! The ledger of samples: how often each was learned from, and the loss that it had last.
//!
//! Eight bytes a sample of the split. It lies in each checkpoint as `samples.arrow`, an Arrow file with a row for
//! every sample that was seen, so that a resumed run has the ledger of one that was not stopped. Leaves out how a
//! sample's loss is measured; see [`sample_losses`](crate::loss::sample_losses).

use crate::checkpoint;
use crate::error::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, Float32Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use loader::Loader;
use serde::Serialize;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

/// Rows of a record batch.
const ROWS_AT_ONCE: usize = 1 << 16;

/// Bytes that a row takes at most, its key of 64 bytes included.
const ROW_BYTES: u64 = 96;

/// What is known of a sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Its number within the split.
    pub sample: u64,
    /// Its key.
    pub key: String,
    /// How often it was learned from.
    pub times_seen: u32,
    /// Its own loss when it was last learned from, in nats.
    pub last_loss: f32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Seen {
    times: u32,
    loss: f32,
}

/// The ledger during training, by the samples' numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    seen: Vec<Seen>,
    /// The step behind which it begins, where it was not kept from the first.
    begun_at: u64,
}

impl Samples {
    /// An empty ledger for the samples that take part.
    pub fn of(loader: &Loader) -> Self {
        let count = loader.samples().last().map_or(0, |last| last as usize + 1);
        Self { seen: vec![Seen::default(); count], begun_at: 0 }
    }

    /// Takes in the samples of a step with their losses.
    pub fn record(&mut self, losses: impl IntoIterator<Item = (u64, f32)>) {
        for (sample, loss) in losses {
            if let Some(seen) = self.seen.get_mut(sample as usize) {
                *seen = Seen { times: seen.times.saturating_add(1), loss };
            }
        }
    }

    /// Bytes of its file at most.
    pub fn file_bytes(&self) -> u64 {
        ROW_BYTES * self.seen.len() as u64
    }

    /// The file: samples that were seen, in the order of their numbers, with their keys.
    ///
    /// # Errors
    /// [`Error::Loader`] where the index row of a sample is damaged; [`Error::Io`].
    pub fn to_file(&self, loader: &Loader) -> Result<Vec<u8>> {
        let failed = |e: ArrowError| Error::Io {
            doing: "write the ledger of samples",
            source: std::io::Error::other(e),
        };
        let seen: Vec<(u64, Seen)> = (0..)
            .zip(&self.seen)
            .filter(|(_, seen)| seen.times > 0)
            .map(|(sample, seen)| (sample, *seen))
            .collect();
        let schema = Arc::new(schema());
        let mut writer = FileWriter::try_new(Vec::new(), &schema).map_err(failed)?;
        for rows in seen.chunks(ROWS_AT_ONCE) {
            let keys = rows
                .iter()
                .map(|(sample, _)| loader.key(*sample))
                .collect::<std::result::Result<Vec<_>, _>>()
                .map_err(Error::loader("read the keys of samples"))?;
            let columns: Vec<ArrayRef> = vec![
                Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(sample, _)| *sample))),
                Arc::new(StringArray::from_iter_values(keys)),
                Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(_, seen)| seen.times))),
                Arc::new(Float32Array::from_iter_values(rows.iter().map(|(_, seen)| seen.loss))),
            ];
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(failed)?;
            writer.write(&batch).map_err(failed)?;
        }
        writer.into_inner().map_err(failed)
    }

    /// Goes on from a checkpoint; from nothing where it was made without a ledger.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::DamagedFile`].
    pub fn resume(&mut self, checkpoint: &Path, state: &checkpoint::State) -> Result<()> {
        match checkpoint::read_samples(checkpoint, state)? {
            Some(file) => self.load(checkpoint, file),
            None => {
                self.begun_at = state.step;
                Ok(())
            }
        }
    }

    /// What a reader of the ledger should know, in one sentence.
    pub fn note(&self) -> Option<String> {
        let begun_at = Some(self.begun_at).filter(|step| *step > 0)?;
        Some(format!("the ledger of samples begins behind step {begun_at} (train.sample_ledger)"))
    }

    /// Takes over what a file says; [`Error::DamagedFile`] naming the checkpoint when it is no such file, or of
    /// more samples.
    fn load(&mut self, checkpoint: &Path, file: Vec<u8>) -> Result<()> {
        for row in rows(checkpoint, file)? {
            let Some(seen) = self.seen.get_mut(row.sample as usize) else {
                let reason = format!("its ledger of samples has the number {}", row.sample);
                return Err(Error::DamagedFile { path: checkpoint.to_path_buf(), reason });
            };
            *seen = Seen { times: row.times_seen, loss: row.last_loss };
        }
        Ok(())
    }
}

fn schema() -> Schema {
    let field = |name: &str, of: DataType| Field::new(name, of, false);
    Schema::new(vec![
        field("sample", DataType::UInt64),
        field("key", DataType::Utf8),
        field("times_seen", DataType::UInt32),
        field("last_loss", DataType::Float32),
    ])
}

/// The ledger of a checkpoint, in the order of the samples' numbers; none if it was made without.
///
/// # Errors
/// [`Error::Io`] and [`Error::DamagedFile`].
pub fn read(checkpoint: &Path, state: &checkpoint::State) -> Result<Option<Vec<Sample>>> {
    let file = checkpoint::read_samples(checkpoint, state)?;
    file.map(|file| rows(checkpoint, file)).transpose()
}

fn rows(checkpoint: &Path, file: Vec<u8>) -> Result<Vec<Sample>> {
    let damaged = |e: ArrowError| Error::DamagedFile {
        path: checkpoint.to_path_buf(),
        reason: format!("its ledger of samples cannot be read: {e}"),
    };
    let reader = FileReader::try_new(Cursor::new(file), None).map_err(damaged)?;
    if *reader.schema() != schema() {
        return Err(damaged(ArrowError::SchemaError("it has other columns".to_owned())));
    }
    let mut samples = Vec::new();
    for batch in reader {
        let batch = batch.map_err(damaged)?;
        let (numbers, keys) =
            (batch.column(0).as_primitive::<UInt64Type>(), batch.column(1).as_string::<i32>());
        let times = batch.column(2).as_primitive::<UInt32Type>();
        let losses = batch.column(3).as_primitive::<Float32Type>();
        samples.extend((0..batch.num_rows()).map(|row| Sample {
            sample: numbers.value(row),
            key: keys.value(row).to_owned(),
            times_seen: times.value(row),
            last_loss: losses.value(row),
        }));
    }
    Ok(samples)
}

/// The `count` samples of the highest last loss, the hardest first; of equal ones the lower number.
pub fn hardest(mut samples: Vec<Sample>, count: usize) -> Vec<Sample> {
    samples.sort_by(|a, b| b.last_loss.total_cmp(&a.last_loss).then(a.sample.cmp(&b.sample)));
    samples.truncate(count);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use testkit::Spec;

    #[test]
    fn the_file_gives_back_counts_and_losses_to_the_bit() {
        let data = Spec::small().size(32).temporary();
        let set = ["data.batch_size=4".to_owned()];
        let config = Config::from_toml("model.preset = \"nano\"", "test.toml", &set).unwrap();
        let loader = crate::data::open_train(&config, data.path()).unwrap();
        let mut samples = Samples::of(&loader);
        assert_eq!(std::mem::size_of::<Seen>(), 8);
        samples.record([(0, 0.1), (3, 2.5), (0, 0.3)]);
        samples.record([(u64::MAX, 1.0)]);
        let file = samples.to_file(&loader).unwrap();
        assert!((file.len() as u64) < samples.file_bytes() + (1 << 20));
        let mut again = Samples::of(&loader);
        again.load(Path::new("c"), file.clone()).unwrap();
        assert_eq!(again, samples);
        assert_eq!(again.to_file(&loader).unwrap(), file);
        let listed = rows(Path::new("c"), file.clone()).unwrap();
        let seen: Vec<(u64, u32, f32)> =
            listed.iter().map(|s| (s.sample, s.times_seen, s.last_loss)).collect();
        assert_eq!(seen, [(0, 2, 0.3), (3, 1, 2.5)]);
        assert_eq!(listed[1].key, loader.key(3).unwrap());
        assert_eq!(hardest(listed, 1)[0].sample, 3);
        for damaged in [file[..file.len() / 2].to_vec(), b"nothing".to_vec()] {
            let error = again.load(Path::new("c"), damaged).unwrap_err().to_string();
            assert!(error.contains("ledger of samples"), "{error}");
        }
        let error =
            Samples { seen: Vec::new(), begun_at: 0 }.load(Path::new("c"), file).unwrap_err().to_string();
        assert!(error.contains("the number 0"), "{error}");
    }
}
