//! The shards through other people's tools: `tar` lists them, Python's webdataset reads every key once with equal
//! pixels and captions. Where a tool cannot be had, the test says so.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use common::{folder, prep};
use serde_json::{Map, json};
use shard::{Dataset, ImageFormat};

/// A prepared folder with both kinds of stores, `npy` and `jpg`.
fn prepared() -> tempfile::TempDir {
    let folder = folder(|dir| testkit::source::folder(dir, 40));
    for (store, out) in [("tensor", "npy"), ("jpeg", "jpg")] {
        let job = ["--dataset", "folder", "--from", "source", "--size", "48", "--shards", "3", "--val", "7"];
        prep(&[&job[..], &["--store", store, "--out", out]].concat(), folder.path()).expect(0);
    }
    folder
}

#[test]
fn tar_lists_every_member_and_takes_them_out_whole() {
    let folder = prepared();
    for extension in ["npy", "jpg"] {
        let dataset = Dataset::open(folder.path().join(extension)).unwrap();
        for (number, shard) in dataset.open_split("train").unwrap().iter().enumerate() {
            let tar = |arguments: &[&str]| {
                Command::new("tar").args(arguments).arg(shard.tar_path()).current_dir(folder.path()).output()
            };
            let listed = match tar(&["-tf"]) {
                Ok(output) => output,
                Err(error) => {
                    e2e::skipped(&format!("tar cannot be run: {error}"));
                    return;
                }
            };
            assert!(listed.status.success() && listed.stderr.is_empty(), "{listed:?}");
            let rows: Vec<_> = (0..shard.len()).map(|row| shard.row(row).unwrap()).collect();
            let members: Vec<String> = rows
                .iter()
                .flat_map(|row| [extension, "json"].map(|kind| format!("{}.{kind}", row.key)))
                .collect();
            assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().collect::<Vec<_>>(), members);
            let out = folder.path().join(format!("taken-out-{extension}-{number}"));
            fs_err::create_dir(&out).unwrap();
            assert!(tar(&["-C", out.to_str().unwrap(), "-xf"]).unwrap().status.success());
            for row in &rows {
                let image = fs_err::read(out.join(format!("{}.{extension}", row.key))).unwrap();
                assert!(image == shard.payload(row, row.image).unwrap(), "{}", row.key);
            }
        }
    }
}

/// What Python has to find, into `dir`.
fn expect(dataset: &Dataset, split: &str, dir: &Path) {
    fs_err::create_dir_all(dir).unwrap();
    let mut samples = Map::new();
    for shard in dataset.open_split(split).unwrap() {
        for row in (0..shard.len()).map(|row| shard.row(row).unwrap()) {
            let pixels = match row.image_format {
                ImageFormat::Npy => shard.image(&row).unwrap().1.to_vec(),
                ImageFormat::Jpg => {
                    let payload = shard.payload(&row, row.image).unwrap();
                    image::load_from_memory(payload).unwrap().into_rgb8().into_raw()
                }
            };
            fs_err::write(dir.join(format!("{}.pixels", row.key)), pixels).unwrap();
            let captions: Vec<&str> = row.captions.into_iter().collect();
            samples.insert(
                row.key.to_owned(),
                json!({ "captions": captions, "height": row.height, "width": row.width }),
            );
        }
    }
    fs_err::write(dir.join("samples.json"), json!(samples).to_string()).unwrap();
}

/// A Python with webdataset, installed below `dir`, or the reason why there is none.
fn python(dir: &Path) -> Result<PathBuf, String> {
    let step = |program: &Path, arguments: &[&str]| -> Result<(), String> {
        let name = program.display();
        let output = Command::new(program).args(arguments).current_dir(dir).output();
        let output = output.map_err(|error| format!("{name} cannot be run: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("`{name} {}`: {}", arguments.join(" "), err.trim().lines().last().unwrap_or("failed")))
    };
    step(Path::new("python3"), &["-m", "venv", "venv"])?;
    let python = dir.join("venv/bin/python");
    let quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"];
    step(&python, &[&quiet[..], &["webdataset", "numpy", "pillow"]].concat())?;
    Ok(python)
}

#[test]
fn webdataset_reads_equal_pixels_and_captions() {
    let folder = prepared();
    let python = match python(folder.path()) {
        Ok(python) => python,
        Err(reason) => {
            e2e::skipped(&format!("webdataset cannot be installed: {reason}"));
            return;
        }
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/read_webdataset.py");
    for extension in ["npy", "jpg"] {
        let dataset = Dataset::open(folder.path().join(extension)).unwrap();
        for (split, samples) in [("train", 33), ("val", 7)] {
            let expected = folder.path().join(format!("expected-{extension}-{split}"));
            expect(&dataset, split, &expected);
            let tars = folder.path().join(extension).join(split);
            let read = Command::new(&python).arg(&script).arg(tars).arg(expected).output().unwrap();
            let err = String::from_utf8_lossy(&read.stderr);
            assert!(read.status.success(), "{extension} {split}: {err}");
            let out = String::from_utf8_lossy(&read.stdout).into_owned();
            assert!(out.starts_with(&format!("{samples} samples of ")), "{out}");
        }
    }
}
