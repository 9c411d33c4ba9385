//! Sources as a user has them before prep: image files with captions, in the layouts that prep reads. Small and
//! seeded; every picture is its own, so that no two samples can be taken for one another. It leaves out pictures
//! that are broken: those are the tests' own.

use std::{
    io::{Cursor, Result},
    path::Path,
};

use serde_json::{Value, json};

/// RGB pixels of a smooth picture, rows first.
pub fn pixels(seed: u64, width: u32, height: u32) -> Vec<u8> {
    let hash = shard::place::hash128(seed, "picture").to_le_bytes();
    let mut pixels = Vec::with_capacity(3 * width as usize * height as usize);
    for y in 0..height {
        for x in 0..width {
            pixels.extend((0..3).map(|c| {
                let wave = |at: u32, of: u32, speed: u8| {
                    (f64::from(at) / f64::from(of) * f64::from(speed % 7 + 1) + f64::from(speed)).sin()
                };
                let (across, down) = (wave(x, width, hash[3 + c]), wave(y, height, hash[6 + c]));
                (f64::from(hash[c]) / 2.0 + 64.0 + 32.0 * (across + down)) as u8
            }));
        }
    }
    pixels
}

/// A JPEG file of [`pixels`].
#[expect(clippy::expect_used, reason = "the encoder refuses only sizes that no test asks for")]
pub fn jpeg(seed: u64, width: u16, height: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    jpeg_encoder::Encoder::new(&mut bytes, 92)
        .encode(&pixels(seed, width.into(), height.into()), width, height, jpeg_encoder::ColorType::Rgb)
        .expect("a picture of a size that JPEG holds");
    bytes
}

/// A PNG file of [`pixels`].
#[expect(clippy::expect_used, reason = "writing to memory does not fail")]
pub fn png(seed: u64, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::RgbImage::from_raw(width, height, pixels(seed, width, height))
        .expect("as many pixels as the size says")
        .write_to(&mut bytes, image::ImageFormat::Png)
        .expect("a picture of a size that PNG holds");
    bytes.into_inner()
}

/// The captions of picture `number`: one to three, with spaces around some and more than ASCII in others.
pub fn captions(number: usize) -> Vec<String> {
    let things = ["a red boat", "two grey cats", "a naïve painting ☂", "an old bridge"];
    let places = ["on the water", "in a room", "under trees", "at night", "by the sea"];
    let caption =
        |i: usize| format!("{} {} {}", things[(number + i) % 4], places[(number / 4 + i) % 5], number + i);
    (0..number % 3 + 1).map(caption).collect()
}

/// Sizes that are wide, tall and square in turn.
fn size(number: usize) -> (u16, u16) {
    [(64, 48), (40, 72), (56, 56), (97, 33)][number % 4]
}

/// `captions.jsonl` and `count` pictures below `images/`, every fifth a PNG.
///
/// # Errors
/// Where a file cannot be written.
pub fn folder(dir: &Path, count: usize) -> Result<()> {
    fs_err::create_dir_all(dir.join("images"))?;
    let mut lines = String::new();
    for number in 0..count {
        let (width, height) = size(number);
        let (name, bytes) = if number % 5 == 4 {
            (format!("images/picture {number:04}.png"), png(number as u64, width.into(), height.into()))
        } else {
            (format!("images/picture {number:04}.jpg"), jpeg(number as u64, width, height))
        };
        fs_err::write(dir.join(&name), bytes)?;
        lines.push_str(&json!({ "image": name, "captions": captions(number) }).to_string());
        lines.push('\n');
    }
    fs_err::write(dir.join("captions.jsonl"), lines)
}

/// MS-COCO 2017's official layout with so many pictures of each split.
///
/// # Errors
/// Where a file cannot be written.
pub fn coco(dir: &Path, train: usize, val: usize) -> Result<()> {
    fs_err::create_dir_all(dir.join("annotations"))?;
    for (split, numbers) in [("train", 0..train), ("val", train..train + val)] {
        let images_dir = dir.join(format!("{split}2017"));
        fs_err::create_dir_all(&images_dir)?;
        let (mut images, mut annotations) = (Vec::<Value>::new(), Vec::<Value>::new());
        for number in numbers {
            let (width, height) = size(number);
            let id = 9 + 7 * number;
            let file_name = format!("{id:012}.jpg");
            fs_err::write(images_dir.join(&file_name), jpeg(number as u64, width, height))?;
            images.push(json!({
                "id": id, "file_name": file_name, "width": width, "height": height, "license": 1,
                "coco_url": format!("http://images.cocodataset.org/{split}2017/{id:012}.jpg"),
            }));
            for caption in captions(number) {
                // Real ones have trailing spaces now and then.
                let caption = format!("{caption} ");
                annotations.push(json!({ "image_id": id, "id": annotations.len(), "caption": caption }));
            }
        }
        annotations.reverse(); // they come in no order of images
        let licenses =
            json!([{ "id": 1, "url": "http://creativecommons.org/licenses/by/2.0/", "name": "Attribution" }]);
        let all = json!({ "info": {}, "licenses": licenses, "images": images, "annotations": annotations });
        fs_err::write(dir.join(format!("annotations/captions_{split}2017.json")), all.to_string())?;
    }
    Ok(())
}

/// text-to-image-2M's layout: `tars` tars of `per_tar` pictures, the caption in `prompt`.
///
/// # Errors
/// Where a file cannot be written.
pub fn text_to_image_2m(dir: &Path, tars: usize, per_tar: usize) -> Result<()> {
    let dir = dir.join("data_512_2M");
    fs_err::create_dir_all(&dir)?;
    for tar in 0..tars {
        let mut builder = tar::Builder::new(Vec::new());
        for number in tar * per_tar..(tar + 1) * per_tar {
            let (width, height) = size(number);
            let json = json!({ "prompt": captions(number)[0] }).to_string().into_bytes();
            for (extension, bytes) in [("jpg", jpeg(number as u64, width, height)), ("json", json)] {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                builder.append_data(&mut header, format!("{number:08}.{extension}"), bytes.as_slice())?;
            }
        }
        fs_err::write(dir.join(format!("data_{tar:06}.tar")), builder.into_inner()?)?;
    }
    Ok(())
}
