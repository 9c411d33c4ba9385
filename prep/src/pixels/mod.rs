//! Image files → the stored picture: decoded to RGB, turned as EXIF says, centre-cropped and resized, laid out as
//! the format has it. It leaves out where the bytes come from.

mod decode;
mod resize;

pub use decode::{PIXELS_MAX, Rgb, decode};
pub use resize::Resizer;

use shard::{ImageFormat, ImageSettings, npy};

use crate::{
    Error, Result,
    source::{Loaded, Picture, Reason, Rejection},
};

/// Decoder and resizer that the pixels depend on, as the manifest records them. It changes when pixels change.
pub const ENGINE: &str = "rust-1: zune-jpeg 0.5, image 0.25, fast_image_resize 6 catmull-rom";

/// A picture ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The image member's payload.
    pub payload: Vec<u8>,
    /// Rows of the source's picture.
    pub original_height: u32,
    /// Columns of the source's picture.
    pub original_width: u32,
}

/// Brings a loaded picture into the form that `image` asks for.
///
/// # Errors
/// A [`Rejection`] where the bytes are not a usable picture.
pub fn store(loaded: &Loaded, image: &ImageSettings, resizer: &mut Resizer) -> Result<Stored, Rejection> {
    let square;
    let (pixels, original_height, original_width) = match &loaded.picture {
        Picture::Made(pixels) => (pixels.as_slice(), image.height, image.width),
        Picture::Encoded(bytes) => {
            let rgb = decode(bytes)?;
            square = resizer.centre_square(&rgb, image.height)?;
            (square.as_slice(), rgb.height, rgb.width)
        }
    };
    if pixels.len() != image.pixel_bytes() {
        let detail = format!("{} bytes of pixels for {}x{}", pixels.len(), image.height, image.width);
        return Err(Rejection::new(Reason::BrokenImage, detail));
    }
    let payload = match image.format {
        ImageFormat::Npy => tensor(pixels, image),
        ImageFormat::Jpg => jpeg(pixels, image)?,
    };
    Ok(Stored { payload, original_height, original_width })
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
            let rgb = decode(payload).map_err(|rejection| Error::Config(rejection.detail))?;
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
