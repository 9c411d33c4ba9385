//! A loss that is no number ends the run with the step and the batch's keys, and no step is made of it.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod common;

use common::{Keep, config, data, train};
use trainer::Error;
use trainer::checkpoint::{Checkpoints, read_state};

#[test]
fn the_step_and_the_keys_are_kept() {
    check(&[]);
}

#[test]
fn so_are_they_when_a_step_takes_several_batches_in_chunks() {
    check(&["optim.accum_steps=3", "train.chunk_size=3", "train.ema_decay=0.9"]);
}

fn check(set: &[&str]) {
    let data = data();
    let runs = tempfile::tempdir().unwrap();
    let run = runs.path().join("run");
    // The largest rate that is allowed, without clipping, breaks the model within a few steps.
    let wild = [
        "optim.lr=10",
        "optim.clip=0",
        "optim.warmup_steps=1",
        "optim.steps=400",
        "optim.weight_decay=10",
        "train.eval_every=0",
        "train.checkpoint_every=1",
    ];
    let mut keep = Keep::default();
    let error = train(&config(&[&wild[..], set].concat()), data.path(), &run, false, &mut keep).unwrap_err();
    let Error::NotFinite { step, saved, .. } = &error else { panic!("{error}") };
    assert_eq!(*step, keep.rows.len() as u64 + 1);
    let report: serde_json::Value = serde_json::from_slice(&fs_err::read(saved).unwrap()).unwrap();
    assert_eq!(report["step"], *step);
    let keys = report["keys"].as_array().unwrap();
    // One batch, or all of the step where only their sum is no number.
    assert!(!keys.is_empty() && keys.len().is_multiple_of(7) && keys.len() <= 21, "{} keys", keys.len());
    assert!(keys.iter().all(|key| key.as_str().unwrap().starts_with("train-")));
    // The last checkpoint is the one before the step that was not made.
    let latest = Checkpoints::of_run(&run).latest().unwrap().unwrap();
    assert_eq!(read_state(&latest).unwrap().step, step - 1);
}
