//! A run that is stopped and resumed is, bit for bit, the run that was not.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod common;

use common::{Keep, config, data, train};
use trainer::checkpoint::{Checkpoints, read_model, read_state};
use trainer::config::Config;
use trainer::fit::Outcome;
use trainer::metrics::{self, Row};

/// The weights of a run's newest checkpoint, in bits.
fn weights(run: &std::path::Path) -> Vec<(String, Vec<u32>)> {
    let latest = Checkpoints::of_run(run).latest().unwrap().unwrap();
    let model = read_model(&latest, &read_state(&latest).unwrap(), &candle_core::Device::Cpu).unwrap();
    let bits = |t: &candle_core::Tensor| {
        t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits)
    };
    model.iter().map(|(name, t)| (name.clone(), bits(t).collect())).collect()
}

/// Rows of metrics.jsonl without what a clock says.
fn logged(run: &std::path::Path) -> Vec<String> {
    let plain = |row: &Row| match row {
        Row::Train(r) => format!("train {} {} {} {}", r.step, r.epoch, r.samples_seen, r.loss.to_bits()),
        Row::Norms(r) => format!("norms {} {:?}", r.step, r.grad_norms),
        Row::Val(r) => format!("val {} {:?} {:?}", r.step, r.image_to_text, r.text_to_image),
    };
    metrics::read(run).unwrap().iter().map(plain).collect()
}

#[test]
fn stopped_at_any_step_and_resumed_is_the_same_run() {
    let data = data();
    let runs = tempfile::tempdir().unwrap();
    let straight = runs.path().join("straight");
    let mut whole = Keep::default();
    train(&config(&["train.threads=1"]), data.path(), &straight, false, &mut whole).unwrap();
    assert_eq!(whole.rows.len(), 6);
    assert_eq!(whole.evaluated.iter().map(|r| r.step).collect::<Vec<_>>(), [2, 4, 6]);
    assert_eq!(whole.rows[4].epoch, 1, "the run must cross an epoch");
    for (threads, stop_after) in [(1, 3), (3, 3), (3, 2), (2, 4), (1, 5)] {
        let run = runs.path().join(format!("threads-{threads}-stop-{stop_after}"));
        let config = config(&[&format!("train.threads={threads}")]);
        let mut first = Keep::until(stop_after);
        let outcome = train(&config, data.path(), &run, false, &mut first).unwrap();
        assert!(matches!(outcome, Outcome::Stopped { step, .. } if step == stop_after), "{outcome:?}");
        let mut second = Keep::default();
        let outcome = train(&config, data.path(), &run, true, &mut second).unwrap();
        assert!(matches!(outcome, Outcome::Finished { step: 6, .. }), "{outcome:?}");
        assert_eq!(second.begun_at, stop_after);
        assert_eq!(
            [first.bits(), second.bits()].concat(),
            whole.bits(),
            "threads {threads}, stop {stop_after}"
        );
        assert_eq!(weights(&run), weights(&straight));
        assert_eq!(logged(&run), logged(&straight));
    }
}

#[test]
fn changed_pictures_are_the_same_after_a_resume() {
    let (data, runs) = (data(), tempfile::tempdir().unwrap());
    let mut plain = Keep::default();
    train(&config(&[]), data.path(), &runs.path().join("plain"), false, &mut plain).unwrap();
    for change in ["least_area=0.3", "flip=0.5", "hue=0.5", "grayscale=0.5"] {
        let change = format!("data.augment.{change}");
        let config = config(&[&change]);
        let mut whole = Keep::default();
        train(&config, data.path(), &runs.path().join(&change), false, &mut whole).unwrap();
        assert_ne!(whole.bits(), plain.bits(), "{change}");
        let run = runs.path().join(format!("{change}-stopped"));
        let (mut first, mut second) = (Keep::until(3), Keep::default());
        train(&config, data.path(), &run, false, &mut first).unwrap();
        train(&config, data.path(), &run, true, &mut second).unwrap();
        assert_eq!([first.bits(), second.bits()].concat(), whole.bits(), "{change}");
    }
}

#[test]
fn groups_of_batches_over_the_edge_of_an_epoch_resume_as_well() {
    let data = data();
    let runs = tempfile::tempdir().unwrap();
    // Four batches an epoch, three a step: most steps take the end of one epoch and the start of the next.
    let set = ["optim.accum_steps=3", "train.ema_decay=0.5", "train.chunk_size=4"];
    let straight = runs.path().join("straight");
    let mut whole = Keep::default();
    train(&config(&set), data.path(), &straight, false, &mut whole).unwrap();
    assert_eq!(whole.rows.iter().map(|r| r.samples_seen).collect::<Vec<_>>(), [21, 42, 63, 84, 105, 126]);
    assert_eq!(whole.rows.iter().map(|r| r.epoch).collect::<Vec<_>>(), [0, 0, 1, 2, 3, 3]);
    assert!(whole.evaluated.iter().all(|row| row.averaged));
    assert_eq!(whole.notes.len(), 2, "{:?}", whole.notes);
    for stop_after in 1..6 {
        let run = runs.path().join(format!("stop-{stop_after}"));
        let mut first = Keep::until(stop_after);
        train(&config(&set), data.path(), &run, false, &mut first).unwrap();
        let mut second = Keep::default();
        train(&config(&set), data.path(), &run, true, &mut second).unwrap();
        assert_eq!([first.bits(), second.bits()].concat(), whole.bits(), "stop {stop_after}");
        assert_eq!(weights(&run), weights(&straight));
        assert_eq!(logged(&run), logged(&straight));
    }
}

#[test]
fn rows_behind_the_checkpoint_are_made_again_and_not_kept_twice() {
    let data = data();
    let runs = tempfile::tempdir().unwrap();
    let (straight, killed) = (runs.path().join("straight"), runs.path().join("killed"));
    let config = config(&["train.checkpoint_every=2", "train.keep_checkpoints=9"]);
    train(&config, data.path(), &straight, false, &mut Keep::default()).unwrap();
    train(&config, data.path(), &killed, false, &mut Keep::default()).unwrap();
    // As after a kill between step 5 and the next checkpoint: rows up to 6, checkpoints up to 4.
    fs_err::remove_dir_all(killed.join("checkpoints/step-00000006")).unwrap();
    let mut again = Keep::default();
    train(&config, data.path(), &killed, true, &mut again).unwrap();
    assert_eq!(again.begun_at, 4);
    assert_eq!(logged(&killed), logged(&straight));
    assert_eq!(weights(&killed), weights(&straight));
}

#[test]
fn a_finished_run_resumed_makes_no_step() {
    let data = data();
    let run = tempfile::tempdir().unwrap();
    let path = run.path().join("run");
    train(&config(&[]), data.path(), &path, false, &mut Keep::default()).unwrap();
    let before = logged(&path);
    let mut again = Keep::default();
    train(&config(&[]), data.path(), &path, true, &mut again).unwrap();
    assert!(again.rows.is_empty() && again.evaluated.is_empty());
    assert_eq!(logged(&path), before);
}

/// Why a run that was stopped after three steps does not go on.
fn refusal(change: &[&str], other_data: bool) -> String {
    let (data, runs) = (data(), tempfile::tempdir().unwrap());
    let run = runs.path().join("run");
    train(&config(&[]), data.path(), &run, false, &mut Keep::until(3)).unwrap();
    let before = fs_err::read(run.join("config.toml")).unwrap();
    let changed: Config = config(change);
    let error = if other_data {
        let other = testkit::Spec { seed: 9, ..testkit::Spec::small() }.size(40).temporary();
        train(&changed, other.path(), &run, true, &mut Keep::default()).unwrap_err()
    } else {
        train(&changed, data.path(), &run, true, &mut Keep::default()).unwrap_err()
    };
    assert_eq!(fs_err::read(run.join("config.toml")).unwrap(), before, "a refusal must change nothing");
    let text = error.to_string();
    let kept = format!("--config {}`", run.join("config.toml").display());
    assert!(text.contains(&kept), "nothing tells how the run was begun: {text}");
    text
}

#[test]
fn another_data_set_tokenizer_or_model_is_refused_by_name() {
    assert!(refusal(&[], true).contains("the data set of fingerprint"));
    assert!(refusal(&["tokenizer.vocab_size=280"], false).contains("the tokenizer of digest"));
    let text = refusal(&["model.text.layers=1"], false);
    assert!(text.contains("model.text.layers 2, but this run has 1"), "{text}");
    let text = refusal(&["loss.label_smoothing=0.1"], false);
    assert!(text.contains("loss.label_smoothing 0.0, but this run has 0.1"), "{text}");
    let text = refusal(&["optim.kind=adam"], false);
    assert!(text.contains("optim.kind adamw, but this run has adam"), "{text}");
    let text = refusal(&["train.ema_decay=0.9"], false);
    assert!(text.contains("train.ema_decay 0, but this run has 0.9"), "{text}");
    let text = refusal(&["train.freeze=[\"ln_final\"]"], false);
    assert!(text.contains("train.freeze [], but this run has [\"ln_final\"]"), "{text}");
    let text = refusal(&["data.batch_size=5"], false);
    assert!(text.contains("data.batch_size 7, but this run has 5"), "{text}");
}

#[test]
fn an_existing_run_is_not_overwritten() {
    let (data, runs) = (data(), tempfile::tempdir().unwrap());
    let run = runs.path().join("run");
    train(&config(&[]), data.path(), &run, false, &mut Keep::until(1)).unwrap();
    let error = train(&config(&[]), data.path(), &run, false, &mut Keep::default()).unwrap_err();
    assert!(error.to_string().contains("give --resume"), "{error}");
}
