//! What a run keeps and when it ends: the best checkpoint, patience, norms by layer, and a disk that is full.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod common;

use common::{Keep, config, data, train};
use std::path::Path;
use trainer::checkpoint::{self, Checkpoints};
use trainer::fit::Outcome;
use trainer::metrics::{self, Row};

fn steps(run: &Path) -> Vec<u64> {
    Checkpoints::of_run(run).list().unwrap().into_iter().map(|(step, _)| step).collect()
}

/// Mean recall at 1 of a run's evaluations, by step.
fn recalls(run: &Path) -> Vec<(u64, f64)> {
    let rows = metrics::read(run).unwrap();
    let val = |row: &Row| match row {
        Row::Val(row) => Some((row.step, 0.5 * (row.image_to_text?[0] + row.text_to_image?[0]))),
        _ => None,
    };
    rows.iter().filter_map(val).collect()
}

/// The first of the largest.
fn best_of(recalls: &[(u64, f64)]) -> (u64, f64) {
    recalls.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap()
}

#[test]
fn the_lowest_validation_loss_can_be_the_best_and_is_refused_where_there_is_none() {
    let (data, runs) = (data(), tempfile::tempdir().unwrap());
    let run = runs.path().join("run");
    let set = ["optim.steps=8", "train.eval_every=1", "train.checkpoint_every=1", "train.monitor=val_loss"];
    train(&config(&set), data.path(), &run, false, &mut Keep::default()).unwrap();
    let loss = |row: &Row| match row {
        Row::Val(row) => row.loss.map(|loss| (row.step, -f64::from(loss))),
        _ => None,
    };
    let losses: Vec<(u64, f64)> = metrics::read(&run).unwrap().iter().filter_map(loss).collect();
    let (best, _) = Checkpoints::of_run(&run).best().unwrap().unwrap();
    assert_eq!((losses.len(), (best.step, best.value)), (8, best_of(&losses)));

    // 13 samples are no batch of 14.
    let run = runs.path().join("none");
    let small = config(&["data.batch_size=14", "train.monitor=val_loss"]);
    let text = train(&small, data.path(), &run, false, &mut Keep::default()).unwrap_err().to_string();
    assert!(text.contains("13 samples") && text.contains("val_loss") && !run.exists(), "{text}");
}

#[test]
fn the_best_evaluation_keeps_its_checkpoint_beside_the_newest() {
    let (data, runs) = (data(), tempfile::tempdir().unwrap());
    let run = runs.path().join("run");
    let set =
        ["optim.steps=20", "train.eval_every=1", "train.checkpoint_every=1", "train.keep_checkpoints=1"];
    train(&config(&set), data.path(), &run, false, &mut Keep::default()).unwrap();
    let (step, value) = best_of(&recalls(&run));
    assert!(step < 20, "the test wants a best that is not the last");
    assert_eq!(steps(&run), [step, 20]);
    let (best, path) = Checkpoints::of_run(&run).best().unwrap().unwrap();
    assert_eq!((best.step, best.value, best.monitor.as_str()), (step, value, "recall_at_1"));
    assert_eq!(checkpoint::read_state(&path).unwrap().step, step);
    let other = runs.path().join("other");
    let set = [&set[..], &["train.keep_best=false"]].concat();
    train(&config(&set), data.path(), &other, false, &mut Keep::default()).unwrap();
    assert_eq!(steps(&other), [20]);
    assert!(Checkpoints::of_run(&other).best().unwrap().is_none());
}

#[test]
fn patience_ends_a_run_at_the_same_evaluation_whether_stopped_or_not() {
    let (data, runs) = (data(), tempfile::tempdir().unwrap());
    let set = ["optim.steps=400", "optim.lr=1e-9", "train.eval_every=2", "train.patience=3"];
    let straight = runs.path().join("straight");
    // With next to no learning rate, no evaluation is better than the first.
    let outcome = train(&config(&set), data.path(), &straight, false, &mut Keep::default()).unwrap();
    let Outcome::StoppedEarly { step, best, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((best, step), (2, 8));
    assert_eq!(best_of(&recalls(&straight)).0, best);
    let stopped = runs.path().join("stopped");
    for stop in [3, 4, 7] {
        let resume = stopped.exists();
        let outcome = train(&config(&set), data.path(), &stopped, resume, &mut Keep::until(stop)).unwrap();
        assert!(matches!(outcome, Outcome::Stopped { step, .. } if step == stop), "{outcome:?}");
    }
    for _ in 0..2 {
        let outcome = train(&config(&set), data.path(), &stopped, true, &mut Keep::default()).unwrap();
        assert!(matches!(outcome, Outcome::StoppedEarly { step: 8, best: 2, .. }), "{outcome:?}");
    }
    assert_eq!(recalls(&stopped), recalls(&straight));
    assert_eq!(steps(&stopped).last(), Some(&8));
}

#[test]
fn norms_by_layer_add_up_to_the_gradients_norm() {
    let (data, runs) = (data(), tempfile::tempdir().unwrap());
    let run = runs.path().join("run");
    let mut keep = Keep::default();
    train(&config(&["train.grad_norms_every=2"]), data.path(), &run, false, &mut keep).unwrap();
    let rows = metrics::read(&run).unwrap();
    let norms: Vec<_> =
        rows.iter().filter_map(|r| if let Row::Norms(r) = r { Some(r) } else { None }).collect();
    assert_eq!(norms.iter().map(|row| row.step).collect::<Vec<_>>(), [2, 4, 6]);
    for row in norms {
        let total = row.grad_norms.values().map(|norm| norm * norm).sum::<f64>().sqrt();
        let expected = keep.rows[row.step as usize - 1].grad_norm;
        assert!((total / expected - 1.0).abs() < 1e-9, "{total}, expected {expected}");
        for layer in
            ["visual.transformer.resblocks.1", "transformer.resblocks.0", "logit_scale", "visual.conv1"]
        {
            assert!(row.grad_norms.contains_key(layer), "{layer}");
        }
    }
}

/// Under a limit on the size of a file, writing the moments fails as on a full disk.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_leaves_a_run_that_goes_on() {
    use std::process::Command;
    let (data, folder) = (data(), tempfile::tempdir().unwrap());
    let at = folder.path();
    let set =
        ["optim.steps=12", "train.eval_every=0", "train.checkpoint_every=2", "train.keep_checkpoints=9"];
    fs_err::write(at.join("small.toml"), config(&set).to_toml().unwrap()).unwrap();
    let shell = |name: &str, limit: &str, extra: &str| {
        let script = format!(
            "trap '' XFSZ; {limit} exec \"$0\" train --config small.toml --run {name} --data \"$1\" {extra}"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_trainer")]).arg(data.path()).current_dir(at);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, err) = shell("straight", "", "");
    assert_eq!(code, Some(0), "{err}");
    let size = |run: &str, step: &str, file: &str| {
        at.join("runs").join(run).join("checkpoints").join(step).join(file).metadata().unwrap().len()
    };
    let limit_bytes = size("straight", "step-00000012", "model.safetensors") + 2048;
    assert!(limit_bytes < size("straight", "step-00000012", "optimizer.safetensors"));
    // As after a kill behind step 4.
    let copied =
        Command::new("cp").args(["-R", "runs/straight", "runs/full"]).current_dir(at).status().unwrap();
    assert!(copied.success());
    for step in ["06", "08", "10", "12"] {
        fs_err::remove_dir_all(at.join("runs/full/checkpoints").join(format!("step-000000{step}"))).unwrap();
    }
    // `ulimit -f` counts in 512 bytes in a POSIX shell.
    let (code, err) = shell("full", &format!("ulimit -f {};", limit_bytes / 512), "--resume");
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("error: could not save a checkpoint"), "{err}");
    let checkpoints = at.join("runs/full/checkpoints");
    let mut names: Vec<String> = fs_err::read_dir(&checkpoints)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "best.json")
        .collect();
    names.sort();
    assert_eq!(names, ["step-00000002", "step-00000004"]);
    let (code, err) = shell("full", "", "--resume");
    assert_eq!(code, Some(0), "{err}");
    let losses = |run: &str| -> Vec<(u64, u32)> {
        let rows = metrics::read(&at.join("runs").join(run)).unwrap();
        let loss = |row: &Row| match row {
            Row::Train(row) => Some((row.step, row.loss.to_bits())),
            _ => None,
        };
        rows.iter().filter_map(loss).collect()
    };
    assert_eq!(losses("full").len(), 12);
    assert_eq!(losses("full"), losses("straight"));
}
