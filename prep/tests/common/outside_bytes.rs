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
    source::{Picture, Source, coco::Coco, folder::Folder, text_to_image_2m::TextToImage2M},
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
    load(Folder::open(dir));
}

/// The bytes as COCO's annotations.
pub fn coco_annotations(dir: &Path, bytes: &[u8]) {
    for folder in ["annotations", "train2017"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    std::fs::write(dir.join("annotations/captions_train2017.json"), bytes).unwrap();
    load(Coco::open(dir));
}

/// The bytes as a tar of samples.
pub fn webdataset_tar(dir: &Path, bytes: &[u8]) {
    std::fs::write(dir.join("data_000000.tar"), bytes).unwrap();
    load(TextToImage2M::open(dir));
}
