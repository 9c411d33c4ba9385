//! Any bytes read as Ok or Err, and what is written reads back.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test may unwrap, and its panic names the place"
)]

mod common;

use std::{path::Path, sync::Arc};

use proptest::prelude::*;
use shard::{Dataset, ImageSettings, Index, Manifest, SampleOrder, side_table, verify};

const NAME: &str = "bytes";

/// Reads everything that an index of these bytes offers.
fn read_index(bytes: &[u8]) {
    let path = Path::new(NAME);
    if let Ok(index) = Index::parse(bytes, path) {
        for row in 0..index.len().min(64) {
            if let Ok(row) = index.row(bytes, path, row) {
                let _ = row.captions.into_iter().map(str::len).sum::<usize>();
            }
        }
    }
}

fn sound_index() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), &ImageSettings::tensor(common::SIZE), SampleOrder::Shuffled, 9);
    std::fs::read(dir.path().join("val/shard-000000.arrow")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        read_index(&bytes);
        let _ = Manifest::parse(&bytes, Path::new(NAME));
        let _ = shard::tar::parse(&bytes);
    }

    #[test]
    fn a_key_of_any_text_fits(text in ".{0,200}") {
        prop_assert!(shard::Key::fits(shard::Key::from_source_id(&text).as_str()));
        prop_assert!(shard::Key::fits(shard::Key::with_hash(&text).as_str()));
    }
}

/// Lies in the metadata, where panics would hide: several bytes of a sound index replaced, many times over.
#[test]
fn damaged_metadata_is_no_panic_and_takes_no_memory() {
    let sound = sound_index();
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % below
    };
    for _ in 0..20_000 {
        let mut bytes = sound.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            bytes[at] = [0, 0xff, 0x7f, 0x80, random(256) as u8][random(5)];
        }
        bytes.truncate(if random(8) == 0 { random(bytes.len()) } else { bytes.len() });
        read_index(&bytes);
    }
    for length in 0..sound.len() {
        read_index(&sound[..length]);
        read_index(&sound[length..]);
    }
}

/// Found by the fuzz target `index`: a file so short that its head and its tail overlap.
#[test]
fn a_head_and_a_tail_with_nothing_between_are_refused() {
    for between in 0..20 {
        let bytes = [b"ARROW1\0\0".as_slice(), &vec![0x61; between], b"\xff\0\0\0ARROW1"].concat();
        for start in 0..bytes.len() - 6 {
            // Cut out of the middle, so that the two overlap too.
            let bytes = [&bytes[..8.min(start)], &bytes[start..]].concat();
            let error = Index::parse(&bytes, Path::new(NAME)).unwrap_err();
            assert!(error.is_corrupt(), "{error}");
        }
    }
    let found = b"ARROW1\0\0ca\0ARROW1";
    let error = Index::parse(found, Path::new(NAME)).unwrap_err();
    assert!(error.to_string().contains("length of the Arrow footer"), "{error}");
}

#[test]
fn what_is_written_reads_back() {
    for image in common::images() {
        let dir = tempfile::tempdir().unwrap();
        let written = common::write(dir.path(), &image, SampleOrder::Source, 12);
        let dataset = Dataset::open(dir.path()).unwrap();
        assert_eq!(*dataset.manifest(), written);
        let mut number = 0;
        for shard in dataset.open_split("train").unwrap() {
            for row in 0..shard.len() {
                let row = shard.row(row).unwrap();
                let (meta, payload) = common::sample("train", number, &image);
                assert_eq!(row.key, meta.key.as_str());
                assert_eq!(row.source_id, meta.source_id);
                assert_eq!(row.source_row, number);
                assert_eq!(row.captions.into_iter().collect::<Vec<_>>(), meta.captions);
                let (header, pixels) = shard.image(&row).unwrap();
                assert_eq!([header, pixels].concat(), payload);
                shard.check(&row, row.image, &payload).unwrap();
                let json = shard.payload(&row, row.json).unwrap();
                assert_eq!(serde_json::from_slice::<shard::SampleMeta>(json).unwrap(), meta);
                number += 1;
            }
        }
        assert_eq!(number, 12);
        let error = dataset.open_split("tset").unwrap_err();
        assert!(error.to_string().contains("it has train, val"), "{error}");
    }
}

/// Arrow's own reader accepts our index: users can open it with the tool they have.
#[test]
fn the_index_is_an_arrow_file() {
    let bytes = sound_index();
    let reader = arrow_ipc::reader::FileReader::try_new(std::io::Cursor::new(bytes), None).unwrap();
    let batches: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].num_rows(), 5);
    assert_eq!(batches[0].schema().field(0).name(), "key");
}

#[test]
fn side_tables_are_added_read_and_verified() {
    use arrow_array::{Array as _, Float32Array, RecordBatch, StringArray};
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), &ImageSettings::tensor(common::SIZE), SampleOrder::Shuffled, 12);
    let fingerprint = Dataset::open(dir.path()).unwrap().fingerprint().to_owned();
    side_table::write(dir.path(), "train", "score", |shard| {
        let keys: Vec<String> = (0..shard.len()).map(|row| shard.row(row).unwrap().key.to_owned()).collect();
        let scores = Float32Array::from_iter_values((0..keys.len()).map(|row| row as f32));
        Ok(RecordBatch::try_from_iter([
            ("key", Arc::new(StringArray::from(keys)) as Arc<dyn arrow_array::Array>),
            ("score", Arc::new(scores)),
        ])
        .unwrap())
    })
    .unwrap();
    let dataset = Dataset::open(dir.path()).unwrap();
    assert_eq!(dataset.fingerprint(), fingerprint);
    assert!(verify::dataset(dir.path()).unwrap().is_sound());
    let batch = side_table::read(&dataset, "train", 0, "score").unwrap();
    assert_eq!(batch.column(1).len() as u64, dataset.split("train").unwrap().shards[0].samples);
    assert!(side_table::read(&dataset, "train", 0, "none").is_err());

    let path = dir.path().join("train/shard-000000.score.arrow");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let report = verify::dataset(dir.path()).unwrap();
    assert_eq!(report.damages[0].file, "train/shard-000000.score.arrow");
    assert!(side_table::read(&dataset, "train", 0, "score").unwrap_err().is_corrupt());
    // A table whose keys are another shard's is refused before anything is written.
    let other = RecordBatch::try_from_iter([(
        "key",
        Arc::new(StringArray::from(vec!["someone"])) as Arc<dyn arrow_array::Array>,
    )])
    .unwrap();
    assert!(side_table::write(dir.path(), "val", "bad", |_| Ok(other.clone())).is_err());
}

/// Tables are at their places together or not at all, and one program at a time adds them.
#[test]
fn side_tables_that_do_not_get_ready_leave_nothing() {
    use arrow_array::{Array, RecordBatch, StringArray};
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), &ImageSettings::tensor(common::SIZE), SampleOrder::Shuffled, 12);
    let keys = |shard: &shard::ShardReader| {
        let keys: Vec<String> = (0..shard.len()).map(|row| shard.row(row).unwrap().key.to_owned()).collect();
        let column: Arc<dyn Array> = Arc::new(StringArray::from(keys));
        RecordBatch::try_from_iter([("key", column)]).unwrap()
    };
    let shards = Dataset::open(dir.path()).unwrap().split("train").unwrap().shards.len();
    assert!(shards > 1, "nothing would wait");
    let mut seen = 0;
    let stopped = side_table::write(dir.path(), "train", "one", |shard| {
        seen += 1;
        assert!(verify::dataset(dir.path()).unwrap().is_sound(), "before shard {seen} is ready");
        let busy = side_table::write(dir.path(), "val", "two", |shard| Ok(keys(shard))).unwrap_err();
        assert!(matches!(busy, shard::Error::Busy { .. }), "{busy}");
        if seen == shards { Err(busy) } else { Ok(keys(shard)) }
    });
    stopped.unwrap_err();
    let names = |split: &str| std::fs::read_dir(dir.path().join(split)).unwrap().count();
    let before = names("train");
    assert_eq!(before, 2 * shards, "a tar and an index each");
    for split in ["train", "val"] {
        side_table::write(dir.path(), split, "one", |shard| Ok(keys(shard))).unwrap();
    }
    assert_eq!(names("train"), 3 * shards);
    assert!(verify::dataset(dir.path()).unwrap().is_sound());
}
