//! Labelled pictures as files: a folder with one folder a class, as ImageNet's validation set is kept.
//!
//! A picture becomes model input as CLIP's own evaluation makes it: the shorter side resized to the model's
//! size (bicubic, averaged where it shrinks), the middle cut out, normalised. [`decode`] looks at neither EXIF
//! orientation nor alpha, as torchvision's ImageFolder; [`decode_upright`] sees what `prep` would store. Leaves out
//! formats other than JPEG and PNG, and labels that are not folders.

use crate::error::{Error, Result};
use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Rgb, RgbImage};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Endings of the files that are read, in lower case.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// The pictures of a folder and their classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFolder {
    /// The folder.
    pub root: PathBuf,
    /// The names of its class folders, sorted by their bytes.
    pub directories: Vec<String>,
    /// The pictures, sorted by class and path.
    pub files: Vec<PathBuf>,
    /// The number of each picture's class folder.
    pub labels: Vec<usize>,
    /// Files that are neither JPEG nor PNG by their ending, and were left out.
    pub others: usize,
}

impl ImageFolder {
    /// Lists the pictures below each folder in `root`, and reads none.
    ///
    /// # Errors
    /// [`Error::Data`] when there is no class folder or no picture; [`Error::Io`].
    pub fn open(root: &Path) -> Result<Self> {
        let io = || Error::io("list the pictures");
        let mut directories = Vec::new();
        for entry in fs_err::read_dir(root).map_err(io())? {
            let path = entry.map_err(io())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') {
                directories.push(name);
            }
        }
        directories.sort();
        let mut folder =
            Self { root: root.to_path_buf(), directories, files: vec![], labels: vec![], others: 0 };
        for label in 0..folder.directories.len() {
            let mut files = Vec::new();
            folder.others += list(&root.join(&folder.directories[label]), &mut Vec::new(), &mut files)?;
            files.sort();
            folder.labels.extend(files.iter().map(|_| label));
            folder.files.extend(files);
        }
        if folder.files.is_empty() {
            let reason = "it has no folder with JPEG or PNG files in it; one folder a class is wanted".into();
            return Err(Error::Data { data: root.to_path_buf(), reason });
        }
        Ok(folder)
    }
}

/// The pictures below a folder, at any depth, sorted.
///
/// # Errors
/// [`Error::Io`].
pub fn pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    list(folder, &mut Vec::new(), &mut files)?;
    files.sort();
    Ok(files)
}

/// Adds the pictures below `folder`, at any depth; the number of other files. A link back to one of the folders
/// `above` is not followed.
fn list(folder: &Path, above: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> Result<usize> {
    let io = || Error::io("list the pictures");
    let real = fs_err::canonicalize(folder).map_err(io())?;
    if above.contains(&real) {
        return Ok(0);
    }
    above.push(real);
    let mut others = 0;
    for entry in fs_err::read_dir(folder).map_err(io())? {
        let path = entry.map_err(io())?.path();
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if path.is_dir() {
            others += list(&path, above, files)?;
        } else if ENDINGS.contains(&ending.as_str()) {
            files.push(path);
        } else {
            others += 1;
        }
    }
    above.pop();
    Ok(others)
}

/// The picture of a file, whichever of the formats its bytes say it has.
///
/// # Errors
/// [`Error::DamagedFile`] naming the file, [`Error::Data`] for another format; [`Error::Io`].
pub fn decode(path: &Path) -> Result<RgbImage> {
    let bytes = fs_err::read(path).map_err(Error::io("read a picture"))?;
    Ok(decoded(path, &bytes)?.0.to_rgb8())
}

/// The picture of a file as people and `prep` see it: turned as its EXIF data say, on white where it is transparent.
///
/// # Errors
/// [`Error::DamagedFile`] naming the file, also where a decoder would fill what is missing; [`Error::Data`] for another
/// format; [`Error::Io`].
pub fn decode_upright(path: &Path) -> Result<RgbImage> {
    let bytes = fs_err::read(path).map_err(Error::io("read a picture"))?;
    let damaged = |reason: String| Error::DamagedFile { path: path.to_path_buf(), reason };
    if bytes.starts_with(b"\xff\xd8") {
        check_jpeg(&bytes).map_err(damaged)?;
    }
    let (picture, orientation) = decoded(path, &bytes)?;
    let mut picture = DynamicImage::ImageRgb8(on_white(picture));
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

/// The picture of `path` and how it is to be turned.
fn decoded(path: &Path, bytes: &[u8]) -> Result<(DynamicImage, Orientation)> {
    let damaged =
        |error: image::ImageError| Error::DamagedFile { path: path.to_path_buf(), reason: error.to_string() };
    let format = image::guess_format(bytes).ok();
    // Whether more formats can be decoded depends on what else is in the program.
    let Some(format @ (ImageFormat::Jpeg | ImageFormat::Png)) = format else {
        let found = format.map_or("no picture that is known here".to_owned(), |format| format!("{format:?}"));
        let reason = format!("it is {found}; JPEG and PNG are read");
        return Err(Error::Data { data: path.to_path_buf(), reason });
    };
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(damaged)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder).map_err(damaged)?, orientation))
}

/// Why not all of a JPEG is there. Baseline ones are decoded, by a decoder that makes nothing up; of others the mark at
/// their end must stand behind their last scan.
fn check_jpeg(bytes: &[u8]) -> Result<(), String> {
    let mut decoder = jpeg::Decoder::default();
    if let Ok(picture) = decoder.open(bytes) {
        let area = picture.width().saturating_mul(picture.height());
        // A code of one bit at least stands for each block of 64 pixels.
        if area / 64 / 8 > bytes.len() {
            return Err(format!("{} bytes cannot hold the {area} pixels that it declares", bytes.len()));
        }
        match picture.planar(&mut vec![0; 3 * area]) {
            Ok(()) => return Ok(()),
            Err(jpeg::Refusal::Broken(jpeg::Broken(reason))) => return Err(reason.to_owned()),
            Err(jpeg::Refusal::Unusual) => {}
        }
    }
    let last = |mark: [u8; 2]| bytes.windows(2).rposition(|pair| pair == mark);
    match (last([0xff, 0xda]), last([0xff, 0xd9])) {
        (Some(scan), Some(end)) if scan < end => Ok(()),
        _ => Err("it ends early, without an end-of-image mark".to_owned()),
    }
}

/// Transparent pictures on white, as on a page: what stands under their alpha is often garbage.
fn on_white(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let picture = picture.into_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0.map(u32::from);
        Rgb([red, green, blue].map(|channel| ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8))
    })
}

/// The middle of a picture as model input: 3 × size × size values, normalised.
pub fn pixel_values(picture: &RgbImage, size: usize, (mean, std): ([f32; 3], [f32; 3])) -> Vec<f32> {
    let middle = middle(picture, size);
    let area = size * size;
    let mut values = vec![0f32; 3 * area];
    for (place, pixel) in middle.pixels().enumerate() {
        for channel in 0..3 {
            let value = f32::from(pixel.0[channel]) / 255.0;
            values[channel * area + place] = (value - mean[channel]) / std[channel];
        }
    }
    values
}

/// The longer side of a picture over its shorter one that is resized whole.
const PROPORTION_MAX: usize = 8;

/// The middle square of a picture whose shorter side is brought to `size`, which the configuration bounds.
fn middle(picture: &RgbImage, size: usize) -> RgbImage {
    let (width, height) = (picture.width().max(1) as usize, picture.height().max(1) as usize);
    let short = width.min(height);
    // Of a strip the ends are cut off first: a resized one could be any size.
    let [left, top] = [width, height].map(|side| side.saturating_sub(PROPORTION_MAX * short) / 2);
    if left + top > 0 {
        let cut = |side: usize| side.min(PROPORTION_MAX * short) as u32;
        let strip = imageops::crop_imm(picture, left as u32, top as u32, cut(width), cut(height)).to_image();
        return middle(&strip, size);
    }
    // The longer side is cut to a whole number, as torchvision's Resize does.
    let scaled = |side: usize| (if side == short { size } else { size * side / short }) as u32;
    let (width, height) = (scaled(width), scaled(height));
    let resized = imageops::resize(picture, width, height, FilterType::CatmullRom);
    let start = |side: u32| ((f64::from(side) - size as f64) / 2.0).round_ties_even() as u32;
    imageops::crop_imm(&resized, start(width), start(height), size as u32, size as u32).to_image()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    /// Red grows to the right, green downwards.
    fn ramp(width: u32, height: u32) -> RgbImage {
        let part = |at: u32, of: u32| (at * 255 / of.max(1)) as u8;
        RgbImage::from_fn(width, height, |x, y| Rgb([part(x, width), part(y, height), 7]))
    }

    #[test]
    fn the_middle_is_cut_as_torchvision_cuts_it() {
        // 2 × 1 in proportion: columns 16 to 47 of 64 are left.
        let cut = middle(&ramp(128, 64), 32);
        assert_eq!(cut.dimensions(), (32, 32));
        let (left, right) = (cut.get_pixel(0, 0).0[0], cut.get_pixel(31, 0).0[0]);
        assert!(left.abs_diff(64) <= 3 && right.abs_diff(190) <= 3, "{left} {right}");
        // Neither enlarging nor extreme proportions fail.
        for (width, height) in [(1, 1), (3, 500), (500, 1), (31, 33), (1, 400_000), (300_001, 2)] {
            assert_eq!(middle(&ramp(width, height), 32).dimensions(), (32, 32));
        }
    }

    #[test]
    fn values_are_planar_and_normalised() {
        let picture = RgbImage::from_pixel(5, 9, Rgb([255, 0, 51]));
        let values = pixel_values(&picture, 4, ([0.5, 0.5, 0.0], [0.5, 0.25, 0.1]));
        for (channel, expected) in [1.0, -2.0, 2.0].into_iter().enumerate() {
            assert!(values[channel * 16..][..16].iter().all(|v| (v - expected).abs() < 1e-6));
        }
    }

    #[test]
    fn classes_are_folders_and_files_are_told_by_their_ending_and_bytes() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        assert!(ImageFolder::open(root.path()).unwrap_err().to_string().contains("one folder a class"));
        for folder in ["b/deep", "a", ".hidden"] {
            fs_err::create_dir_all(at(folder)).unwrap();
        }
        for name in ["b/deep/2.png", "b/1.JPEG", "a/z.jpg", "a/notes.txt", ".hidden/x.png", "stray.png"] {
            // Whatever the name says, these bytes are a PNG.
            ramp(4, 4).save_with_format(at(name), image::ImageFormat::Png).unwrap();
        }
        let folder = ImageFolder::open(root.path()).unwrap();
        assert_eq!(folder.directories, ["a", "b"]);
        assert_eq!(folder.files, [at("a/z.jpg"), at("b/1.JPEG"), at("b/deep/2.png")]);
        assert_eq!((folder.labels, folder.others), (vec![0, 1, 1], 1));
        assert_eq!(decode(&folder.files[1]).unwrap(), ramp(4, 4));
        fs_err::write(at("a/z.jpg"), b"\xff\xd8\xff and no more").unwrap();
        assert!(decode(&at("a/z.jpg")).unwrap_err().to_string().contains("z.jpg is damaged"));
    }

    #[test]
    fn pictures_are_seen_as_people_see_them() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let clear =
            image::RgbaImage::from_fn(2, 1, |x, _| image::Rgba([0, 90, 0, if x == 0 { 0 } else { 255 }]));
        clear.save(at("clear.png")).unwrap();
        let seen = decode_upright(&at("clear.png")).unwrap();
        assert_eq!((seen.get_pixel(0, 0).0, seen.get_pixel(1, 0).0), ([255; 3], [0, 90, 0]));

        ramp(48, 32).save(at("plain.jpg")).unwrap();
        let jpeg = fs_err::read(at("plain.jpg")).unwrap();
        // Exif, big-endian, one entry: orientation (0x112, a short) is 6, a quarter to the right.
        let exif =
            b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        fs_err::write(at("turned.jpg"), [&jpeg[..2], exif, &jpeg[2..]].concat()).unwrap();
        let (plain, turned) = (decode(&at("plain.jpg")).unwrap(), decode_upright(&at("turned.jpg")).unwrap());
        assert_eq!(turned, imageops::rotate90(&plain));
        assert_eq!(decode(&at("turned.jpg")).unwrap(), plain, "as torchvision reads it");

        fs_err::write(at("cut.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
        let error = decode_upright(&at("cut.jpg")).unwrap_err().to_string();
        assert!(error.contains("cut.jpg is damaged"), "{error}");
        fs_err::write(at("other.jpg"), b"no picture").unwrap();
        let error = decode_upright(&at("other.jpg")).unwrap_err().to_string();
        assert!(error.contains("JPEG and PNG are read"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        ramp(4, 4).save(root.path().join("one.png")).unwrap();
        for name in ["first", "second"] {
            fs_err::os::unix::fs::symlink(root.path(), root.path().join(name)).unwrap();
        }
        assert_eq!(pictures(root.path()).unwrap(), [root.path().join("one.png")]);
    }
}
