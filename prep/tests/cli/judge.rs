//! `prep judge`: a data set's own captions are true of it, those of other scenes are not, and what cannot be judged is
//! refused in one sentence.

use std::path::Path;

use serde_json::{Value, json};
use shard::{Dataset, Manifest};

use crate::prep;

/// 90 scenes of `train` and 40 of `val`, from another seed than the usual one.
fn shapes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let job =
        ["--limit", "90", "--val", "40", "--size", "16", "--shards", "2", "--seed", "3", "--out", "shapes"];
    prep(&job, folder.path()).expect(0);
    folder
}

/// Key and captions of each sample of a split, as the data set has them.
fn samples(dir: &Path, split: &str) -> Vec<(String, Vec<String>)> {
    let mut samples = Vec::new();
    for shard in Dataset::open(dir).unwrap().open_split(split).unwrap() {
        for number in 0..shard.len() {
            let row = shard.row(number).unwrap();
            samples.push((row.key.to_owned(), row.captions.into_iter().map(str::to_owned).collect()));
        }
    }
    samples
}

fn judged(dir: &Path, arguments: &[&str]) -> Value {
    let all = [&["judge", "shapes", "--json", "--captions"], arguments].concat();
    serde_json::from_str(&prep(&all, dir).expect(0).out).unwrap()
}

#[test]
fn references_are_all_true_and_those_of_others_are_not() {
    let folder = shapes();
    let dir = folder.path();
    let samples = samples(&dir.join("shapes"), "val");
    let results: Vec<Value> = samples
        .iter()
        .flat_map(|(key, captions)| {
            captions.iter().map(move |text| json!({ "image_id": key, "caption": text }))
        })
        .collect();
    fs_err::write(dir.join("all.json"), serde_json::to_vec_pretty(&results).unwrap()).unwrap();
    let found = judged(dir, &["all.json"]);
    assert_eq!((&found["judged"]["captions"], &found["shifted"]["captions"]), (&json!(200), &json!(200)));
    let own = &found["judged"];
    assert_eq!(
        (&own["share"], &own["all_true_share"], &own["with_unread"]),
        (&json!(1.0), &json!(1.0), &json!(0))
    );
    for (kind, tally) in own["kinds"].as_object().unwrap() {
        assert!(tally["share"] == 1.0 && tally["claimed"].as_u64().unwrap() > 10, "{kind}: {tally}");
    }
    let other = &found["shifted"];
    assert!(other["share"].as_f64().unwrap() < 0.5 && other["all_true"].as_u64().unwrap() < 4, "{other}");
    assert_eq!(other["claimed"], own["claimed"]);

    let table = prep(&["judge", "shapes", "--captions", "all.json"], dir).expect(0).out;
    assert!(table.starts_with("shapes: 200 captions of val\n"), "{table}");
    for row in ["claims true", "  relation", "captions all true"] {
        let row = table.lines().find(|line| line.trim_start().starts_with(row.trim_start())).unwrap();
        assert!(row.contains("100.0 %"), "{table}");
    }
}

/// Both forms of JSON lines, in lower case, with marks set apart, of which the first caption alone counts.
#[test]
fn json_lines_are_read_and_slips_are_seen() {
    let folder = shapes();
    let dir = folder.path();
    let mut lines = String::new();
    for (number, (key, captions)) in samples(&dir.join("shapes"), "train").iter().enumerate() {
        let text = captions[0].to_lowercase().replace('.', " .").replace(',', " ,");
        let line = match number {
            0 => json!({ "key": key, "captions": [] }),
            1 => json!({ "key": key, "caption": text + " a shiny box" }),
            _ if number % 2 == 0 => json!({ "key": key, "caption": text }),
            _ => json!({ "key": key, "captions": [{ "text": text, "log": -1 }, { "text": "nine shapes" }] }),
        };
        lines.push_str(&format!("{line}\n\n"));
    }
    fs_err::write(dir.join("lines.jsonl"), &lines).unwrap();
    let found = judged(dir, &["lines.jsonl", "--split", "train"]);
    let own = &found["judged"];
    assert_eq!(
        (&own["captions"], &own["all_true"], &own["with_unread"]),
        (&json!(90), &json!(88), &json!(1))
    );
    assert_eq!(own["share"], 1.0);

    // One sample has no other to be compared with.
    fs_err::write(dir.join("one.jsonl"), lines.lines().nth(4).unwrap()).unwrap();
    let found = judged(dir, &["one.jsonl", "--split", "train"]);
    assert_eq!((&found["judged"]["all_true"], &found["shifted"]), (&json!(1), &Value::Null));
    let table = prep(&["judge", "shapes", "--captions", "one.jsonl", "--split", "train"], dir).expect(0).out;
    assert!(table.contains('–'), "{table}");
}

#[test]
fn what_cannot_be_judged_is_refused_in_one_line() {
    let folder = shapes();
    let dir = folder.path();
    testkit::source::folder(&dir.join("photos"), 20).unwrap();
    prep(&["--dataset", "folder", "--from", "photos", "--size", "16", "--out", "folder"], dir).expect(0);
    let train = &samples(&dir.join("shapes"), "train")[0].0;
    let own = json!([{ "image_id": "val-00000000", "caption": "a red circle" }]).to_string();
    for (name, text) in [
        ("own.json", own.as_str()),
        ("unknown.json", "[{\"image_id\": \"val-00000099\", \"caption\": \"\"}]"),
        ("train.jsonl", &json!({ "key": train, "caption": "a red circle" }).to_string()),
        ("number.json", "[{\"image_id\": 7, \"caption\": \"a red circle\"}]"),
        ("none.json", "[]"),
        ("without.jsonl", "{\"key\": \"val-00000000\"}"),
        ("text.txt", "a red circle"),
    ] {
        fs_err::write(dir.join(name), text).unwrap();
    }
    let of_train = format!("train.jsonl: {train:?} is a sample of train, and captions of val are judged");
    for (arguments, expected) in [
        (["folder", "own.json", "val"], "folder was made from folder"),
        (["nowhere", "own.json", "val"], "nowhere"),
        (["shapes", "own.json", "test"], "no split \"test\"; it has train, val"),
        (["shapes", "own.json", "train"], "\"val-00000000\" is a sample of val"),
        (["shapes", "unknown.json", "val"], "shapes has no sample \"val-00000099\" in val"),
        (["shapes", "train.jsonl", "val"], &of_train),
        (
            ["shapes", "number.json", "val"],
            "not captions, in COCO's results or in JSON lines: invalid type: integer",
        ),
        (["shapes", "none.json", "val"], "none.json: there are no captions in it"),
        (["shapes", "without.jsonl", "val"], "without.jsonl: \"val-00000000\" has no caption"),
        (["shapes", "text.txt", "val"], "text.txt: not captions"),
        (["shapes", "missing.json", "val"], "missing.json"),
    ] {
        let [data, file, split] = arguments;
        let complaint = prep(&["judge", data, "--captions", file, "--split", split], dir).complaint();
        assert!(complaint.contains(expected), "{arguments:?}: {complaint}");
    }
    // Scenes of another generator are other scenes.
    let mut manifest = Manifest::read(&dir.join("shapes")).unwrap();
    manifest.source.revision = "shapes-0 seed 3".to_owned();
    manifest.write(&dir.join("shapes")).unwrap();
    let complaint = prep(&["judge", "shapes", "--captions", "own.json"], dir).complaint();
    assert!(complaint.contains("shapes was drawn by \"shapes-0 seed 3\""), "{complaint}");
}
