//! `loader report` on small data sets and key files: what it prints, draws and answers.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use testkit::Spec;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loader")).arg("report").args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The answer's JSON, after its exit code.
fn json(arguments: &[&str], code: i32) -> Value {
    let output = run(&[arguments, &["--json", "--simulations", "3"]].concat());
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn metric<'a>(report: &'a Value, name: &str) -> &'a Value {
    let metrics = report["metrics"].as_array().unwrap();
    metrics.iter().find(|metric| metric["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// The keys of an epoch as `loader order` prints them.
fn delivered(dir: &Path, epoch: &str, rest: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loader"));
    command.arg("order").arg(dir).args(["--batch-size", "20", "--epoch", epoch]).args(rest);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn write(dir: &Path, name: &str, lines: &[String]) -> String {
    let path = dir.join(name);
    fs_err::write(&path, lines.join("\n")).unwrap();
    text(&path).to_owned()
}

#[test]
fn the_default_order_is_as_an_ideal_shuffle_and_no_order_is_not() {
    let data = Spec::train(600).shards(6).temporary();
    let dir = text(data.path());
    let good = json(&[dir, "--batch-size", "20"], 0);
    assert_eq!(
        (good["verdict"].as_str(), good["metrics"].as_array().unwrap().len()),
        (Some("ideal"), 7),
        "{good}"
    );
    assert_eq!((good["samples"].as_u64(), good["shards"].as_u64()), (Some(600), Some(6)));
    assert_eq!(metric(&good, "pair_repeat")["ideal"], 1.0);
    let bad = json(&[dir, "--batch-size", "20", "--shuffle", "none", "--epochs", "2"], 1);
    assert_eq!(bad["verdict"], "bad");
    for name in ["shards_per_batch", "pair_repeat", "epoch_correlation"] {
        assert_eq!(metric(&bad, name)["verdict"], "bad", "{bad}");
    }
    // prep's placement has shuffled the source.
    assert_eq!(metric(&bad, "source_correlation")["verdict"], "ideal");
    let words = run(&[dir, "--batch-size", "20", "--shuffle", "none"]);
    assert_eq!(words.status.code(), Some(1));
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(
        words.contains("the same negatives each epoch") && words.contains("verdict: no good shuffle"),
        "{words}"
    );
    assert!(words.contains("every sample comes once an epoch"), "{words}");
}

#[test]
fn delivered_keys_are_looked_up_in_their_data_set() {
    let data = Spec::train(600).shards(6).temporary();
    let folder = tempfile::tempdir().unwrap();
    let epochs: Vec<Vec<String>> = ["0", "1"].map(|epoch| delivered(data.path(), epoch, &[])).into();
    let files: Vec<String> =
        epochs.iter().enumerate().map(|(n, keys)| write(folder.path(), &format!("{n}.txt"), keys)).collect();
    let dir = text(data.path());
    let looked_up = json(&[dir, "--batch-size", "20", "--keys", &files[0], &files[1]], 0);
    let own = json(&[dir, "--batch-size", "20", "--epochs", "2"], 0);
    assert_eq!(
        looked_up["metrics"], own["metrics"],
        "the order that was delivered is the one that is computed"
    );
    // The same file twice, as two options.
    let twice = json(&[dir, "--batch-size", "20", "--keys", &files[0], "--keys", &files[0]], 1);
    assert_eq!(metric(&twice, "epoch_correlation")["value"], 1.0);
    // Without the data set: the keys' own order is the source's, and shards are not known.
    let alone = json(&["--batch-size", "20", "--keys", &files[0], &files[1]], 0);
    assert!(alone["about"].as_str().unwrap().contains("shards are not known"), "{alone}");
    assert!(alone["shards"].is_null());
    for name in ["pair_repeat", "batch_variance", "source_correlation"] {
        assert_eq!(metric(&alone, name)["value"], metric(&own, name)["value"], "{name}");
    }
    let mut wrong = epochs[0].clone();
    wrong[41] = "train-99999".to_owned();
    let wrong = write(folder.path(), "wrong.txt", &wrong);
    let output = run(&[dir, "--batch-size", "20", "--keys", &wrong]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(words.contains("wrong.txt:42") && words.contains("train-99999"), "{words}");
}

#[test]
fn a_lost_key_and_a_key_delivered_twice_are_an_answer() {
    let data = Spec::train(600).shards(6).temporary();
    let folder = tempfile::tempdir().unwrap();
    let keys = delivered(data.path(), "0", &[]);
    let lost = write(folder.path(), "lost.txt", &[&keys[..300], &keys[301..]].concat());
    let mut twice = keys.clone();
    twice[10] = twice[500].clone();
    let twice = write(folder.path(), "twice.txt", &twice);
    let dir = text(data.path());
    let lost = json(&[dir, "--batch-size", "20", "--keys", &lost], 1);
    assert_eq!(lost["coverage"]["epochs"][0]["missing"], 1);
    let twice = json(&[dir, "--batch-size", "20", "--keys", &twice], 1);
    assert_eq!(twice["coverage"]["epochs"][0]["repeated"], 1);
}

#[test]
fn lines_may_name_shards() {
    let folder = tempfile::tempdir().unwrap();
    let line = |sample: u64| format!("shard-{:02}\t{sample}", sample / 100);
    let sorted: Vec<String> = (0..1000).map(line).collect();
    let epoch = write(folder.path(), "sorted.txt", &sorted);
    let report = json(&["--batch-size", "50", "--keys", &epoch], 1);
    assert_eq!(
        (report["shards"].as_u64(), metric(&report, "shards_per_batch")["value"].as_f64()),
        (Some(10), Some(1.0))
    );
    // Numbers sort as numbers: as text, 10 comes before 9.
    assert_eq!(metric(&report, "source_correlation")["value"], 1.0);
    let mut missing = sorted.clone();
    missing[6] = "6".to_owned();
    let mut moved = sorted.clone();
    moved[7] = "shard-03\t6".to_owned();
    for (name, lines, word) in [
        ("missing.txt", &missing, "missing.txt:7: no shard"),
        ("moved.txt", &moved, "moved.txt:8: key \"6\" was in another shard"),
        ("empty.txt", &Vec::new(), "empty.txt: no keys"),
        ("blank.txt", &vec!["shard-00\t".to_owned()], "blank.txt:1: the line has no key"),
    ] {
        let path = write(folder.path(), name, lines);
        let output = run(&["--batch-size", "50", "--keys", &path]);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains(word), "{word} is missing in: {words}");
    }
}

#[test]
fn the_picture_shows_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut dark = Vec::new();
    for (shuffle, code) in [("global", 0), ("none", 1)] {
        let path = folder.path().join(format!("{shuffle}.png"));
        json(
            &["--synthetic", "20000", "--batch-size", "50", "--shuffle", shuffle, "--png", text(&path)],
            code,
        );
        let picture = image::open(&path).unwrap().to_rgb8();
        // Dark pixels of the first square and of the one below it, an ideal shuffle's.
        let square = |top: u32| {
            let pixels = (0..384).flat_map(|y| (0..384).map(move |x| (30 + x, top + y)));
            pixels.filter(|&(x, y)| picture.get_pixel(x, y).0[0] < 250).count()
        };
        assert!(picture.width() > 1000 && picture.height() > 1000);
        dark.push((square(150), square(610)));
    }
    let [(shuffled, ideal), (sorted, ideal_too)] = dark[..] else { panic!("two pictures") };
    assert!(shuffled > 100_000 && ideal > 100_000 && ideal_too > 100_000, "{dark:?}");
    assert!(sorted < 10_000, "a sorted order is a line: {dark:?}");
}

#[test]
fn what_cannot_be_measured_is_no_answer() {
    let data = Spec::small().temporary();
    let dir = text(data.path());
    for (arguments, word) in [
        (vec![], "required"),
        (vec![dir, "--split", "nowhere"], "nowhere"),
        (vec![dir, "--batch-size", "0"], "batch size"),
        (vec![dir, "--batch-size", "61"], "batch of 61"),
        (vec![dir, "--epochs", "0"], "--epochs"),
        (vec!["--synthetic", "0"], "not 0"),
        (vec![dir, "--synthetic", "100"], "--synthetic"),
        (vec!["--keys", "missing.txt"], "missing.txt"),
        (
            vec!["--synthetic", "1000", "--batch-size", "10", "--png", "no/such/folder.png"],
            "no/such/folder.png",
        ),
    ] {
        let output = run(&arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {words}");
        assert!(words.contains(word), "{word} is missing in: {words}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_damaged_index_is_an_answer_that_names_it() {
    let data = Spec::train(60).temporary();
    let index = data.path().join("train/shard-000001.arrow");
    let mut bytes = fs_err::read(&index).unwrap();
    // A key's byte, wherever the table keeps it.
    let key = bytes.windows(6).position(|window| window == b"train-").unwrap();
    bytes[key] ^= 1;
    fs_err::write(&index, bytes).unwrap();
    let output = run(&[text(data.path()), "--batch-size", "20"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("shard-000001"), "{words}");
}

#[test]
fn views_and_mixtures_are_measured_as_training_gets_them() {
    let (data, other) = (Spec::train(400).size(2).temporary(), Spec::train(200).size(2).temporary());
    let (dir, mix) = (text(data.path()), text(other.path()));
    let samples = |more: &[&str]| {
        let report = json(&[&[dir, "--batch-size", "20"], more].concat(), 0);
        report["samples"].as_u64().unwrap()
    };
    assert_eq!(samples(&["--fraction", "0.5", "--shuffle", "block:4x16"]), 200);
    assert_eq!(samples(&["--distinct"]), 400);
    assert_eq!(samples(&["--mix", mix]), 600);
    let weighted = run(&[dir, "--mix", &format!("{mix}=1"), "--weight", "1"]);
    assert_eq!(weighted.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&weighted.stderr).contains("no ideal shuffle"));
    let imagined = run(&["--synthetic", "1000", "--fraction", "0.5"]);
    assert_eq!(imagined.status.code(), Some(2));
}

#[test]
fn help_has_examples() {
    let output = run(&["--help"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("  loader report data/coco --shuffle none"));
}
