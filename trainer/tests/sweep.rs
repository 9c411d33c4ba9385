//! `trainer sweep` and `trainer worst` through the real program.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod common;

use common::program::{run, trainer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// A folder with small.toml, a sweep where `section` is one.
fn folder(section: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = common::config(&["optim.steps=3", "data.batch_size=6"]).to_toml().unwrap();
    fs_err::write(folder.path().join("small.toml"), format!("{config}\n{section}")).unwrap();
    folder
}

const SECTION: &str = "[sweep]\noptim.lr = [1e-3, 1e-2]\ntrain.seed = [0, 1]\n";
const NAMES: [&str; 4] =
    ["small-lr1e-3-seed0", "small-lr1e-3-seed1", "small-lr0.01-seed0", "small-lr0.01-seed1"];

#[test]
fn every_combination_is_a_run_and_the_best_comes_first() {
    let (data, folder) = (common::data(), folder(SECTION));
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let sweep = ["sweep", "--config", "small.toml", "--data", data];
    let (code, out, err) = run(&[&sweep[..], &["--dry-run"]].concat(), at);
    assert_eq!(code, 0, "{err}");
    let listed: Vec<&str> = out.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(listed, NAMES);
    assert!(
        out.contains("new") && out.contains("optim.lr=0.01 train.seed=1") && !at.join("runs").exists(),
        "{out}"
    );

    let (code, out, err) = run(&sweep, at);
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("run 4 of 4: small-lr0.01-seed1"), "{err}");
    assert_eq!(out.lines().count(), 5, "{out}");
    for name in NAMES {
        assert!(at.join("runs").join(name).join("checkpoints/step-00000003/model.safetensors").is_file());
    }
    // A run of a sweep is the run that `train` makes of the same keys.
    let plain = common::config(&["optim.steps=3", "data.batch_size=6", "optim.lr=1e-2", "train.seed=1"]);
    fs_err::write(at.join("plain.toml"), plain.to_toml().unwrap()).unwrap();
    assert_eq!(run(&["train", "--config", "plain.toml", "--data", data], at).0, 0);
    let weights = |name: &str| {
        fs_err::read(at.join("runs").join(name).join("checkpoints/step-00000003/model.safetensors")).unwrap()
    };
    assert!(weights("plain") == weights(NAMES[3]) && weights("plain") != weights(NAMES[0]));
    let rows = trainer::ledger::Ledger::of(&at.join("runs")).read().unwrap();
    let parents: Vec<[&str; 2]> = rows.iter().map(|row| [row.get("parent"), row.get("difference")]).collect();
    assert_eq!(parents[..2], [["", ""], [NAMES[0], "train.seed=1"]]);
    assert_eq!(parents[3], [NAMES[0], "optim.lr=0.01; train.seed=1"]);

    // Again: nothing is left to do, and the table is the same.
    let (code, again, err) = run(&sweep, at);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(again, out);
    let (code, out, _) = run(&[&sweep[..], &["--json"]].concat(), at);
    let value: Value = serde_json::from_str(&out).unwrap();
    let scores: Vec<f64> = value["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["figures"]["score"]["best"].as_f64().unwrap())
        .collect();
    assert!(code == 0 && scores.len() == 4 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert_eq!(value["runs"][0]["monitor"], "recall_at_1");
    // A ledger that is gone is no reason to train anew.
    fs_err::remove_file(at.join("runs/experiments.csv")).unwrap();
    let (code, out, err) = run(&[&sweep[..], &["--json"]].concat(), at);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("going on from step 3") && !err.contains("step 1/3"), "{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), value);
}

#[test]
fn mistakes_are_told_before_the_first_run() {
    let data = common::data();
    let data = data.path().to_str().unwrap();
    let table: [(&str, &[&str], &str); 8] = [
        ("[sweep]\noptim.lrr = [1]", &[], "the nearest one is `sweep.optim.lr`"),
        ("[sweep]\noptim.lr = [1e-3, \"fast\"]", &[], "sweep.optim.lr"),
        ("[sweep]\ndata.batch_size = [6, 400]", &[], "a batch of 400 is larger than the 30 samples"),
        ("[sweep]\ndata.val_split = [\"val\", \"test\"]", &[], "\"test\""),
        ("[sweep]\nmodel.text.heads = [1, 5]", &[], "5"),
        ("", &[], "has no section [sweep]"),
        (SECTION, &["--set", "optim.lr=1"], "sets a key that its section [sweep] tries"),
        (SECTION, &["--run", "../x"], "is not a run's name"),
    ];
    for (section, more, expected) in table {
        let folder = folder(section);
        let sweep = ["sweep", "--config", "small.toml", "--data", data];
        let (code, out, err) = run(&[&sweep[..], more].concat(), folder.path());
        assert_eq!((code, out.as_str()), (2, ""), "{section}: {err}");
        assert!(err.starts_with("error: ") && err.contains(expected), "{section}: {err}");
        assert_eq!(err.trim_end().lines().count(), 1, "{err}");
        assert!(!folder.path().join("runs").exists(), "{section}");
    }
    let folder = folder(SECTION);
    let at = folder.path();
    let (code, _, err) = run(&["train", "--config", "small.toml", "--data", data], at);
    assert_eq!((code, err.trim_end().lines().count()), (2, 1), "{err}");
    assert!(err.contains("`trainer sweep`") && !at.join("runs").exists(), "{err}");
    // A run of that name with other keys.
    let other = common::config(&["optim.steps=2", "data.batch_size=6", "optim.lr=1e-2", "train.seed=1"]);
    fs_err::write(at.join("other.toml"), other.to_toml().unwrap()).unwrap();
    assert_eq!(run(&["train", "--config", "other.toml", "--data", data, "--run", NAMES[3]], at).0, 0);
    let (code, _, err) = run(&["sweep", "--config", "small.toml", "--data", data], at);
    assert!(code == 2 && err.contains("another configuration") && err.contains("optim.steps=3"), "{err}");
    assert!(!at.join("runs").join(NAMES[0]).exists());
}

#[test]
fn a_run_that_fails_is_told_and_the_others_are_made() {
    let (data, folder) = (common::data(), folder("[sweep]\noptim.lr = [1e-3, 2e-3]\n"));
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    // The place of the first run's checkpoints is taken by a file.
    let taken = at.join("runs/small-lr1e-3");
    fs_err::create_dir_all(&taken).unwrap();
    fs_err::write(taken.join("checkpoints"), "").unwrap();
    let sweep = ["sweep", "--config", "small.toml", "--data", data];
    let (code, out, err) = run(&sweep, at);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("small-lr1e-3 failed: could not"), "{out}");
    assert!(at.join("runs/small-lr2e-3/checkpoints/step-00000003").is_dir(), "{out}{err}");
    fs_err::remove_file(taken.join("checkpoints")).unwrap();
    let (code, out, err) = run(&sweep, at);
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("run 1 of 2") && !err.contains("run 2 of 2"), "{err}");
}

#[cfg(unix)]
#[test]
fn a_signal_stops_a_sweep_which_then_goes_on() {
    let (data, folder) = (common::data(), folder("[sweep]\ntrain.seed = [0, 1, 2]\n"));
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    // Long enough that the signal comes in time, with a checkpoint at the signal alone.
    let sweep = [
        "sweep",
        "--config",
        "small.toml",
        "--data",
        data,
        "--set",
        "optim.steps=400",
        "--set",
        "train.eval_every=0",
    ];
    let mut child = trainer(&sweep, at).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("run 2 of 3") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended by itself");
    }
    while !line.contains("step 1/") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended by itself");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    drop(stderr.lines().collect::<Result<Vec<_>, _>>().unwrap());
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{out}");
    let status = |name: &str, out: &str| {
        let line = out.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    let standing = ["small-seed0", "small-seed1", "small-seed2"].map(|name| status(name, &out));
    assert_eq!(standing, ["finished", "unfinished", "new"], "{out}");
    let listed = run(&[&sweep[..], &["--dry-run"]].concat(), at).1;
    assert_eq!(["small-seed0", "small-seed1", "small-seed2"].map(|name| status(name, &listed)), standing);
    let (code, out, err) = run(&sweep, at);
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        !err.contains("run 1 of 3") && err.contains("run 2 of 3") && err.contains("going on from"),
        "{err}"
    );
    let rows = trainer::ledger::Ledger::of(&at.join("runs")).read().unwrap();
    assert_eq!(rows.iter().filter(|row| row.get("status") == "finished").count(), 3);
    assert_eq!(rows.len(), 3);
}

/// The newest ledger of samples of a run: key to times seen and the bits of the last loss.
fn samples(run: &Path, step: u64) -> BTreeMap<String, (u32, u32)> {
    let checkpoint = run.join(format!("checkpoints/step-{step:08}"));
    let state = trainer::checkpoint::read_state(&checkpoint).unwrap();
    let samples = trainer::samples::read(&checkpoint, &state).unwrap().unwrap();
    samples.into_iter().map(|s| (s.key, (s.times_seen, s.last_loss.to_bits()))).collect()
}

#[test]
fn the_hardest_samples_are_shown() {
    let (data, folder) = (common::data(), folder(""));
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let train = |name: &str, more: &[&str]| {
        let base = ["train", "--config", "small.toml", "--data", data, "--run", name];
        let (code, _, err) = run(&[&base[..], more].concat(), at);
        assert_eq!(code, 0, "{err}");
        err
    };
    let on = ["--set", "train.sample_ledger=true", "--set", "optim.steps=7"];
    train("straight", &on);
    // 7 batches of 6 over 30 samples: an epoch of five, and two batches of the next.
    let found = samples(&at.join("runs/straight"), 7);
    let times: Vec<u32> = found.values().map(|seen| seen.0).collect();
    assert_eq!((found.len(), times.iter().sum::<u32>()), (30, 42));
    assert!(times.iter().all(|times| (1..=2).contains(times)), "{times:?}");
    // In two parts it is the same; so are chunks, up to rounding.
    train("parts", &["--set", "train.sample_ledger=true", "--set", "optim.steps=3"]);
    fs_err::remove_dir_all(at.join("runs/parts")).unwrap();
    train("parts", &[&on[..], &["--set", "train.checkpoint_every=2"]].concat());
    fs_err::remove_dir_all(at.join("runs/parts/checkpoints/step-00000007")).unwrap();
    let err = train("parts", &[&on[..], &["--resume"]].concat());
    assert!(err.contains("going on from step 6"), "{err}");
    assert_eq!(samples(&at.join("runs/parts"), 7), found);
    train("chunks", &[&on[..], &["--set", "train.chunk_size=2"]].concat());
    for ((key, (times, loss)), (other, (again, close))) in
        found.iter().zip(samples(&at.join("runs/chunks"), 7))
    {
        let (loss, close) = (f32::from_bits(*loss), f32::from_bits(close));
        assert_eq!((key, times), (&other, &again));
        assert!((loss - close).abs() < 1e-2, "{key}: {loss}, {close}");
    }
    train("gathered", &[&on[..], &["--set", "optim.accum_steps=3", "--set", "optim.steps=2"]].concat());
    let gathered = samples(&at.join("runs/gathered"), 2);
    assert_eq!(gathered.values().map(|seen| seen.0).sum::<u32>(), 36);

    let (code, out, err) =
        run(&["worst", "--run", "straight", "--data", data, "-k", "5", "--out", "worst.png", "--json"], at);
    assert_eq!(code, 0, "{err}");
    let value: Value = serde_json::from_str(&out).unwrap();
    let shown = value["samples"].as_array().unwrap();
    let mut expected: Vec<(f32, &String)> =
        found.iter().map(|(key, (_, loss))| (f32::from_bits(*loss), key)).collect();
    expected.sort_by(|a, b| b.0.total_cmp(&a.0));
    assert_eq!((shown.len(), &value["samples_seen"]), (5, &30.into()));
    for (shown, (loss, key)) in shown.iter().zip(expected) {
        assert_eq!(shown["key"].as_str(), Some(key.as_str()));
        assert_eq!(shown["last_loss"].as_f64().map(|loss| loss as f32), Some(loss));
        assert!(!shown["captions"].as_array().unwrap().is_empty());
    }
    assert!(fs_err::read(at.join("worst.png")).unwrap().starts_with(b"\x89PNG"));
    let (code, out, _) = run(&["worst", "--run", "straight", "--data", data], at);
    assert_eq!((code, out.lines().count()), (0, 32), "{out}");

    train("without", &[]);
    let (code, _, err) = run(&["worst", "--run", "without", "--data", data], at);
    assert!(code == 2 && err.contains("train.sample_ledger=true"), "{err}");
    let err = train("without", &[&on[..], &["--resume"]].concat());
    assert!(err.contains("the ledger of samples begins behind step 3"), "{err}");
    assert_eq!(samples(&at.join("runs/without"), 7).values().map(|seen| seen.0).sum::<u32>(), 24);
    let other = testkit::Spec { seed: 5, ..testkit::Spec::small() }.size(40).temporary();
    let (code, _, err) = run(&["worst", "--run", "straight", "--data", other.path().to_str().unwrap()], at);
    assert!(code == 2 && err.contains("fingerprint"), "{err}");
}

#[test]
fn what_no_run_could_begin_with_is_told_by_a_dry_run() {
    let data = common::data();
    let dry = |keys: &[&str]| {
        let folder = folder("[sweep]\ntrain.seed = [0, 1]\n");
        let mut words =
            vec!["sweep", "--config", "small.toml", "--data", data.path().to_str().unwrap(), "--dry-run"];
        keys.iter().for_each(|key| words.extend(["--set", key]));
        let (code, _, err) = run(&words, folder.path());
        assert_eq!(code, 2, "{err}");
        err
    };
    let captioner = ["caption.family=prefix", "caption.tower=nowhere", "train.monitor=cider"];
    for (keys, word) in [
        (&["model.weights=gone.safetensors"][..], "gone.safetensors"),
        (&captioner, "caption.tower"),
        (&["tokenizer=small.toml"], "small.toml"),
        (&["tokenizer=nowhere.json"], "nowhere.json"),
    ] {
        let err = dry(keys);
        assert!(err.contains(word), "{err}");
    }
    // The pictures are the tower's, whatever [model] says; a language model has places for so many tokens.
    let folder = folder("[sweep]\ntrain.seed = [0, 1]\n");
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let tower = common::config(&["optim.steps=1"]);
    fs_err::write(at.join("clip.toml"), tower.to_toml().unwrap()).unwrap();
    assert_eq!(run(&["train", "--config", "clip.toml", "--data", data], at).0, 0);
    let checkpoint = "model.weights=runs/clip/checkpoints/step-00000001/model.safetensors";
    let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ops.safetensors");
    let foreign = format!("model.weights={}", foreign.display());
    let more = [checkpoint, "model.vision.layers=3"];
    for (sets, word) in [(&[checkpoint][..], ""), (&more, "model.vision.layers"), (&[&foreign], "neither")] {
        let mut words = vec!["sweep", "--config", "small.toml", "--data", data, "--dry-run"];
        sets.iter().for_each(|set| words.extend(["--set", set]));
        let (code, _, err) = run(&words, at);
        assert!(code == if word.is_empty() { 0 } else { 2 } && err.contains(word), "{err}");
    }
    let lm = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lm/gpt2.gguf");
    let text = format!(
        "[caption]\nfamily = \"prefix_lm\"\ntower = \"runs/clip\"\nlm = {{ source = {lm:?} }}
        decoder = {{ width = 32, layers = 1, heads = 2 }}\n[optim]\nsteps = 1\n[data]\nbatch_size = 6\n[sweep]\ntrain.seed = [0, 1]"
    );
    fs_err::write(at.join("caption.toml"), text).unwrap();
    let sweep = ["sweep", "--config", "caption.toml", "--data", data, "--dry-run", "--set"];
    let (code, out, err) = run(&[&sweep[..], &["caption.context_length=32"]].concat(), at);
    assert_eq!((code, err.as_str(), out.matches("new").count()), (0, "", 2));
    for (set, word) in
        [("caption.context_length=2000", "positions"), ("caption.lm.source=gone.gguf", "gone.gguf")]
    {
        let (code, _, err) = run(&[&sweep[..], &[set]].concat(), at);
        assert!(code == 2 && err.contains(word), "{err}");
    }
}

#[test]
fn a_sweep_over_a_file_is_refused() {
    let data = common::data();
    let dry = |taken: &str| {
        let folder = folder("[sweep]\ntrain.seed = [0, 1]\n");
        if taken != "runs" {
            fs_err::create_dir(folder.path().join("runs")).unwrap();
        }
        fs_err::write(folder.path().join(taken), "a file").unwrap();
        let words = ["sweep", "--config", "small.toml", "--data", data.path().to_str().unwrap(), "--dry-run"];
        let (code, _, err) = run(&words, folder.path());
        assert!(code == 2 && err.contains("it is no folder"), "{err}");
    };
    dry("runs/small-seed1");
    dry("runs");
}
