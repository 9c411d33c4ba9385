//! The real program on small data sets: what it prints, where, and its exit code.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use testkit::Spec;

fn loader(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loader"));
    command.arg(arguments[0]).arg(dir).args(&arguments[1..]);
    command
}

fn run(arguments: &[&str], dir: &Path) -> Output {
    loader(arguments, dir).output().unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn order_prints_every_key_once_and_the_same_for_any_threads() {
    let data = Spec::small().temporary();
    let order = |rest: &[&str]| {
        let all = [&["order", "--split", "train", "--seed", "7", "--epoch", "3", "--batch-size", "10"], rest]
            .concat();
        lines(&run(&all, data.path()))
    };
    let keys = order(&[]);
    assert_eq!((keys.len(), keys.iter().collect::<BTreeSet<_>>().len()), (60, 60));
    assert_eq!(keys, order(&["--threads", "0"]));
    assert_eq!(keys, order(&["--threads", "5"]));
    assert_ne!(keys, order(&["--shuffle", "none"]));
    assert_eq!(order(&["--fraction", "0.1"]).len(), 10, "6 samples, padded to a batch");
    assert_eq!(order(&["--fraction", "0.25", "--remainder", "drop-last"]).len(), 10);
}

#[test]
fn bench_says_its_numbers_in_json_and_in_words() {
    let data = Spec::small().temporary();
    for output in ["u8", "f32"] {
        let arguments =
            ["bench", "--split", "train", "--batch-size", "8", "--output", output, "--epochs", "2", "--json"];
        let out = run(&arguments, data.path());
        let report: serde_json::Value = serde_json::from_str(&lines(&out).join("\n")).unwrap();
        assert_eq!((report["samples"].as_u64(), report["batches"].as_u64()), (Some(112), Some(14)));
        assert_eq!(report["output"], output);
        for number in ["samples_per_s", "first_batch_ms", "seconds"] {
            assert!(report[number].as_f64().unwrap() > 0.0, "{number} in {report}");
        }
        if cfg!(target_os = "linux") {
            assert!(
                report["peak_memory_bytes"].as_u64().unwrap()
                    > report["peak_anonymous_bytes"].as_u64().unwrap()
            );
        }
    }
    let words = lines(&run(&["bench", "--batch-size", "8", "--seconds", "0.05"], data.path()));
    assert!(words[0].contains("samples/s") && words[1].contains("first batch") && words[2].contains("MiB"));
}

#[test]
fn bench_takes_an_augmentation_and_a_normalisation() {
    let data = Spec::small().temporary();
    let bench = |rest: &[&str]| run(&[&["bench", "--batch-size", "8", "--json"], rest].concat(), data.path());
    for normalize in ["clip", "imagenet", "none"] {
        let out = bench(&["--output", "f32", "--normalize", normalize, "--augment", "rrc,flip,jitter"]);
        let report: serde_json::Value = serde_json::from_str(&lines(&out).join("\n")).unwrap();
        assert_eq!(report["samples"].as_u64(), Some(56));
    }
    let refused = bench(&["--normalize", "clip"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--output f32"));
    assert_eq!(bench(&["--augment", "rrc,sideways"]).status.code(), Some(2));
}

#[test]
fn show_draws_the_batch_of_a_step() {
    let data = Spec::small().size(24).temporary();
    let out = tempfile::tempdir().unwrap();
    let show = |rest: &[&str]| {
        let png = out.path().join("batch.png");
        let all =
            [&["show", "--batch-size", "8", "--seed", "3", "--png", png.to_str().unwrap()], rest].concat();
        lines(&run(&all, data.path()));
        fs_err::read(png).unwrap()
    };
    let first = show(&["--step", "2"]);
    assert!(first.starts_with(b"\x89PNG\r\n\x1a\n"));
    let (width, height) = (&first[16..20], &first[20..24]);
    let side = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    assert!(side(width) > 8 * 24 && side(height) > 24);
    assert_eq!(show(&["--step", "2"]), first, "the same step is the same picture");
    assert_ne!(show(&["--step", "3"]), first);
    let augmented = show(&["--step", "2", "--augment", "rrc,flip,jitter"]);
    assert_ne!(augmented, first);
    // 60 samples are 7 batches: step 9 is batch 2 of epoch 1.
    assert_eq!(show(&["--step", "9"]), show(&["--step", "2", "--epoch", "1"]));
    assert_ne!(show(&["--step", "9"]), first);
    let missing =
        run(&["show", "--batch-size", "8", "--step", "0", "--png", "/nowhere/at/all.png"], data.path());
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/at"));
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let data = Spec::train(3000).size(4).temporary();
    let arguments = ["order", "--batch-size", "1"];
    let mut child =
        loader(&arguments, data.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("train-"));
    let end = child.wait_with_output().unwrap();
    assert!(end.status.success(), "{:?}", end.status);
    assert!(end.stderr.is_empty(), "{}", String::from_utf8_lossy(&end.stderr));
}

#[test]
fn exit_codes_tell_damage_from_a_run_that_could_not_be() {
    let data = Spec::small().temporary();
    let could_not = [
        (run(&["order", "--split", "nowhere"], data.path()), "nowhere"),
        (run(&["order", "--batch-size", "0"], data.path()), "batch size"),
        (run(&["bench", "--batch-size", "1000"], data.path()), "1000"),
        (run(&["bench", "--batch-size", "8", "--seconds", "0"], data.path()), "--seconds"),
        (run(&["order", "--shuffle", "sideways"], data.path()), "sideways"),
        (run(&["order"], &data.path().join("missing")), "missing"),
    ];
    for (output, word) in could_not {
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(word), "{word} is missing in: {text}");
        assert!(output.stdout.is_empty());
    }
    let tar = data.path().join("train/shard-000000.tar");
    let mut bytes = fs_err::read(&tar).unwrap();
    bytes[700] ^= 1;
    fs_err::write(&tar, bytes).unwrap();
    let output = run(&["order", "--batch-size", "1", "--shuffle", "none"], data.path());
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.starts_with("error: ") && text.contains("shard-000000.tar") && text.contains("byte 700"),
        "{text}"
    );
}

#[test]
fn help_has_examples() {
    for verb in ["order", "bench", "show"] {
        let output = Command::new(env!("CARGO_BIN_EXE_loader")).args([verb, "--help"]).output().unwrap();
        assert!(
            lines(&output)
                .iter()
                .any(|line| line.trim_start().starts_with(&format!("loader {verb} data/coco")))
        );
    }
}
