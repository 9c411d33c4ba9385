//! One parquet file with a column of images (bytes, or the struct of bytes and path that Hugging Face writes) and one
//! of captions (texts, or lists of them). Rows are read in batches from front to back and a few batches kept, so that
//! workers that go through the rows together find theirs; a row far from there costs its row group. It leaves out
//! images that are links.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use arrow_array::{
    Array, ArrayRef, RecordBatch, cast::AsArray as _, types::GenericBinaryType, types::GenericStringType,
};
use arrow_schema::{DataType, Schema};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
    },
};
use shard::SourceInfo;

use super::{
    Ids, Listing, LoadError, Loaded, Picture, Reason, Rejection, Source, clean_captions, columns, split_of,
};
use crate::{Error, Result, contain};

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 32;

/// Batches that are kept: more than the rows in flight at any number of cores that one machine has.
const BATCHES_KEPT: usize = 64;

/// A parquet file.
#[derive(Debug)]
pub struct Parquet {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    image: String,
    caption: String,
    listings: [Listing; 1],
    cursor: Mutex<Cursor>,
}

/// The reader at its place, with the batches that it gave last.
#[derive(Default)]
struct Cursor {
    reader: Option<ParquetRecordBatchReader>,
    /// The row that the reader gives next.
    next: usize,
    recent: VecDeque<(usize, RecordBatch)>,
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Parquet {
    /// Reads the footer of the file at `path`; ids begin with `name`.
    ///
    /// # Errors
    /// `Parse` where it is no parquet, `Layout` where it has no such columns, `Io`.
    pub fn open(path: &Path, name: &str, names: &columns::Names) -> Result<Self> {
        let file = fs_err::File::open(path).map_err(Error::io("open", path))?;
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| Error::Parse {
            path: path.to_path_buf(),
            what: "no whole parquet file (download it again)",
            source,
        };
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        // The library checks most of what a file claims, and panics at some of the rest.
        let metadata = contain::panics(|| ArrowReaderMetadata::load(file.file(), options))
            .map_err(|panic| broken(panic.into()))?
            .map_err(|source| broken(source.into()))?;
        let schema = metadata.schema();
        let fields = || schema.fields().iter().map(|field| field.name().as_str());
        let image = names.image(fields()).filter(|name| is_image(schema, name));
        // Any column of the form that Hugging Face gives images, unless the user named one.
        let other = || fields().find(|name| names.image.is_none() && has_bytes(schema, name));
        let image = image.or_else(other);
        let caption = names.caption(fields()).filter(|name| is_caption(schema, name));
        let (Some(image), Some(caption)) = (image, caption) else {
            let missing = if image.is_none() { "images (bytes)" } else { "captions (texts)" };
            let columns: Vec<String> = schema
                .fields()
                .iter()
                .map(|field| format!("{} ({})", field.name(), field.data_type()))
                .collect();
            let problem = format!(
                "no column of {missing} among {}; say which with --image-column and --caption-column",
                columns.join(", ")
            );
            return Err(Error::Layout { dataset: "parquet", path: path.to_path_buf(), problem });
        };
        let rows = usize::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        let ids: Ids = (0..rows).map(|row| format!("{name}/{row:07}")).collect();
        let (image, caption) = (image.to_owned(), caption.to_owned());
        Ok(Self {
            path: path.to_path_buf(),
            image,
            caption,
            listings: [Listing { split: split_of(name).to_owned(), ids }],
            cursor: Mutex::default(),
            metadata,
        })
    }

    /// What pins its content: a digest of its footer, which has the place and the statistics of every column chunk.
    ///
    /// # Errors
    /// `Io`.
    pub fn identity(path: &Path) -> Result<String> {
        use std::os::unix::fs::FileExt as _;
        let file = fs_err::File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let mut tail = [0; 8];
        file.file().read_exact_at(&mut tail, length.saturating_sub(8)).map_err(Error::io("read", path))?;
        let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]])).min(length);
        let mut bytes = vec![0; footer.min(256 << 20) as usize];
        let start = length.saturating_sub(8 + footer);
        file.file().read_exact_at(&mut bytes, start).map_err(Error::io("read", path))?;
        Ok(format!("{length} bytes, footer blake3 {}", blake3::hash(&bytes).to_hex()))
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Parse {
            path: self.path.clone(),
            what: "damaged parquet (download it again)",
            source: source.into(),
        }
    }

    /// A reader that begins at or before `row`, and the row that it begins with.
    fn reader_at(&self, row: usize) -> Result<(ParquetRecordBatchReader, usize)> {
        let groups = self.metadata.metadata().row_groups();
        let mut first = 0;
        let mut group = 0;
        for (number, meta) in groups.iter().enumerate() {
            let rows = usize::try_from(meta.num_rows()).unwrap_or(0);
            if row < first + rows {
                group = number;
                break;
            }
            first += rows;
        }
        let file = fs_err::File::open(&self.path).map_err(Error::io("open", &self.path))?;
        let schema = self.metadata.parquet_schema();
        let columns = [self.image.as_str(), self.caption.as_str()];
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file.into_file(), self.metadata.clone());
        let reader = builder
            .with_projection(ProjectionMask::columns(schema, columns))
            .with_row_groups((group..groups.len()).collect())
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| self.broken(error))?;
        Ok((reader, first))
    }

    /// The batch with `row` in it, and the row's place there.
    fn batch(&self, row: usize) -> Result<(RecordBatch, usize)> {
        contain::panics(|| self.read_to(row)).unwrap_or_else(|panic| Err(self.broken(panic)))
    }

    fn read_to(&self, row: usize) -> Result<(RecordBatch, usize)> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let holds =
            |(first, batch): &&(usize, RecordBatch)| (*first..*first + batch.num_rows()).contains(&row);
        if let Some((first, batch)) = cursor.recent.iter().find(holds) {
            return Ok((batch.clone(), row - first));
        }
        if cursor.reader.is_none() || row < cursor.next {
            let (reader, first) = self.reader_at(row)?;
            (cursor.reader, cursor.next) = (Some(reader), first);
        }
        loop {
            let Some(batch) = cursor.reader.as_mut().and_then(Iterator::next) else {
                return Err(self.broken(format!("row {row} is not there")));
            };
            let batch = batch.map_err(|error| self.broken(error))?;
            let first = cursor.next;
            cursor.next += batch.num_rows();
            if cursor.recent.len() == BATCHES_KEPT {
                cursor.recent.pop_front();
            }
            cursor.recent.push_back((first, batch.clone()));
            if row < cursor.next {
                return Ok((batch, row - first));
            }
        }
    }
}

fn field<'a>(schema: &'a Schema, name: &str) -> Option<&'a DataType> {
    schema.field_with_name(name).ok().map(arrow_schema::Field::data_type)
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn has_bytes(schema: &Schema, name: &str) -> bool {
    let Some(DataType::Struct(fields)) = field(schema, name) else { return false };
    fields.iter().any(|field| field.name() == "bytes" && is_bytes(field.data_type()))
}

fn is_image(schema: &Schema, name: &str) -> bool {
    field(schema, name).is_some_and(is_bytes) || has_bytes(schema, name)
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) || is_bytes(kind)
}

fn is_caption(schema: &Schema, name: &str) -> bool {
    match field(schema, name) {
        Some(DataType::List(item) | DataType::LargeList(item)) => is_text(item.data_type()),
        Some(kind) => is_text(kind),
        None => false,
    }
}

/// The bytes of row `row`, none where it is null.
fn bytes_at(array: &dyn Array, row: usize) -> Option<Vec<u8>> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Binary => Some(array.as_bytes::<GenericBinaryType<i32>>().value(row).to_vec()),
        DataType::LargeBinary => Some(array.as_bytes::<GenericBinaryType<i64>>().value(row).to_vec()),
        DataType::BinaryView => Some(array.as_binary_view().value(row).to_vec()),
        DataType::Utf8 => Some(array.as_bytes::<GenericStringType<i32>>().value(row).as_bytes().to_vec()),
        DataType::LargeUtf8 => {
            Some(array.as_bytes::<GenericStringType<i64>>().value(row).as_bytes().to_vec())
        }
        DataType::Utf8View => Some(array.as_string_view().value(row).as_bytes().to_vec()),
        DataType::Struct(_) => bytes_at(array.as_struct().column_by_name("bytes")?.as_ref(), row),
        _ => None,
    }
}

/// The texts of row `row`: one, or those of a list.
fn texts_at(array: &ArrayRef, row: usize) -> Vec<String> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if array.is_null(row) {
        return Vec::new();
    }
    let list = match array.data_type() {
        DataType::List(_) => Some(array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => Some(array.as_list::<i64>().value(row)),
        _ => None,
    };
    match list {
        Some(list) => (0..list.len()).filter_map(|item| bytes_at(list.as_ref(), item)).map(text).collect(),
        None => bytes_at(array.as_ref(), row).map(text).into_iter().collect(),
    }
}

impl Source for Parquet {
    fn info(&self) -> SourceInfo {
        SourceInfo { name: "parquet".to_owned(), revision: String::new() }
    }

    fn listings(&self) -> &[Listing] {
        &self.listings
    }

    fn load(&self, _listing: usize, row: usize, _size: u32) -> Result<Loaded, LoadError> {
        let (batch, row) = self.batch(row)?;
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| LoadError::from(self.broken(format!("no column {name}"))))
        };
        let texts = texts_at(column(&self.caption)?, row);
        let captions = clean_captions(texts.iter().map(String::as_str))?;
        let bytes = bytes_at(column(&self.image)?.as_ref(), row).unwrap_or_default();
        if bytes.is_empty() {
            return Err(Rejection::new(Reason::EmptyFile, "an image of no bytes").into());
        }
        Ok(Loaded { picture: Picture::Encoded(bytes), captions, url: None, license: None })
    }
}
