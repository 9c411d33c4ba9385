//! Which data the program reads, and what it says of a saved state's past.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::process::{Command, Output};

use loader::{Loader, LoaderState, Remainder};
use testkit::Spec;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loader")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A state in the second epoch of a run over `data`.
fn state(data: &tempfile::TempDir) -> LoaderState {
    let loader =
        Loader::builder(data.path()).batch_size(8).remainder(Remainder::DropLast).seed(9).build().unwrap();
    let mut state = loader.state(0, 0);
    for _ in 0..10 {
        let batch = loader.resume(&state).unwrap().next().unwrap().unwrap();
        state = loader.state_after(&batch);
    }
    assert_eq!((state.epoch, state.position), (1, 24));
    state
}

#[test]
fn a_states_past_is_proved_or_not() {
    let (data, other) = (Spec::small().temporary(), Spec::train(61).temporary());
    let state = state(&data);
    let file = data.path().join("state.json");
    let verify = |dir: &tempfile::TempDir, json: &str, more: &[&str]| {
        fs_err::write(&file, json).unwrap();
        let arguments = ["verify-resume", dir.path().to_str().unwrap(), "--state", file.to_str().unwrap()];
        run(&[&arguments[..], &["--batch-size", "8"], more].concat())
    };
    let found = verify(&data, &state.to_json(), &[]);
    assert_eq!(found.status.code(), Some(0), "{}", text(&found.stderr));
    assert!(text(&found.stdout).starts_with("holds: 80 samples from epoch 0"), "{}", text(&found.stdout));
    // As a checkpoint has it: one field of several.
    let nested = format!("{{\"step\": 10, \"loader\": {}}}", state.to_json());
    let found = verify(&data, &nested, &["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((report["holds"].as_bool(), report["samples"].as_u64()), (Some(true), Some(80)));

    let mut lies = Vec::new();
    let mut lie = state.clone();
    lie.history.hash = lie.history.hash.wrapping_add(1);
    lies.push((&data, lie, "hash"));
    let mut lie = state.clone();
    lie.history.samples -= 1;
    lies.push((&data, lie, "counts 79 samples where the order has 80"));
    let mut lie = state.clone();
    lie.seed = 10;
    lies.push((&data, lie, "hash"));
    let mut lie = state.clone();
    lie.position = 32;
    lies.push((&data, lie, "where the order has 88"));
    // Ends soon, however far the state says it is.
    let mut lie = state.clone();
    lie.epoch = u64::MAX - 1;
    lies.push((&data, lie, "where the order has 112 so far"));
    lies.push((&other, state.clone(), "fingerprint"));
    let mut lie = state.clone();
    lie.order = "none".to_owned();
    lies.push((&data, lie, "order"));
    for (dir, lie, problem) in lies {
        let found = verify(dir, &lie.to_json(), &[]);
        assert_eq!(found.status.code(), Some(1), "{}", text(&found.stderr));
        let words = text(&found.stdout);
        assert!(words.starts_with("does not hold") && words.contains(problem), "{words}");
    }
    for nothing in ["", "{}", "not json"] {
        assert_eq!(verify(&data, nothing, &[]).status.code(), Some(2));
    }
}

#[test]
fn views_and_mixtures_are_asked_for_by_name() {
    let (data, other) = (Spec::small().temporary(), Spec::train(61).temporary());
    let dir = data.path().to_str().unwrap();
    let mix = format!("{}=3", other.path().display());
    let order = |more: &[&str]| {
        let found = run(&[&["order", dir, "--batch-size", "4", "--remainder", "drop-last"], more].concat());
        assert!(found.status.success(), "{}", text(&found.stderr));
        (text(&found.stdout).lines().count(), text(&found.stderr))
    };
    let (keys, said) = order(&["--mix", &mix, "--weight", "1", "--epoch-samples", "80"]);
    assert_eq!(keys, 80);
    assert!(said.contains("20 of an epoch's 80 from 60 samples"), "{said}");
    assert!(said.contains("60 of an epoch's 80 from 61 samples"), "{said}");
    let list = data.path().join("keys");
    fs_err::write(&list, "train-00003\ntrain-00004\n\n  train-00009\ntrain-00011\n").unwrap();
    assert_eq!(order(&["--only-keys", list.to_str().unwrap()]).0, 4);
    assert_eq!(order(&["--caption-words", "1..7", "--fraction", "0.2"]).0, 12);
    assert_eq!(order(&["--shuffle", "block:4x2"]).0, 60);
    assert_eq!(order(&["--shuffle", "shard-buffer"]).0, 60);
    assert_eq!(order(&["--distinct", "--distinct-keys", list.to_str().unwrap()]).0, 60);
    assert!(order(&["--shuffle", "auto"]).1.contains("order: global"));
    for (arguments, problem) in [
        (&["--caption-words", "8..9"][..], "captions of 8 to 9 words"),
        (&["--caption-words", "many"], "3..20"),
        (&["--shuffle", "sideways"], "is no order"),
        (&["--mix", &mix], "1 of 2 data sets have a weight"),
        (&["--epoch-samples", "0"], "an epoch needs at least 1 sample"),
    ] {
        let found = run(&[&["order", dir, "--batch-size", "4"], arguments].concat());
        assert_eq!(found.status.code(), Some(2));
        assert!(text(&found.stderr).contains(problem), "{}", text(&found.stderr));
    }
}
