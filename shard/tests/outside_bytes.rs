//! Bytes from outside, arbitrary and sound ones changed: `Ok` or `Err`, no panic, no huge allocation. The functions are
//! those of the fuzz targets; what a fuzzer found stands here by name.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test may unwrap, and its panic names the place"
)]

mod common;
#[path = "common/largest.rs"]
mod largest;
#[path = "common/outside_bytes.rs"]
mod outside_bytes;

use std::sync::Arc;

use arrow_array::{Array, Float32Array, RecordBatch, StringArray};
use largest::mutate;
use proptest::prelude::*;
use shard::{ImageSettings, SampleOrder, side_table};

#[global_allocator]
static ALLOCATOR: largest::Watched = largest::Watched;

/// Far above what data sets of this size take, far below what a lie in them asks for.
const ALLOCATION_MAX: usize = 32 << 20;

/// A sound shard as `outside_bytes::shard` takes it.
fn sound_shard(flags: u8, image: &ImageSettings) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), image, SampleOrder::Source, 9);
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let (table, tar) = (read("train/shard-000000.arrow"), read("train/shard-000000.tar"));
    [&[flags][..], &(table.len() as u32).to_le_bytes(), &table, &tar].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
        outside_bytes::index(&bytes);
        outside_bytes::manifest(&bytes);
        let dir = tempfile::tempdir().unwrap();
        outside_bytes::shard(dir.path(), &bytes);
    }
}

#[test]
fn changed_shards_are_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    for (flags, image) in [
        (0, ImageSettings::tensor(outside_bytes::SIDE)),
        (3, ImageSettings::tensor(outside_bytes::SIDE)),
        (4, ImageSettings::jpeg(outside_bytes::SIDE, 90)),
    ] {
        mutate(&sound_shard(flags, &image), 800, ALLOCATION_MAX, |bytes| {
            outside_bytes::shard(dir.path(), bytes)
        });
    }
}

#[test]
fn changed_manifests_are_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), &ImageSettings::tensor(8), SampleOrder::Source, 9);
    let sound = std::fs::read(dir.path().join("dataset.json")).unwrap();
    mutate(&sound, 4_000, ALLOCATION_MAX, outside_bytes::manifest);
}

#[test]
fn changed_side_tables_are_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), &ImageSettings::tensor(8), SampleOrder::Source, 9);
    side_table::write(dir.path(), "train", "score", |shard| {
        let keys: Vec<String> = (0..shard.len()).map(|row| shard.row(row).unwrap().key.to_owned()).collect();
        let scores = Float32Array::from_iter_values((0..keys.len()).map(|row| row as f32));
        let keys: Arc<dyn Array> = Arc::new(StringArray::from(keys));
        Ok(RecordBatch::try_from_iter([("key", keys), ("score", Arc::new(scores))]).unwrap())
    })
    .unwrap();
    let sound = std::fs::read(dir.path().join("train/shard-000000.score.arrow")).unwrap();
    // Arrow's own panics are contained; a thousand of their backtraces would hide the one that is not.
    std::panic::set_hook(Box::new(|_| {}));
    mutate(&sound, 8_000, ALLOCATION_MAX, |bytes| outside_bytes::side_table(dir.path(), bytes));
    drop(std::panic::take_hook());
}
