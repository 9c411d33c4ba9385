//! Damage after prep: reading and training refuse, or name shard and sample when they meet it. Nothing damaged is
//! ever learned from.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::path::Path;

use common::{config, folder, loader, prep, trainer};
use e2e::Finished;
use testkit::files::{Snapshot, restore, snapshot};

/// A prepared folder of 30 samples, and what it holds.
fn prepared(store: &str) -> (tempfile::TempDir, Snapshot) {
    let folder = folder(|dir| testkit::source::folder(dir, 30));
    let dir = folder.path();
    let job = [
        "--dataset",
        "folder",
        "--from",
        "source",
        "--out",
        "data",
        "--size",
        "32",
        "--shards",
        "2",
        "--val",
        "6",
    ];
    prep(&[&job[..], &["--store", store]].concat(), dir).expect(0);
    config(dir, 8, 6);
    let files = snapshot(&dir.join("data")).unwrap();
    (folder, files)
}

fn order(dir: &Path) -> Finished {
    loader(&["order", "data", "--batch-size", "5", "--remainder", "pad-last"], dir)
}

/// A fresh training of two epochs: it meets every sample.
fn train(dir: &Path) -> Finished {
    let _ = fs_err::remove_dir_all(dir.join("runs"));
    trainer(&["train", "--config", "nano.toml", "--data", "data"], dir)
}

/// Both refuse, with these words.
#[track_caller]
fn expect_refusal(dir: &Path, order_code: i32, words: &[&str], what: &str) {
    for finished in [order(dir).expect(order_code), train(dir).expect(2)] {
        assert_eq!(finished.err.matches("error: ").count(), 1, "{what}: {}", finished.err);
        for word in words {
            assert!(finished.err.contains(word), "{what}: {word:?} is not in: {}", finished.err);
        }
    }
}

#[test]
fn a_changed_pixel_names_shard_and_sample() {
    for store in ["tensor", "jpeg"] {
        let (folder, files) = prepared(store);
        let dir = folder.path();
        let dataset = shard::Dataset::open(dir.join("data")).unwrap();
        for (number, shard) in dataset.open_split("train").unwrap().iter().enumerate() {
            let row = shard.row(shard.len() / 2).unwrap();
            let name = format!("train/shard-{number:06}.tar");
            let mut bytes = files[Path::new(&name)].clone();
            bytes[(row.image.offset + row.image.bytes / 2) as usize] ^= 4;
            fs_err::write(dir.join("data").join(&name), &bytes).unwrap();
            expect_refusal(dir, 1, &[&name, &format!("sample {}", row.key)], store);
            let verdict = prep(&["verify", "data"], dir).expect(1);
            assert!(verdict.out.contains(&format!("{name}: sample {}", row.key)), "{}", verdict.out);
            restore(&files, &dir.join("data")).unwrap();
        }
        order(dir).expect(0);
        train(dir).expect(0);
    }
}

#[test]
fn an_index_with_a_flipped_byte_is_refused_or_the_byte_was_not_used() {
    let (folder, files) = prepared("tensor");
    let dir = folder.path();
    let sound = order(dir).expect(0).out;
    let name = "train/shard-000001.arrow";
    let bytes = &files[Path::new(name)];
    let mut refused = 0;
    for i in 0..120 {
        let mut flipped = bytes.clone();
        flipped[i * bytes.len() / 120] ^= 1 << (i % 8);
        fs_err::write(dir.join("data").join(name), flipped).unwrap();
        let finished = order(dir);
        if finished.code == Some(0) {
            assert_eq!(finished.out, sound, "byte {}", i * bytes.len() / 120);
            continue;
        }
        let finished = finished.expect(1);
        assert!(finished.err.contains(name), "{}", finished.err);
        refused += 1;
    }
    assert!(refused >= 40, "only {refused} of 120 flips were noticed");
}

#[test]
fn files_cut_deleted_or_exchanged_are_refused_by_name() {
    let (folder, files) = prepared("tensor");
    let dir = folder.path();
    for name in ["train/shard-000000.tar", "train/shard-000001.arrow", "dataset.json"] {
        let path = dir.join("data").join(name);
        let bytes = &files[Path::new(name)];
        fs_err::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        expect_refusal(dir, 1, &[name], "cut");
        fs_err::remove_file(&path).unwrap();
        expect_refusal(dir, 2, &[name], "deleted");
        restore(&files, &dir.join("data")).unwrap();
    }
    let (first, second) = ("train/shard-000000", "train/shard-000001");
    for extension in ["tar", "arrow"] {
        let [left, right] = [first, second].map(|stem| format!("{stem}.{extension}"));
        fs_err::write(dir.join("data").join(&left), &files[Path::new(&right)]).unwrap();
        fs_err::write(dir.join("data").join(&right), &files[Path::new(&left)]).unwrap();
        expect_refusal(dir, 1, &["train/shard-00000"], "exchanged");
        restore(&files, &dir.join("data")).unwrap();
    }
    train(dir).expect(0);
}

#[test]
fn a_manifest_with_a_flipped_byte_is_refused() {
    let (folder, files) = prepared("tensor");
    let dir = folder.path();
    let sound = &files[Path::new("dataset.json")];
    for i in 0..60 {
        let mut flipped = sound.clone();
        flipped[i * sound.len() / 60] ^= 1 << (i % 8);
        fs_err::write(dir.join("data/dataset.json"), flipped).unwrap();
        let finished = order(dir).expect(1);
        assert!(finished.err.contains("dataset.json"), "{}", finished.err);
    }
    let finished = train(dir).expect(2);
    assert!(finished.err.contains("dataset.json"), "{}", finished.err);
}

#[test]
fn an_unfinished_data_set_is_refused() {
    let (folder, _) = prepared("tensor");
    let dir = folder.path();
    fs_err::remove_file(dir.join("data/dataset.json")).unwrap();
    expect_refusal(dir, 2, &["data", "run the same prep command again"], "unfinished");
}
