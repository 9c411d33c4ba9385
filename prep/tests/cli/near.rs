//! `prep inspect --near`: copies of a picture in another quality, size or light are found, other pictures and flat ones
//! are not taken for copies.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use crate::prep;

/// A picture with blobs and stripes of its own: RGB pixels, rows first.
pub(crate) fn scene(seed: u64, side: u32, light: f64) -> image::RgbImage {
    let hash = shard::place::hash128(seed, "scene").to_le_bytes();
    let unit = |at: usize| f64::from(hash[at]) / 255.0;
    image::RgbImage::from_fn(side, side, |x, y| {
        let (u, v) = (f64::from(x) / f64::from(side), f64::from(y) / f64::from(side));
        let blob = |at: usize| {
            let (across, down, radius) = (unit(at), unit(at + 1), 0.05 + 0.15 * unit(at + 2));
            (-((u - across).powi(2) + (v - down).powi(2)) / (radius * radius)).exp()
        };
        let stripes = (20.0 * unit(12) * u + 20.0 * unit(13) * v).sin();
        let value =
            70.0 + 110.0 * blob(0) + 80.0 * blob(3) - 60.0 * blob(6) + 50.0 * blob(9) + 20.0 * stripes;
        let shade = |part: f64| (value * light * part).clamp(0.0, 255.0) as u8;
        image::Rgb([shade(1.0), shade(0.7 + 0.3 * unit(14)), shade(0.7 + 0.3 * unit(15))])
    })
}

pub(crate) fn jpeg(picture: &image::RgbImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (width, height) = (picture.width() as u16, picture.height() as u16);
    jpeg_encoder::Encoder::new(&mut bytes, quality)
        .encode(picture.as_raw(), width, height, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    bytes
}

/// Writes `pictures` with a caption each and packs them into `out`.
pub(crate) fn pack(dir: &Path, pictures: &[(String, Vec<u8>)], more: &[&str]) {
    fs_err::create_dir(dir.join("source")).unwrap();
    let mut lines = String::new();
    for (name, bytes) in pictures {
        fs_err::write(dir.join("source").join(name), bytes).unwrap();
        lines.push_str(&json!({ "image": name, "caption": format!("the picture {name}") }).to_string());
        lines.push('\n');
    }
    fs_err::write(dir.join("source/captions.jsonl"), lines).unwrap();
    let job = ["--dataset", "folder", "--from", "source", "--out", "out", "--shards", "3", "--val", "8"];
    prep(&[&job, more].concat(), dir).expect(0);
}

/// 12 scenes, changed copies of three, three copies of a fourth, two flat pictures.
pub(crate) fn pictures() -> Vec<(String, Vec<u8>)> {
    let mut pictures: Vec<(String, Vec<u8>)> =
        (0..12).map(|seed| (format!("scene{seed}"), jpeg(&scene(seed, 96, 1.0), 92))).collect();
    pictures.push(("quality0".to_owned(), jpeg(&scene(0, 96, 1.0), 60)));
    pictures.push(("size1".to_owned(), jpeg(&scene(1, 60, 1.0), 92)));
    pictures.push(("light2".to_owned(), jpeg(&scene(2, 96, 1.1), 92)));
    for copy in 0..3 {
        pictures.push((format!("copy{copy}"), pictures[3].1.clone()));
    }
    for shade in [30, 200] {
        let flat = image::RgbImage::from_pixel(64, 64, image::Rgb([shade, 90, 90]));
        pictures.push((format!("flat{shade}"), jpeg(&flat, 92)));
    }
    pictures
}

/// The pairs that there are, by name.
fn expected() -> BTreeSet<[String; 2]> {
    let copies = ["copy0", "copy1", "copy2", "scene3"];
    let of_copies = (0..4).flat_map(|i| (i + 1..4).map(move |j| [copies[i], copies[j]]));
    let changed = [["quality0", "scene0"], ["scene1", "size1"], ["light2", "scene2"]];
    changed.into_iter().chain(of_copies).map(|pair| pair.map(str::to_owned)).collect()
}

fn near(dir: &Path, more: &[&str]) -> Value {
    let found = prep(&[&["inspect", "out", "--near", "--json"], more].concat(), dir).expect(0);
    serde_json::from_str::<Value>(&found.out).unwrap()["near"].clone()
}

#[test]
fn copies_are_found_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    pack(dir, &pictures(), &["--size", "64"]);
    for store in ["tensor", "jpeg"] {
        if store == "jpeg" {
            let again =
                ["--dataset", "folder", "--from", "source", "--out", "jpeg", "--val", "8", "--size", "64"];
            prep(&[&again[..], &["--store", "jpeg"]].concat(), dir).expect(0);
            fs_err::remove_dir_all(dir.join("out")).unwrap();
            fs_err::rename(dir.join("jpeg"), dir.join("out")).unwrap();
        }
        let near = near(dir, &[]);
        assert_eq!(
            (&near["compared"], &near["flat"], &near["complete"]),
            (&18.into(), &2.into(), &true.into())
        );
        assert_eq!((&near["max_distance"], &near["cluster_count"]), (&6.into(), &4.into()));
        assert_eq!(near["clusters"][0]["size"], 4);
        let mut found = BTreeSet::new();
        for relation in near["relations"].as_array().unwrap() {
            let splits = &relation["splits"];
            let listed = relation["listed"].as_array().unwrap();
            assert_eq!(relation["pairs"], listed.len());
            for pair in listed {
                let [first, second] = ["first", "second"].map(|side| pair[side].clone());
                assert_eq!((&first["split"], &second["split"]), (&splits[0], &splits[1]), "{store}: {pair}");
                let mut names = [first, second].map(|member| member["key"].as_str().unwrap().to_owned());
                names.sort();
                assert!(found.insert(names));
            }
        }
        assert_eq!(found, expected(), "{store}");
        let across = &near["relations"][0];
        assert_eq!(across["splits"], json!(["train", "val"]));
        assert_ne!(across["pairs"], 0, "this seed holds out some of the copies");
        assert_eq!(near["relations"].as_array().unwrap().len(), 3);
    }
    assert_eq!(near(dir, &["--threads", "1"]), near(dir, &["--threads", "4"]));
    let exact = near(dir, &["--max-distance", "0"]);
    let pairs: u64 =
        exact["relations"].as_array().unwrap().iter().map(|of| of["pairs"].as_u64().unwrap()).sum();
    assert!((6..=9).contains(&pairs), "{exact}");
}

#[test]
fn the_text_tells_pairs_and_the_plain_summary_does_not_look() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    pack(dir, &pictures(), &["--size", "64"]);
    let told = prep(&["inspect", "out", "--near"], dir).expect(0).out;
    assert!(told.contains("near-duplicates: 18 pictures compared, pairs of at most 6 bits of 64"), "{told}");
    assert!(told.contains("2 flat pictures"), "{told}");
    assert!(told.contains("across train and val: "), "{told}");
    assert!(told.contains("4 clusters, the largest of 4"), "{told}");
    let plain = prep(&["inspect", "out"], dir).expect(0).out;
    assert!(!plain.contains("near-duplicates"), "{plain}");
    let json: Value = serde_json::from_str(&prep(&["inspect", "out", "--json"], dir).expect(0).out).unwrap();
    assert!(json.get("near").is_none());
    prep(&["inspect", "out", "--near", "--max-distance", "16"], dir).expect(2);
    // A damaged picture is no answer but a failure that names it.
    let path = dir.join("out/train/shard-000000.tar");
    let mut bytes = fs_err::read(&path).unwrap();
    bytes[900] ^= 1;
    fs_err::write(&path, bytes).unwrap();
    let complaint = prep(&["inspect", "out", "--near"], dir).complaint();
    assert!(complaint.contains("shard-000000.tar") && complaint.contains("byte 900"), "{complaint}");
}

/// A thousand copies are one cluster, and no list of half a million pairs.
#[test]
fn many_copies_are_counted_and_few_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let bytes = jpeg(&scene(1, 32, 1.0), 90);
    let pictures: Vec<_> = (0..300).map(|copy| (format!("copy{copy}"), bytes.clone())).collect();
    pack(dir, &pictures, &["--size", "32"]);
    let near = near(dir, &[]);
    let [across, train, val] = [0, 1, 2].map(|relation| &near["relations"][relation]);
    assert_eq!(across["pairs"], 292 * 8);
    assert_eq!(train["pairs"], 292 * 291 / 2);
    assert_eq!(val["pairs"], 8 * 7 / 2);
    assert_eq!(train["listed"].as_array().unwrap().len(), prep::near::PAIRS_LISTED_MAX);
    assert_eq!((&near["cluster_count"], &near["clusters"][0]["size"]), (&1.into(), &300.into()));
}
