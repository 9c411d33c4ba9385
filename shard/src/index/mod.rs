//! The Arrow index of a shard: one row a sample, in the tar's order.
//!
//! ```text
//! column         Arrow type    meaning
//! key            utf8          the sample's key
//! source_id      utf8          the source's own id
//! source_row     uint64        its row in the source's order
//! image_offset   uint64        first byte of the image payload in the tar
//! image_bytes    uint64        its length
//! image_crc32    uint32        its CRC-32
//! json_offset    uint64        the same three of KEY.json
//! json_bytes     uint64
//! json_crc32     uint32
//! image_format   utf8          "npy" or "jpg"
//! dtype          utf8          "uint8"
//! layout         utf8          "chw" or "hwc"
//! height         uint32        rows of the stored picture
//! width          uint32        columns
//! captions       list<utf8>    all captions
//! row_crc32      uint32        CRC-32 of the row ([`Row::crc32`])
//! ```
//!
//! No column has nulls; one record batch, uncompressed. Columns that a later minor version adds stand behind
//! these and are ignored. `encode` writes through arrow's own writer; `decode` reads by hand, so that
//! opening costs the same for ten samples and for ten million. It leaves out the files themselves.

mod decode;
mod encode;

pub use decode::{Captions, CaptionsIter, Index};
pub(crate) use encode::encode;

use arrow_schema::{DataType, Field, Schema};

use crate::{ImageFormat, ImageSettings, Layout, SampleMeta};

/// The byte range of a member's payload in the tar, and its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// First byte, from the start of the tar.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
    /// CRC-32 of the payload.
    pub crc32: u32,
}

/// One sample's row on its way into an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// Key, source, captions.
    pub meta: SampleMeta,
    /// Rows of the stored picture.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Where the picture is.
    pub image: Payload,
    /// Where the JSON is.
    pub json: Payload,
}

/// One sample's row, borrowed from a mapped index. Its checksum has been checked.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The sample's key; it follows the key rule.
    pub key: &'a str,
    /// The source's own id.
    pub source_id: &'a str,
    /// Its row in the source.
    pub source_row: u64,
    /// Where the picture is.
    pub image: Payload,
    /// Where the JSON is.
    pub json: Payload,
    /// npy or jpg.
    pub image_format: ImageFormat,
    /// Axes of the stored picture.
    pub layout: Layout,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// All captions.
    pub captions: Captions<'a>,
}

impl Row<'_> {
    /// The row's CRC-32: over each column but itself in order, numbers little-endian, a text as its length in
    /// bytes (u32) and its bytes, the captions as their count (u32) and each text.
    fn crc32(&self) -> u32 {
        let mut crc = RowCrc::default();
        crc.text(self.key);
        crc.text(self.source_id);
        crc.u64(self.source_row);
        crc.payload(self.image);
        crc.payload(self.json);
        crc.text(self.image_format.name());
        crc.text("uint8");
        crc.text(self.layout.name());
        crc.u32(self.height);
        crc.u32(self.width);
        crc.u32(self.captions.len() as u32);
        for caption in self.captions {
            crc.text(caption);
        }
        crc.finish()
    }
}

impl IndexRow {
    fn crc32(&self, image: &ImageSettings) -> u32 {
        let mut crc = RowCrc::default();
        crc.text(self.meta.key.as_str());
        crc.text(&self.meta.source_id);
        crc.u64(self.meta.source_row);
        crc.payload(self.image);
        crc.payload(self.json);
        crc.text(image.format.name());
        crc.text(&image.dtype);
        crc.text(image.layout.name());
        crc.u32(self.height);
        crc.u32(self.width);
        crc.u32(self.meta.captions.len() as u32);
        for caption in &self.meta.captions {
            crc.text(caption);
        }
        crc.finish()
    }
}

/// The row's bytes on their way into its CRC-32.
#[derive(Default)]
struct RowCrc(crc32fast::Hasher);

impl RowCrc {
    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.update(text.as_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.0.update(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.0.update(&value.to_le_bytes());
    }
    fn payload(&mut self, payload: Payload) {
        self.u64(payload.offset);
        self.u64(payload.bytes);
        self.u32(payload.crc32);
    }
    fn finish(self) -> u32 {
        self.0.finalize()
    }
}

/// The columns of version 1, in order.
fn schema() -> Schema {
    let text = |name| Field::new(name, DataType::Utf8, false);
    let u64 = |name| Field::new(name, DataType::UInt64, false);
    let u32 = |name| Field::new(name, DataType::UInt32, false);
    Schema::new(vec![
        text("key"),
        text("source_id"),
        u64("source_row"),
        u64("image_offset"),
        u64("image_bytes"),
        u32("image_crc32"),
        u64("json_offset"),
        u64("json_bytes"),
        u32("json_crc32"),
        text("image_format"),
        text("dtype"),
        text("layout"),
        u32("height"),
        u32("width"),
        Field::new("captions", DataType::List(Field::new("item", DataType::Utf8, false).into()), false),
        u32("row_crc32"),
    ])
}
