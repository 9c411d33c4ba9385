//! An RGB canvas: rectangles, images, anti-aliased lines. All drawing is clipped to the canvas.
//! Colours blend as stored (sRGB), which suits thin dark type on a light ground.

use image::{RgbImage, imageops::FilterType};

use crate::PictureError;

/// The most pixels that one picture may have: 400 MB of memory at the worst.
pub(crate) const PIXELS_MAX: u64 = 1 << 27;

/// An sRGB colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour([u8; 3]);

impl Colour {
    /// A colour from its red, green and blue.
    pub const fn rgb(red: u8, green: u8, blue: u8) -> Self {
        Self([red, green, blue])
    }
}

/// A picture in memory: RGB, 8 bits a channel, rows from the top.
#[derive(Clone, Debug)]
pub struct Picture {
    image: RgbImage,
}

/// A rectangle in pixels: left and top edge, width and height. May lie outside the canvas.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) left: i64,
    pub(crate) top: i64,
    pub(crate) width: i64,
    pub(crate) height: i64,
}

impl Picture {
    /// A picture of one colour, at least 1×1.
    ///
    /// # Errors
    /// [`PictureError::TooLarge`].
    pub(crate) fn new(width: u32, height: u32, colour: Colour) -> Result<Self, PictureError> {
        let (width, height) = (width.max(1), height.max(1));
        if u64::from(width) * u64::from(height) > PIXELS_MAX {
            let (width, height) = (u64::from(width), u64::from(height));
            return Err(PictureError::TooLarge { width, height, pixels_max: PIXELS_MAX });
        }
        Ok(Self { image: RgbImage::from_pixel(width, height, image::Rgb(colour.0)) })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.image.width()
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.image.height()
    }

    /// The pixels: `height · width · 3` bytes, rows from the top.
    pub fn pixels(&self) -> &[u8] {
        self.image.as_raw()
    }

    /// Lays `colour` over one pixel with the given opacity (0 to 1).
    pub(crate) fn blend(&mut self, x: i64, y: i64, colour: Colour, opacity: f32) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        let Some(pixel) = self.image.get_pixel_mut_checked(x, y) else { return };
        let opacity = opacity.clamp(0.0, 1.0);
        for (under, over) in pixel.0.iter_mut().zip(colour.0) {
            *under = (f32::from(*under) + (f32::from(over) - f32::from(*under)) * opacity).round() as u8;
        }
    }

    /// Fills a rectangle.
    pub(crate) fn fill(&mut self, area: Area, colour: Colour) {
        let right = (area.left + area.width).min(i64::from(self.width()));
        let bottom = (area.top + area.height).min(i64::from(self.height()));
        for y in area.top.max(0)..bottom {
            for x in area.left.max(0)..right {
                self.blend(x, y, colour, 1.0);
            }
        }
    }

    /// Fills a rectangle with rounded, anti-aliased corners.
    pub(crate) fn fill_rounded(&mut self, area: Area, radius: f32, colour: Colour) {
        let (half_width, half_height) = (area.width as f32 / 2.0, area.height as f32 / 2.0);
        for y in 0..area.height {
            for x in 0..area.width {
                let across = ((x as f32 + 0.5 - half_width).abs() - half_width + radius).max(0.0);
                let along = ((y as f32 + 0.5 - half_height).abs() - half_height + radius).max(0.0);
                let outside = (across * across + along * along).sqrt() - radius;
                self.blend(area.left + x, area.top + y, colour, 0.5 - outside);
            }
        }
    }

    /// A rectangle's outline, one pixel wide, inside the rectangle.
    pub(crate) fn outline(&mut self, area: Area, colour: Colour) {
        let Area { left, top, width, height } = area;
        self.fill(Area { height: 1, ..area }, colour);
        self.fill(Area { top: top + height - 1, height: 1, ..area }, colour);
        self.fill(Area { width: 1, ..area }, colour);
        self.fill(Area { left: left + width - 1, width: 1, ..area }, colour);
    }

    /// Draws an image scaled into `area`, its sides' proportion kept, in the middle.
    pub(crate) fn draw_image(&mut self, area: Area, image: &RgbImage) {
        let scale = (area.width as f64 / f64::from(image.width()))
            .min(area.height as f64 / f64::from(image.height()));
        let width = ((f64::from(image.width()) * scale).round() as u32).max(1);
        let height = ((f64::from(image.height()) * scale).round() as u32).max(1);
        let left = area.left + (area.width - i64::from(width)) / 2;
        let top = area.top + (area.height - i64::from(height)) / 2;
        if (width, height) == image.dimensions() {
            image::imageops::replace(&mut self.image, image, left, top);
        } else {
            // Whole multiples stay sharp, so that small samples show their real pixels.
            let whole = width.is_multiple_of(image.width()) && height.is_multiple_of(image.height());
            let filter = if whole { FilterType::Nearest } else { FilterType::CatmullRom };
            let scaled = image::imageops::resize(image, width, height, filter);
            image::imageops::replace(&mut self.image, &scaled, left, top);
        }
    }

    /// Draws anti-aliased connected lines, clipped to `area`. The whole path is blended once, so
    /// that a translucent line does not darken where its segments meet.
    pub(crate) fn polyline(
        &mut self,
        area: Area,
        points: &[(f32, f32)],
        width: f32,
        colour: Colour,
        opacity: f32,
    ) {
        let (across, along) = (area.width.max(0) as usize, area.height.max(0) as usize);
        let mut mask = vec![0_u8; across * along];
        let local = |&(x, y): &(f32, f32)| {
            (x - area.left as f32, (y - area.top as f32).clamp(-1e4, along as f32 + 1e4))
        };
        if let [only] = points {
            cover_segment(&mut mask, across, along, local(only), local(only), width * 2.0);
        }
        for pair in points.windows(2) {
            cover_segment(&mut mask, across, along, local(&pair[0]), local(&pair[1]), width);
        }
        for (place, &cover) in mask.iter().enumerate().filter(|(_, cover)| **cover > 0) {
            let (x, y) = ((place % across) as i64, (place / across) as i64);
            self.blend(area.left + x, area.top + y, colour, opacity * f32::from(cover) / 255.0);
        }
    }
}

/// Raises `mask` to the coverage of a segment with round ends. Visits only the pixels near it, row
/// by row, so that a steep line over a tall panel stays cheap.
fn cover_segment(mask: &mut [u8], columns: usize, rows: usize, from: (f32, f32), to: (f32, f32), width: f32) {
    let reach = width / 2.0 + 1.0;
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let length_squared = (dx * dx + dy * dy).max(1e-9);
    let top = (from.1.min(to.1) - reach).max(0.0) as usize;
    let bottom = ((from.1.max(to.1) + reach).max(0.0) as usize + 1).min(rows);
    for row in top..bottom {
        let y = row as f32 + 0.5;
        // The part of the segment within reach of this row bounds the columns to look at.
        let (mut low, mut high) = (0.0_f32, 1.0_f32);
        if dy.abs() > 1e-6 {
            let (a, b) = ((y - reach - from.1) / dy, (y + reach - from.1) / dy);
            (low, high) = (a.min(b).clamp(0.0, 1.0), a.max(b).clamp(0.0, 1.0));
        }
        let (a, b) = (from.0 + dx * low, from.0 + dx * high);
        let left = (a.min(b) - reach).max(0.0) as usize;
        let right = ((a.max(b) + reach).max(0.0) as usize + 1).min(columns);
        for column in left..right {
            let x = column as f32 + 0.5;
            let along = (((x - from.0) * dx + (y - from.1) * dy) / length_squared).clamp(0.0, 1.0);
            let (ox, oy) = (x - from.0 - along * dx, y - from.1 - along * dy);
            let cover = (width / 2.0 + 0.5 - (ox * ox + oy * oy).sqrt()).clamp(0.0, 1.0);
            let cell = &mut mask[row * columns + column];
            *cell = (*cell).max((cover * 255.0) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Colour = Colour::rgb(255, 255, 255);
    const BLACK: Colour = Colour::rgb(0, 0, 0);

    #[test]
    fn drawing_far_outside_is_clipped() {
        let mut picture = Picture::new(8, 8, WHITE).unwrap();
        picture.fill(Area { left: -5, top: -5, width: 100, height: 8 }, BLACK);
        picture.polyline(
            Area { left: 0, top: 4, width: 8, height: 4 },
            &[(-1e9, 1e9), (1e9, -1e9), (3.0, f32::MAX)],
            1.5,
            BLACK,
            1.0,
        );
        picture.outline(Area { left: 6, top: 6, width: 50, height: 50 }, BLACK);
        assert_eq!(&picture.pixels()[..3], &[0, 0, 0]);
        assert_eq!(&picture.pixels()[3 * 8 * 3..][..3], &[255, 255, 255]);
    }

    #[test]
    fn a_line_is_as_dark_in_the_middle_as_it_is_opaque() {
        let mut picture = Picture::new(20, 9, WHITE).unwrap();
        let area = Area { left: 0, top: 0, width: 20, height: 9 };
        picture.polyline(area, &[(2.0, 4.5), (10.0, 4.5), (18.0, 4.5)], 3.0, BLACK, 0.5);
        let at = |x: usize, y: usize| picture.pixels()[(y * 20 + x) * 3];
        assert_eq!((at(10, 4), at(5, 4)), (128, 128), "joints are no darker than the rest");
        assert_eq!(at(10, 8), 255);
    }

    #[test]
    fn the_size_is_bounded() {
        assert!(matches!(Picture::new(u32::MAX, u32::MAX, WHITE), Err(PictureError::TooLarge { .. })));
        assert_eq!(Picture::new(0, 0, WHITE).unwrap().pixels().len(), 3);
    }
}
