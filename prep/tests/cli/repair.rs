//! `prep repair` makes damaged shards again, and these alone; where it cannot, it says why and touches nothing.

use std::path::Path;

use testkit::files::{Snapshot, difference, snapshot};

use crate::{near, prep};

fn pack(dir: &Path, source: &[&str], more: &[&str]) -> Snapshot {
    let job = [source, &["--out", "out", "--size", "32", "--shards", "4"], more].concat();
    prep(&job, dir).expect(0);
    snapshot(&dir.join("out")).unwrap()
}

/// Changes a byte of one shard, cuts another and removes the index of a third.
fn damage(dir: &Path) {
    let tar = dir.join("out/train/shard-000001.tar");
    let mut bytes = fs_err::read(&tar).unwrap();
    bytes[5_000] ^= 4;
    fs_err::write(tar, bytes).unwrap();
    let cut = dir.join("out/train/shard-000003.tar");
    let bytes = fs_err::read(&cut).unwrap();
    fs_err::write(cut, &bytes[..bytes.len() / 2]).unwrap();
    fs_err::remove_file(dir.join("out/val/shard-000000.arrow")).unwrap();
}

fn check(source: &[&str], more: &[&str], prepare: impl Fn(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    prepare(dir);
    let whole = pack(dir, source, more);
    damage(dir);
    prep(&["verify", "out"], dir).expect(1);
    let from = source.iter().position(|word| *word == "--from").map_or(&[][..], |at| &source[at..at + 2]);
    let repaired = prep(&[&["repair", "out"][..], from].concat(), dir).expect(0);
    for shard in ["train/shard-000001", "train/shard-000003", "val/shard-000000"] {
        assert!(repaired.out.contains(&format!("made again: {shard}")), "{}", repaired.out);
    }
    assert!(!repaired.out.contains("train/shard-000002"), "{}", repaired.out);
    assert_eq!(difference(&whole, &snapshot(&dir.join("out")).unwrap()), None);
    let again = prep(&[&["repair", "out"][..], from].concat(), dir).expect(0);
    assert!(again.out.contains("sound") && !again.out.contains("made again"), "{}", again.out);
}

#[test]
fn damaged_shards_are_made_again_byte_for_byte() {
    check(&["--dataset", "shapes"], &["--limit", "60", "--val", "9"], |_| {});
    let list = |dir: &Path| testkit::source::folder(&dir.join("source"), 80).unwrap();
    check(&["--dataset", "folder", "--from", "source"], &["--val", "0.2", "--limit", "50"], list);
    check(
        &["--dataset", "folder", "--from", "source"],
        &[
            "--store",
            "jpeg",
            "--quality",
            "80",
            "--captions",
            "first",
            "--order",
            "source",
            "--exclude-leaks",
        ],
        list,
    );
    let coco = |dir: &Path| testkit::source::coco(&dir.join("coco"), 40, 9).unwrap();
    check(&["--dataset", "coco", "--from", "coco"], &[], coco);
}

#[test]
fn what_comes_in_inputs_is_taken_in_again_for_the_damaged_shards() {
    for val in [&["--val", "10"], &["--val", "0.1"]] {
        check(&["--dataset", "parquet", "--from", "rows.parquet"], val, |dir| {
            fs_err::write(dir.join("rows.parquet"), crate::sources::parquet(0..70, true)).unwrap();
        });
    }
}

#[test]
fn another_source_is_refused_and_a_changed_picture_is_no_repair() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    testkit::source::folder(&dir.join("source"), 80).unwrap();
    testkit::source::folder(&dir.join("other"), 79).unwrap();
    pack(dir, &["--dataset", "folder", "--from", "source"], &[]);
    damage(dir);
    let before = snapshot(&dir.join("out")).unwrap();
    let complaint = |from: &str| {
        let finished = prep(&["repair", "out", "--from", from], dir).expect(2);
        finished.err
    };
    assert!(complaint("other").contains("other samples would come of it"), "{}", complaint("other"));
    assert!(complaint("nowhere").contains("nowhere"), "{}", complaint("nowhere"));
    let unsaid = prep(&["repair", "out"], dir).expect(2).err;
    assert!(unsaid.contains("folder needs --from"), "{unsaid}");
    assert_eq!(difference(&before, &snapshot(&dir.join("out")).unwrap()), None);
    for number in 0..80 {
        let path = dir.join(format!("source/images/picture {number:04}.jpg"));
        if path.exists() {
            fs_err::write(path, testkit::source::jpeg(number + 500, 50, 50)).unwrap();
        }
    }
    let changed = prep(&["repair", "out", "--from", "source"], dir).expect(1);
    assert!(
        changed.out.contains("not made again: train/shard-000001: the source gives other bytes"),
        "{}",
        changed.out
    );
    assert_eq!(difference(&before, &snapshot(&dir.join("out")).unwrap()), None);
}

#[test]
fn leaks_are_left_out_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // Each picture twice, in two qualities, so that many of validation are in train too.
    fs_err::create_dir(dir.join("source")).unwrap();
    let mut lines = String::new();
    for (seed, quality) in (0..50).flat_map(|seed| [(seed, 92), (seed, 60)]) {
        let name = format!("{seed}-{quality}.jpg");
        fs_err::write(dir.join("source").join(&name), near::jpeg(&near::scene(seed, 96, 1.0), quality))
            .unwrap();
        lines.push_str(&format!("{}\n", serde_json::json!({ "image": name, "caption": "a scene" })));
    }
    fs_err::write(dir.join("source/captions.jsonl"), lines).unwrap();
    let source = ["--dataset", "folder", "--from", "source", "--size", "64", "--val", "20"];
    let across = |out: &str| {
        let report = prep(&["inspect", out, "--near", "--json"], dir).expect(0).out;
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let relations = report["near"]["relations"].as_array().unwrap().clone();
        let across =
            relations.iter().find(|relation| relation["splits"] == serde_json::json!(["train", "val"]));
        across.map_or(0, |relation| relation["pairs"].as_u64().unwrap())
    };
    prep(&[&source[..], &["--out", "leaky"]].concat(), dir).expect(0);
    let packed = prep(&[&source[..], &["--out", "clean", "--exclude-leaks"]].concat(), dir).expect(0);
    assert!(packed.out.contains("near-duplicate of validation"), "{}", packed.out);
    assert!(across("leaky") > 0);
    assert_eq!(across("clean"), 0);
    let listed = fs_err::read_to_string(dir.join("clean/left-out.jsonl")).unwrap();
    assert!(listed.contains("of another split: "), "{listed}");
}
