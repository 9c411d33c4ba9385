//! Killed at random moments of downloading, decoding, writing and committing, a run leaves no manifest or a whole data
//! set, and the same command again ends in the bytes of a run that was left alone. `PREP_KILLS=N` kills so many times
//! instead of ten, and prints a line for each.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use testkit::{
    files::{Snapshot, difference, snapshot},
    server::{Fault, Server},
};

use crate::downloads;

/// A job, as often as it is asked for.
struct Job<'a> {
    name: &'static str,
    command: Box<dyn Fn() -> Command + 'a>,
}

/// Where a run was when it was killed, by what it had left.
fn stage(dir: &Path) -> &'static str {
    let out = dir.join("out");
    let holds = |folder: &str, what: &dyn Fn(&str) -> bool| {
        let entries = fs_err::read_dir(out.join(folder)).map(|entries| entries.flatten().collect());
        let entries: Vec<_> = entries.unwrap_or_default();
        entries.iter().any(|entry| what(&entry.file_name().to_string_lossy()))
    };
    if out.join("dataset.json").exists() {
        "finished"
    } else if holds("train", &|name| name.ends_with(".arrow")) {
        "between shards of train"
    } else if holds("train", &|_| true) {
        "in the first shard of train"
    } else if holds("val", &|_| true) {
        "in val"
    } else if holds("prep-spill", &|name| name.ends_with(".bin")) {
        "taking inputs in"
    } else if out.join("prep-unfinished.json").exists() {
        "claimed"
    } else {
        "before the folder"
    }
}

/// Kills the job once after `moment`, looks at what it left, and lets it end.
fn kill_once(job: &Job<'_>, dir: &Path, moment: Duration, undisturbed: &Snapshot) -> &'static str {
    let quiet = |mut command: Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut child = quiet((job.command)());
    let begun = Instant::now();
    while begun.elapsed() < moment && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let stage = stage(dir);
    let verify = crate::command(&["verify", "out"], dir).output().unwrap();
    let due = if stage == "finished" { Some(0) } else { Some(2) };
    assert_eq!(verify.status.code(), due, "{} killed after {moment:?}, {stage}", job.name);
    let again = (job.command)().output().unwrap();
    let err = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(0), "{} killed after {moment:?}, {stage}: {err}", job.name);
    let files = snapshot(&dir.join("out")).unwrap();
    assert_eq!(difference(undisturbed, &files), None, "{} killed after {moment:?}, {stage}", job.name);
    stage
}

fn reset(dir: &Path) {
    for folder in ["out", "hf"] {
        if dir.join(folder).exists() {
            fs_err::remove_dir_all(dir.join(folder)).unwrap();
        }
    }
}

#[test]
fn at_random_moments() {
    let count: u64 = std::env::var("PREP_KILLS").ok().map_or(10, |text| text.parse().unwrap());
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let dir = folder.path();
    // A slow server, so that many moments are moments of downloading.
    downloads::serve_text_to_image_2m(dir, &server, 4, 40);
    for bytes in snapshot(&dir.join("local")).unwrap().values() {
        server.always(&Server::hub_blob(bytes), Fault::Slow(16 << 10, Duration::from_millis(3)));
    }
    testkit::source::folder(&dir.join("source"), 300).unwrap();
    let t2i =
        ["--dataset", "text-to-image-2m", "--out", "out", "--size", "96", "--shards", "5", "--val", "20"];
    let list = [
        "--dataset",
        "folder",
        "--from",
        "source",
        "--out",
        "out",
        "--size",
        "96",
        "--shards",
        "5",
        "--val",
        "20",
    ];
    let jobs = [
        Job { name: "folder", command: Box::new(|| crate::command(&list, dir)) },
        Job { name: "text-to-image-2m", command: Box::new(|| downloads::command(&t2i, dir, &server)) },
    ];
    let undisturbed = jobs.each_ref().map(|job| {
        let begun = Instant::now();
        let output = (job.command)().output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let took = begun.elapsed();
        let files = snapshot(&dir.join("out")).unwrap();
        reset(dir);
        (took, files)
    });
    let mut stages = std::collections::BTreeMap::<(&str, &str), u32>::new();
    for number in 0..count {
        let which = (number % 2) as usize;
        let (took, files) = &undisturbed[which];
        // Evenly spread and in no order: the golden ratio's multiples.
        let share = (number as f64 * 0.618_033_988_749_895).fract();
        let moment = took.mul_f64(share);
        let stage = kill_once(&jobs[which], dir, moment, files);
        *stages.entry((jobs[which].name, stage)).or_default() += 1;
        reset(dir);
    }
    let mut report = format!("killed {count} times, each time gone on with to the same bytes:\n");
    for ((job, stage), times) in &stages {
        report.push_str(&format!("  {times:>4} × {job}, {stage}\n"));
    }
    let _ = write!(std::io::stderr(), "{report}");
    assert!(stages.keys().any(|(_, stage)| *stage != "finished"), "no run was caught before its end");
}
