//! `prep verify` names the file of every damage, whichever byte it is, and says so by its exit code.

use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::files::{Snapshot, restore, snapshot};

use crate::prep;

/// A small prepared data set: two shards of train, one of val.
fn prepared() -> (tempfile::TempDir, Snapshot) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs_err::create_dir(dir.join("source")).unwrap();
    testkit::source::folder(&dir.join("source"), 14).unwrap();
    let job = [
        "--dataset",
        "folder",
        "--from",
        "source",
        "--out",
        "out",
        "--size",
        "16",
        "--shards",
        "2",
        "--val",
        "4",
    ];
    prep(&job, dir).expect(0);
    let files = snapshot(&dir.join("out")).unwrap();
    assert_eq!(files.len(), 7, "{:?}", files.keys());
    (folder, files)
}

/// verify says 1 and names `file`.
#[track_caller]
fn expect_damage(dir: &Path, file: &str, what: &str) {
    let verdict = prep(&["verify", "out"], dir).expect(1);
    let names = verdict.out.lines().any(|line| line.starts_with(file));
    assert!(names, "{what}: {file} is not named in:\n{}", verdict.out);
    assert!(verdict.out.contains("out: damaged: "), "{}", verdict.out);
}

/// Positions over a file: both ends, and a stride that meets headers, payloads and padding.
fn positions(length: usize, count: usize) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..count).map(|i| i * length / count).collect();
    positions.extend([1, 2, 7, length - 2, length - 1]);
    positions
}

#[test]
fn any_flipped_byte_is_found_and_its_file_named() {
    let (folder, files) = prepared();
    let dir = folder.path();
    for (name, sound) in &files {
        let path = dir.join("out").join(name);
        let name = name.to_str().unwrap();
        // The manifest is small and each of its bytes means something.
        let count = if name == "dataset.json" { 150 } else { 60 };
        for (number, position) in positions(sound.len(), count).into_iter().enumerate() {
            let mut bytes = sound.clone();
            bytes[position] ^= 1 << (number % 8);
            fs_err::write(&path, bytes).unwrap();
            expect_damage(dir, name, &format!("byte {position} of {name}"));
        }
        fs_err::write(&path, sound).unwrap();
    }
    prep(&["verify", "out"], dir).expect(0);
}

#[test]
fn a_file_cut_lengthened_deleted_or_added_is_named() {
    let (folder, files) = prepared();
    let dir = folder.path();
    for (name, sound) in &files {
        let path = dir.join("out").join(name);
        let name = name.to_str().unwrap();
        for length in [0, 1, sound.len() / 3, sound.len() - 512.min(sound.len() / 2), sound.len() - 1] {
            fs_err::write(&path, &sound[..length]).unwrap();
            expect_damage(dir, name, &format!("{name} cut to {length}"));
        }
        for more in [&[0; 1][..], &[0; 512], &[7; 10_240]] {
            fs_err::write(&path, [sound, more].concat()).unwrap();
            expect_damage(dir, name, &format!("{name} with {} bytes more", more.len()));
        }
        fs_err::remove_file(&path).unwrap();
        if name == "dataset.json" {
            // Without it there is nothing to hold the files against.
            let verdict = prep(&["verify", "out"], dir).expect(2);
            assert!(verdict.err.contains("no dataset.json"), "{}", verdict.err);
        } else {
            expect_damage(dir, name, &format!("{name} deleted"));
        }
        fs_err::write(&path, sound).unwrap();
    }
    for name in ["train/shard-000002.tar", "val/shard-000001.arrow", "test/shard-000000.tar"] {
        let path = dir.join("out").join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::copy(dir.join("out/train/shard-000000.tar"), &path).unwrap();
        expect_damage(dir, name, "added");
        fs_err::remove_file(&path).unwrap();
    }
    prep(&["verify", "out"], dir).expect(0);
}

#[test]
fn exchanged_files_are_named() {
    let (folder, files) = prepared();
    let dir = folder.path();
    let (first, second, val) = ("train/shard-000000", "train/shard-000001", "val/shard-000000");
    let swaps: [&[(&str, &str, &str)]; 5] = [
        &[(first, second, "tar")],
        &[(first, second, "arrow")],
        &[(first, second, "tar"), (first, second, "arrow")],
        &[(second, val, "tar"), (second, val, "arrow")],
        &[(first, val, "arrow")],
    ];
    for swap in swaps {
        for (left, right, extension) in swap {
            let [left, right] = [left, right].map(|stem| PathBuf::from(format!("{stem}.{extension}")));
            fs_err::write(dir.join("out").join(&left), &files[&right]).unwrap();
            fs_err::write(dir.join("out").join(&right), &files[&left]).unwrap();
        }
        for (left, right, extension) in swap {
            expect_damage(dir, &format!("{left}.{extension}"), "swapped");
            expect_damage(dir, &format!("{right}.{extension}"), "swapped");
        }
        restore(&files, &dir.join("out")).unwrap();
    }
    prep(&["verify", "out"], dir).expect(0);
}

#[test]
fn the_report_says_file_sample_offset_expected_and_found() {
    let (folder, files) = prepared();
    let dir = folder.path();
    let sound: Value = serde_json::from_str(&prep(&["verify", "out", "--json"], dir).expect(0).out).unwrap();
    assert_eq!((&sound["sound"], &sound["report"]["samples"]), (&true.into(), &14.into()));
    assert_eq!(sound["report"]["damages"], Value::Array(Vec::new()));
    // 700 is a pixel of the first sample: two headers end at 640.
    let name = "train/shard-000001.tar";
    let mut bytes = files[Path::new(name)].clone();
    bytes[700] ^= 0x10;
    fs_err::write(dir.join("out").join(name), &bytes).unwrap();
    let verdict: Value =
        serde_json::from_str(&prep(&["verify", "out", "--json"], dir).expect(1).out).unwrap();
    assert_eq!(verdict["sound"], false);
    let damages = verdict["report"]["damages"].as_array().unwrap();
    let dataset = shard::Dataset::open(dir.join("out")).unwrap();
    let shards = dataset.open_split("train").unwrap();
    let row = shards[1].row(0).unwrap();
    let damage = damages.iter().find(|damage| damage["key"] == row.key).unwrap();
    assert_eq!(damage["file"], name);
    let payload = row.image.offset..row.image.offset + row.image.bytes;
    assert!(payload.contains(&damage["offset"].as_u64().unwrap()), "{damage} is not in {payload:?}");
    for part in ["problem", "expected", "found"] {
        assert!(!damage[part].as_str().unwrap().is_empty(), "{damage}");
    }
    assert_ne!(damage["expected"], damage["found"]);
}

#[test]
fn a_quick_check_says_that_it_was_quick_and_passes_over_pixels() {
    let (folder, files) = prepared();
    let dir = folder.path();
    let quick = |code| prep(&["verify", "out", "--quick"], dir).expect(code).out;
    let json = |more: &[&str]| -> Value {
        serde_json::from_str(&prep(&[&["verify", "out", "--json"], more].concat(), dir).expect(0).out)
            .unwrap()
    };
    assert_eq!(json(&[])["report"]["depth"], "full");
    let report = &json(&["--quick"])["report"];
    assert_eq!(report["depth"], "quick");
    assert!(report["bytes"].as_u64().unwrap() < json(&[])["report"]["bytes"].as_u64().unwrap());
    assert!(quick(0).contains("sound in structure (payloads were not read)"));
    // Byte 700 is a pixel, byte 3 a letter of the first header.
    let path = dir.join("out/train/shard-000001.tar");
    for (byte, code) in [(700, 0), (3, 1)] {
        let mut bytes = files[Path::new("train/shard-000001.tar")].clone();
        bytes[byte] ^= 0x10;
        fs_err::write(&path, &bytes).unwrap();
        let verdict = quick(code);
        assert_eq!(verdict.contains("train/shard-000001.tar"), code == 1, "{verdict}");
        prep(&["verify", "out"], dir).expect(1);
    }
    fs_err::remove_file(dir.join("out/dataset.json")).unwrap();
    prep(&["verify", "out", "--quick"], dir).expect(2);
}
