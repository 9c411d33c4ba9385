//! The centre square of a picture, resized by a Catmull-Rom kernel widened for shrinking: what PIL calls bicubic, in
//! one pass over the crop. It leaves out every other way of fitting a picture.

use fast_image_resize::{self as fir, pixels::U8x3};

use super::Rgb;
use crate::source::{Reason, Rejection};

/// Resizes, keeping its buffers from one picture to the next. One a thread.
pub struct Resizer {
    resizer: fir::Resizer,
}

impl Default for Resizer {
    fn default() -> Self {
        Self { resizer: fir::Resizer::new() }
    }
}

impl Resizer {
    /// A resizer without SIMD, for the test that it gives the same bytes.
    #[cfg(test)]
    pub(crate) fn scalar() -> Self {
        let mut resizer = fir::Resizer::new();
        #[expect(unsafe_code, reason = "no SIMD is a subset of what every machine has")]
        // SAFETY: `None` asks for no instruction set at all.
        unsafe {
            resizer.set_cpu_extensions(fir::CpuExtensions::None);
        }
        Self { resizer }
    }

    /// The largest centred square of `rgb`, as `size`×`size` RGB pixels, rows first.
    ///
    /// # Errors
    /// `BrokenImage` where the pixels do not fill their dimensions.
    pub fn centre_square(&mut self, rgb: &Rgb, size: u32) -> Result<Vec<u8>, Rejection> {
        let broken = |error: &dyn std::fmt::Display| Rejection::new(Reason::BrokenImage, error.to_string());
        let source = fir::images::TypedImageRef::<U8x3>::from_buffer(rgb.width, rgb.height, &rgb.pixels)
            .map_err(|error| broken(&error))?;
        let mut pixels = vec![0; 3 * size as usize * size as usize];
        let mut square = fir::images::TypedImage::<U8x3>::from_buffer(size, size, &mut pixels)
            .map_err(|error| broken(&error))?;
        let side = rgb.width.min(rgb.height);
        let (left, top) = ((rgb.width - side) / 2, (rgb.height - side) / 2);
        let options = fir::ResizeOptions::new()
            .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom))
            .use_alpha(false)
            .crop(left.into(), top.into(), side.into(), side.into());
        // The untyped call would compile every pixel type of the library: a minute and a half of each build.
        self.resizer.resize_typed(&source, &mut square, &options).map_err(|error| broken(&error))?;
        Ok(pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> Rgb {
        let pixels = (0..3 * width * height).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        Rgb { height, width, pixels }
    }

    #[test]
    fn simd_and_scalar_give_the_same_bytes() {
        for (width, height) in [(640, 480), (333, 500), (224, 224), (17, 300), (1, 1), (5_000, 7)] {
            let picture = picture(width, height);
            for size in [16, 64, 224] {
                let simd = Resizer::default().centre_square(&picture, size).unwrap();
                let scalar = Resizer::scalar().centre_square(&picture, size).unwrap();
                assert_eq!(simd.len(), (3 * size * size) as usize);
                assert!(simd == scalar, "{width}x{height} to {size}");
            }
        }
    }

    #[test]
    fn the_square_is_the_centre() {
        let mut picture = Rgb { height: 10, width: 30, pixels: vec![0; 900] };
        for row in 0..10 {
            for column in 10..20 {
                picture.pixels[3 * (30 * row + column)..][..3].copy_from_slice(&[200, 100, 50]);
            }
        }
        let square = Resizer::default().centre_square(&picture, 10).unwrap();
        assert!(square.chunks(3).all(|pixel| pixel == [200, 100, 50]));
    }
}
