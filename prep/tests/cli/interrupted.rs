//! Stopped at any moment, the folder has no manifest, or a whole data set; the same command again ends in the bytes
//! of a run that was never stopped.

use std::{
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use testkit::files::{Snapshot, difference, snapshot};

use crate::{command, prep};

const JOB: [&str; 12] = [
    "--dataset",
    "folder",
    "--from",
    "source",
    "--out",
    "out",
    "--size",
    "160",
    "--shards",
    "5",
    "--val",
    "30",
];

fn start(dir: &Path) -> Child {
    command(&JOB, dir).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills a run with SIGKILL as soon as `due` says so, or lets it end before.
fn kill_when(dir: &Path, due: impl Fn() -> bool) {
    let mut child = start(dir);
    while !due() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(300));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// No manifest, or a whole data set; then the same command gives the bytes of a run that was left alone.
fn check(dir: &Path, undisturbed: &Snapshot, moment: &str) -> bool {
    let is_finished = dir.join("out/dataset.json").exists();
    if dir.join("out").exists() {
        prep(&["verify", "out"], dir).expect(if is_finished { 0 } else { 2 });
    }
    let again = prep(&JOB, dir).expect(0);
    assert_eq!(again.out.contains("already complete"), is_finished, "{moment}: {}", again.out);
    let files = snapshot(&dir.join("out")).unwrap();
    assert_eq!(difference(undisturbed, &files), None, "{moment}");
    fs_err::remove_dir_all(dir.join("out")).unwrap();
    is_finished
}

#[test]
fn a_killed_run_leaves_no_manifest_and_the_next_ends_in_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs_err::create_dir(dir.join("source")).unwrap();
    testkit::source::folder(&dir.join("source"), 400).unwrap();
    let begun = Instant::now();
    prep(&JOB, dir).expect(0);
    let took = begun.elapsed();
    let undisturbed = snapshot(&dir.join("out")).unwrap();
    fs_err::remove_dir_all(dir.join("out")).unwrap();

    // Moments spread over a run's time, wherever they fall on this machine.
    for sixth in 0..6 {
        let moment = took * (2 * sixth + 1) / 12;
        let begun = Instant::now();
        kill_when(dir, || begun.elapsed() >= moment);
        check(dir, &undisturbed, &format!("killed after {moment:?}"));
    }
    // Moments of the work itself: most runs are caught there, before they end.
    let mut unfinished = 0;
    let files =
        ["out/prep-unfinished.json", "out/train/shard-000000.arrow", "out/train/shard-000003.tar", "out/val"];
    for file in files {
        kill_when(dir, || dir.join(file).exists());
        unfinished += i32::from(!check(dir, &undisturbed, &format!("killed at {file}")));
    }
    assert!(unfinished > 0, "no run was caught before its end");
}

#[test]
fn killed_again_and_again_in_the_same_folder() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs_err::create_dir(dir.join("source")).unwrap();
    testkit::source::folder(&dir.join("source"), 200).unwrap();
    prep(&JOB, dir).expect(0);
    let undisturbed = snapshot(&dir.join("out")).unwrap();
    fs_err::remove_dir_all(dir.join("out")).unwrap();
    for file in ["out/train/shard-000003.tar", "out/train/shard-000001.tar", "out/train/shard-000000.tar"] {
        // What an earlier run left is removed before new shards are written: wait for that, then for new ones.
        let mut child = start(dir);
        std::thread::sleep(Duration::from_millis(20));
        while !dir.join(file).exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(300));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    check(dir, &undisturbed, "killed three times");
}

#[test]
fn a_folder_that_another_prep_is_writing_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let arguments = ["--limit", "200000", "--size", "128", "--shards", "2", "--out", "out"];
    let mut first = command(&arguments, dir).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !dir.join("out/train").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let complaint = prep(&arguments, dir);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(complaint.complaint().contains("out: another prep is writing it"));
    // A killed one holds nothing: the folder is free again.
    prep(&["--limit", "20", "--val", "4", "--size", "32", "--shards", "2", "--out", "out"], dir).expect(0);
    prep(&["verify", "out"], dir).expect(0);
}

#[cfg(unix)]
#[test]
fn a_signal_that_can_be_caught_says_what_to_do() {
    use std::process::Command;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // Far more than is made before the signal comes.
    let arguments = ["--limit", "200000", "--size", "128", "--shards", "2", "--out", "out"];
    let child = command(&arguments, dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !dir.join("out/train").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let sent = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("stopped by a signal") && err.contains("run the same command again"), "{err}");
    assert!(!dir.join("out/dataset.json").exists());
}

#[test]
fn a_finished_folder_is_kept_and_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs_err::create_dir(dir.join("source")).unwrap();
    testkit::source::folder(&dir.join("source"), 30).unwrap();
    let job = ["--dataset", "folder", "--from", "source", "--out", "out", "--size", "32", "--shards", "2"];
    let with = |more: &[&str]| prep(&[&job, more].concat(), dir);
    with(&[]).expect(0);
    let files = snapshot(&dir.join("out")).unwrap();

    let again = with(&["--threads", "1"]).expect(0);
    assert!(again.out.starts_with("already complete: out: folder as npy 32x32"), "{}", again.out);
    let others: [&[&str]; 6] = [
        &["--seed", "1"],
        &["--store", "jpeg"],
        &["--val", "3"],
        &["--limit", "20"],
        &["--order", "source"],
        &[],
    ];
    for more in others {
        if more.is_empty() {
            // Another list is another source.
            let list = dir.join("source/captions.jsonl");
            let text = fs_err::read_to_string(&list).unwrap();
            fs_err::write(&list, text.trim_end().rsplit_once('\n').unwrap().0).unwrap();
        }
        let complaint = with(more).complaint();
        assert!(complaint.contains("other options"), "{more:?}: {complaint}");
    }
    let size =
        prep(&["--dataset", "folder", "--from", "source", "--out", "out", "--size", "48"], dir).complaint();
    assert!(size.contains("out: it holds a data set"), "{size}");
    assert_eq!(difference(&files, &snapshot(&dir.join("out")).unwrap()), None, "a refusal changes nothing");

    // Shards that prep did not leave behind are somebody's.
    fs_err::create_dir_all(dir.join("foreign/train")).unwrap();
    fs_err::write(dir.join("foreign/train/shard-000000.tar"), "precious").unwrap();
    let complaint =
        prep(&["--dataset", "folder", "--from", "source", "--out", "foreign", "--size", "32"], dir)
            .complaint();
    assert!(complaint.contains("train/shard-000000.tar"), "{complaint}");
    assert_eq!(snapshot(&dir.join("foreign")).unwrap().len(), 1);
}
