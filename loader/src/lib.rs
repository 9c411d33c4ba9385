//! Deterministic, prefetching, memory-mapped reads of shards: a data set's split as epochs of batches.
//!
//! ```
//! use loader::{Loader, Output, Remainder, CLIP_NORMALIZE};
//! # let data = testkit::Spec::small().temporary();
//! # let dir = data.path();
//! let loader = Loader::builder(dir)
//!     .split("train")
//!     .batch_size(8)
//!     .remainder(Remainder::DropLast)
//!     .seed(1)
//!     .output(Output::F32(CLIP_NORMALIZE))
//!     .build()?;
//! for batch in loader.epoch(0)? {
//!     let batch = batch?;
//!     assert_eq!(batch.f32().len(), batch.len() * 3 * batch.height() * batch.width());
//!     let _key_and_caption = (batch.key(0), batch.caption(0));
//! }
//! # Ok::<(), loader::Error>(())
//! ```
//!
//! # What is promised
//!
//! - What is delivered is a pure function of the data, the settings and (seed, epoch): the same keys, captions and
//!   bytes for any number of threads, on any rank, and after a resume at any batch edge.
//! - Changed pictures ([`Augment`]) too are drawn by hash(seed, epoch, sample) alone.
//! - Every sample comes once an epoch, except as the remainder policy says.
//! - An epoch never just ends early: a damaged sample or a worker's panic arrives as an error, in its place.
//! - Memory is bounded by the batches ahead ([`LoaderConfig::queue_depth`]) and those that the consumer holds.
//!
//! # Data sets in object stores
//!
//! With the feature `remote` a data set may be a URL wherever it may be a folder: `s3://BUCKET/PREFIX`, `https://HOST/PATH`,
//! `hf://datasets/OWNER/NAME[@REVISION]/PATH`. Its samples are fetched ahead of the order into a bounded cache on disk
//! ([`CacheConfig`]); [`Loader::remote_stats`] tells what was. Nothing else changes: the same batches, bit for bit.
//!
//! Left out: tensors, and any knowledge of the training that the batches are for.

mod ahead;
pub mod augment;
mod batch;
mod builder;
mod cache;
mod collate;
mod config;
mod decode;
mod draft;
mod error;
mod groups;
pub mod history;
mod loader;
mod memory;
pub mod order;
mod parts;
mod pixels;
pub mod plan;
mod pool;
mod prefetch;
#[cfg(feature = "remote")]
mod remote;
#[cfg(not(feature = "remote"))]
#[path = "remote/absent.rs"]
mod remote;
pub mod report;
pub mod rng;
mod select;
mod sequence;
mod stages;
mod state;
mod stats;
mod store;
mod substitute;
mod text;
mod world;

pub use augment::{Augment, ColorJitter, RandomResizedCrop};
pub use batch::{Batch, Pixels};
pub use builder::LoaderBuilder;
pub use cache::{CacheConfig, RemoteStats, parse_bytes};
pub use config::{
    CLIP_NORMALIZE, Captions, Check, IMAGENET_NORMALIZE, LoaderConfig, NO_NORMALIZE, Normalize, OnCorrupt,
    Output,
};
pub use draft::PIXEL_ALIGNMENT_BYTES;
pub use error::{Error, Place, Result};
pub use groups::Distinct;
pub use history::History;
pub use loader::{Epoch, Loader, open_dataset};
pub use memory::available_bytes as available_memory;
pub use order::Order;
pub use parts::{Draws, Origin, Part};
pub use plan::Remainder;
pub use select::{Filter, Selection};
pub use stages::Stages;
pub use state::LoaderState;
pub use stats::Stats;
pub use substitute::Substitution;
pub use world::World;
