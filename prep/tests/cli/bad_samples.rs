//! Files as the world has them: each is converted, or left out with its reason in manifest and summary. None of them
//! stops or panics the program.

use std::{collections::BTreeMap, io::Cursor, path::Path};

use image::{DynamicImage, ImageFormat};
use jpeg_encoder::ColorType;
use serde_json::json;
use shard::{Dataset, Manifest, npy};
use testkit::source::{jpeg, pixels, png};

use crate::prep;

const SIZE: usize = 32;

/// What is expected of a row.
enum Due {
    /// Converted: rows and columns of the source, and a colour that the middle has, where it is known.
    Kept(u32, u32, Option<[u8; 3]>),
    /// Left out: the reason and a part of its detail.
    LeftOut(&'static str, &'static str),
}
use Due::{Kept, LeftOut};

/// One file of one colour.
fn plain(width: u16, height: u16, colour: &[u8], kind: ColorType, progressive: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
    encoder.set_progressive(progressive);
    encoder.encode(&colour.repeat(usize::from(width) * usize::from(height)), width, height, kind).unwrap();
    bytes
}

fn encoded(picture: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn rgb(width: u32, height: u32, colour: [u8; 3]) -> DynamicImage {
    image::RgbImage::from_pixel(width, height, image::Rgb(colour)).into()
}

/// A segment right after the start of a JPEG.
fn with_segment(jpeg: &[u8], marker: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, content, &jpeg[2..]].concat()
}

/// Bytes after the first segment of a JPEG, where none belong.
fn between_segments(jpeg: &[u8], bytes: &[u8]) -> Vec<u8> {
    let end = 4 + usize::from(u16::from_be_bytes([jpeg[4], jpeg[5]]));
    [&jpeg[..end], bytes, &jpeg[end..]].concat()
}

/// EXIF with an orientation, and a thumbnail after it.
fn exif(orientation: u8, thumbnail: &[u8]) -> Vec<u8> {
    let entry = [0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0];
    [&b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01"[..], &entry, &[0; 4], thumbnail].concat()
}

/// A PNG whose header claims another size, with the right checksum.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(1, 20, 20);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32fast::hash(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// A JPEG whose frame header claims another size.
fn jpeg_claiming(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = jpeg(1, 40, 40);
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// Top half red, bottom half blue, 64 wide and 48 high, to be turned as `orientation` says.
fn half_and_half(orientation: u8) -> Vec<u8> {
    let rows = [[[200, 0, 0]; 64 * 24], [[0, 0, 200]; 64 * 24]];
    let mut bytes = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
    encoder.encode(rows.as_flattened().as_flattened(), 64, 48, ColorType::Rgb).unwrap();
    with_segment(&bytes, 0xe1, &exif(orientation, &[]))
}

fn noise(count: usize) -> Vec<u8> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect()
}

/// Files below the source: name, bytes and what is due.
fn files() -> Vec<(&'static str, Vec<u8>, Due)> {
    let good = jpeg(7, 64, 48);
    let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let progressive = plain(60, 40, &[40, 90, 200], ColorType::Rgb, true);
    let transparent = image::RgbaImage::from_pixel(30, 20, image::Rgba([9, 9, 9, 0]));
    let half_seen = image::RgbaImage::from_pixel(30, 20, image::Rgba([0, 100, 200, 128]));
    let deep = image::ImageBuffer::from_pixel(30, 20, image::Rgb([0x1234u16, 0x8000, 0xffff]));
    let colour = [200, 100, 50];
    vec![
        ("good.jpg", good.clone(), Kept(48, 64, None)),
        ("progressive.jpg", progressive.clone(), Kept(40, 60, Some([40, 90, 200]))),
        ("grey.jpg", plain(50, 40, &[77], ColorType::Luma, false), Kept(40, 50, Some([77, 77, 77]))),
        ("cmyk.jpg", plain(50, 40, &[255, 255, 255, 255], ColorType::Cmyk, false), Kept(40, 50, None)),
        ("turned.jpg", half_and_half(6), Kept(64, 48, None)),
        ("upside-down.jpg", half_and_half(3), Kept(48, 64, None)),
        ("thumbnail.jpg", with_segment(&good, 0xe1, &exif(1, &jpeg(8, 16, 16))), Kept(48, 64, None)),
        ("rubbish-after-the-end.jpg", [&good[..], &noise(99)].concat(), Kept(48, 64, None)),
        ("bytes-between-segments.jpg", between_segments(&good, &[0; 7]), Kept(48, 64, None)),
        ("one-pixel.png", encoded(rgb(1, 1, colour), ImageFormat::Png), Kept(1, 1, Some(colour))),
        ("sliver.png", encoded(rgb(3000, 2, colour), ImageFormat::Png), Kept(2, 3000, Some(colour))),
        (
            "transparent.png",
            encoded(transparent.into(), ImageFormat::Png),
            Kept(20, 30, Some([255, 255, 255])),
        ),
        ("half-seen.png", encoded(half_seen.into(), ImageFormat::Png), Kept(20, 30, Some([127, 177, 227]))),
        ("sixteen-bit.png", encoded(deep.into(), ImageFormat::Png), Kept(20, 30, Some([0x12, 0x80, 0xff]))),
        (
            "grey.png",
            encoded(rgb(9, 9, [5; 3]).into_luma8().into(), ImageFormat::Png),
            Kept(9, 9, Some([5; 3])),
        ),
        ("picture.webp", encoded(rgb(33, 44, colour), ImageFormat::WebP), Kept(44, 33, Some(colour))),
        ("picture.gif", encoded(rgb(33, 44, [0, 0, 0]), ImageFormat::Gif), Kept(44, 33, Some([0, 0, 0]))),
        ("picture.bmp", encoded(rgb(33, 44, colour), ImageFormat::Bmp), Kept(44, 33, Some(colour))),
        ("picture.tiff", encoded(rgb(33, 44, colour), ImageFormat::Tiff), Kept(44, 33, Some(colour))),
        ("really-a-png.jpg", png(3, 30, 30), Kept(30, 30, None)),
        ("cut.jpg", good[..good.len() - 20].to_vec(), LeftOut("broken image", "ends early")),
        ("cut-in-its-tables.jpg", half(&good), LeftOut("broken image", "")),
        ("cut-in-its-head.jpg", good[..30].to_vec(), LeftOut("broken image", "")),
        ("cut-progressive.jpg", half(&progressive), LeftOut("broken image", "")),
        // The thumbnail has an end of its own, which is not the picture's.
        (
            "cut-after-its-thumbnail.jpg",
            half(&with_segment(&good, 0xe1, &exif(1, &jpeg(8, 16, 16)[..600]))),
            LeftOut("broken image", ""),
        ),
        ("cut.png", half(&png(2, 60, 60)), LeftOut("broken image", "")),
        ("three-bytes.jpg", b"\xff\xd8\xff".to_vec(), LeftOut("broken image", "")),
        (
            "noise-after-a-start.jpg",
            [b"\xff\xd8\xff\xe0", &noise(500)[..]].concat(),
            LeftOut("broken image", ""),
        ),
        ("empty.jpg", Vec::new(), LeftOut("empty file", "has no bytes")),
        (
            "page.jpg",
            b"<!DOCTYPE html><title>404</title>".to_vec(),
            LeftOut("not an image", "<!DOCTYPE html>"),
        ),
        ("noise.jpg", [b"\x01", &noise(500)[..]].concat(), LeftOut("not an image", "")),
        ("huge.png", png_claiming(60_000, 60_000), LeftOut("too large", "60000x60000")),
        ("wider-than-anything.png", png_claiming(0x7fff_ffff, 1), LeftOut("too large", "limit")),
        ("nothing-wide.png", png_claiming(0, 20), LeftOut("broken image", "")),
        ("huge.jpg", jpeg_claiming(65_000, 65_000), LeftOut("too large", "65000x65000")),
        ("more-than-there-is.jpg", jpeg_claiming(2_000, 2_000), LeftOut("broken image", "")),
    ]
}

/// Lines of captions.jsonl beside those of `files`: the line, its source id and what is due.
fn lines() -> Vec<(String, &'static str, Due)> {
    let line = |image: &str, captions: &[&str]| json!({ "image": image, "captions": captions }).to_string();
    vec![
        (line("missing.jpg", &["a"]), "missing.jpg", LeftOut("missing file", "missing.jpg")),
        (line("../outside.jpg", &["a"]), "../outside.jpg", LeftOut("unsafe path", "../outside.jpg")),
        (
            line("sub/../../outside.jpg", &["a"]),
            "sub/../../outside.jpg",
            LeftOut("unsafe path", "outside.jpg"),
        ),
        (line("/etc/hostname", &["a"]), "/etc/hostname", LeftOut("unsafe path", "/etc/hostname")),
        (line("folder.jpg", &["a"]), "folder.jpg", LeftOut("unreadable file", "folder.jpg")),
        (line("", &["a"]), "", LeftOut("unreadable file", "")),
        (line("./good.jpg", &[]), "./good.jpg", LeftOut("no caption", "")),
        (line("sub/good.jpg", &["", "  "]), "sub/good.jpg", LeftOut("no caption", "")),
        (line("good.jpg", &["again"]), "good.jpg", LeftOut("duplicate id", "")),
        ("{\"image\": \"x.jpg\"".to_owned(), "", LeftOut("bad entry", "EOF")),
        ("{\"captions\": [\"a\"]}".to_owned(), "", LeftOut("bad entry", "image")),
        ("{\"image\": 7, \"captions\": []}".to_owned(), "", LeftOut("bad entry", "its image is no text: 7")),
        ("\u{feff}<html>".to_owned(), "", LeftOut("bad entry", "")),
    ]
}

/// Writes the source; the ids in the order of their lines.
fn write(dir: &Path) -> Vec<(String, Due)> {
    fs_err::create_dir_all(dir.join("source/sub")).unwrap();
    fs_err::create_dir(dir.join("source/folder.jpg")).unwrap();
    fs_err::write(dir.join("outside.jpg"), jpeg(1, 30, 30)).unwrap();
    fs_err::write(dir.join("source/sub/good.jpg"), jpeg(2, 30, 30)).unwrap();
    let mut due = Vec::new();
    let mut text = String::new();
    for (name, bytes, row) in files() {
        fs_err::write(dir.join("source").join(name), bytes).unwrap();
        text.push_str(&format!("{}\n", json!({ "image": name, "caption": format!("this is {name}") })));
        due.push((name.to_owned(), row));
    }
    for (line, id, row) in lines() {
        text.push_str(&format!("{line}\n"));
        let is_unnamed = matches!(row, LeftOut("bad entry", _));
        let id = if is_unnamed { format!("captions.jsonl:{}", due.len() + 1) } else { id.to_owned() };
        due.push((id, row));
    }
    fs_err::write(dir.join("source/captions.jsonl"), text).unwrap();
    due
}

fn pack(dir: &Path, out: &str, more: &[&str]) -> crate::Finished {
    let size = SIZE.to_string();
    let job = [
        "--dataset",
        "folder",
        "--from",
        "source",
        "--out",
        out,
        "--size",
        &size,
        "--shards",
        "2",
        "--val",
        "0",
    ];
    prep(&[&job, more].concat(), dir)
}

/// A converted picture: the source's rows and columns, and its planes.
type Pictures = BTreeMap<String, (u32, u32, Vec<u8>)>;

fn pictures(dataset: &Dataset) -> Pictures {
    let mut found = Pictures::new();
    for shard in dataset.open_split("train").unwrap() {
        for row in (0..shard.len()).map(|number| shard.row(number).unwrap()) {
            let json: serde_json::Value =
                serde_json::from_slice(shard.payload(&row, row.json).unwrap()).unwrap();
            let [height, width] =
                ["original_height", "original_width"].map(|name| json[name].as_u64().unwrap() as u32);
            let image = shard.payload(&row, row.image).unwrap()[npy::HEADER_BYTES..].to_vec();
            found.insert(row.source_id.to_owned(), (height, width, image));
        }
    }
    found
}

fn colour_at(planes: &[u8], y: usize, x: usize) -> [u8; 3] {
    [0, 1, 2].map(|c| planes[c * SIZE * SIZE + y * SIZE + x])
}

#[track_caller]
fn assert_close(found: [u8; 3], expected: [u8; 3], what: &str) {
    let is_close = found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 4);
    assert!(is_close, "{what}: {found:?}, expected {expected:?}");
}

fn check(due: &[(String, Due)], manifest: &Manifest, kept: &Pictures, summary: &str) {
    let split = &manifest.splits[0];
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, row) in due {
        let left_out: Vec<_> = split.left_out.iter().filter(|left| left.source_id == *id).collect();
        match row {
            Kept(height, width, colour) => {
                assert!(left_out.iter().all(|left| left.reason == "duplicate id"), "{id}: {left_out:?}");
                let (found_height, found_width, planes) = &kept[id];
                assert_eq!((found_height, found_width), (height, width), "{id}");
                if let Some(colour) = colour {
                    assert_close(colour_at(planes, SIZE / 2, SIZE / 2), *colour, id);
                }
            }
            LeftOut(reason, detail) => {
                *counts.entry(reason).or_default() += 1;
                assert_eq!(left_out.len(), 1, "{id}");
                assert_eq!(left_out[0].reason, *reason, "{id}: {left_out:?}");
                assert!(left_out[0].detail.contains(detail), "{id}: {left_out:?}");
                assert!(!left_out[0].detail.contains('\n'), "{id}: {left_out:?}");
                assert!(*reason == "duplicate id" || !kept.contains_key(id), "{id}");
            }
        }
    }
    for (reason, count) in counts {
        assert_eq!(split.left_out_counts[reason], count, "{reason}");
        let line = format!("left out: {count} {reason} (such as ");
        assert!(summary.contains(&line), "{line:?} is not in:\n{summary}");
    }
    let all: u64 = split.left_out_counts.values().sum();
    assert_eq!((all + split.samples, split.samples), (due.len() as u64, kept.len() as u64));
}

#[test]
fn each_is_converted_or_left_out_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let due = write(dir);
    let wrote = pack(dir, "out", &[]).expect(0);
    assert_eq!(wrote.err, "");
    let dataset = Dataset::open(dir.join("out")).unwrap();
    let kept = pictures(&dataset);
    check(&due, dataset.manifest(), &kept, &wrote.out);
    prep(&["verify", "out"], dir).expect(0);

    // Turned as EXIF says: 6 brings the top to the right, 3 to the bottom.
    let (red, blue) = ([200, 0, 0], [0, 0, 200]);
    let at = |name: &str, y, x| colour_at(&kept[name].2, y, x);
    assert_close(at("turned.jpg", 16, 2), blue, "left");
    assert_close(at("turned.jpg", 16, 29), red, "right");
    assert_close(at("upside-down.jpg", 2, 16), blue, "top");
    assert_close(at("upside-down.jpg", 29, 16), red, "bottom");
    let [good, thumbnail] = ["good.jpg", "thumbnail.jpg"].map(|name| &kept[name].2);
    assert!(good == thumbnail);
    for name in ["rubbish-after-the-end.jpg", "bytes-between-segments.jpg"] {
        assert!(*good == kept[name].2, "{name}");
    }
    // All inks or none: white or black by the writer's convention, but grey in any.
    let [red, green, blue] = colour_at(&kept["cmyk.jpg"].2, 16, 16);
    assert!(red.abs_diff(green) <= 2 && green.abs_diff(blue) <= 2, "{red} {green} {blue}");

    // Every reason again, in order and on one thread, and as JPEGs.
    let wrote = pack(dir, "jpegs", &["--store", "jpeg", "--threads", "1", "--order", "source"]).expect(0);
    let jpegs = Dataset::open(dir.join("jpegs")).unwrap();
    assert_eq!(jpegs.manifest().splits[0].left_out_counts, dataset.manifest().splits[0].left_out_counts);
    assert!(wrote.out.contains("left out: 4 bad entry"), "{}", wrote.out);
}

#[test]
fn the_crop_is_the_middle_of_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write(dir);
    pack(dir, "out", &[]).expect(0);
    let kept = pictures(&Dataset::open(dir.join("out")).unwrap());
    // really-a-png.jpg is 30×30 and smooth: its colours stay where they were.
    let (source, planes) = (pixels(3, 30, 30), &kept["really-a-png.jpg"].2);
    for (y, x) in [(4, 4), (4, 25), (15, 15), (25, 8)] {
        let there = 3 * (30 * y + x);
        let (to_y, to_x) = ((y * SIZE + SIZE / 2) / 30, (x * SIZE + SIZE / 2) / 30);
        let (found, expected) = (colour_at(planes, to_y, to_x), &source[there..there + 3]);
        assert!(
            found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 12),
            "{found:?} {expected:?} at {y},{x}"
        );
    }
}

#[test]
fn a_source_without_a_usable_sample_is_one_error_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs_err::create_dir(dir.join("source")).unwrap();
    fs_err::write(dir.join("source/page.jpg"), "<html>").unwrap();
    fs_err::write(
        dir.join("source/captions.jsonl"),
        "{\"image\": \"page.jpg\", \"caption\": \"a\"}\n{\"image\": \"none.jpg\", \"caption\": \"a\"}\nx\n",
    )
    .unwrap();
    let complaint = pack(dir, "out", &[]).complaint();
    for part in ["no usable sample in folder", "1 not an image", "1 missing file", "1 bad entry", "such as"] {
        assert!(complaint.contains(part), "{part:?} is not in {complaint}");
    }
    assert_eq!(testkit::files::snapshot(&dir.join("out")).unwrap().len(), 0);
}
