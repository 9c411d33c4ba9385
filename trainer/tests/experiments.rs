//! The ledger of experiments and what is asked about several runs, through the real program.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod common;

use common::program::{done, json, run, trainer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

/// A folder with small.toml in it: four steps, evaluations at the second and the last.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = common::config(&["optim.steps=4", "data.batch_size=6"]).to_toml().unwrap();
    fs_err::write(folder.path().join("small.toml"), config).unwrap();
    folder
}

/// The rows of the ledger by column.
fn ledger(at: &Path) -> Vec<BTreeMap<String, String>> {
    let rows = trainer::ledger::Ledger::of(&at.join("runs")).read().unwrap();
    let row = |row| serde_json::from_value(serde_json::to_value(row).unwrap()).unwrap();
    rows.iter().map(row).collect()
}

/// Starts the program and waits until its standard error says `until`.
fn start(arguments: &[&str], at: &Path, until: &str) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = trainer(arguments, at).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(until) {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended by itself");
    }
    (child, stderr)
}

#[test]
fn runs_enter_themselves_and_are_compared() {
    let (data, folder) = (common::data(), folder());
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let base = ["train", "--config", "small.toml", "--data", data];
    let (code, _, err) = run(&base, at);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("val: loss ") && err.contains("recall@1/5/10"), "{err}");
    let hot = ["--run", "hot", "--set", "optim.lr=5e-3", "--note", "first, \"hot\" try"];
    done(&[&base[..], &hot].concat(), at);
    let rows = ledger(at);
    let of = |row: usize, column: &str| rows[row][column].clone();
    assert_eq!([of(0, "name"), of(1, "name")], ["small", "hot"]);
    assert_eq!([of(0, "parent"), of(0, "difference")], ["", ""]);
    assert_eq!([of(1, "parent"), of(1, "difference")], ["small", "optim.lr=0.005"]);
    assert_eq!([of(1, "status"), of(1, "step"), of(1, "steps")], ["finished", "4", "4"]);
    assert_eq!(of(1, "notes"), "first, \"hot\" try");
    assert!(of(0, "data").len() >= 16 && of(0, "data") == of(1, "data") && of(0, "id") != of(1, "id"));
    // What the ledger says is what the rows say.
    let metrics = fs_err::read_to_string(at.join("runs/hot/metrics.jsonl")).unwrap();
    let metrics: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_kind = |kind: &str, value: &dyn Fn(&Value) -> f64| -> Vec<f64> {
        metrics.iter().filter(|row| row["kind"] == kind).map(value).collect()
    };
    let number = |column: &str| of(1, column).parse::<f64>().unwrap();
    let losses = of_kind("train", &|row| row["loss"].as_f64().unwrap());
    assert_eq!(losses.len(), 4);
    assert!((number("loss") - losses[3]).abs() < 1e-6);
    assert!((number("loss_best") - losses.iter().copied().fold(f64::MAX, f64::min)).abs() < 1e-6);
    let val = of_kind("val", &|row| row["loss"].as_f64().unwrap());
    assert!(val.len() == 2 && (number("val_loss") - val[1]).abs() < 1e-6);
    let recall = of_kind("val", &|row| row["image_to_text"][0].as_f64().unwrap());
    assert!((number("image_to_text_r1_best") - recall[0].max(recall[1])).abs() < 1e-6);

    // By hand: a column and another note. Gone on with, the run keeps its row.
    let path = at.join("runs/experiments.csv");
    let text = fs_err::read_to_string(&path).unwrap();
    let lines: Vec<String> = text.lines().map(|line| format!("mine {},{line}", line.len())).collect();
    let edited =
        lines.join("\r\n").replace("first, \"\"hot\"\" try", "by hand").replacen("mine", "verdict", 1);
    fs_err::write(&path, edited).unwrap();
    done(&[&base[..], &hot[..4], &["--resume", "--set", "optim.steps=6", "--note", "longer"]].concat(), at);
    let after = ledger(at);
    assert_eq!(
        (after.len(), &after[1]["id"], &after[1]["started"]),
        (2, &rows[1]["id"], &rows[1]["started"])
    );
    assert_eq!(after[1]["notes"], "by hand; longer");
    assert_eq!(after[1]["difference"], "optim.lr=0.005; optim.steps=6");
    assert!(after[1].iter().any(|(column, cell)| column.starts_with("verdict") && cell.starts_with("mine")));

    let (code, out, err) = run(&["diff", "small", "runs/hot"], at);
    assert_eq!(code, 1, "{err}");
    let line = |start: &str| out.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert!(line("optim.lr").contains("0.01") && line("optim.lr").contains("0.005"), "{out}");
    assert!(line("step").contains('6') && line("best val loss").split_whitespace().count() == 5, "{out}");
    assert!(!out.contains("train.seed"), "{out}");
    assert!(done(&["diff", "hot", "hot"], at).contains("the same"));
    let (code, out, _) = run(&["diff", "small", "hot", "--json"], at);
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &value["same"], &value["same_data"]), (1, &false.into(), &true.into()));
    assert_eq!(value["config"][0]["key"], "optim.lr");
    assert_eq!(value["b"]["figures"]["step"], 6);
    assert_eq!(run(&["diff", "small", "none"], at).0, 2);
}

#[test]
fn runs_are_listed_sorted_and_drawn_together() {
    let (data, folder) = (common::data(), folder());
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    assert!(done(&["runs"], at).contains("has no runs"));
    for (name, steps) in [("b", "2"), ("a", "4"), ("c", "3")] {
        let set = format!("optim.steps={steps}");
        done(&["train", "--config", "small.toml", "--data", data, "--run", name, "--set", &set], at);
    }
    let names = |sort: &str| -> Vec<String> {
        let found = json(&["runs", "--json", "--sort", sort], at);
        found["runs"].as_array().unwrap().iter().map(|run| run["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("name"), ["a", "b", "c"]);
    assert_eq!(names("step"), ["a", "c", "b"]);
    let listed = json(&["runs", "--json", "--sort", "loss"], at);
    let losses: Vec<f64> =
        listed["runs"].as_array().unwrap().iter().map(|run| run["loss_best"].as_f64().unwrap()).collect();
    assert!(losses.is_sorted() && losses.len() == 3, "{losses:?}");
    // A folder without a row, and a row without a folder.
    let row = ledger(at).into_iter().find(|row| row["name"] == "c").unwrap();
    let path = at.join("runs/experiments.csv");
    let text = fs_err::read_to_string(&path).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with(&row["id"])).collect();
    fs_err::write(&path, kept.join("\n")).unwrap();
    fs_err::remove_dir_all(at.join("runs/b")).unwrap();
    let out = done(&["runs", "--sort", "name"], at);
    let line = |name: &str| out.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("a").contains("finished") && line("a").contains("4/4"), "{out}");
    assert!(line("b ").contains("finished, no folder"), "{out}");
    assert!(line("c ").contains("not in the ledger") && line("c ").contains('%'), "{out}");
    assert!(line("a").contains("optim.steps=4"), "its difference to b: {out}");

    let out = done(&["plot", "a", "c"], at);
    assert_eq!(out.trim(), "runs/comparison.png");
    done(&["plot", "--run", "a", "c", "--out", "both.png"], at);
    let png = fs_err::read(at.join("both.png")).unwrap();
    assert_eq!(png, fs_err::read(at.join("runs/comparison.png")).unwrap());
    assert!(png.starts_with(b"\x89PNG"));
    done(&["plot", "a", "--out", "one.png"], at);
    assert_ne!(png, fs_err::read(at.join("one.png")).unwrap());
    assert!(done(&["plot", "a"], at).contains("runs/a/plots/loss.png"));
    assert_eq!(run(&["plot", "a", "none"], at).0, 2);
}

#[test]
fn a_parent_is_given_or_found_and_the_commit_is_read() {
    let (data, folder) = (common::data(), folder());
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let commit = "0123456789abcdef".repeat(3)[..40].to_owned();
    fs_err::create_dir_all(at.join(".git")).unwrap();
    fs_err::write(at.join(".git/HEAD"), format!("{commit}\n")).unwrap();
    fs_err::copy(at.join("small.toml"), at.join("other.toml")).unwrap();
    let train = |config: &str, more: &[&str]| {
        done(&[&["train", "--config", config, "--data", data][..], more].concat(), at);
    };
    train("small.toml", &[]);
    train("other.toml", &["--set", "train.seed=9"]);
    train("small.toml", &["--run", "third", "--set", "train.seed=4"]);
    train("small.toml", &["--run", "fourth", "--parent", "runs/other"]);
    let rows = ledger(at);
    let of = |row: usize| [rows[row]["parent"].as_str(), rows[row]["difference"].as_str()];
    assert_eq!(of(1), ["", ""]);
    assert_eq!(of(2), ["small", "train.seed=4"]);
    assert_eq!(of(3), ["other", "train.seed=3"]);
    assert!(rows.iter().all(|row| row["commit"] == commit));
    for (name, expected) in [("none", "`--parent none` cannot"), ("fourth", "is the run itself")] {
        let arguments = ["train", "--config", "small.toml", "--data", data, "--run", "fourth", "--resume"];
        let (code, _, err) = run(&[&arguments[..], &["--parent", name]].concat(), at);
        assert_eq!((code, err.trim_end().lines().count()), (2, 1), "{err}");
        assert!(err.contains(expected), "{err}");
    }
}

#[test]
fn a_ledger_that_cannot_be_kept_is_a_note() {
    let (data, folder) = (common::data(), folder());
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let base = ["train", "--config", "small.toml", "--data", data];
    let path = at.join("runs/experiments.csv");
    fs_err::create_dir_all(&path).unwrap();
    let (code, _, err) = run(&base, at);
    assert_eq!(code, 0, "{err}");
    assert_eq!(err.matches("not in the ledger of experiments").count(), 1, "{err}");
    fs_err::remove_dir(&path).unwrap();
    fs_err::write(&path, "what; people; write\n").unwrap();
    let (code, _, err) = run(&[&base[..], &["--run", "second"]].concat(), at);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("has no column `id`"), "{err}");
    assert_eq!(fs_err::read_to_string(&path).unwrap(), "what; people; write\n");
    let (code, _, err) = run(&["runs"], at);
    assert_eq!(code, 2);
    assert!(err.contains("experiments.csv is damaged"), "{err}");
}

#[test]
fn runs_at_once_and_killed_ones_keep_their_rows() {
    let (data, folder) = (common::data(), folder());
    let (at, data) = (folder.path(), data.path().to_str().unwrap());
    let base = ["train", "--config", "small.toml", "--data", data];
    let endless = ["--run", "endless", "--set", "optim.steps=1000000", "--set", "train.checkpoint_every=1"];
    let (mut endless_run, _stderr) = start(&[&base[..], &endless].concat(), at, "saved");
    let children: Vec<Child> = (0..3)
        .map(|number| {
            let name = format!("run-{number}");
            let arguments = [&base[..], &["--run", &name, "--set", "train.eval_every=1"]].concat();
            trainer(&arguments, at).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let status = |name: &str| {
        let found = json(&["runs", "--json"], at);
        let runs = found["runs"].as_array().unwrap().clone();
        let run = runs.iter().find(|run| run["name"] == name).unwrap();
        (run["status"].as_str().unwrap().to_owned(), run["id"].as_str().unwrap().to_owned())
    };
    assert_eq!(status("endless").0, "running");
    endless_run.kill().unwrap();
    endless_run.wait().unwrap();
    let (state, id) = status("endless");
    assert_eq!(state, "interrupted");
    let rows = ledger(at);
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!((0..3).all(|number| status(&format!("run-{number}")).0 == "finished"));
    // Gone on with to its end, it has the same row; the end is where the checkpoint is or behind it.
    let state = at.join("runs/endless/checkpoints");
    let newest = fs_err::read_dir(state).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_prefix("step-")?.parse::<u64>().ok()
    });
    let end = format!("optim.steps={}", newest.max().unwrap() + 1);
    done(&[&base[..], &["--run", "endless", "--resume", "--set", &end]].concat(), at);
    assert_eq!(status("endless"), ("finished".to_owned(), id));
    assert_eq!(ledger(at).len(), 4);
}
