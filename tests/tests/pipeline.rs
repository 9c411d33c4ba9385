//! The main job as a user does it: photos in each layout → shards → an order → a trained and evaluated model.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::{collections::BTreeSet, path::Path};

use common::{config, folder, loader, prep, trainer};
use serde_json::Value;

/// How a source is prepared, and what has to come of it.
struct Job<'a> {
    dataset: &'a str,
    from: &'a str,
    size: &'a str,
    store: &'a str,
    val: Option<&'a str>,
    /// Samples of train and val.
    samples: [u64; 2],
    batch_size: usize,
}

/// prep → verify → inspect → order → 20 training steps → eval, all in `dir`.
fn all_the_way(job: &Job<'_>, dir: &Path) {
    let mut arguments = vec![
        "--dataset",
        job.dataset,
        "--from",
        job.from,
        "--out",
        "data",
        "--size",
        job.size,
        "--store",
        job.store,
        "--shards",
        "3",
    ];
    arguments.extend(job.val.iter().flat_map(|val| ["--val", *val]));
    let wrote = prep(&arguments, dir).expect(0);
    assert!(wrote.out.starts_with(&format!("wrote data: {}", job.dataset)), "{}", wrote.out);
    let verdict = prep(&["verify", "data", "--json"], dir).expect(0).json();
    assert_eq!(
        (&verdict["sound"], &verdict["report"]["samples"]),
        (&true.into(), &job.samples.iter().sum::<u64>().into())
    );
    let inspected = prep(&["inspect", "data", "--json", "--grid", "grid.png"], dir).expect(0).json();
    assert_eq!(inspected["fingerprint"], verdict["report"]["fingerprint"]);
    assert!(fs_err::read(dir.join("grid.png")).unwrap().starts_with(b"\x89PNG"));
    for (split, samples) in ["train", "val"].into_iter().zip(job.samples) {
        check_order(split, samples, dir);
    }

    config(dir, job.batch_size, 20);
    let trained = trainer(&["train", "--config", "nano.toml", "--data", "data"], dir).expect(0);
    assert!(trained.out.contains("all 20 steps are made"), "{}", trained.out);
    let losses = losses(&dir.join("runs/nano/metrics.jsonl"));
    assert_eq!(losses.len(), 20);
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    let recalls = trainer(&["eval", "--run", "nano", "--data", "data", "--json"], dir).expect(0).json();
    assert_eq!(recalls["images"], job.samples[1]);
    assert_eq!((&recalls["step"], &recalls["trained_on_this_data_set"]), (&20.into(), &true.into()));
    for way in ["image_to_text", "text_to_image"] {
        let [r1, r5, r10] = ["r1", "r5", "r10"].map(|at| recalls[way][at].as_f64().unwrap());
        assert!(0.0 <= r1 && r1 <= r5 && r5 <= r10 && r10 <= 1.0, "{recalls}");
    }
}

/// Every key once, the same for any number of threads, another order in another epoch.
fn check_order(split: &str, samples: u64, dir: &Path) {
    let order = |epoch: &str, threads: &str| {
        let arguments = [
            "order",
            "data",
            "--split",
            split,
            "--seed",
            "5",
            "--epoch",
            epoch,
            "--batch-size",
            "1",
            "--threads",
            threads,
        ];
        loader(&arguments, dir).expect(0).lines()
    };
    let keys = order("0", "1");
    assert_eq!(keys.len() as u64, samples);
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len() as u64, samples);
    for threads in ["0", "2", "5"] {
        assert_eq!(order("0", threads), keys);
    }
    let next = order("1", "2");
    assert_ne!(next, keys);
    assert_eq!(next.iter().collect::<BTreeSet<_>>(), keys.iter().collect::<BTreeSet<_>>());
}

fn losses(metrics: &Path) -> Vec<f64> {
    let text = fs_err::read_to_string(metrics).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["kind"] == "train").map(|row| row["loss"].as_f64().unwrap()).collect()
}

#[test]
fn a_folder_of_pictures() {
    let folder = folder(|dir| testkit::source::folder(dir, 60));
    for store in ["tensor", "jpeg"] {
        let job = Job {
            dataset: "folder",
            from: "source",
            size: "32",
            store,
            val: Some("13"),
            samples: [47, 13],
            batch_size: 8,
        };
        all_the_way(&job, folder.path());
        fs_err::remove_dir_all(folder.path().join("data")).unwrap();
        fs_err::remove_dir_all(folder.path().join("runs")).unwrap();
    }
}

#[test]
fn coco_in_its_official_layout() {
    let folder = folder(|dir| testkit::source::coco(dir, 40, 12));
    let job = Job {
        dataset: "coco",
        from: "source",
        size: "48",
        store: "tensor",
        val: None,
        samples: [40, 12],
        batch_size: 8,
    };
    all_the_way(&job, folder.path());
    let jsons = fs_err::read_to_string(folder.path().join("data/dataset.json")).unwrap();
    assert!(jsons.contains("annotations blake3"), "{jsons}");
}

#[test]
fn tars_of_text_to_image_2m() {
    let folder = folder(|dir| testkit::source::text_to_image_2m(dir, 2, 25));
    let job = Job {
        dataset: "text-to-image-2m",
        from: "source",
        size: "32",
        store: "tensor",
        val: Some("0.2"),
        samples: [0, 0],
        batch_size: 8,
    };
    // How many samples a share holds out is decided by their hashes.
    let listed = prep(
        &[
            "--dataset",
            job.dataset,
            "--from",
            "source",
            "--val",
            "0.2",
            "--size",
            "32",
            "--out",
            "first",
            "--shards",
            "2",
        ],
        folder.path(),
    );
    listed.expect(0);
    let inspected = prep(&["inspect", "first", "--json"], folder.path()).expect(0).json();
    let samples = [0, 1].map(|split| inspected["splits"][split]["samples"].as_u64().unwrap());
    assert_eq!(samples.iter().sum::<u64>(), 50);
    assert!((2..=20).contains(&samples[1]), "{samples:?}");
    all_the_way(&Job { samples, ..job }, folder.path());
}

#[test]
fn procedural_scenes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    prep(&["--limit", "40", "--val", "16", "--size", "32", "--shards", "2", "--threads", "2"], dir).expect(0);
    let verdict = prep(&["verify", "data/shapes"], dir).expect(0);
    assert!(verdict.out.contains("sound: ") && verdict.out.contains("56 samples"), "{}", verdict.out);
    config(dir, 8, 4);
    trainer(&["train", "--config", "nano.toml", "--data", "data/shapes"], dir).expect(0);
    let recalls =
        trainer(&["eval", "--run", "nano", "--data", "data/shapes", "--json"], dir).expect(0).json();
    assert_eq!(recalls["images"], 16);
}

/// A folder of real photos, which not every machine has.
fn photos(name: &str) -> Option<String> {
    let dir = e2e::root().join("../shared/data").join(name);
    if dir.is_dir() {
        return Some(std::path::absolute(dir).unwrap().to_string_lossy().into_owned());
    }
    e2e::skipped(&format!("there are no photos at ../shared/data/{name} beside this checkout"));
    None
}

#[test]
fn real_photos_of_coco() {
    let Some(from) = photos("coco-mini") else { return };
    let folder = tempfile::tempdir().unwrap();
    let job = Job {
        dataset: "coco",
        from: &from,
        size: "64",
        store: "tensor",
        val: None,
        samples: [80, 40],
        batch_size: 16,
    };
    all_the_way(&job, folder.path());
}

#[test]
fn real_photos_of_flickr8k() {
    let Some(from) = photos("flickr8k-700") else { return };
    let folder = tempfile::tempdir().unwrap();
    let job = Job {
        dataset: "folder",
        from: &from,
        size: "64",
        store: "jpeg",
        val: Some("100"),
        samples: [600, 100],
        batch_size: 32,
    };
    all_the_way(&job, folder.path());
}
