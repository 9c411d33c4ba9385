//! Every kind of source, in each form in which it may lie on disk: the same samples give the same shards.

use std::{
    collections::BTreeMap,
    io::{Cursor, Write as _},
    path::Path,
    sync::Arc,
};

use arrow_array::{
    ArrayRef, BinaryArray, ListArray, RecordBatch, StringArray, StructArray, types::Int32Type,
};
use arrow_schema::{DataType, Field};
use shard::Dataset;
use testkit::{
    files::{Snapshot, difference, snapshot},
    source::jpeg,
};

use crate::prep;

/// Packs into `out` at 32 pixels, and gives the shards without the manifest.
fn packed(dir: &Path, out: &str, arguments: &[&str]) -> Snapshot {
    let more = ["--out", out, "--size", "32", "--shards", "3"];
    prep(&[arguments, &more].concat(), dir).expect(0);
    prep(&["verify", out], dir).expect(0);
    assert!(!dir.join(out).join("prep-spill").exists());
    shards(&dir.join(out))
}

pub(crate) fn shards(dir: &Path) -> Snapshot {
    let all = snapshot(dir).unwrap();
    all.into_iter().filter(|(path, _)| path.components().count() == 2).collect()
}

/// Source id → captions, of all splits.
fn captions(dir: &Path) -> BTreeMap<String, Vec<String>> {
    let dataset = Dataset::open(dir).unwrap();
    let mut found = BTreeMap::new();
    for split in ["train", "val"] {
        for shard in dataset.open_split(split).unwrap() {
            for number in 0..shard.len() {
                let row = shard.row(number).unwrap();
                let captions = row.captions.into_iter().map(str::to_owned).collect();
                found.insert(row.source_id.to_owned(), captions);
            }
        }
    }
    found
}

#[test]
fn csv_rows_of_one_image_are_one_sample() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs_err::create_dir(dir.join("images")).unwrap();
    let mut text = String::from("name,caption,url\n");
    for number in 0..12 {
        fs_err::write(dir.join(format!("images/{number}.jpg")), jpeg(number, 40, 50)).unwrap();
        text.push_str(&format!("{number}.jpg,\"one, of {number}\nin two lines\",http://x/{number}\n"));
    }
    (0..12).for_each(|number| text.push_str(&format!("{number}.jpg,two of {number},\n")));
    text.push_str(",no image,\n");
    fs_err::write(dir.join("list.csv"), text).unwrap();
    let job = ["--dataset", "csv", "--from", "list.csv", "--images", "images", "--image-column", "name"];
    packed(dir, "out", &job);
    let found = captions(&dir.join("out"));
    assert_eq!(found.len(), 12);
    assert_eq!(found["3.jpg"], ["one, of 3 in two lines", "two of 3"]);
    packed(dir, "first", &[&job[..], &["--captions", "first"]].concat());
    assert_eq!(captions(&dir.join("first"))["3.jpg"], ["one, of 3 in two lines"]);
    // Which column is whose is never guessed wrong: it is asked.
    let complaint = prep(&job[..6], dir).complaint();
    assert!(complaint.contains("no column for images: it has name, caption, url"), "{complaint}");
    let left_out = fs_err::read_to_string(dir.join("out/left-out.jsonl")).unwrap();
    assert!(
        left_out.contains("\"source_id\":\"list.csv:38\"") && left_out.contains("names no image"),
        "{left_out}"
    );
}

#[test]
fn a_list_in_json_lines_has_its_images_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs_err::create_dir(dir.join("source")).unwrap();
    testkit::source::folder(&dir.join("source"), 20).unwrap();
    let whole = packed(dir, "folder", &["--dataset", "folder", "--from", "source"]);
    fs_err::rename(dir.join("source/captions.jsonl"), dir.join("list.jsonl")).unwrap();
    let list = packed(dir, "list", &["--dataset", "jsonl", "--from", "list.jsonl", "--images", "source"]);
    assert_eq!(difference(&whole, &list), None);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compressed copies of every tar below `from`, in `to`.
fn compress(from: &Path, to: &Path) {
    for (path, bytes) in snapshot(from).unwrap() {
        let path = to.join(path).with_extension("tar.gz");
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, gzip(&bytes)).unwrap();
    }
}

#[test]
fn compressed_tars_are_spilled_to_the_same_shards() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    testkit::source::text_to_image_2m(&dir.join("plain"), 4, 15).unwrap();
    compress(&dir.join("plain"), &dir.join("gz"));
    for (number, more) in [
        &[][..],
        &["--limit", "20"],
        &["--val", "7", "--order", "source"],
        &["--threads", "1", "--store", "jpeg"],
    ]
    .into_iter()
    .enumerate()
    {
        let of = |from: &str| {
            let job = [&["--dataset", "webdataset", "--from", from][..], more].concat();
            packed(dir, &format!("{from}-{number}"), &job)
        };
        assert_eq!(difference(&of("plain"), &of("gz")), None, "{more:?}");
    }
    let all = prep(&["inspect", "gz-1", "--json"], dir).expect(0).out;
    assert!(all.contains("\"samples\": 20"), "{all}");
}

/// A parquet file of `rows` pictures as Hugging Face writes them.
pub(crate) fn parquet(rows: std::ops::Range<u64>, as_struct: bool) -> Vec<u8> {
    let pictures: Vec<Vec<u8>> = rows.clone().map(|row| jpeg(row, 40, 30)).collect();
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(&pictures));
    let image: ArrayRef = if as_struct {
        let paths: ArrayRef =
            Arc::new(StringArray::from_iter_values(rows.clone().map(|row| format!("{row}.jpg"))));
        Arc::new(StructArray::from(vec![
            (Arc::new(Field::new("bytes", DataType::Binary, true)), bytes),
            (Arc::new(Field::new("path", DataType::Utf8, true)), paths),
        ]))
    } else {
        bytes
    };
    let ids: ArrayRef = Arc::new(arrow_array::UInt64Array::from_iter_values(rows.clone()));
    let columns: Vec<(&str, ArrayRef)> = if as_struct {
        let texts = rows.map(|row| Some(vec![Some(row as i32)])).collect::<Vec<_>>();
        let numbers = ListArray::from_iter_primitive::<Int32Type, _, _>(texts);
        let texts: Vec<String> =
            (0..pictures.len()).map(|row| format!("picture {}", numbers.value(row).len() + row)).collect();
        vec![("id", ids), ("image", image), ("text", Arc::new(StringArray::from(texts)))]
    } else {
        let texts: Vec<String> = rows.map(|row| format!("picture {row}")).collect();
        vec![("id", ids), ("photo", image), ("words", Arc::new(StringArray::from(texts)))]
    };
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut file = Cursor::new(Vec::new());
    let properties = ::parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(7))
        .set_compression(::parquet::basic::Compression::SNAPPY)
        .build();
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file.into_inner()
}

#[test]
fn parquet_in_the_forms_that_are_met() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs_err::create_dir_all(dir.join("hub/data")).unwrap();
    fs_err::write(dir.join("hub/data/train-00000-of-00002.parquet"), parquet(0..40, true)).unwrap();
    fs_err::write(dir.join("hub/data/train-00001-of-00002.parquet"), parquet(40..45, true)).unwrap();
    fs_err::write(dir.join("hub/data/validation-00000-of-00001.parquet"), parquet(45..50, true)).unwrap();
    let one = packed(dir, "one", &["--dataset", "parquet", "--from", "hub", "--threads", "1"]);
    let three = packed(dir, "three", &["--dataset", "parquet", "--from", "hub", "--threads", "3"]);
    assert_eq!(difference(&one, &three), None);
    let manifest = shard::Manifest::read(&dir.join("one")).unwrap();
    let sizes: Vec<(String, u64)> =
        manifest.splits.iter().map(|split| (split.name.clone(), split.samples)).collect();
    assert_eq!(sizes, [("train".to_owned(), 45), ("val".to_owned(), 5)]);

    fs_err::write(dir.join("odd.parquet"), parquet(0..20, false)).unwrap();
    let complaint = prep(&["--dataset", "parquet", "--from", "odd.parquet"], dir).complaint();
    assert!(complaint.contains("photo (Binary), words (Utf8)"), "{complaint}");
    let columns = ["--image-column", "photo", "--caption-column", "words"];
    packed(dir, "odd", &[&["--dataset", "parquet", "--from", "odd.parquet"][..], &columns].concat());
    assert_eq!(captions(&dir.join("odd")).len(), 20);

    let mut cut = parquet(0..20, true);
    cut.truncate(cut.len() - 3);
    fs_err::write(dir.join("cut.parquet"), cut).unwrap();
    let complaint = prep(&["--dataset", "parquet", "--from", "cut.parquet", "--out", "cut"], dir).complaint();
    assert!(complaint.contains("cut.parquet"), "{complaint}");
}

/// A zip of the files below `dir`, whose names begin with `prefix`; some stored, some deflated.
pub(crate) fn zipped(dir: &Path, prefix: &str) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (number, (path, bytes)) in snapshot(dir).unwrap().into_iter().enumerate() {
        let method =
            if number % 2 == 0 { zip::CompressionMethod::Stored } else { zip::CompressionMethod::Deflated };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(format!("{prefix}/{}", path.to_str().unwrap()), options).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// COCO's three archives of the layout below `dir`, by their names.
pub(crate) fn coco_zips(dir: &Path) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("annotations_trainval2017.zip", zipped(&dir.join("annotations"), "annotations")),
        ("train2017.zip", zipped(&dir.join("train2017"), "train2017")),
        ("val2017.zip", zipped(&dir.join("val2017"), "val2017")),
    ]
}

#[test]
fn coco_is_read_from_its_zips_where_they_lie() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    testkit::source::coco(&dir.join("coco"), 30, 8).unwrap();
    packed(dir, "unpacked", &["--dataset", "coco", "--from", "coco"]);
    fs_err::create_dir(dir.join("zips")).unwrap();
    for (name, bytes) in coco_zips(&dir.join("coco")) {
        fs_err::write(dir.join("zips").join(name), bytes).unwrap();
    }
    packed(dir, "zipped", &["--dataset", "coco", "--from", "zips"]);
    let of = |out: &str| snapshot(&dir.join(out)).unwrap();
    assert_eq!(difference(&of("unpacked"), &of("zipped")), None);

    // One wrong byte in a stored picture: its CRC-32 tells, and the run ends instead of leaving it out.
    let path = dir.join("zips/train2017.zip");
    let mut bytes = fs_err::read(&path).unwrap();
    let at = bytes.windows(2).position(|pair| pair == [0xff, 0xd8]).unwrap() + 200;
    bytes[at] ^= 1;
    fs_err::write(&path, bytes).unwrap();
    let complaint = prep(&["--dataset", "coco", "--from", "zips", "--out", "damaged", "--size", "32"], dir);
    let complaint = complaint.complaint();
    assert!(complaint.contains("train2017.zip") && complaint.contains("is damaged"), "{complaint}");
    assert!(!dir.join("damaged/dataset.json").exists());
}

#[test]
fn karpathy_decides_splits_and_captions() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    testkit::source::coco(&dir.join("coco"), 10, 6).unwrap();
    let image = |number: usize, split: &str| {
        let captions = [format!(" Karpathy's of {number}."), "Another.".to_owned()];
        let sentences: Vec<_> = captions.iter().map(|raw| serde_json::json!({ "raw": raw })).collect();
        serde_json::json!({ "cocoid": 9 + 7 * number, "split": split, "sentences": sentences })
    };
    let mut images: Vec<_> = (0..6).map(|number| image(number, "train")).collect();
    images.extend([image(6, "val"), image(12, "restval"), image(13, "test"), image(7_000, "train")]);
    let file = serde_json::json!({ "images": images, "dataset": "coco" });
    fs_err::write(dir.join("dataset_coco.json"), file.to_string()).unwrap();
    let job = ["--dataset", "coco", "--from", "coco", "--karpathy", "dataset_coco.json"];
    packed(dir, "out", &job);
    let manifest = shard::Manifest::read(&dir.join("out")).unwrap();
    let sizes: Vec<(&str, u64)> =
        manifest.splits.iter().map(|split| (split.name.as_str(), split.samples)).collect();
    assert_eq!(sizes, [("train", 7), ("val", 1), ("test", 1)]);
    assert!(manifest.source.revision.contains("karpathy blake3 "));
    assert_eq!(captions(&dir.join("out"))["000000000009"], ["Karpathy's of 0.", "Another."]);
}

#[test]
fn a_source_that_vanishes_ends_the_run_and_is_gone_on_with_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    testkit::source::folder(&dir.join("source"), 150).unwrap();
    let job = ["--dataset", "folder", "--from", "source"];
    let undisturbed = packed(dir, "undisturbed", &job);
    let more = ["--out", "out", "--size", "32", "--shards", "3", "--threads", "1"];
    let arguments = [&job[..], &more].concat();
    let mut child = crate::command(&arguments, dir).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while !dir.join("out/val/shard-000000.arrow").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    fs_err::rename(dir.join("source"), dir.join("elsewhere")).unwrap();
    let output = child.wait_with_output().unwrap();
    fs_err::rename(dir.join("elsewhere"), dir.join("source")).unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    // It may have read all pictures before they went.
    if output.status.code() != Some(0) {
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.contains("cannot read source"), "{err}");
        assert!(!dir.join("out/dataset.json").exists());
    }
    assert_eq!(
        difference(&undisturbed, &packed(dir, "out", &[&job[..], &["--threads", "1"]].concat())),
        None
    );
}

#[test]
fn a_run_that_is_mostly_broken_stops() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    testkit::source::folder(&dir.join("source"), 200).unwrap();
    for number in (0..200).filter(|number| number % 3 != 0 && number % 5 != 4) {
        fs_err::write(dir.join(format!("source/images/picture {number:04}.jpg")), "<html>").unwrap();
    }
    let job = ["--dataset", "folder", "--from", "source", "--out", "out", "--size", "32"];
    let complaint = prep(&job, dir).complaint();
    assert!(complaint.contains("above --max-bad 0.5") && complaint.contains("not an image"), "{complaint}");
    assert!(!dir.join("out/train").exists(), "what may not be gone on with is gone");
    prep(&[&job[..], &["--max-bad", "0.8"]].concat(), dir).expect(0);
    let listed = fs_err::read_to_string(dir.join("out/left-out.jsonl")).unwrap();
    let all: u64 = shard::Manifest::read(&dir.join("out"))
        .unwrap()
        .splits
        .iter()
        .flat_map(|split| split.left_out_counts.values().copied().collect::<Vec<_>>())
        .sum();
    assert_eq!(listed.lines().count() as u64, all);
    let line: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert!(line["key"].is_string() && line["reason"] == "not an image", "{line}");
}

#[test]
fn a_dry_run_plans_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    testkit::source::folder(&dir.join("source"), 40).unwrap();
    let planned =
        prep(&["--dataset", "folder", "--from", "source", "--out", "out", "--val", "5", "--dry-run"], dir)
            .expect(0);
    assert!(planned.out.contains("would write out: folder (captions.jsonl blake3 "), "{}", planned.out);
    assert!(planned.out.contains("train         35 samples       8 shards"), "{}", planned.out);
    assert!(!dir.join("out").exists());
}

#[test]
fn advice_has_bytes_and_rates_of_both_ways_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    testkit::source::folder(&dir.join("source"), 40).unwrap();
    fs_err::write(dir.join("rows.parquet"), parquet(0..20, true)).unwrap();
    for from in
        [["--dataset", "folder", "--from", "source"], ["--dataset", "parquet", "--from", "rows.parquet"]]
    {
        let advised =
            prep(&[&from[..], &["--out", "data/out", "--size", "64", "--advise"]].concat(), dir).expect(0);
        for part in ["--store tensor", "--store jpeg", "images/s", "samples/s", "recommended: --store "] {
            assert!(advised.out.contains(part), "{part}: {}", advised.out);
        }
        assert_eq!(fs_err::read_dir(dir.join("data")).unwrap().count(), 0);
    }
}
