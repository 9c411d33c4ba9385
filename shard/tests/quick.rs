//! A quick check: what it promises to find it finds, what it says it does not look at it does not.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test may unwrap, and its panic names the place"
)]

mod common;

use std::{collections::BTreeSet, path::Path};

use shard::{
    Dataset, ImageSettings, SampleOrder,
    verify::{Depth, Plan, Report},
};

fn quick(dir: &Path) -> Report {
    let plan = Plan::of(dir).unwrap().quick();
    let shards = (0..plan.jobs().len()).map(|job| plan.check_shard(job).unwrap()).collect();
    plan.conclude(shards)
}

/// For each tar the bytes that a quick check leaves out: payloads and the padding behind them.
fn unread(dir: &Path) -> BTreeSet<(String, u64)> {
    let dataset = Dataset::open(dir).unwrap();
    let mut bytes = BTreeSet::new();
    for split in &dataset.manifest().splits {
        for (shard, entry) in dataset.open_split(&split.name).unwrap().iter().zip(&split.shards) {
            for row in 0..shard.len() {
                let row = shard.row(row).unwrap();
                for payload in [row.image, row.json] {
                    let end = payload.offset + shard::tar::padded(payload.bytes);
                    let file = format!("{}/{}", split.name, entry.tar_name());
                    bytes.extend((payload.offset..end).map(|byte| (file.clone(), byte)));
                }
            }
        }
    }
    bytes
}

#[test]
fn a_sound_set_is_sound_and_few_bytes_are_read() {
    for image in [ImageSettings::tensor(64), ImageSettings::jpeg(common::SIZE, 90)] {
        for order in [SampleOrder::Shuffled, SampleOrder::Source] {
            let dir = tempfile::tempdir().unwrap();
            let manifest = common::write(dir.path(), &image, order, 12);
            let report = quick(dir.path());
            assert!(report.is_sound(), "{:#?}", report.damages);
            assert_eq!((report.depth, report.shards, report.samples), (Depth::Quick, 4, 17));
            let shards = || manifest.splits.iter().flat_map(|split| &split.shards);
            let indexes: u64 = shards().map(|entry| entry.index_bytes).sum();
            assert_eq!(report.bytes, indexes + 17 * 2 * 512 + 4 * 1024);
            let plan = Plan::of(dir.path()).unwrap().quick();
            assert_eq!(plan.jobs().iter().map(|job| job.bytes).sum::<u64>(), report.bytes);
        }
    }
}

/// Bytes of every file flipped alone, at a stride that meets each kind: found wherever it is read, and nowhere else.
#[test]
fn a_changed_byte_is_found_unless_it_is_payload_or_padding() {
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), &ImageSettings::tensor(common::SIZE), SampleOrder::Shuffled, 12);
    let unread = unread(dir.path());
    for file in common::files(dir.path()) {
        let path = dir.path().join(&file);
        let sound = std::fs::read(&path).unwrap();
        let step = if file == "dataset.json" { 3 } else { 13 };
        for position in (0..sound.len()).step_by(step) {
            let mut damaged = sound.clone();
            damaged[position] ^= 1 << (position % 8);
            std::fs::write(&path, &damaged).unwrap();
            let report = quick(dir.path());
            let left_out = unread.contains(&(file.clone(), position as u64));
            assert_eq!(report.is_sound(), left_out, "{file}, byte {position}: {:#?}", report.damages);
            if !left_out {
                assert!(report.damages.iter().any(|damage| damage.file == file), "{file}, byte {position}");
            }
        }
        std::fs::write(&path, &sound).unwrap();
    }
    assert!(quick(dir.path()).is_sound());
}

#[test]
fn files_cut_lengthened_lost_added_and_exchanged_are_found() {
    let dir = tempfile::tempdir().unwrap();
    common::write(dir.path(), &ImageSettings::tensor(common::SIZE), SampleOrder::Shuffled, 12);
    for file in common::files(dir.path()).into_iter().filter(|file| file != "dataset.json") {
        let path = dir.path().join(&file);
        let sound = std::fs::read(&path).unwrap();
        let longer = [sound.as_slice(), &[0; 512]].concat();
        for changed in [&sound[..sound.len() - 1], &sound[..sound.len() / 2], &[], &longer] {
            std::fs::write(&path, changed).unwrap();
            let report = quick(dir.path());
            assert!(report.damages.iter().any(|damage| damage.file == file), "{file}: {report:#?}");
        }
        std::fs::remove_file(&path).unwrap();
        let report = quick(dir.path());
        assert!(report.damages.iter().any(|damage| damage.file == file), "{file} lost: {report:#?}");
        std::fs::write(&path, &sound).unwrap();
    }
    let (one, other) = ("train/shard-000000", "train/shard-000001");
    for extension in ["tar", "arrow"] {
        let [one, other] = [one, other].map(|stem| dir.path().join(format!("{stem}.{extension}")));
        let (bytes, others) = (std::fs::read(&one).unwrap(), std::fs::read(&other).unwrap());
        std::fs::write(&one, &others).unwrap();
        std::fs::write(&other, &bytes).unwrap();
        assert!(!quick(dir.path()).is_sound(), "{extension} exchanged");
        std::fs::write(&one, &bytes).unwrap();
        std::fs::write(&other, &others).unwrap();
    }
    std::fs::write(dir.path().join("val/shard-000007.tar"), b"bytes").unwrap();
    assert_eq!(quick(dir.path()).damages[0].file, "val/shard-000007.tar");
}
