//! Training and evaluation on a damaged data set refuse, or name the sample that is damaged.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod common;

use common::{Keep, config, data, train};
use std::path::{Path, PathBuf};

/// The largest shard of a split: with four samples or so in it, each epoch reads it.
fn shard(data: &Path, split: &str) -> PathBuf {
    let tars = fs_err::read_dir(data.join(split)).unwrap().map(|e| e.unwrap().path());
    tars.filter(|p| p.extension().is_some_and(|e| e == "tar"))
        .max_by_key(|p| p.metadata().unwrap().len())
        .unwrap()
}

/// Everything that the error says, with its causes.
fn complaint(data: &Path) -> String {
    let runs = tempfile::tempdir().unwrap();
    let error =
        train(&config(&["optim.steps=8"]), data, &runs.path().join("run"), false, &mut Keep::default());
    format!("{:#}", anyhow::Error::from(error.unwrap_err()))
}

#[test]
fn a_changed_pixel_names_shard_and_sample() {
    let data = data();
    for split in ["train", "val"] {
        let path = shard(data.path(), split);
        let sound = fs_err::read(&path).unwrap();
        let mut bytes = sound.clone();
        // A tar's header and the npy's are 640 bytes: this is a pixel of the shard's first sample.
        bytes[2000] ^= 1;
        fs_err::write(&path, &bytes).unwrap();
        let text = complaint(data.path());
        assert!(text.contains(path.file_name().unwrap().to_str().unwrap()), "{text}");
        assert!(text.contains(&format!("{split}-00")), "{text}");
        fs_err::write(&path, sound).unwrap();
    }
}

#[test]
fn a_shard_cut_short_or_missing_is_refused() {
    let data = data();
    let path = shard(data.path(), "train");
    let sound = fs_err::read(&path).unwrap();
    fs_err::write(&path, &sound[..sound.len() / 2]).unwrap();
    let text = complaint(data.path());
    assert!(text.contains(path.file_name().unwrap().to_str().unwrap()), "{text}");
    fs_err::remove_file(&path).unwrap();
    let text = complaint(data.path());
    assert!(text.contains(path.file_name().unwrap().to_str().unwrap()), "{text}");
}

#[test]
fn an_unfinished_or_missing_data_set_is_refused() {
    let data = data();
    fs_err::remove_file(data.path().join("dataset.json")).unwrap();
    assert!(complaint(data.path()).contains("dataset.json"));
    assert!(complaint(Path::new("/no/such/folder")).contains("/no/such/folder"));
}

#[test]
fn a_split_or_size_that_the_data_set_does_not_have_is_named() {
    let data = data();
    let runs = tempfile::tempdir().unwrap();
    let fail = |set: &str| {
        let error =
            train(&config(&[set]), data.path(), &runs.path().join("run"), false, &mut Keep::default());
        format!("{:#}", anyhow::Error::from(error.unwrap_err()))
    };
    assert!(fail("data.split=test").contains("\"test\""));
    assert!(fail("model.vision.image_size=48").contains("model.vision.image_size = 48"));
    let text = fail("data.batch_size=31");
    assert!(text.contains("31"), "{text}");
    assert!(!runs.path().join("run").exists(), "a refusal must leave no run behind");
}
