//! Where pixels are written: a square of stored pixels in either layout. It leaves out what they are.

use shard::Layout;

/// A square of RGB pixels.
pub(crate) struct Canvas<'a> {
    /// `3·size·size` bytes.
    pub pixels: &'a mut [u8],
    /// Rows, and columns.
    pub size: usize,
    /// Order of the bytes.
    pub layout: Layout,
}

impl Canvas<'_> {
    /// Writes pixels of row `y` from column `x` on.
    pub(crate) fn row(&mut self, y: usize, x: usize, rgb: [&[u8]; 3]) {
        let at = y * self.size + x;
        let width = rgb[0].len();
        match self.layout {
            Layout::Chw => {
                let planes = self.pixels.chunks_exact_mut(self.size * self.size);
                for (plane, row) in planes.zip(rgb) {
                    plane[at..at + width].copy_from_slice(row);
                }
            }
            Layout::Hwc => {
                let [red, green, blue] = rgb;
                let pixels = self.pixels[3 * at..3 * (at + width)].as_chunks_mut::<3>().0;
                for (((pixel, &red), &green), &blue) in pixels.iter_mut().zip(red).zip(green).zip(blue) {
                    *pixel = [red, green, blue];
                }
            }
        }
    }

    /// Copies RGB pixels, rows first.
    pub(crate) fn copy(&mut self, pixels: &[u8]) {
        let plane = self.size * self.size;
        match self.layout {
            Layout::Hwc => self.pixels.copy_from_slice(pixels),
            Layout::Chw => {
                let (red, rest) = self.pixels.split_at_mut(plane);
                let (green, blue) = rest.split_at_mut(plane);
                let pixels = pixels.as_chunks::<3>().0.iter();
                for (((pixel, red), green), blue) in pixels.zip(red).zip(green).zip(blue) {
                    [*red, *green, *blue] = *pixel;
                }
            }
        }
    }
}
