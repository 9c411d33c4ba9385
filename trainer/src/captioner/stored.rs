//! What a tower sees of a data set, kept as a side table of its shards, so that a frozen tower runs once.
//!
//! The table `tower-DIGEST` of each shard has the columns `key`, `embedding` (E numbers) and, for patches, `features` (rows
//! × numbers); its schema names the whole digest of the tower's weights, sizes and normalisation, without which it is
//! not used. Leaves out towers, and how side tables are written, which is the format's.

use super::tower::{Seen, SeenShape, Tower};
use super::tower_view;
use crate::config::{Config, DataConfig, ImageFeatures};
use crate::data::{self, Tensors};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use candle_core::{Device, Tensor};
use loader::Loader;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The schema's entry with the tower's digest.
const DIGEST: &str = "tower";

/// The share of free memory that a table may fill.
const SHARE: f64 = 0.5;

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredTable {
    /// The side table's name.
    pub table: String,
    /// The split.
    pub split: String,
    /// Pictures.
    pub images: usize,
    /// Numbers a picture.
    pub numbers: usize,
}

fn name(tower: &Tower) -> String {
    format!("tower-{}", &tower.digest()[..16])
}

/// Looks at every picture of a split and writes what the tower saw beside its shards; `tell` hears how many there are.
///
/// # Errors
/// [`Error::Loader`] naming a damaged sample, [`Error::Tensor`], and [`Error::Data`] when the table cannot be written.
pub fn store(
    tower: &Tower,
    data: &Path,
    split: &str,
    device: &Device,
    tell: &mut dyn FnMut(usize),
) -> Result<StoredTable> {
    let base = Config {
        data: DataConfig { val_split: split.to_owned(), batch_size: 64, ..DataConfig::default() },
        ..Config::default()
    };
    let view = tower_view(&base, tower);
    let loader = data::open_eval(&view, data, split, 1.0)?;
    // Captions are not looked at.
    let words = Tokenizer::train(["none"], 300)?;
    let tensors = Tensors::new(&view, &loader, &words, device)?;
    let mut batches = loader.epoch(0).map_err(Error::loader("begin to read the images"))?;
    let mut ready = Rows::default();
    let mut failed = None;
    let mut images = 0;
    let table = name(tower);
    let written = shard::side_table::write(data, split, &table, |shard| {
        let mut more = |ready: &mut Rows| -> Result<bool> {
            let Some(batch) = batches.next() else { return Ok(false) };
            let batch = batch.map_err(Error::loader("read a batch of images"))?;
            let count = batch.valid_count();
            let seen = tower.see(&tensors.pixels(&batch, count)?)?;
            ready.take(&seen, tower.features()).map_err(Error::tensor("read features back"))?;
            images += count;
            tell(images);
            Ok(true)
        };
        while ready.count < shard.len() {
            match more(&mut ready) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    failed = Some(error);
                    return Err(given_up(&table));
                }
            }
        }
        let keys = (0..shard.len()).map(|row| Ok(shard.row(row)?.key.to_owned()));
        let keys = keys.collect::<shard::Result<Vec<String>>>()?;
        ready.batch(keys, tower).map_err(|reason| {
            failed = Some(Error::Data { data: data.to_path_buf(), reason });
            given_up(&table)
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let fail = |e: shard::Error| Error::Data { data: data.to_path_buf(), reason: with_causes(&e) };
    written.map_err(fail)?;
    let SeenShape { rows, inputs, .. } = tower.shape();
    Ok(StoredTable { table, split: split.to_owned(), images, numbers: rows * inputs })
}

/// What helps against a table that cannot be used.
const AGAIN: &str = "; write it again with `trainer embed --side-table`";

/// Ends the writing of a table; the cause is told by whoever ended it.
fn given_up(table: &str) -> shard::Error {
    shard::Error::Unfit { what: "side table", value: table.to_owned(), rule: "a row for every sample" }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Rows that no shard has taken yet.
#[derive(Default)]
struct Rows {
    embedding: Vec<f32>,
    features: Vec<f32>,
    count: usize,
}

impl Rows {
    fn take(&mut self, seen: &Seen, kind: ImageFeatures) -> candle_core::Result<()> {
        self.count += seen.embedding.dim(0)?;
        self.embedding.extend(seen.embedding.flatten_all()?.to_vec1::<f32>()?);
        if kind == ImageFeatures::Patches {
            self.features.extend(seen.features.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }

    /// The first rows as a record batch with these keys.
    fn batch(&mut self, keys: Vec<String>, tower: &Tower) -> std::result::Result<RecordBatch, String> {
        let count = keys.len();
        if self.count < count {
            return Err(format!("{count} rows, of which {} were read", self.count));
        }
        self.count -= count;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(keys))];
        let mut fields = vec![Field::new("key", DataType::Utf8, false)];
        let mut add = |name: &str, numbers: &mut Vec<f32>, width: usize| {
            let rest = numbers.split_off(count * width);
            let taken = std::mem::replace(numbers, rest);
            let item = Arc::new(Field::new("item", DataType::Float32, false));
            let width = i32::try_from(width).map_err(|e| e.to_string())?;
            let values: ArrayRef = Arc::new(Float32Array::from(taken));
            let list = FixedSizeListArray::try_new(Arc::clone(&item), width, values, None);
            columns.push(Arc::new(list.map_err(|e| e.to_string())?));
            fields.push(Field::new(name, DataType::FixedSizeList(item, width), false));
            Ok::<(), String>(())
        };
        add("embedding", &mut self.embedding, tower.config.model.embed_dim)?;
        let SeenShape { rows, inputs, .. } = tower.shape();
        if tower.features() == ImageFeatures::Patches {
            add("features", &mut self.features, rows * inputs)?;
        }
        let metadata = HashMap::from([(DIGEST.to_owned(), tower.digest().to_owned())]);
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        RecordBatch::try_new(schema, columns).map_err(|e| e.to_string())
    }
}

/// What was stored of a split, in memory.
#[derive(Debug)]
pub(crate) struct Stored {
    embedding: Vec<f32>,
    /// Empty for vectors.
    features: Vec<f32>,
    shape: (usize, usize),
    width: usize,
    kind: ImageFeatures,
}

impl Stored {
    /// Reads the table of a tower for the split of `loader`; none where there is none for every shard, or where it does
    /// not fit in memory, which the second value then says.
    ///
    /// # Errors
    /// [`Error::Data`] when a table is damaged or of another tower.
    pub(crate) fn open(tower: &Tower, loader: &Loader) -> Result<(Option<Self>, Option<String>)> {
        let (dataset, split, table) = (loader.dataset(), &loader.config().split, name(tower));
        let fail = |reason: String| Error::Data { data: dataset.dir().to_path_buf(), reason };
        let entry = dataset.split(split).map_err(|e| fail(with_causes(&e)))?;
        let listed: Option<Vec<u64>> =
            entry.shards.iter().map(|shard| shard.side_tables.get(&table).map(|t| t.bytes)).collect();
        let Some(bytes) = listed.map(|all| all.iter().sum::<u64>()) else { return Ok((None, None)) };
        if let Some(free) = loader::available_memory().filter(|free| bytes as f64 > SHARE * *free as f64) {
            let note = format!(
                "the side table {table} takes {:.1} GB, more than half of the {:.1} GB that are free: the tower runs instead",
                bytes as f64 / 1e9,
                free as f64 / 1e9
            );
            return Ok((None, Some(note)));
        }
        let SeenShape { rows, inputs, embed_dim: width } = tower.shape();
        let (shape, kind) = ((rows, inputs), tower.features());
        let mut stored = Self { embedding: Vec::new(), features: Vec::new(), shape, width, kind };
        for shard in 0..entry.shards.len() {
            let batch = shard::side_table::read(dataset, split, shard, &table);
            let batch = batch.map_err(|e| fail(format!("{}{AGAIN}", with_causes(&e))))?;
            if batch.schema().metadata().get(DIGEST).map(String::as_str) != Some(tower.digest()) {
                return Err(fail(format!("the side table {table} is of another tower{AGAIN}")));
            }
            let whole = |name: &str, width: usize, into: &mut Vec<f32>| -> Result<()> {
                let wrong = || {
                    fail(format!(
                        "the side table {table} has no column {name} of {width} numbers a row{AGAIN}"
                    ))
                };
                let list =
                    batch.column_by_name(name).and_then(|c| c.as_fixed_size_list_opt()).ok_or_else(wrong)?;
                let values = list.values().as_primitive_opt::<Float32Type>().ok_or_else(wrong)?;
                let has_nulls = list.null_count() > 0 || values.null_count() > 0;
                if values.len() != batch.num_rows() * width || has_nulls {
                    return Err(wrong());
                }
                if !values.values().iter().all(|value| value.is_finite()) {
                    return Err(fail(format!(
                        "{name} of the side table {table} has what is no finite number{AGAIN}"
                    )));
                }
                into.extend_from_slice(values.values());
                Ok(())
            };
            whole("embedding", width, &mut stored.embedding)?;
            if kind == ImageFeatures::Patches {
                whole("features", shape.0 * shape.1, &mut stored.features)?;
            }
        }
        let note =
            format!("what the tower sees is read from the side table {table}, and the tower does not run");
        Ok((Some(stored), Some(note)))
    }

    /// What the tower saw of some samples, by their numbers within the split.
    pub(crate) fn see(&self, samples: &[u64], device: &Device) -> Result<Seen> {
        let rows = |numbers: &[f32], width: usize| -> Option<Vec<f32>> {
            let mut all = Vec::with_capacity(samples.len() * width);
            for sample in samples {
                let first = usize::try_from(*sample).ok()? * width;
                all.extend_from_slice(numbers.get(first..first + width)?);
            }
            Some(all)
        };
        let (count, width) = (samples.len(), self.width);
        let missing = || candle_core::Error::Msg("a sample is not in the side table".into());
        let make = || {
            let embedding = rows(&self.embedding, width).ok_or_else(missing)?;
            let embedding = Tensor::from_vec(embedding, (count, width), device)?;
            let features = match self.kind {
                ImageFeatures::Vector => (&embedding * (width as f64).sqrt())?.unsqueeze(1)?,
                ImageFeatures::Patches => {
                    let (patches, numbers) = self.shape;
                    let features = rows(&self.features, patches * numbers).ok_or_else(missing)?;
                    Tensor::from_vec(features, (count, patches, numbers), device)?
                }
            };
            Ok(Seen { features, embedding })
        };
        make().map_err(Error::tensor("read the side table of image features"))
    }
}
