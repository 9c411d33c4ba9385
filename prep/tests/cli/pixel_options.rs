//! Options that decide what a picture becomes: they do what they say, and the manifest says so.

use std::path::Path;

use shard::{Dataset, Layout, npy};

use crate::prep;

const SIZE: usize = 32;

/// Packs one wide and one tall picture with `more`; the pixels of each, and the data set.
fn packed(dir: &Path, out: &str, more: &[&str]) -> (Vec<Vec<u8>>, Dataset) {
    let job = ["--dataset", "folder", "--from", "source", "--out", out, "--size", "32", "--shards", "1"];
    prep(&[&job[..], &["--val", "0", "--order", "source"], more].concat(), dir).expect(0);
    prep(&["verify", out], dir).expect(0);
    let dataset = Dataset::open(dir.join(out)).unwrap();
    let shards = dataset.open_split("train").unwrap();
    let pixels = (0..shards[0].len()).map(|number| {
        let row = shards[0].row(number).unwrap();
        shards[0].payload(&row, row.image).unwrap()[npy::HEADER_BYTES..].to_vec()
    });
    (pixels.collect(), dataset)
}

/// White pictures: 64×16, 16×64, 48×48.
fn source() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("source");
    fs_err::create_dir(&dir).unwrap();
    let mut lines = String::new();
    for (number, (width, height)) in [(64, 16), (16, 64), (48, 48)].into_iter().enumerate() {
        let mut bytes = Vec::new();
        let white = vec![255; 3 * usize::from(width) * usize::from(height)];
        let encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
        encoder.encode(&white, width, height, jpeg_encoder::ColorType::Rgb).unwrap();
        fs_err::write(dir.join(format!("{number}.jpg")), bytes).unwrap();
        lines.push_str(&format!("{{\"image\": \"{number}.jpg\", \"caption\": \"picture {number}\"}}\n"));
    }
    fs_err::write(dir.join("captions.jsonl"), lines).unwrap();
    folder
}

/// Rows, from the top, in which red is white from end to end, or black.
fn rows(planes: &[u8], value: u8) -> Vec<usize> {
    let rows = planes[..SIZE * SIZE].chunks(SIZE).enumerate();
    rows.filter(|(_, row)| row.iter().all(|byte| byte.abs_diff(value) <= 1)).map(|(y, _)| y).collect()
}

#[test]
fn resize_modes_are_followed_and_recorded() {
    let folder = source();
    let dir = folder.path();
    let all: Vec<usize> = (0..SIZE).collect();
    for (mode, out) in [("center-crop", "crop"), ("squash", "squash")] {
        let (pixels, dataset) = packed(dir, out, &["--resize", mode]);
        assert_eq!(dataset.manifest().image.resize, mode);
        assert!(pixels.iter().all(|planes| rows(planes, 255) == all), "{mode}");
    }
    let (default, dataset) = packed(dir, "default", &[]);
    assert_eq!(dataset.manifest().image.resize, "center-crop");
    assert!(default.iter().all(|planes| rows(planes, 255) == all));

    let (pixels, dataset) = packed(dir, "pad", &["--resize", "pad"]);
    assert_eq!(dataset.manifest().image.resize, "pad");
    // 64×16 becomes 32×8 in the middle; 16×64 becomes 8 columns, so that no row is white.
    assert_eq!(rows(&pixels[0], 255), (12..20).collect::<Vec<_>>());
    assert_eq!(rows(&pixels[0], 0), (0..12).chain(20..32).collect::<Vec<_>>());
    assert_eq!((rows(&pixels[1], 255), rows(&pixels[1], 0)), (Vec::new(), Vec::new()));
    assert_eq!(rows(&pixels[2], 255), all);
}

#[test]
fn the_shortest_side_leaves_pictures_their_proportions() {
    let folder = source();
    let dir = folder.path();
    for store in [&["--layout", "chw"][..], &["--layout", "hwc"], &["--store", "jpeg"]] {
        let out = store[1];
        let (_, dataset) = packed(dir, out, &[&["--resize", "shortest-side"], store].concat());
        let manifest = dataset.manifest();
        assert_eq!((manifest.image.resize.as_str(), manifest.format.minor), ("shortest-side", 1));
        let shards = dataset.open_split("train").unwrap();
        let sides: Vec<_> = (0..3).map(|number| shards[0].row(number).unwrap()).collect();
        let sides: Vec<_> = sides.iter().map(|row| (row.height, row.width)).collect();
        assert_eq!(sides, [(32, 128), (128, 32), (32, 32)], "{out}");
        let again =
            ["--dataset", "folder", "--from", "source", "--out", out, "--size", "32", "--shards", "1"];
        let more = ["--val", "0", "--order", "source", "--resize", "shortest-side"];
        let again = prep(&[&again[..], &more, store].concat(), dir).expect(0);
        assert!(again.out.contains("with a shortest side of 32"), "{}", again.out);
        prep(&["inspect", out, "--grid", "grid.png", "--html", "page.html", "--near"], dir).expect(0);
    }
    // A picture so long that the format cannot hold it is left out by name.
    let mut bytes = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
    encoder.encode(&vec![255; 3 * 8192], 8192, 1, jpeg_encoder::ColorType::Rgb).unwrap();
    fs_err::write(dir.join("source/1.jpg"), bytes).unwrap();
    let (pixels, dataset) = packed(dir, "long", &["--resize", "shortest-side"]);
    let left_out = &dataset.manifest().splits[0].left_out;
    assert_eq!((pixels.len(), left_out[0].reason.as_str()), (2, "too large"));
    assert!(left_out[0].detail.contains("becomes 262144x32"), "{left_out:?}");
}

#[test]
fn stored_jpegs_have_the_chroma_that_was_asked_for() {
    let folder = source();
    for (more, luma, text) in [
        (&[][..], 0x22, "4:2:0"),
        (&["--subsampling", "4:2:0", "--quality", "95"], 0x22, "4:2:0"),
        (&["--subsampling", "4:4:4", "--quality", "50"], 0x11, "4:4:4"),
    ] {
        let out = format!("jpeg-{luma}-{}", more.len());
        let (_, dataset) = packed(folder.path(), &out, &[&["--store", "jpeg"], more].concat());
        let shards = dataset.open_split("train").unwrap();
        let row = shards[0].row(0).unwrap();
        let jpeg = shards[0].payload(&row, row.image).unwrap();
        // A frame has precision, height, width, the number of components, and of each its id and sampling factors.
        let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap() + 4;
        assert_eq!((jpeg[frame + 5], jpeg[frame + 7], jpeg[frame + 10]), (3, luma, 0x11), "{more:?}");
        let manifest = fs_err::read_to_string(folder.path().join(&out).join("dataset.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest["image"]["subsampling"], text);
    }
}

#[test]
fn layouts_hold_the_same_pixels() {
    let folder = source();
    let dir = folder.path();
    let (planes, chw) = packed(dir, "chw", &["--resize", "pad", "--layout", "chw"]);
    let (pixels, hwc) = packed(dir, "hwc", &["--resize", "pad", "--layout", "hwc"]);
    assert_eq!((chw.manifest().image.layout, hwc.manifest().image.layout), (Layout::Chw, Layout::Hwc));
    assert_ne!(planes, pixels);
    for (planes, pixels) in planes.iter().zip(&pixels) {
        for (at, pixel) in pixels.chunks(3).enumerate() {
            assert_eq!(pixel, [0, 1, 2].map(|channel| planes[channel * SIZE * SIZE + at]));
        }
    }
    prep(&["inspect", "hwc", "--grid", "grid.png"], dir).expect(0);
}

#[test]
fn pictures_above_the_limit_are_left_out() {
    let folder = source();
    let (pixels, dataset) = packed(folder.path(), "out", &["--max-pixels", "1024"]);
    let split = &dataset.manifest().splits[0];
    assert_eq!((pixels.len(), split.left_out_counts["too large"]), (2, 1));
    assert!(
        split.left_out[0].detail.contains("48x48 pixels, above the limit of 1024"),
        "{:?}",
        split.left_out
    );
}

#[test]
fn the_engine_is_recorded() {
    let folder = source();
    let (_, dataset) = packed(folder.path(), "out", &["--engine", "rust"]);
    assert!(dataset.manifest().engine.starts_with("rust-2: "), "{}", dataset.manifest().engine);
}
