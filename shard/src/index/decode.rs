//! Mapped bytes → rows, without trusting any of them.
//!
//! Arrow's own reader checks every offset and every text when it opens a file. Here opening reads the footer and
//! one message header, and a row is checked (bounds, UTF-8, its CRC) when it is asked for. Arrow's flatbuffer
//! code, with its verifier, does the metadata. It leaves out all columns but those of version 1.

use std::path::Path;

use arrow_ipc::MetadataVersion;

use super::{Payload, Row, schema};
use crate::{Error, ImageFormat, Key, Layout, Result, SIDE_MAX};

const MAGIC: &[u8] = b"ARROW1";

/// Bytes of the metadata of one message that a reader accepts; those of an index take about 2 kB.
const METADATA_BYTES_MAX: usize = 1 << 20;

/// A range of the index file.
type Range = std::ops::Range<usize>;

/// A text column: 32-bit offsets into values.
#[derive(Debug, Clone)]
struct TextColumn {
    offsets: Range,
    values: Range,
}

/// Where the columns of an index lie in its bytes. Holds no borrow, so it can live beside the mapping.
#[derive(Debug, Clone)]
pub struct Index {
    len: usize,
    key: TextColumn,
    source_id: TextColumn,
    source_row: Range,
    image: [Range; 3],
    json: [Range; 3],
    image_format: TextColumn,
    dtype: TextColumn,
    layout: TextColumn,
    height: Range,
    width: Range,
    caption_ends: Range,
    captions: TextColumn,
    row_crc32: Range,
}

impl Index {
    /// Finds the columns. Costs the same for any number of samples.
    ///
    /// # Errors
    /// `Corrupt` where the bytes are not an index of version 1. `path` only names the file.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let file = File { bytes, path };
        let footer = file.footer()?;
        file.check_schema(&footer)?;
        let (batch, body) = file.record_batch(&footer)?;
        let len = usize::try_from(batch.length())
            .map_err(|_| file.corrupt(body, "number of samples", "0 or more", batch.length()))?;
        let mut columns = Columns { file: &file, batch, body, len, node: 0, buffer: 0 };
        let index = Self {
            len,
            key: columns.text()?,
            source_id: columns.text()?,
            source_row: columns.fixed(8)?,
            image: [columns.fixed(8)?, columns.fixed(8)?, columns.fixed(4)?],
            json: [columns.fixed(8)?, columns.fixed(8)?, columns.fixed(4)?],
            image_format: columns.text()?,
            dtype: columns.text()?,
            layout: columns.text()?,
            height: columns.fixed(4)?,
            width: columns.fixed(4)?,
            caption_ends: columns.list()?,
            captions: columns.child_text()?,
            row_crc32: columns.fixed(4)?,
        };
        Ok(index)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The row of sample `row`, checked: bounds, UTF-8, values and CRC-32. `bytes` is what `parse` was given.
    ///
    /// # Errors
    /// `Corrupt` where the row breaks the format or its checksum.
    ///
    /// # Panics
    /// If `row` is not below `len()`.
    pub fn row<'a>(&self, bytes: &'a [u8], path: &Path, row: usize) -> Result<Row<'a>> {
        assert!(row < self.len, "row {row} of an index with {} rows", self.len);
        let file = File { bytes, path };
        let key = file.text(&self.key, row, "key")?;
        let named = |error: Error| {
            if Key::fits(key) { error.at_key(key) } else { error.at_key(&format!("in row {row}")) }
        };
        let found = self.row_of(&file, row, key).map_err(named)?;
        let at = self.row_crc32.start + 4 * row;
        let stored = file.u32(&self.row_crc32, row)?;
        let computed = found.crc32();
        if stored != computed {
            let problem = format!("CRC-32 of row {row}");
            return Err(named(file.corrupt(at, problem, format!("{stored:08x}"), format!("{computed:08x}"))));
        }
        Ok(found)
    }

    fn row_of<'a>(&self, file: &File<'a, '_>, row: usize, key: &'a str) -> Result<Row<'a>> {
        let at = |range: &Range, width: usize| range.start + width * row;
        if !Key::fits(key) {
            return Err(file.corrupt(at(&self.key.offsets, 4), "key", "the key rule", format!("{key:?}")));
        }
        let image_format = match file.text(&self.image_format, row, "image_format")? {
            "npy" => ImageFormat::Npy,
            "jpg" => ImageFormat::Jpg,
            other => {
                return Err(file.corrupt(
                    self.image_format.values.start,
                    "image_format",
                    "npy or jpg",
                    other,
                ));
            }
        };
        let dtype = file.text(&self.dtype, row, "dtype")?;
        if dtype != "uint8" {
            return Err(file.corrupt(self.dtype.values.start, "dtype", "uint8", dtype));
        }
        let layout = match file.text(&self.layout, row, "layout")? {
            "chw" => Layout::Chw,
            "hwc" => Layout::Hwc,
            other => return Err(file.corrupt(self.layout.values.start, "layout", "chw or hwc", other)),
        };
        let (height, width) = (file.u32(&self.height, row)?, file.u32(&self.width, row)?);
        for (side, range) in [(height, &self.height), (width, &self.width)] {
            if !(1..=SIDE_MAX).contains(&side) {
                return Err(file.corrupt(at(range, 4), "height or width", format!("1 to {SIDE_MAX}"), side));
            }
        }
        let payload = |columns: &[Range; 3]| -> Result<Payload> {
            Ok(Payload {
                offset: file.u64(&columns[0], row)?,
                bytes: file.u64(&columns[1], row)?,
                crc32: file.u32(&columns[2], row)?,
            })
        };
        Ok(Row {
            key,
            source_id: file.text(&self.source_id, row, "source_id")?,
            source_row: file.u64(&self.source_row, row)?,
            image: payload(&self.image)?,
            json: payload(&self.json)?,
            image_format,
            layout,
            height,
            width,
            captions: self.captions_of(file, row)?,
        })
    }

    fn captions_of<'a>(&self, file: &File<'a, '_>, row: usize) -> Result<Captions<'a>> {
        let (first, end) = (file.u32(&self.caption_ends, row)?, file.u32(&self.caption_ends, row + 1)?);
        let count = (self.captions.offsets.len() / 4).saturating_sub(1);
        if first > end || end as usize > count {
            let at = self.caption_ends.start + 4 * row;
            return Err(file.corrupt(
                at,
                "captions",
                format!("a range within 0..{count}"),
                format!("{first}..{end}"),
            ));
        }
        for caption in first..end {
            file.text(&self.captions, caption as usize, "caption")?;
        }
        Ok(Captions {
            offsets: &file.bytes[self.captions.offsets.clone()][4 * first as usize..4 * (end as usize + 1)],
            values: &file.bytes[self.captions.values.clone()],
        })
    }

    /// The end of the last column that version 1 knows, for what `verify` says of bytes outside of rows.
    pub(crate) fn is_row_byte(&self, position: usize) -> bool {
        let texts =
            [&self.key, &self.source_id, &self.image_format, &self.dtype, &self.layout, &self.captions];
        texts.iter().any(|column| column.offsets.contains(&position) || column.values.contains(&position))
            || [&self.source_row, &self.height, &self.width, &self.caption_ends, &self.row_crc32]
                .iter()
                .any(|range| range.contains(&position))
            || self.image.iter().chain(&self.json).any(|range| range.contains(&position))
    }
}

/// The captions of one sample, in the source's order.
#[derive(Debug, Clone, Copy)]
pub struct Captions<'a> {
    offsets: &'a [u8],
    values: &'a [u8],
}

impl<'a> Captions<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        (self.offsets.len() / 4).saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Caption number `caption`.
    pub fn get(&self, caption: usize) -> Option<&'a str> {
        if caption >= self.len() {
            return None;
        }
        let end = |at: usize| {
            let bytes = self.offsets[4 * at..4 * at + 4].try_into().expect("a slice of four bytes");
            u32::from_le_bytes(bytes) as usize
        };
        let text = &self.values[end(caption)..end(caption + 1)];
        Some(std::str::from_utf8(text).expect("checked when the row was read"))
    }
}

/// A sample's captions, one after the other.
#[derive(Debug, Clone)]
pub struct CaptionsIter<'a> {
    captions: Captions<'a>,
    left: std::ops::Range<usize>,
}

impl<'a> Iterator for CaptionsIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.captions.get(self.left.next()?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl ExactSizeIterator for CaptionsIter<'_> {}

impl<'a> IntoIterator for Captions<'a> {
    type Item = &'a str;
    type IntoIter = CaptionsIter<'a>;

    fn into_iter(self) -> CaptionsIter<'a> {
        CaptionsIter { captions: self, left: 0..self.len() }
    }
}

/// The file's bytes with the name that errors carry.
struct File<'a, 'p> {
    bytes: &'a [u8],
    path: &'p Path,
}

impl<'a> File<'a, '_> {
    fn corrupt(
        &self,
        offset: usize,
        problem: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Error {
        Error::corrupt(self.path, offset as u64, problem, expected, found)
    }

    fn slice(&self, offset: usize, bytes: usize, what: &str) -> Result<&'a [u8]> {
        offset.checked_add(bytes).and_then(|end| self.bytes.get(offset..end)).ok_or_else(|| {
            let end = self.bytes.len();
            self.corrupt(
                offset.min(end),
                what,
                format!("{bytes} bytes at {offset}"),
                format!("a file of {end} bytes"),
            )
        })
    }

    fn word(&self, offset: usize, what: &str) -> Result<u32> {
        let bytes = self.slice(offset, 4, what)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("a slice of four bytes")))
    }

    fn footer(&self) -> Result<arrow_ipc::Footer<'a>> {
        let len = self.bytes.len();
        let head = self.slice(0, 8, "Arrow magic")?;
        if &head[..6] != MAGIC {
            return Err(self.corrupt(0, "Arrow magic", "ARROW1", String::from_utf8_lossy(&head[..6])));
        }
        let tail = self.slice(len.saturating_sub(10), 10.min(len), "Arrow footer")?;
        if tail.len() < 10 || &tail[4..] != MAGIC {
            return Err(self.corrupt(
                len.saturating_sub(6),
                "Arrow magic at the end",
                "ARROW1",
                "other bytes",
            ));
        }
        let bytes = self.word(len - 10, "Arrow footer")? as usize;
        if bytes > METADATA_BYTES_MAX || bytes + 18 > len {
            // Head and tail may overlap: a file of 10 to 17 bytes has both.
            let room = METADATA_BYTES_MAX.min(len.saturating_sub(18));
            return Err(self.corrupt(
                len - 10,
                "length of the Arrow footer",
                format!("at most {room}"),
                bytes,
            ));
        }
        let start = len - 10 - bytes;
        arrow_ipc::root_as_footer(&self.bytes[start..len - 10])
            .map_err(|error| self.corrupt(start, "Arrow footer", "a valid flatbuffer", error))
    }

    fn check_schema(&self, footer: &arrow_ipc::Footer<'a>) -> Result<()> {
        let at = self.bytes.len() - 10;
        if footer.version() != MetadataVersion::V5 {
            return Err(self.corrupt(at, "Arrow metadata version", "V5", format!("{:?}", footer.version())));
        }
        let found = footer.schema().ok_or_else(|| self.corrupt(at, "Arrow schema", "one", "none"))?;
        if found.endianness() != arrow_ipc::Endianness::Little {
            return Err(self.corrupt(at, "byte order", "little-endian", "big-endian"));
        }
        let fields = found.fields().ok_or_else(|| self.corrupt(at, "Arrow schema", "fields", "none"))?;
        for (number, expected) in schema().fields().iter().enumerate() {
            if number >= fields.len() {
                return Err(self.corrupt(at, "columns", expected.name(), "no more columns"));
            }
            let field = fields.get(number);
            let name = field.name().unwrap_or_default();
            if name != expected.name() || !same_type(&field, expected.data_type()) {
                let found = format!("{name} of Arrow type {:?}", field.type_type());
                return Err(self.corrupt(at, format!("column {number}"), expected, found));
            }
        }
        Ok(())
    }

    /// The one record batch and the start of its body.
    fn record_batch(&self, footer: &arrow_ipc::Footer<'a>) -> Result<(arrow_ipc::RecordBatch<'a>, usize)> {
        let at = self.bytes.len() - 10;
        let blocks = footer.recordBatches();
        let count = blocks.as_ref().map_or(0, |blocks| blocks.len());
        let Some(blocks) = blocks.filter(|_| count == 1) else {
            return Err(self.corrupt(at, "record batches", 1, count));
        };
        let block = blocks.get(0);
        let number = |value: i64, what: &str| -> Result<usize> {
            usize::try_from(value)
                .ok()
                .filter(|&value| value <= self.bytes.len())
                .ok_or_else(|| self.corrupt(at, what, format!("0 to {}", self.bytes.len()), value))
        };
        let start = number(block.offset(), "offset of the record batch")?;
        let metadata = number(block.metaDataLength().into(), "length of the batch's metadata")?;
        let body = start + metadata;
        let body_bytes = number(block.bodyLength(), "length of the batch's body")?;
        self.slice(body, body_bytes, "body of the record batch")?;
        if metadata > METADATA_BYTES_MAX || self.word(start, "record batch")? != u32::MAX {
            return Err(self.corrupt(start, "record batch", "a continuation mark", "other bytes"));
        }
        let message_bytes = self.word(start + 4, "record batch")? as usize;
        let message = self.slice(start + 8, message_bytes.min(metadata.saturating_sub(8)), "record batch")?;
        let message = arrow_ipc::root_as_message(message)
            .map_err(|error| self.corrupt(start + 8, "record batch", "a valid flatbuffer", error))?;
        let batch = message
            .header_as_record_batch()
            .ok_or_else(|| self.corrupt(start + 8, "message", "a record batch", "another kind"))?;
        if batch.compression().is_some() {
            return Err(self.corrupt(start + 8, "compression", "none", "compressed buffers"));
        }
        Ok((batch, body))
    }

    fn u32(&self, column: &Range, row: usize) -> Result<u32> {
        self.word(column.start + 4 * row, "column")
    }

    fn u64(&self, column: &Range, row: usize) -> Result<u64> {
        let bytes = self.slice(column.start + 8 * row, 8, "column")?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("a slice of eight bytes")))
    }

    fn text(&self, column: &TextColumn, row: usize, what: &str) -> Result<&'a str> {
        let (start, end) =
            (self.u32(&column.offsets, row)? as usize, self.u32(&column.offsets, row + 1)? as usize);
        let at = column.offsets.start + 4 * row;
        let values = &self.bytes[column.values.clone()];
        let text = values.get(start..end).ok_or_else(|| {
            let within = format!("a range within 0..{}", values.len());
            self.corrupt(at, format!("{what} of row {row}"), within, format!("{start}..{end}"))
        })?;
        std::str::from_utf8(text).map_err(|error| {
            let at = column.values.start + start + error.valid_up_to();
            self.corrupt(at, format!("{what} of row {row}"), "UTF-8", format!("{:#04x}", self.bytes[at]))
        })
    }
}

fn same_type(field: &arrow_ipc::Field<'_>, expected: &arrow_schema::DataType) -> bool {
    use arrow_schema::DataType;
    let unsigned = |bits| field.type_as_int().is_some_and(|int| int.bitWidth() == bits && !int.is_signed());
    match expected {
        DataType::Utf8 => field.type_as_utf_8().is_some(),
        DataType::UInt32 => unsigned(32),
        DataType::UInt64 => unsigned(64),
        DataType::List(item) => {
            field.type_as_list().is_some()
                && field.children().is_some_and(|children| {
                    children.len() == 1 && same_type(&children.get(0), item.data_type())
                })
        }
        _ => false,
    }
}

/// Walks the record batch's nodes and buffers, column by column.
struct Columns<'f, 'a, 'p> {
    file: &'f File<'a, 'p>,
    batch: arrow_ipc::RecordBatch<'a>,
    body: usize,
    len: usize,
    node: usize,
    buffer: usize,
}

impl Columns<'_, '_, '_> {
    fn fixed(&mut self, width: usize) -> Result<Range> {
        self.node(Some(self.len))?;
        self.values(self.len.checked_mul(width))
    }

    fn text(&mut self) -> Result<TextColumn> {
        self.node(Some(self.len))?;
        self.text_buffers(self.len)
    }

    fn list(&mut self) -> Result<Range> {
        self.node(Some(self.len))?;
        self.values(self.len.checked_add(1).and_then(|count| count.checked_mul(4)))
    }

    fn child_text(&mut self) -> Result<TextColumn> {
        let count = self.node(None)?;
        self.text_buffers(count)
    }

    fn text_buffers(&mut self, count: usize) -> Result<TextColumn> {
        let offsets = self.values(count.checked_add(1).and_then(|count| count.checked_mul(4)))?;
        let values = self.next_buffer()?;
        Ok(TextColumn { offsets, values })
    }

    /// The next node's length, which must be `expected` and without nulls; its validity buffer is skipped.
    fn node(&mut self, expected: Option<usize>) -> Result<usize> {
        let file = self.file;
        let nodes = self.batch.nodes();
        let Some(node) = nodes.filter(|nodes| self.node < nodes.len()).map(|nodes| *nodes.get(self.node))
        else {
            return Err(file.corrupt(self.body, "columns", "one node each", format!("{} nodes", self.node)));
        };
        self.node += 1;
        let len = usize::try_from(node.length())
            .ok()
            .filter(|len| expected.is_none_or(|expected| expected == *len));
        let Some(len) = len.filter(|_| node.null_count() == 0) else {
            let found = format!("{} rows, {} nulls", node.length(), node.null_count());
            return Err(file.corrupt(self.body, format!("column node {}", self.node - 1), self.len, found));
        };
        self.next_buffer()?;
        Ok(len)
    }

    /// The next buffer, which must hold `bytes` at least (arrow's writer leaves out empty offsets).
    fn values(&mut self, bytes: Option<usize>) -> Result<Range> {
        let range = self.next_buffer()?;
        let bytes = bytes.unwrap_or(usize::MAX);
        if range.len() < bytes && self.len > 0 {
            let problem = format!("buffer {}", self.buffer - 1);
            return Err(self.file.corrupt(range.start, problem, format!("{bytes} bytes"), range.len()));
        }
        Ok(range.start..range.start + bytes.min(range.len()))
    }

    fn next_buffer(&mut self) -> Result<Range> {
        let file = self.file;
        let number = self.buffer;
        let buffers = self.batch.buffers();
        let Some(buffer) =
            buffers.filter(|buffers| number < buffers.len()).map(|buffers| *buffers.get(number))
        else {
            return Err(file.corrupt(self.body, "buffers", "more", number));
        };
        self.buffer += 1;
        let range = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let range = range.and_then(|(offset, bytes)| {
            let start = self.body.checked_add(offset)?;
            let end = start.checked_add(bytes)?;
            (end <= file.bytes.len()).then_some(start..end)
        });
        range.ok_or_else(|| {
            let found = format!("offset {}, length {}", buffer.offset(), buffer.length());
            file.corrupt(self.body, format!("buffer {number}"), "a range within the file", found)
        })
    }
}
