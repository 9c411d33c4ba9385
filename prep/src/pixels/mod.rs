//! Image files → the stored picture: decoded, turned as EXIF says, fitted into a square, reduced, laid out as the
//! format has it. It leaves out where the bytes come from.
//!
//! Baseline JPEGs go strip by strip from their entropy-coded data to the payload (`jpeg`, `reduce`); all other files by
//! way of their RGB pixels (`decode`). Both meet in one reduction, so that what a picture becomes does not depend on
//! how it was packed.

mod axis;
mod canvas;
mod decode;
mod exif;
mod fit;
mod reduce;
mod reducer;
mod simd;
#[cfg(feature = "turbo")]
#[expect(unsafe_code, reason = "calls of libjpeg-turbo")]
mod turbo;

pub use decode::{PIXELS_MAX, Rgb, decode};
pub use fit::Fit;

use shard::{ImageFormat, ImageSettings, Layout, Subsampling, npy, sides};

use self::{canvas::Canvas, reducer::Reducer, simd::Instructions};
use crate::{
    Error, Result, contain,
    source::{Picture, Reason, Rejection},
};

/// Decoder and resizer that the pixels depend on, as the manifest records them. It changes when pixels change.
const RUST_ENGINE: &str = "rust-2: baseline JPEG and bicubic by prep, zune-jpeg 0.5, image 0.25";

/// What decodes and reduces pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// Pure Rust.
    Rust,
    /// libjpeg-turbo for JPEGs, and as `rust` for all else.
    Turbo,
}

/// How JPEGs are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Decode {
    /// All of their pixels.
    Exact,
    /// Fewer pixels by a smaller cosine transform, where those are still as many as are stored.
    Fast,
}

/// What decides a stored picture's bytes, beside the source's.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelSettings {
    /// The stored form.
    pub image: ImageSettings,
    /// How pictures that are not square fill the square.
    pub fit: Fit,
    /// What decodes and reduces; `turbo` in builds with that feature.
    pub engine: Engine,
    /// How JPEGs are decoded; `fast` with the engine `turbo`.
    pub decode: Decode,
    /// Most pixels that a picture may declare.
    pub pixels_max: u64,
}

impl PixelSettings {
    /// The default engine with its default limit. Pictures are fitted as `image` says, or cropped where it says none.
    pub fn of(image: ImageSettings) -> Self {
        let fit = Fit::ALL.into_iter().find(|fit| fit.name() == image.resize);
        let fit = fit.unwrap_or(Fit::CenterCrop);
        Self { image, fit, engine: Engine::Rust, decode: Decode::Exact, pixels_max: PIXELS_MAX }
    }

    /// Decoder and resizer, as the manifest records them. It changes when pixels change.
    pub fn engine(&self) -> String {
        match (self.engine, self.decode) {
            #[cfg(feature = "turbo")]
            (Engine::Turbo, Decode::Exact) => turbo::ENGINE.to_owned(),
            #[cfg(feature = "turbo")]
            (Engine::Turbo, Decode::Fast) => format!("{}, fast", turbo::ENGINE),
            _ => RUST_ENGINE.to_owned(),
        }
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
    reducer: Reducer,
    /// Pixels on their way into a JPEG.
    pixels: Vec<u8>,
}

impl Preparer {
    /// A preparer with these settings.
    pub fn new(settings: &PixelSettings) -> Self {
        Self::with_instructions(settings, Instructions::Best)
    }

    fn with_instructions(settings: &PixelSettings, instructions: Instructions) -> Self {
        Self {
            settings: settings.clone(),
            reducer: Reducer::new(settings.engine, instructions),
            pixels: Vec::new(),
        }
    }

    /// Brings `picture` into its stored form: `payload` becomes the image member's payload, whatever it held. A
    /// payload that held one before costs no memory.
    ///
    /// # Errors
    /// A [`Rejection`] where the bytes are not a usable picture; `payload` may hold anything then.
    pub fn prepare(&mut self, picture: &Picture, payload: &mut Vec<u8>) -> Result<OriginalSize, Rejection> {
        if let Picture::Stored(stored, original) = picture {
            payload.clear();
            payload.extend_from_slice(stored);
            return Ok(*original);
        }
        let image = &self.settings.image;
        match image.format {
            ImageFormat::Npy => {
                let mut canvas = Canvas::new(payload, npy::HEADER_BYTES, image.height as usize, image.layout);
                let original = draw(picture, &self.settings, &mut self.reducer, &mut canvas)?;
                let drawn = image.sized(canvas.height as u32, canvas.width as u32);
                payload[..npy::HEADER_BYTES].copy_from_slice(&npy::header(&drawn));
                Ok(original)
            }
            ImageFormat::Jpg => {
                let mut canvas = Canvas::new(&mut self.pixels, 0, image.height as usize, Layout::Hwc);
                let original = draw(picture, &self.settings, &mut self.reducer, &mut canvas)?;
                let drawn = image.sized(canvas.height as u32, canvas.width as u32);
                encode(&self.pixels, &drawn, payload)?;
                Ok(original)
            }
        }
    }
}

/// Draws `picture` on `canvas`.
fn draw(
    picture: &Picture,
    settings: &PixelSettings,
    reducer: &mut Reducer,
    canvas: &mut Canvas<'_>,
) -> Result<OriginalSize, Rejection> {
    let image = &settings.image;
    let broken = |detail: String| Rejection::new(Reason::BrokenImage, detail);
    match picture {
        Picture::Made(made) if canvas.copy(made) => {
            Ok(OriginalSize { height: image.height, width: image.width })
        }
        Picture::Made(made) => {
            Err(broken(format!("{} bytes of pixels for {}x{}", made.len(), image.height, image.width)))
        }
        Picture::Encoded(bytes) => {
            // A picture that trips a decoder, our own too, costs one sample and not the run.
            contain::panics(|| reducer.reduce(bytes, settings, canvas)).unwrap_or_else(|panic| {
                *reducer = Reducer::new(settings.engine, Instructions::Best);
                Err(broken(format!("the decoder panicked: {panic}")))
            })
        }
        Picture::Stored(..) => Err(broken("a payload that is made already".to_owned())),
    }
}

/// Pixels as a JPEG.
fn encode(pixels: &[u8], image: &ImageSettings, payload: &mut Vec<u8>) -> Result<(), Rejection> {
    payload.clear();
    let side = |side: u32| u16::try_from(side).expect("the format's largest side fits");
    let quality = image.quality.unwrap_or(DEFAULT_QUALITY);
    let mut encoder = jpeg_encoder::Encoder::new(payload, quality);
    match image.subsampling {
        Some(Subsampling::Full) => encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_1_1),
        Some(Subsampling::Half) => encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2),
        None => {}
    }
    encoder
        .encode(pixels, side(image.width), side(image.height), jpeg_encoder::ColorType::Rgb)
        .map_err(|error| Rejection::new(Reason::BrokenImage, format!("not encoded as JPEG: {error}")))
}

/// JPEG quality of `--store jpeg`.
pub const DEFAULT_QUALITY: u8 = 90;

/// The settings with the sides of the picture in `payload`.
///
/// # Errors
/// `Config` where the payload is not of the settings' form.
pub fn stored_settings(payload: &[u8], image: &ImageSettings) -> Result<ImageSettings> {
    if !image.varies() {
        return Ok(image.clone());
    }
    let sides = sides::of(payload, image).filter(|&(height, width)| image.allows(height, width));
    let (height, width) = sides.ok_or_else(|| {
        Error::Config("a stored picture does not have the sides that the manifest asks for".to_owned())
    })?;
    Ok(image.sized(height, width))
}

/// Decodes a stored payload back to RGB, rows first: for sheets of samples.
///
/// # Errors
/// `Config` where the payload is not of the settings' form.
pub fn stored_rgb(payload: &[u8], image: &ImageSettings) -> Result<Vec<u8>> {
    let broken = || Error::Config("a stored picture does not have the form of the manifest".to_owned());
    let image = &stored_settings(payload, image)?;
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
            if image.layout == Layout::Hwc {
                return Ok(pixels.to_vec());
            }
            let plane = pixels.len() / 3;
            Ok((0..plane).flat_map(|at| [pixels[at], pixels[plane + at], pixels[2 * plane + at]]).collect())
        }
    }
}

#[cfg(test)]
mod tests;
