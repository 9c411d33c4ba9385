//! Bytes from outside, arbitrary and sound ones changed: a picture or a reason, samples or an error, no panic, no huge
//! allocation. The functions are those of the fuzz targets; what a fuzzer found stands here by name.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test may unwrap, and its panic names the place"
)]

#[path = "../../shard/tests/common/largest.rs"]
mod largest;
#[path = "common/outside_bytes.rs"]
mod outside_bytes;

use std::io::Cursor;

use largest::mutate;
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: largest::Watched = largest::Watched;

/// Sixteen bytes a pixel of the largest picture, which some decoders take, and as much again.
const ALLOCATION_MAX: usize = 32 * outside_bytes::PIXELS_MAX as usize;

/// The TIFF decoder takes what the values of a tag claim, up to 256 MiB of its own limit, before a tighter one can be
/// set; a fuzzed header found it.
const TIFF_ALLOCATION_MAX: usize = 300 << 20;

/// A small picture in each format that is decoded.
fn pictures() -> Vec<(image::ImageFormat, Vec<u8>)> {
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let rgb = image::RgbImage::from_raw(24, 17, testkit::source::pixels(5, 24, 17)).unwrap();
    [Bmp, Gif, Jpeg, Png, Tiff, WebP]
        .map(|format| {
            let mut bytes = Cursor::new(Vec::new());
            if format == Jpeg {
                return (format, testkit::source::jpeg(5, 24, 17));
            }
            image::DynamicImage::ImageRgb8(rgb.clone()).write_to(&mut bytes, format).unwrap();
            (format, bytes.into_inner())
        })
        .into()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..900), format in 0usize..6) {
        outside_bytes::picture(&bytes);
        // Behind the first bytes of a format, so that its decoder is the one that is asked.
        let (_, sound) = &pictures()[format];
        outside_bytes::picture(&[&sound[..12.min(sound.len())], &bytes].concat());
        let dir = tempfile::tempdir().unwrap();
        outside_bytes::captions_jsonl(dir.path(), &bytes);
        outside_bytes::coco_annotations(dir.path(), &bytes);
        outside_bytes::webdataset_tar(dir.path(), &bytes);
        outside_bytes::list_csv(dir.path(), &bytes);
        outside_bytes::parquet_file(dir.path(), &bytes);
        outside_bytes::coco_zip(into_empty(dir.path()), &bytes);
    }
}

#[test]
fn changed_pictures_are_no_panic() {
    for (format, sound) in pictures() {
        assert!(prep::pixels::decode(&sound, outside_bytes::PIXELS_MAX).is_ok(), "{format:?}");
        let most = if format == image::ImageFormat::Tiff { TIFF_ALLOCATION_MAX } else { ALLOCATION_MAX };
        mutate(&sound, 1_000, most, outside_bytes::picture);
    }
}

#[test]
fn changed_sources_are_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| fs_err::read(dir.path().join(name)).unwrap();
    testkit::source::folder(&dir.path().join("folder"), 3).unwrap();
    let sound = read("folder/captions.jsonl");
    mutate(&sound, 300, ALLOCATION_MAX, |bytes| {
        outside_bytes::captions_jsonl(&dir.path().join("folder"), bytes)
    });
    testkit::source::text_to_image_2m(&dir.path().join("tars"), 1, 3).unwrap();
    let sound = read("tars/data_512_2M/data_000000.tar");
    let into = tempfile::tempdir().unwrap();
    mutate(&sound, 300, ALLOCATION_MAX, |bytes| outside_bytes::webdataset_tar(into.path(), bytes));
    let coco = serde_json::json!({
        "images": [{ "id": 9, "file_name": "9.jpg", "height": 4, "width": 5, "coco_url": "u", "license": 1 }],
        "annotations": [{ "id": 1, "image_id": 9, "caption": "a caption" }],
        "licenses": [{ "id": 1, "name": "none", "url": "u" }],
    });
    mutate(coco.to_string().as_bytes(), 300, ALLOCATION_MAX, |bytes| {
        outside_bytes::coco_annotations(into.path(), bytes)
    });
    mutate(b"image,caption\na.jpg,\"one, two\"\na.jpg,three\n", 300, ALLOCATION_MAX, |bytes| {
        outside_bytes::list_csv(into.path(), bytes)
    });
    let zip = zipped("annotations/captions_train2017.json", coco.to_string().as_bytes());
    let empty = tempfile::tempdir().unwrap();
    mutate(&zip, 300, ALLOCATION_MAX, |bytes| outside_bytes::coco_zip(empty.path(), bytes));
}

#[test]
fn changed_parquet_files_are_no_panic() {
    let into = tempfile::tempdir().unwrap();
    let sound = parquet();
    outside_bytes::parquet_file(into.path(), &sound);
    mutate(&sound, 1_000, ALLOCATION_MAX, |bytes| outside_bytes::parquet_file(into.path(), bytes));
}

/// A zip with one deflated entry.
fn zipped(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    std::io::Write::write_all(&mut writer, bytes).unwrap();
    writer.finish().unwrap().into_inner()
}

/// Five rows of a picture and a caption, compressed, in two row groups.
fn parquet() -> Vec<u8> {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
    let images: ArrayRef =
        Arc::new(BinaryArray::from_iter_values((0..5).map(|row| testkit::source::jpeg(row, 20, 20))));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..5).map(|row| format!("picture {row}"))));
    let batch = RecordBatch::try_from_iter([("image", images), ("text", texts)]).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(3))
        .set_compression(parquet::basic::Compression::SNAPPY)
        .build();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// A folder in `dir` with nothing of COCO's in it.
fn into_empty(dir: &std::path::Path) -> &std::path::Path {
    let _ = fs_err::remove_dir_all(dir.join("annotations"));
    dir
}
