//! Where pixels are written: a stored picture in either layout, as large as the fit makes it. It leaves out what they
//! are.

use shard::{Layout, SIDE_MAX};

use super::fit::{self, Along, Fit};
use crate::source::{Reason, Rejection};

/// A stored picture that is being drawn.
pub(crate) struct Canvas<'a> {
    /// What stands in front of the pixels, and they.
    bytes: &'a mut Vec<u8>,
    /// Bytes in front of the pixels.
    front: usize,
    /// The side of a square, and the shortest side of all else.
    pub size: usize,
    /// Rows of the picture.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Order of the bytes.
    layout: Layout,
}

impl<'a> Canvas<'a> {
    /// A square of `size`×`size` RGB pixels behind `front` bytes of `bytes`, which becomes as long as that takes.
    pub(crate) fn new(bytes: &'a mut Vec<u8>, front: usize, size: usize, layout: Layout) -> Self {
        let mut canvas = Self { bytes, front, size, height: 0, width: 0, layout };
        canvas.stretch(size, size);
        canvas
    }

    /// Makes room for a picture of `width`×`height` pixels; where it goes, along x and along y.
    ///
    /// # Errors
    /// `TooLarge` where it would be longer than the format holds.
    pub(crate) fn begin(&mut self, fit: Fit, width: usize, height: usize) -> Result<[Along; 2], Rejection> {
        let along = fit::place(fit, width, height, self.size);
        if fit == Fit::ShortestSide {
            let [columns, rows] = [along[0].length, along[1].length];
            if columns.max(rows) > SIDE_MAX as usize {
                let detail = format!(
                    "{width}x{height} becomes {columns}x{rows} with a shortest side of {}; {SIDE_MAX} at most",
                    self.size
                );
                return Err(Rejection::new(Reason::TooLarge, detail));
            }
            self.stretch(rows, columns);
        }
        if fit == Fit::Pad {
            self.pixels().fill(0);
        }
        Ok(along)
    }

    fn stretch(&mut self, height: usize, width: usize) {
        (self.height, self.width) = (height, width);
        self.bytes.resize(self.front + 3 * height * width, 0);
    }

    fn pixels(&mut self) -> &mut [u8] {
        &mut self.bytes[self.front..]
    }

    /// Writes pixels of row `y` from column `x` on.
    pub(crate) fn row(&mut self, y: usize, x: usize, rgb: [&[u8]; 3]) {
        let (at, plane) = (y * self.width + x, self.height * self.width);
        let width = rgb[0].len();
        match self.layout {
            Layout::Chw => {
                for (plane, row) in self.pixels().chunks_exact_mut(plane).zip(rgb) {
                    plane[at..at + width].copy_from_slice(row);
                }
            }
            Layout::Hwc => {
                let [red, green, blue] = rgb;
                let pixels = self.pixels()[3 * at..3 * (at + width)].as_chunks_mut::<3>().0;
                for (((pixel, &red), &green), &blue) in pixels.iter_mut().zip(red).zip(green).zip(blue) {
                    *pixel = [red, green, blue];
                }
            }
        }
    }

    /// Copies the square's RGB pixels, rows first; whether there are as many.
    pub(crate) fn copy(&mut self, pixels: &[u8]) -> bool {
        if pixels.len() != self.pixels().len() {
            return false;
        }
        let plane = self.height * self.width;
        match self.layout {
            Layout::Hwc => self.pixels().copy_from_slice(pixels),
            Layout::Chw => {
                let (red, rest) = self.pixels().split_at_mut(plane);
                let (green, blue) = rest.split_at_mut(plane);
                let pixels = pixels.as_chunks::<3>().0.iter();
                for (((pixel, red), green), blue) in pixels.zip(red).zip(green).zip(blue) {
                    [*red, *green, *blue] = *pixel;
                }
            }
        }
        true
    }
}
