//! Everything that prep does with bytes from outside, done to them: whatever they are, no panic and no memory in
//! proportion to what they claim. Property tests and the fuzz targets in `fuzz/` call the same functions.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "each user takes its own part; a test may unwrap"
)]

use std::path::Path;

use prep::{
    pixels::{PixelSettings, Preparer, decode},
    source::{
        Picture, Source,
        coco::Coco,
        columns::Names,
        list::{List, ListFormat, ListOptions},
        parquet::Parquet,
        webdataset::{NamedTar, TarOptions, WebDataset},
    },
};

/// Most pixels that a picture may declare here: 3 MB of RGB.
pub const PIXELS_MAX: u64 = 1 << 20;

/// The bytes as an image file.
pub fn picture(bytes: &[u8]) {
    let Ok(rgb) = decode(bytes, PIXELS_MAX) else { return };
    assert_eq!(rgb.pixels.len() as u64, 3 * u64::from(rgb.height) * u64::from(rgb.width));
    assert!(u64::from(rgb.height) * u64::from(rgb.width) <= PIXELS_MAX);
    let mut settings = PixelSettings::of(shard::ImageSettings::tensor(32));
    settings.pixels_max = PIXELS_MAX;
    let mut payload = Vec::new();
    let _ = Preparer::new(&settings).prepare(&Picture::Encoded(bytes.to_vec()), &mut payload);
}

/// What a source lists is loaded.
fn load(source: prep::Result<impl Source>) {
    let Ok(source) = source else { return };
    for (listing, samples) in source.listings().iter().enumerate() {
        for row in 0..samples.ids.len().min(64) {
            let _ = source.load(listing, row, 16);
        }
    }
}

/// The bytes as the `captions.jsonl` of a folder.
pub fn captions_jsonl(dir: &Path, bytes: &[u8]) {
    std::fs::write(dir.join("captions.jsonl"), bytes).unwrap();
    load(List::folder(dir, Names::default()));
}

/// The bytes as COCO's annotations.
pub fn coco_annotations(dir: &Path, bytes: &[u8]) {
    for folder in ["annotations", "train2017"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    std::fs::write(dir.join("annotations/captions_train2017.json"), bytes).unwrap();
    load(Coco::open(dir, None));
}

/// The bytes as a tar of samples.
pub fn webdataset_tar(dir: &Path, bytes: &[u8]) {
    let path = dir.join("data_000000.tar");
    std::fs::write(&path, bytes).unwrap();
    let options = TarOptions { dataset: "webdataset".to_owned(), license: None, columns: Names::default() };
    load(WebDataset::open(options, [Ok(NamedTar { path, name: "data_000000".to_owned() })], None));
}

/// The bytes as a list in CSV.
pub fn list_csv(dir: &Path, bytes: &[u8]) {
    let list = dir.join("list.csv");
    std::fs::write(&list, bytes).unwrap();
    let (images, columns) = (dir.to_path_buf(), Names::default());
    load(List::open(ListOptions { dataset: "csv", list, images, format: ListFormat::Csv, columns }));
}

/// The bytes as a parquet file.
pub fn parquet_file(dir: &Path, bytes: &[u8]) {
    let path = dir.join("rows.parquet");
    std::fs::write(&path, bytes).unwrap();
    let _ = Parquet::identity(&path);
    load(Parquet::open(&path, "rows", &Names::default()));
}

/// The bytes as the zip of COCO's captions.
pub fn coco_zip(dir: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(dir.join("train2017")).unwrap();
    std::fs::write(dir.join("annotations_trainval2017.zip"), bytes).unwrap();
    load(Coco::open(dir, None));
}
