//! The shard format, version 1, as `FORMAT.md` lays it down: plain tar archives of samples, an Arrow index
//! beside each, a manifest that names them all.
//!
//! Any sequence of bytes reads as `Ok` or as an [`Error`] that names file, sample, byte offset, expected and
//! found; nothing panics, and nothing takes memory in proportion to what a header claims. It leaves out
//! decoding of pictures, threads, the network and any order of samples.
//!
//! ```
//! use shard::{ImageSettings, Key, Sample, SampleMeta, ShardWriter, Manifest, SplitEntry, npy};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let temporary = tempfile::tempdir()?;
//! # let dir = temporary.path();
//! let image = ImageSettings::tensor(16);
//! let mut payload = npy::header(&image).to_vec();
//! payload.extend(std::iter::repeat_n(127u8, image.pixel_bytes()));
//! let meta = SampleMeta {
//!     key: Key::from_source_id("000000000009"),
//!     source_id: "000000000009".into(),
//!     source_row: 0,
//!     captions: vec!["A grey square.".into()],
//!     original_height: 16,
//!     original_width: 16,
//!     url: None,
//!     license: None,
//! };
//!
//! std::fs::create_dir(dir.join("train"))?;
//! let mut writer = ShardWriter::create(&dir.join("train"), 0, &image)?;
//! writer.append(&Sample { meta: &meta, image: &payload })?;
//! let shard = writer.commit()?;
//! Manifest::of(image, vec![SplitEntry::of("train", vec![shard])]).write(dir)?;
//!
//! let dataset = shard::Dataset::open(dir)?;
//! let shards = dataset.open_split("train")?;
//! let row = shards[0].row(0)?;
//! assert_eq!(row.captions.get(0), Some("A grey square."));
//! let (_header, pixels) = shards[0].image(&row)?;
//! assert_eq!(pixels[0], 127);
//! assert!(shard::verify::dataset(dir)?.is_sound());
//! # Ok(())
//! # }
//! ```

mod arrow_layout;
#[cfg(unix)]
mod bus_error;
pub mod checksum;
mod dataset;
mod error;
pub mod index;
pub mod manifest;
pub mod mmap;
mod new_file;
pub mod npy;
pub mod place;
mod reader;
mod sample;
pub mod side_table;
pub mod sides;
pub mod tar;
mod unreadable;
pub mod verify;
mod writer;

pub use dataset::Dataset;
pub use error::{Corruption, Error, Result};
pub use index::{Captions, CaptionsIter, Index, IndexRow, Payload, Row};
pub use manifest::{LeftOut, Manifest, SampleOrder, ShardEntry, SideTableEntry, SourceInfo, SplitEntry};
pub use new_file::{NewFile, replace_file};
pub use reader::ShardReader;
pub use sample::{
    ImageFormat, ImageSettings, KEY_BYTES_MAX, Key, Layout, SHORTEST_SIDE, SIDE_MAX, Sample, SampleMeta,
    Subsampling,
};
pub use writer::ShardWriter;
