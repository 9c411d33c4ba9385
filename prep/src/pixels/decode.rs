//! Image files → RGB. JPEG by zune-jpeg; png, webp, gif, bmp and tiff by the crate `image`. Declared dimensions are
//! bounded before memory is taken, and a panic inside of a decoder costs one sample, not the run. It leaves out
//! resizing.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, metadata::Orientation};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

use crate::{
    contain,
    source::{Reason, Rejection},
};

/// Most pixels that a picture may declare where the user does not say: 150 MB of RGB.
pub const PIXELS_MAX: u64 = 50_000_000;

/// Longest side that a picture may declare.
const SIDE_MAX: u32 = 65_535;

/// RGB pixels, rows first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// `3·height·width` bytes.
    pub pixels: Vec<u8>,
}

/// Decodes an image file of any supported format.
///
/// # Errors
/// `NotAnImage`, `TooLarge`, `BrokenImage`, with the decoder's words.
pub fn decode(bytes: &[u8], pixels_max: u64) -> Result<Rgb, Rejection> {
    let is_jpeg = bytes.starts_with(b"\xff\xd8\xff");
    let decoded =
        contain::panics(|| if is_jpeg { jpeg(bytes, pixels_max) } else { other(bytes, pixels_max) });
    decoded.unwrap_or_else(|panic| {
        Err(Rejection::new(Reason::BrokenImage, format!("the decoder panicked: {panic}")))
    })
}

pub(super) fn check_dimensions(width: u64, height: u64, pixels_max: u64) -> Result<(), Rejection> {
    if width == 0 || height == 0 {
        return Err(Rejection::new(Reason::BrokenImage, format!("it declares {width}x{height} pixels")));
    }
    let side = u64::from(SIDE_MAX);
    if width > side || height > side || width * height > pixels_max {
        let detail = format!("it declares {width}x{height} pixels, above the limit of {pixels_max}");
        return Err(Rejection::new(Reason::TooLarge, detail));
    }
    Ok(())
}

/// Headers are read leniently, for stray bytes between segments are harmless and met in real photos; pixels strictly,
/// because zune-jpeg otherwise fills with grey what damaged data do not give.
fn jpeg(bytes: &[u8], pixels_max: u64) -> Result<Rgb, Rejection> {
    let broken = |error: &dyn std::fmt::Display| Rejection::new(Reason::BrokenImage, error.to_string());
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(SIDE_MAX as usize)
        .set_max_height(SIDE_MAX as usize);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| broken(&error))?;
    decoder.set_options(options.set_strict_mode(true));
    let info = decoder.info().ok_or_else(|| broken(&"no frame header"))?;
    check_dimensions(info.width.into(), info.height.into(), pixels_max)?;
    if !has_end(bytes) {
        return Err(broken(&format!(
            "the file ends early, after {} bytes, without an end-of-image mark",
            bytes.len()
        )));
    }
    // Each block of 8×8 pixels takes a Huffman code of one bit at least; zune-jpeg makes up those that are not there.
    let (width, height) = (u64::from(info.width), u64::from(info.height));
    let least = width.div_ceil(8) * height.div_ceil(8) / 8;
    if (bytes.len() as u64) < least {
        let detail =
            format!("{} bytes cannot hold the {width}x{height} pixels that it declares", bytes.len());
        return Err(broken(&detail));
    }
    let mut pixels = decoder.decode().map_err(|error| broken(&error))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    if decoder.output_colorspace() == Some(ColorSpace::Luma) {
        pixels = pixels.iter().flat_map(|&grey| [grey; 3]).collect();
    }
    let rgb = image::RgbImage::from_raw(width, height, pixels);
    let rgb = rgb.ok_or_else(|| broken(&"the decoder gave too few pixels"))?;
    let orientation = decoder.exif().and_then(|chunk| Orientation::from_exif_chunk(chunk));
    Ok(turned(DynamicImage::ImageRgb8(rgb), orientation))
}

/// Whether the picture's own end-of-image mark is there: zune-jpeg fills what a cut file lacks with grey. Segments are
/// stepped over, because a thumbnail inside of one has an end of its own; in entropy-coded data 0xff is always
/// followed by a stuffed zero or a restart mark, so that the mark cannot be data.
fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2; // past the start-of-image mark
    while let Some(rest) = bytes.get(at..) {
        let is_mark = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0x01 | 0xff | 0xd0..=0xd8);
        let Some(mark) = rest.windows(2).position(is_mark) else { return false };
        match rest[mark + 1..] {
            [0xd9, ..] => return true,
            [_, high, low, ..] => at += mark + 2 + usize::from(u16::from_be_bytes([high, low])),
            _ => return false,
        }
    }
    false
}

fn other(bytes: &[u8], pixels_max: u64) -> Result<Rgb, Rejection> {
    let reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| refused(&error.into()))?;
    if reader.format().is_none() {
        let start: String = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]).escape_debug().collect();
        return Err(Rejection::new(
            Reason::NotAnImage,
            format!("no known image format; it begins with \"{start}\""),
        ));
    }
    let mut decoder = reader.into_decoder().map_err(|error| refused(&error))?;
    let (width, height) = decoder.dimensions();
    check_dimensions(width.into(), height.into(), pixels_max)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(pixels_max.saturating_mul(16));
    decoder.set_limits(limits).map_err(|error| refused(&error))?;
    let orientation = decoder.orientation().ok();
    let decoded = DynamicImage::from_decoder(decoder).map_err(|error| refused(&error))?;
    Ok(turned(on_white(decoded), orientation))
}

/// A decoder that met a limit of its own says that it is too large; anything else is broken.
fn refused(error: &image::ImageError) -> Rejection {
    let is_large = matches!(error, image::ImageError::Limits(_));
    Rejection::new(if is_large { Reason::TooLarge } else { Reason::BrokenImage }, error.to_string())
}

/// Transparent pictures are seen on white, as on a page: what stands under their alpha is often garbage.
fn on_white(picture: DynamicImage) -> DynamicImage {
    if !picture.color().has_alpha() {
        return DynamicImage::ImageRgb8(picture.into_rgb8());
    }
    let picture = picture.into_rgba8();
    let rgb = image::RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0.map(u32::from);
        let blend = |channel: u32| ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        image::Rgb([blend(red), blend(green), blend(blue)])
    });
    DynamicImage::ImageRgb8(rgb)
}

fn turned(mut picture: DynamicImage, orientation: Option<Orientation>) -> Rgb {
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    let rgb = picture.into_rgb8();
    Rgb { height: rgb.height(), width: rgb.width(), pixels: rgb.into_raw() }
}
