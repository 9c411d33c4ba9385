//! Damage of every kind, and what `verify` says of it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test may unwrap, and its panic names the place"
)]

mod common;

use std::path::Path;

use shard::{Dataset, ImageSettings, SampleOrder, verify};

fn write(dir: &Path) {
    common::write(dir, &ImageSettings::tensor(common::SIZE), SampleOrder::Shuffled, 12);
}

#[test]
fn a_sound_set_is_sound_in_every_form() {
    for image in common::images() {
        for order in [SampleOrder::Shuffled, SampleOrder::Source] {
            let dir = tempfile::tempdir().unwrap();
            common::write(dir.path(), &image, order, 12);
            let report = verify::dataset(dir.path()).unwrap();
            assert!(report.is_sound(), "{:#?}", report.damages);
            assert_eq!((report.shards, report.samples), (4, 17));
            assert!(report.bytes > 0);
        }
    }
}

/// Every byte of the manifest and of one shard's files, and every seventh of the others, each flipped alone (every
/// eleventh of these in other forms than the first): none
/// passes, and in a tar or an index the very byte is named.
#[test]
fn no_changed_byte_passes() {
    for (image, step) in common::images().into_iter().zip([1, 11, 11, 11]) {
        let dir = tempfile::tempdir().unwrap();
        common::write(dir.path(), &image, SampleOrder::Shuffled, 12);
        no_changed_byte_of_it_passes(dir.path(), step);
    }
}

fn no_changed_byte_of_it_passes(dir: &Path, form_step: usize) {
    for file in common::files(dir) {
        let path = dir.join(&file);
        let sound = std::fs::read(&path).unwrap();
        let step = form_step * if file.starts_with("train/") { 7 } else { 1 };
        for position in (0..sound.len()).step_by(step) {
            let mut damaged = sound.clone();
            damaged[position] ^= 1 << (position % 8);
            std::fs::write(&path, &damaged).unwrap();
            let report = verify::dataset(dir).unwrap();
            assert!(!report.is_sound(), "{file}, byte {position}");
            if file != "dataset.json" {
                let damage = &report.damages[0];
                assert_eq!(damage.file, file, "byte {position}: {damage}");
                assert_eq!(damage.offset, Some(position as u64), "{file}: {damage}");
                assert_eq!(damage.expected, format!("{:#04x}", sound[position]), "{damage}");
                assert_eq!(damage.found, format!("{:#04x}", damaged[position]), "{damage}");
                assert_eq!(report.damages.len(), 1, "{:#?}", report.damages);
            } else {
                assert!(report.damages.iter().any(|damage| damage.file == file), "{:#?}", report.damages);
                assert!(Dataset::open(dir).is_err());
            }
        }
        std::fs::write(&path, &sound).unwrap();
    }
    assert!(verify::dataset(dir).unwrap().is_sound());
}

#[test]
fn a_changed_payload_byte_names_its_sample_and_reading_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let dataset = Dataset::open(dir.path()).unwrap();
    let shards = dataset.open_split("train").unwrap();
    let shard = shards.iter().find(|shard| shard.len() > 1).unwrap();
    let row = shard.row(1).unwrap();
    let (key, at) = (row.key.to_owned(), row.image.offset + 130);
    let path = shard.tar_path().to_path_buf();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at as usize] ^= 0x20;
    drop(shards);
    std::fs::write(&path, bytes).unwrap();

    let report = verify::dataset(dir.path()).unwrap();
    assert_eq!(report.damages.len(), 1);
    assert_eq!(report.damages[0].key.as_deref(), Some(key.as_str()));
    assert_eq!(report.damages[0].offset, Some(at));

    let shards = dataset.open_split("train").unwrap();
    let shard = shards.iter().find(|shard| shard.tar_path() == path).unwrap();
    let row = shard.row(1).unwrap();
    let bytes = shard.payload(&row, row.image).unwrap();
    let error = shard.check(&row, row.image, bytes).unwrap_err();
    assert!(error.is_corrupt());
    assert!(error.to_string().contains(&format!("sample {key}: byte {at}")), "{error}");
    assert!(shard.check(&row, row.json, shard.payload(&row, row.json).unwrap()).is_ok());
}

/// Damage to whole files, as (what is done, what the report must say of which file).
#[test]
fn files_cut_lost_added_and_exchanged_are_named() {
    type Change = fn(&Path);
    let table: &[(&str, Change, &str, &str)] = &[
        (
            "tar cut by one byte",
            |d| cut(&d.join("train/shard-000001.tar"), 1),
            "train/shard-000001.tar",
            "length",
        ),
        (
            "tar cut to nothing",
            |d| cut(&d.join("train/shard-000001.tar"), u64::MAX),
            "train/shard-000001.tar",
            "length",
        ),
        ("index cut", |d| cut(&d.join("val/shard-000000.arrow"), 100), "val/shard-000000.arrow", "length"),
        (
            "index cut to nothing",
            |d| cut(&d.join("val/shard-000000.arrow"), u64::MAX),
            "val/shard-000000.arrow",
            "length",
        ),
        ("manifest cut", |d| cut(&d.join("dataset.json"), 1), "dataset.json", "end of the manifest"),
        (
            "manifest cut to nothing",
            |d| cut(&d.join("dataset.json"), u64::MAX),
            "dataset.json",
            "end of the manifest",
        ),
        (
            "tar lost",
            |d| std::fs::remove_file(d.join("train/shard-000002.tar")).unwrap(),
            "train/shard-000002.tar",
            "missing",
        ),
        (
            "index lost",
            |d| std::fs::remove_file(d.join("train/shard-000002.arrow")).unwrap(),
            "train/shard-000002.arrow",
            "missing",
        ),
        ("shard added", |d| add(d, "train/shard-000009.tar"), "train/shard-000009.tar", "does not list"),
        (
            "shard added to another split",
            |d| add(d, "test/shard-000000.tar"),
            "test/shard-000000.tar",
            "does not list",
        ),
        (
            "side table added",
            |d| add(d, "val/shard-000000.x.arrow"),
            "val/shard-000000.x.arrow",
            "does not list",
        ),
        (
            "tars exchanged",
            |d| exchange(d, "train/shard-000000.tar", "train/shard-000001.tar"),
            "train/shard-000001.tar",
            "another's",
        ),
        ("shards exchanged", exchange_shards, "train/shard-000000.arrow", "another's"),
        ("shards exchanged, the other", exchange_shards, "train/shard-000001.tar", "another's"),
        (
            "index of another split",
            |d| exchange(d, "val/shard-000000.arrow", "train/shard-000000.arrow"),
            "val/shard-000000.arrow",
            "another's",
        ),
        ("bytes appended", |d| append(&d.join("val/shard-000000.tar")), "val/shard-000000.tar", "length"),
    ];
    for (name, change, file, problem) in table {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        change(dir.path());
        let report = verify::dataset(dir.path()).unwrap();
        let told =
            report.damages.iter().any(|damage| damage.file == *file && damage.problem.contains(problem));
        assert!(told, "{name}: {:#?}", report.damages);
    }
}

#[test]
fn a_folder_without_manifest_is_unfinished_and_no_folder_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    std::fs::remove_file(dir.path().join("dataset.json")).unwrap();
    let error = verify::dataset(dir.path()).unwrap_err();
    assert!(matches!(error, shard::Error::Unfinished { .. }), "{error}");
    assert!(matches!(verify::dataset(dir.path().join("none")).unwrap_err(), shard::Error::Io { .. }));
}

/// A manifest that was changed and signed anew: its promises are still checked against the bytes.
#[test]
fn a_consistent_lie_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let image = ImageSettings::tensor(common::SIZE);
    let manifest = common::write(dir.path(), &image, SampleOrder::Shuffled, 12);
    let mut lies = Vec::new();
    let mut lie = manifest.clone();
    lie.seed += 1;
    lies.push((lie, "the shard of the sample"));
    let mut lie = manifest.clone();
    lie.order = SampleOrder::Source;
    lies.push((lie, "order"));
    let mut lie = manifest.clone();
    lie.image.height = 16;
    lies.push((lie, "image settings"));
    let mut lie = manifest.clone();
    lie.image = common::images()[2].sized(4, 4);
    lies.push((lie, "image settings"));
    let mut lie = manifest.clone();
    lie.splits[0].shards.swap(0, 1);
    for (number, shard) in lie.splits[0].shards.iter_mut().enumerate() {
        shard.name = format!("shard-{number:06}");
    }
    lies.push((lie, "another's"));
    for (mut lie, problem) in lies {
        lie.write(dir.path()).unwrap();
        let report = verify::dataset(dir.path()).unwrap();
        assert!(
            report.damages.iter().any(|damage| damage.problem.contains(problem)),
            "{problem}: {report:#?}"
        );
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = common::write(dir.path(), &ImageSettings::tensor(8), SampleOrder::Shuffled, 4);
    manifest.format.major = 2;
    manifest.write(dir.path()).unwrap();
    let error = verify::dataset(dir.path()).unwrap_err();
    assert!(error.to_string().contains("format version 2.0"), "{error}");
    manifest.format.major = 1;
    manifest.format.minor = 9;
    manifest.write(dir.path()).unwrap();
    assert!(verify::dataset(dir.path()).unwrap().is_sound());
}

fn cut(path: &Path, bytes: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(bytes)).unwrap();
}

fn add(dir: &Path, file: &str) {
    let path = dir.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, b"bytes").unwrap();
}

fn append(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes.extend([0; 512]);
    std::fs::write(path, bytes).unwrap();
}

fn exchange(dir: &Path, one: &str, other: &str) {
    let (one, other, third) = (dir.join(one), dir.join(other), dir.join("third"));
    std::fs::rename(&one, &third).unwrap();
    std::fs::rename(&other, &one).unwrap();
    std::fs::rename(&third, &other).unwrap();
}

fn exchange_shards(dir: &Path) {
    exchange(dir, "train/shard-000000.tar", "train/shard-000001.tar");
    exchange(dir, "train/shard-000000.arrow", "train/shard-000001.arrow");
}
