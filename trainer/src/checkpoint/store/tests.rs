//! A full disk takes nothing with it, and the best checkpoint outlives the newest.

use super::*;
use crate::checkpoint::Identity;
use crate::config::Config;
use candle_core::{Device, Tensor};
use loader::{History, LoaderState};
use std::collections::BTreeMap;
use std::io;

fn state(step: u64) -> State {
    let loader = LoaderState {
        seed: 0,
        epoch: 0,
        position: 0,
        fingerprint: "aa".to_owned(),
        order: "global".to_owned(),
        selection: "all".to_owned(),
        history: History::since(0, 0),
    };
    let frozen = BTreeMap::new();
    let identity = Identity { config: &Config::default(), loader: &loader, tokenizer: "bb", frozen: &frozen };
    State { step, ..State::begin(identity).unwrap() }
}

fn tensors() -> Tensors {
    let tensor = Tensor::zeros((50, 20), candle_core::DType::F32, &Device::Cpu).unwrap();
    [("a.weight".to_owned(), tensor)].into()
}

fn steps(checkpoints: &Checkpoints) -> Vec<u64> {
    checkpoints.list().unwrap().into_iter().map(|(step, _)| step).collect()
}

/// Names in the checkpoints' folder, hidden ones too.
fn names(checkpoints: &Checkpoints) -> Vec<String> {
    let entries = fs::read_dir(&checkpoints.folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_disk_without_room_is_refused_with_both_numbers_before_anything_is_written() {
    let run = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::of_run(run.path());
    let tensors = tensors();
    let weights = Weights { model: &tensors, optimizer: &tensors, averaged: None, samples: None };
    let needed = weights.bytes();
    let written = |_: &Path, _: &[u8]| -> io::Result<()> { panic!("nothing may be written") };
    let disk = Disk { free_bytes: &|_| Some(needed - 1), write: &written };
    let error = checkpoints.save_on(&disk, state(1), &weights, 2).unwrap_err().to_string();
    assert!(error.contains(&needed.to_string()) && error.contains(&(needed - 1).to_string()), "{error}");
    assert!(!checkpoints.folder.exists());
    let disk = Disk { free_bytes: &|_| Some(needed), write: &fsync::write_synced };
    let path = checkpoints.save_on(&disk, state(1), &weights, 2).unwrap();
    let sizes = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let found: u64 = sizes.sum();
    assert!(found <= needed && found + 2 * SLACK_BYTES > needed, "{found} of {needed}");
    checkpoints.require_room(1).unwrap();
    assert!(matches!(checkpoints.require_room(u64::MAX), Err(Error::Space { .. })));
}

#[test]
fn a_disk_that_fills_up_leaves_the_earlier_checkpoints_and_nothing_else() {
    let run = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::of_run(run.path());
    let tensors = tensors();
    let weights = Weights { model: &tensors, optimizer: &tensors, averaged: Some(&tensors), samples: None };
    checkpoints.save(state(1), &weights, 2).unwrap();
    for last in [MODEL, OPTIMIZER, AVERAGED, STATE] {
        let write = |path: &Path, bytes: &[u8]| {
            if path.ends_with(last) {
                fsync::write_synced(path, &bytes[..bytes.len() / 2])?;
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            fsync::write_synced(path, bytes)
        };
        let disk = Disk { free_bytes: &|_| None, write: &write };
        let error = checkpoints.save_on(&disk, state(2), &weights, 2).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert_eq!(names(&checkpoints), ["step-00000001"], "{last}");
    }
    checkpoints.save(state(2), &weights, 2).unwrap();
    assert_eq!(steps(&checkpoints), [1, 2]);
}

#[test]
fn the_best_is_kept_beside_the_newest() {
    let run = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::of_run(run.path());
    let tensors = tensors();
    let weights = Weights { model: &tensors, optimizer: &tensors, averaged: None, samples: None };
    let save = |step| checkpoints.save(state(step), &weights, 2).unwrap();
    let best = |step| Best { step, monitor: "recall_at_1".to_owned(), value: step as f64 };
    assert_eq!(checkpoints.best().unwrap(), None);
    let first = save(1);
    checkpoints.mark_best(&best(1), 2).unwrap();
    assert_eq!(checkpoints.best().unwrap(), Some((best(1), first)));
    (2..=5).for_each(|step| drop(save(step)));
    assert_eq!(steps(&checkpoints), [1, 4, 5]);
    checkpoints.mark_best(&best(5), 2).unwrap();
    assert_eq!(steps(&checkpoints), [4, 5], "the earlier best has gone");
    save(6);
    save(7);
    assert_eq!(steps(&checkpoints), [5, 6, 7]);
    fs::remove_dir_all(checkpoints.folder.join("step-00000005")).unwrap();
    assert_eq!(checkpoints.best().unwrap(), None, "a mark without its checkpoint is none");
    fs::write(checkpoints.folder.join(BEST), "{").unwrap();
    assert!(checkpoints.best().unwrap_err().to_string().contains("best.json"));
}
