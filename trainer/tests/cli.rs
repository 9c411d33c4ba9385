//! The program `trainer` as a user types it: exit codes, output, signals.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod common;

use common::program::{run, trainer};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// A folder with small.toml in it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("small.toml"), common::config(&["optim.steps=4"]).to_toml().unwrap())
        .unwrap();
    folder
}

#[test]
fn train_resume_eval_baseline_and_plot() {
    let (data, folder) = (common::data(), folder());
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let (code, out, err) = run(&["train", "--config", "small.toml", "--data", data], at);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("runs/small: all 4 steps are made"), "{out}");
    assert!(err.contains("step 4/4") && err.contains("loss"), "{err}");
    for file in [
        "config.toml",
        "tokenizer.json",
        "metrics.jsonl",
        "plots/loss.png",
        "plots/recall.png",
        "plots/learning_rate.png",
        "plots/gradient_norm.png",
        "checkpoints/step-00000004/model.safetensors",
    ] {
        assert!(at.join("runs/small").join(file).is_file(), "{file}");
    }
    let (code, _, err) = run(&["train", "--config", "small.toml", "--data", data], at);
    assert_eq!(code, 2);
    assert!(err.contains("give --resume"), "{err}");
    let (code, _, err) =
        run(&["train", "--config", "small.toml", "--data", data, "--resume", "--set", "optim.steps=5"], at);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("going on from step 4"), "{err}");
    for run_name in ["small", "runs/small"] {
        let (code, out, err) = run(&["eval", "--run", run_name, "--data", data, "--json"], at);
        assert_eq!(code, 0, "{err}");
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&value["images"], &value["step"]), (&13.into(), &5.into()));
        assert_eq!(value["trained_on_this_data_set"], true);
    }
    let (code, out, _) =
        run(&["eval", "--run", "small", "--data", data, "--limit", "5", "--shuffle-captions"], at);
    assert_eq!(code, 0);
    assert!(
        out.contains("5 images") && out.contains("dealt to other images") && out.contains("chance"),
        "{out}"
    );
    let other = testkit::Spec { seed: 5, ..testkit::Spec::small() }.size(32).temporary();
    let (code, out, _) = run(&["eval", "--run", "small", "--data", other.path().to_str().unwrap()], at);
    assert_eq!(code, 0);
    assert!(out.contains("not the data set that it was trained on"), "{out}");
    let (code, out, err) = run(&["baseline", "--data", data, "--json"], at);
    assert_eq!(code, 0, "{err}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&value["train_samples"], &value["images"]), (&30.into(), &13.into()));
    let (code, out, _) = run(&["plot", "--run", "small"], at);
    assert_eq!((code, out.lines().count()), (0, 5));
}

#[test]
fn an_early_end_and_what_to_know_of_the_results_are_told() {
    let (data, folder) = (common::data(), folder());
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let mut arguments = vec!["train", "--config", "small.toml", "--data", data];
    for set in [
        "optim.steps=90",
        "optim.lr=1e-9",
        "optim.accum_steps=2",
        "train.ema_decay=0.9",
        "train.eval_every=1",
        "train.patience=2",
    ] {
        arguments.extend(["--set", set]);
    }
    let (code, out, err) = run(&arguments, at);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("note: a step averages the gradients of 2 batches"), "{err}");
    assert!(err.contains("13 images by the averaged weights"), "{err}");
    assert!(out.contains("no evaluation was better than that of step 1 (train.patience)"), "{out}");
    assert!(at.join("runs/small/checkpoints/best.json").is_file());
    assert!(at.join("runs/small/checkpoints/step-00000001/ema.safetensors").is_file());
    let (code, out, err) = run(&["eval", "--run", "small", "--data", data, "--json"], at);
    assert_eq!(code, 0, "{err}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["images"], 13);
}

#[test]
fn a_mistake_is_one_sentence_and_exit_code_2() {
    let (data, folder) = (common::data(), folder());
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let frozen = "train.freeze=[\"visual.tranformer\"]";
    let table: [(&[&str], &str); 8] = [
        (&["train", "--config", "small.toml", "--data", data, "--set", frozen], "`visual.transformer`"),
        (&["train", "--config", "none.toml", "--data", data], "none.toml"),
        (&["train", "--config", "small.toml", "--data", "none"], "none"),
        (
            &["train", "--config", "small.toml", "--data", data, "--set", "optim.lrr=1"],
            "the nearest one is `optim.lr`",
        ),
        (&["train", "--config", "small.toml", "--data", data, "--run", "../x"], "is not a run's name"),
        (&["train", "--config", "small.toml", "--data", data, "--resume"], "leave out --resume"),
        (&["eval", "--run", "none", "--data", data], "runs/none"),
        (&["baseline", "--data", data, "--split", "test"], "\"test\""),
    ];
    for (arguments, expected) in table {
        let (code, out, err) = run(arguments, at);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(expected), "{arguments:?}: {err}");
        assert_eq!(err.trim_end().lines().count(), 1, "{err}");
        assert!(!at.join("runs").exists(), "{arguments:?}");
    }
    let (code, out, _) = run(&["train", "--help"], at);
    assert_eq!(code, 0);
    assert!(out.contains("Examples:") && out.contains("optim.final_lr_fraction"), "{out}");
}

/// What could not be printed is told; a reader who has gone away needs no more.
#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_printed_are_an_error() {
    let (data, folder) = (common::data(), folder());
    let arguments = ["baseline", "--data", data.path().to_str().unwrap(), "--json"];
    let full =
        || Stdio::from(fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap().into_parts().0);
    let done = trainer(&arguments, folder.path()).stdout(full()).output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{told}");
    assert!(told.contains("standard output"), "{told}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let done = trainer(&arguments, folder.path()).stdout(writer).output().unwrap();
    assert_eq!((done.status.code(), done.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[cfg(unix)]
#[test]
fn a_signal_saves_a_checkpoint_and_the_run_goes_on_from_it() {
    let (data, folder) = (common::data(), folder());
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let endless = [
        "train",
        "--config",
        "small.toml",
        "--data",
        data,
        "--set",
        "optim.steps=1000000",
        "--set",
        "train.eval_every=0",
    ];
    let mut child = trainer(&endless, at).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("step 2/") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended by itself");
    }
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{out}{rest}");
    assert!(out.contains("stopped after step") && out.contains("--resume"), "{out}");
    assert_eq!(fs_err::read_dir(at.join("runs/small/checkpoints")).unwrap().count(), 1);
    let steps = out.split_whitespace().nth(3).unwrap().trim_end_matches(';').parse::<u64>().unwrap();
    let end = format!("optim.steps={}", steps + 2);
    let (code, _, err) =
        run(&["train", "--config", "small.toml", "--data", data, "--resume", "--set", &end], at);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains(&format!("going on from step {steps}")), "{err}");
}

/// The losses of a run by step, as the file has them.
fn losses(run: &Path) -> Vec<(u64, String)> {
    let text = fs_err::read_to_string(run.join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.filter(|r| r["kind"] == "train")
        .map(|r| (r["step"].as_u64().unwrap(), r["loss"].to_string()))
        .collect()
}

#[cfg(unix)]
#[test]
fn killed_at_any_moment_and_resumed_it_is_the_same_run() {
    let (data, folder) = (common::data(), folder());
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let base = ["train", "--config", "small.toml", "--data", data, "--set", "optim.steps=12"];
    let (code, _, err) = run(&[&base[..], &["--run", "straight"]].concat(), at);
    assert_eq!(code, 0, "{err}");
    let killed = [&base[..], &["--run", "killed", "--set", "train.checkpoint_every=2"]].concat();
    // Once before the first checkpoint, then in the midst of the run, wherever the kill finds it.
    for (resume, until) in [(false, "beginning"), (true, "step 1/"), (true, "step 5/"), (true, "step 9/")] {
        let arguments = if resume { [&killed[..], &["--resume"]].concat() } else { killed.clone() };
        let mut child = trainer(&arguments, at).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(until) {
            line.clear();
            if stderr.read_line(&mut line).unwrap() == 0 {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (code, _, err) = run(&[&killed[..], &["--resume"]].concat(), at);
    assert_eq!(code, 0, "{err}");
    assert_eq!(losses(&at.join("runs/killed")), losses(&at.join("runs/straight")));
}
