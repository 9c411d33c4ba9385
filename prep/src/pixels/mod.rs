//! Image files → the stored picture: decoded to RGB, turned as EXIF says, centre-cropped and resized, laid out as
//! the format has it. It leaves out where the bytes come from.

mod decode;
mod resize;

pub use decode::{PIXELS_MAX, Rgb, decode};
pub use resize::Resizer;

use shard::{ImageFormat, ImageSettings, npy};

use crate::{
    Error, Result,
    source::{Picture, Reason, Rejection},
};

/// Decoder and resizer that the pixels depend on, as the manifest records them. It changes when pixels change.
pub const ENGINE: &str = "rust-1: zune-jpeg 0.5, image 0.25, fast_image_resize 6 catmull-rom";

/// What decides a stored picture's bytes, beside the source's.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelSettings {
    /// The stored form.
    pub image: ImageSettings,
    /// Most pixels that a picture may declare.
    pub pixels_max: u64,
}

impl PixelSettings {
    /// The default engine with its default limit.
    pub fn of(image: ImageSettings) -> Self {
        Self { image, pixels_max: PIXELS_MAX }
    }

    /// Decoder and resizer, as the manifest records them. It changes when pixels change.
    pub fn engine(&self) -> &'static str {
        ENGINE
    }
}

/// Rows and columns of a source's picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginalSize {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// Brings pictures into their stored form, keeping its buffers from one to the next. One a thread.
pub struct Preparer {
    settings: PixelSettings,
    resizer: Resizer,
}

impl Preparer {
    /// A preparer with these settings.
    pub fn new(settings: &PixelSettings) -> Self {
        Self { settings: settings.clone(), resizer: Resizer::default() }
    }

    /// Brings `picture` into its stored form: `payload` becomes the image member's payload, whatever it held.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are not a usable picture.
    pub fn prepare(&mut self, picture: &Picture, payload: &mut Vec<u8>) -> Result<OriginalSize, Rejection> {
        let image = &self.settings.image;
        let square;
        let (pixels, height, width) = match picture {
            Picture::Made(pixels) => (pixels.as_slice(), image.height, image.width),
            Picture::Encoded(bytes) => {
                let rgb = decode(bytes, self.settings.pixels_max)?;
                square = self.resizer.centre_square(&rgb, image.height)?;
                (square.as_slice(), rgb.height, rgb.width)
            }
            Picture::Stored(stored, original) => {
                payload.clear();
                payload.extend_from_slice(stored);
                return Ok(*original);
            }
        };
        if pixels.len() != image.pixel_bytes() {
            let detail = format!("{} bytes of pixels for {}x{}", pixels.len(), image.height, image.width);
            return Err(Rejection::new(Reason::BrokenImage, detail));
        }
        *payload = match image.format {
            ImageFormat::Npy => tensor(pixels, image),
            ImageFormat::Jpg => jpeg(pixels, image)?,
        };
        Ok(OriginalSize { height, width })
    }
}

/// The npy payload: header and channel planes.
fn tensor(pixels: &[u8], image: &ImageSettings) -> Vec<u8> {
    let plane = pixels.len() / 3;
    let mut payload = vec![0; npy::HEADER_BYTES + pixels.len()];
    payload[..npy::HEADER_BYTES].copy_from_slice(&npy::header(image));
    let (red, rest) = payload[npy::HEADER_BYTES..].split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    for (((pixel, red), green), blue) in pixels.chunks_exact(3).zip(red).zip(green).zip(blue) {
        (*red, *green, *blue) = (pixel[0], pixel[1], pixel[2]);
    }
    payload
}

fn jpeg(pixels: &[u8], image: &ImageSettings) -> Result<Vec<u8>, Rejection> {
    let mut bytes = Vec::new();
    let side = |side: u32| u16::try_from(side).expect("the format's largest side fits");
    let quality = image.quality.unwrap_or(DEFAULT_QUALITY);
    jpeg_encoder::Encoder::new(&mut bytes, quality)
        .encode(pixels, side(image.width), side(image.height), jpeg_encoder::ColorType::Rgb)
        .map_err(|error| Rejection::new(Reason::BrokenImage, format!("not encoded as JPEG: {error}")))?;
    Ok(bytes)
}

/// JPEG quality of `--store jpeg`.
pub const DEFAULT_QUALITY: u8 = 90;

/// Decodes a stored payload back to RGB, rows first: for sheets of samples.
///
/// # Errors
/// `Config` where the payload is not of the settings' form.
pub fn stored_rgb(payload: &[u8], image: &ImageSettings) -> Result<Vec<u8>> {
    let broken = || Error::Config("a stored picture does not have the form of the manifest".to_owned());
    match image.format {
        ImageFormat::Jpg => {
            let rgb = decode(payload, PIXELS_MAX).map_err(|rejection| Error::Config(rejection.detail))?;
            if (rgb.height, rgb.width) != (image.height, image.width) {
                return Err(broken());
            }
            Ok(rgb.pixels)
        }
        ImageFormat::Npy => {
            let pixels = payload.get(npy::HEADER_BYTES..).filter(|p| p.len() == image.pixel_bytes());
            let pixels = pixels.ok_or_else(broken)?;
            let plane = pixels.len() / 3;
            Ok((0..plane).flat_map(|at| [pixels[at], pixels[plane + at], pixels[2 * plane + at]]).collect())
        }
    }
}
