//! Which part of a picture is taken: torchvision's `RandomResizedCrop.get_params`. Left out: the resize
//! ([`super::resample`]).

use crate::rng::Stream;

/// How often a box is drawn before the centre is taken.
const TRIES: usize = 10;

/// torchvision's `RandomResizedCrop`: a box of random area and aspect ratio (width over height) at a random place,
/// resized to the batch's size by an antialiased bilinear filter (torchvision's default).
///
/// Ten boxes are tried; where none fits in the picture, the largest centred one of an allowed ratio is taken.
/// [`default`](Self::default) has torchvision's ranges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomResizedCrop {
    /// Least and largest share of the picture's area, above 0 and up to 1; drawn evenly.
    pub scale: (f32, f32),
    /// Least and largest width over height, above 0; drawn evenly on a logarithmic scale.
    pub ratio: (f32, f32),
}

impl RandomResizedCrop {
    /// Boxes of 90 to 100 % of the area: what CLIP models are trained with from scratch.
    pub const CLIP: RandomResizedCrop = RandomResizedCrop { scale: (0.9, 1.0), ratio: (0.75, 4.0 / 3.0) };

    pub(super) fn problems(&self) -> Vec<String> {
        let RandomResizedCrop { scale, ratio } = self;
        let mut problems = Vec::new();
        if !(scale.0 > 0.0 && scale.0 <= scale.1 && scale.1 <= 1.0) {
            problems.push(format!("the crop's scale must rise from above 0 to at most 1, not {scale:?}"));
        }
        if !(ratio.0 > 0.0 && ratio.0 <= ratio.1 && ratio.1.is_finite()) {
            problems.push(format!("the crop's ratio must rise from above 0, not {ratio:?}"));
        }
        problems
    }

    /// A box within a picture of `sides` (height, width), in double precision as torchvision does it.
    pub(super) fn draw(&self, stream: &mut Stream, (height, width): (usize, usize)) -> Region {
        let area = (height * width) as f64;
        let scale = (f64::from(self.scale.0), f64::from(self.scale.1));
        let ratio = (f64::from(self.ratio.0), f64::from(self.ratio.1));
        for _ in 0..TRIES {
            let target = area * stream.uniform(scale.0, scale.1);
            let aspect = stream.uniform(ratio.0.ln(), ratio.1.ln()).exp();
            let w = (target * aspect).sqrt().round_ties_even() as usize;
            let h = (target / aspect).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = stream.below((height - h + 1) as u64) as usize;
                let left = stream.below((width - w + 1) as u64) as usize;
                return Region { top, left, height: h, width: w };
            }
        }
        let whole = width as f64 / height as f64;
        let rounded = |side: f64, largest: usize| (side.round_ties_even() as usize).clamp(1, largest);
        let (h, w) = if whole < ratio.0 {
            (rounded(width as f64 / ratio.0, height), width)
        } else if whole > ratio.1 {
            (height, rounded(height as f64 * ratio.1, width))
        } else {
            (height, width)
        };
        Region { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
    }
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        RandomResizedCrop { scale: (0.08, 1.0), ratio: (0.75, 4.0 / 3.0) }
    }
}

/// A box of pixels, within a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Region {
    /// The box of `size` (height, width) in the middle of `sides`, or what there is of it.
    pub(crate) fn centre(sides: (usize, usize), size: (usize, usize)) -> Region {
        let (height, width) = (size.0.min(sides.0), size.1.min(sides.1));
        Region { top: (sides.0 - height) / 2, left: (sides.1 - width) / 2, height, width }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{EpochStreams, Purpose};

    fn draws(crop: RandomResizedCrop, sides: (usize, usize), count: u64) -> Vec<Region> {
        let streams = EpochStreams::new(5, 1);
        (0..count).map(|sample| crop.draw(&mut streams.stream(sample, Purpose::Crop), sides)).collect()
    }

    /// Shares of `values` in ten equal classes of `low..high`.
    fn shares(values: &[f64], low: f64, high: f64) -> [f64; 10] {
        let mut counts = [0.0; 10];
        for value in values {
            counts[(((value - low) / (high - low) * 10.0) as usize).min(9)] += 1.0 / values.len() as f64;
        }
        counts
    }

    #[test]
    fn area_ratio_and_place_are_drawn_evenly() {
        // Sides so long that rounding is not seen; a scale at which nearly every box fits at once.
        let crop = RandomResizedCrop { scale: (0.1, 0.5), ratio: (0.5, 2.0) };
        let boxes = draws(crop, (4000, 4000), 20_000);
        let areas: Vec<f64> = boxes.iter().map(|b| (b.height * b.width) as f64 / 16e6).collect();
        let ratios: Vec<f64> = boxes.iter().map(|b| (b.width as f64 / b.height as f64).ln()).collect();
        let part = |start: usize, side: usize| start as f64 / (4000 - side) as f64;
        let tops: Vec<f64> = boxes.iter().map(|b| part(b.top, b.height)).collect();
        let lefts: Vec<f64> = boxes.iter().map(|b| part(b.left, b.width)).collect();
        let half = 0.5f64.ln();
        for (what, shares) in [
            ("area", shares(&areas, 0.1, 0.5)),
            ("ratio", shares(&ratios, half, -half)),
            ("top", shares(&tops, 0.0, 1.0)),
            ("left", shares(&lefts, 0.0, 1.0)),
        ] {
            // The standard deviation of a share is 0.002.
            assert!(shares.iter().all(|share| (share - 0.1).abs() < 0.011), "{what}: {shares:?}");
        }
    }

    #[test]
    fn every_box_lies_in_its_picture() {
        for sides in [(1, 1), (1, 50), (50, 1), (7, 3), (224, 224), (224, 600)] {
            for crop in [RandomResizedCrop::default(), RandomResizedCrop::CLIP] {
                for b in draws(crop, sides, 300) {
                    assert!(b.height >= 1 && b.top + b.height <= sides.0, "{b:?} in {sides:?}");
                    assert!(b.width >= 1 && b.left + b.width <= sides.1, "{b:?} in {sides:?}");
                }
            }
        }
    }

    #[test]
    fn where_no_box_fits_the_largest_centred_one_is_taken() {
        let all = RandomResizedCrop { scale: (1.0, 1.0), ratio: (0.75, 4.0 / 3.0) };
        let wide = Region { top: 0, left: 133, height: 100, width: 133 };
        assert!(draws(all, (100, 400), 50).iter().all(|b| *b == wide));
        let high = Region { top: 133, left: 0, height: 133, width: 100 };
        assert!(draws(all, (400, 100), 50).iter().all(|b| *b == high));
        let whole = RandomResizedCrop { scale: (1.0, 1.0), ratio: (1.0, 1.0) };
        let square = Region { top: 0, left: 0, height: 64, width: 64 };
        assert!(draws(whole, (64, 64), 50).iter().all(|b| *b == square));
    }
}
