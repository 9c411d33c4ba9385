//! Features of a data set as a Parquet file: one row an image, with its captions.
//!
//! Written beside its place and renamed, a row group at a time, so that memory does not grow with the data
//! set. Leaves out reading: any Parquet reader does that.

use crate::error::{Error, Result};
use crate::fsync;
use crate::retrieval::Features;
use crate::trained::Trained;
use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, ListArray, RecordBatch, StringArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Fields, Schema};
use loader::{Batch, Loader};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// Images in a row group: at 512 numbers and five captions 50 MB.
const ROWS_A_GROUP: usize = 4096;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Rows.
    pub images: usize,
    /// Captions in all rows.
    pub captions: usize,
    /// Numbers an embedding.
    pub width: usize,
}

/// Embeds the first `limit` samples (all for `None`) of a loader for evaluation and writes them to `out`.
///
/// Columns: `key`, `image_embedding`, `captions`, `caption_embeddings`. An embedding has norm 1.
///
/// # Errors
/// [`Error::Io`], and those of [`Trained::each_batch`]; no file is left then.
pub fn write(
    trained: &Trained,
    loader: &Loader,
    split: &str,
    out: &Path,
    limit: Option<usize>,
) -> Result<Written> {
    if fs_err::metadata(out).is_ok_and(|there| !there.is_file()) {
        let source = std::io::Error::other(format!("{} is no file", out.display()));
        return Err(Error::Io { doing: "write the features", source });
    }
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = out.with_file_name(name);
    let written = write_to(trained, loader, split, &temporary, limit).and_then(|written| {
        fs_err::rename(&temporary, out).map_err(Error::io("put the features in their place"))?;
        let folder = out.parent().unwrap_or(Path::new("."));
        fsync::sync_folder(folder).map_err(Error::io("put the features in their place"))?;
        Ok(written)
    });
    if written.is_err() && temporary.exists() {
        // The first error is the one to tell; a temporary file that cannot go either is no news.
        let _ = fs_err::remove_file(&temporary);
    }
    written
}

fn write_to(
    trained: &Trained,
    loader: &Loader,
    split: &str,
    temporary: &Path,
    limit: Option<usize>,
) -> Result<Written> {
    let doing = "write the features";
    let failed = |e: parquet::errors::ParquetError| Error::Io { doing, source: std::io::Error::other(e) };
    let width = trained.config.model.embed_dim;
    let schema = Arc::new(schema(width));
    let file = fs_err::File::create(temporary).map_err(Error::io(doing))?;
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROWS_A_GROUP))
        // Embeddings do not repeat.
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(about(trained, loader, split)))
        .build();
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).map_err(failed)?;
    let mut captions = 0;
    let images = trained.each_batch(loader, limit, &mut |batch, count, features| {
        let texts: Vec<&str> = (0..count).flat_map(|i| batch.captions(i)).collect();
        captions += texts.len();
        let rows = rows(&schema, batch, count, features, &texts, trained.text_features(&texts)?);
        writer.write(&rows.map_err(|e| failed(e.into()))?).map_err(failed)
    })?;
    let file = writer.into_inner().map_err(failed)?;
    file.sync_all().map_err(Error::io(doing))?;
    Ok(Written { images, captions, width })
}

fn embedding(width: usize) -> DataType {
    // The configuration bounds the width at 16,384.
    DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, false)), width as i32)
}

fn schema(width: usize) -> Schema {
    let list = |of: DataType| DataType::List(Arc::new(Field::new("item", of, false)));
    Schema::new(Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("image_embedding", embedding(width), false),
        Field::new("captions", list(DataType::Utf8), false),
        Field::new("caption_embeddings", list(embedding(width)), false),
    ]))
}

/// Which model and which data, for whoever finds the file.
fn about(trained: &Trained, loader: &Loader, split: &str) -> Vec<KeyValue> {
    let pair = |key: &str, value: String| KeyValue::new(format!("trainer.{key}"), value);
    vec![
        pair("checkpoint", trained.checkpoint.display().to_string()),
        pair("step", trained.state.step.to_string()),
        pair("fingerprint", loader.fingerprint().to_owned()),
        pair("split", split.to_owned()),
    ]
}

fn rows(
    schema: &Arc<Schema>,
    batch: &Batch,
    count: usize,
    images: Features,
    texts: &[&str],
    captions: Features,
) -> std::result::Result<RecordBatch, arrow_schema::ArrowError> {
    let width = images.width as i32;
    let embeddings = |features: Features| {
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        FixedSizeListArray::try_new(item, width, Arc::new(Float32Array::from(features.values)), None)
    };
    let lists = |values: ArrayRef| {
        let lengths = (0..count).map(|i| batch.captions(i).len());
        let item = Arc::new(Field::new("item", values.data_type().clone(), false));
        ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, None)
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((0..count).map(|i| batch.key(i)))),
        Arc::new(embeddings(images)?),
        Arc::new(lists(Arc::new(StringArray::from_iter_values(texts)))?),
        Arc::new(lists(Arc::new(embeddings(captions)?))?),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns)
}
