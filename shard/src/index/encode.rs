//! Rows → the bytes of an Arrow IPC file, through arrow's own writer. A pure function: the same rows give the
//! same bytes, which is how `verify` finds the changed byte of a damaged index.

use std::{path::Path, sync::Arc};

use arrow_array::{
    ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array,
    builder::{ListBuilder, StringBuilder},
};
use arrow_schema::{ArrowError, DataType, Field};

use super::{IndexRow, schema};
use crate::{Error, ImageSettings, Result};

/// The index file of `rows`; `path` only names it in errors.
pub(crate) fn encode(rows: &[IndexRow], image: &ImageSettings, path: &Path) -> Result<Vec<u8>> {
    try_encode(rows, image).map_err(|source| Error::Arrow { path: path.to_path_buf(), source })
}

fn try_encode(rows: &[IndexRow], image: &ImageSettings) -> Result<Vec<u8>, ArrowError> {
    let texts = |text: fn(&IndexRow) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(text)))
    };
    let u64s = |number: fn(&IndexRow) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(number)))
    };
    let u32s = |number: &dyn Fn(&IndexRow) -> u32| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(number)))
    };
    let same = |text: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows.len())))
    };
    let mut captions =
        ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, false));
    for row in rows {
        for caption in &row.meta.captions {
            captions.values().append_value(caption);
        }
        captions.append(true);
    }
    let columns: Vec<ArrayRef> = vec![
        texts(|row| row.meta.key.as_str()),
        texts(|row| &row.meta.source_id),
        u64s(|row| row.meta.source_row),
        u64s(|row| row.image.offset),
        u64s(|row| row.image.bytes),
        u32s(&|row| row.image.crc32),
        u64s(|row| row.json.offset),
        u64s(|row| row.json.bytes),
        u32s(&|row| row.json.crc32),
        same(image.format.name()),
        same(&image.dtype),
        same(image.layout.name()),
        u32s(&|row| row.height),
        u32s(&|row| row.width),
        Arc::new(captions.finish()),
        u32s(&|row| row.crc32(image)),
    ];
    let schema = Arc::new(schema());
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    let mut writer = arrow_ipc::writer::FileWriter::try_new(Vec::new(), &schema)?;
    writer.write(&batch)?;
    writer.into_inner()
}
