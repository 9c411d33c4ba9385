//! Brightness, contrast, saturation and hue at random: torchvision's `ColorJitter`, with the definitions that it has
//! for float pictures. All four are done in one pass over the bytes, in floats, and rounded once at the end. What
//! contrast needs of the whole picture, the mean of its grey values, takes a pass before it.

use super::resample::nearest;
use crate::{
    pixels::simd::{Steps, Work},
    rng::Stream,
};

/// How far torchvision's `ColorJitter` goes; 0 leaves a property as it is. The four are applied in a random order.
///
/// Brightness, contrast and saturation are factors drawn evenly from `1 - x` (not below 0) to `1 + x`; hue is a turn
/// of the colour wheel, drawn evenly from `-x` to `x`, where 0.5 is half a turn.
/// [`default`](Self::default) is 0.4, 0.4, 0.4 and 0.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColorJitter {
    /// Of all channels alike, towards black; at least 0.
    pub brightness: f32,
    /// Towards the mean of the picture's grey values; at least 0.
    pub contrast: f32,
    /// Towards each pixel's grey value; at least 0.
    pub saturation: f32,
    /// From 0 to 0.5.
    pub hue: f32,
}

impl Default for ColorJitter {
    fn default() -> Self {
        ColorJitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }
    }
}

impl ColorJitter {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let names = ["brightness", "contrast", "saturation"];
        for (name, value) in names.into_iter().zip([self.brightness, self.contrast, self.saturation]) {
            if !(value >= 0.0 && value.is_finite()) {
                problems.push(format!("the jitter's {name} must be at least 0, not {value}"));
            }
        }
        if !(0.0..=0.5).contains(&self.hue) {
            problems.push(format!("the jitter's hue must be from 0 to 0.5, not {}", self.hue));
        }
        problems
    }

    /// An order and factors. What is drawn for one property does not depend on the range of another.
    pub(super) fn draw(&self, stream: &mut Stream) -> Jitter {
        let mut order = [0, 1, 2, 3];
        for left in (2..=4).rev() {
            order.swap(left - 1, stream.below(left as u64) as usize);
        }
        let mut factor = |range: f32| {
            let (low, high) = ((1.0 - f64::from(range)).max(0.0), 1.0 + f64::from(range));
            let drawn = stream.uniform(low, high) as f32;
            (range > 0.0).then_some(drawn)
        };
        let (brightness, contrast) = (factor(self.brightness), factor(self.contrast));
        let saturation = factor(self.saturation);
        let hue = f64::from(self.hue);
        let turn = stream.uniform(-hue, hue) as f32;
        let all = [
            brightness.map(Adjustment::Brightness),
            contrast.map(Adjustment::Contrast),
            saturation.map(Adjustment::Saturation),
            (self.hue > 0.0).then_some(Adjustment::Hue(turn)),
        ];
        let [a, b, c, d] = order.map(|place| all[place]);
        Jitter { adjustments: [a, b, c, d, None] }
    }
}

/// One change of a picture's colours, with its factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Adjustment {
    Brightness(f32),
    Contrast(f32),
    Saturation(f32),
    /// In turns of the colour wheel.
    Hue(f32),
}

/// What was drawn for a picture, in the order in which it is done: each kind once at most, and greys in the last place.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Jitter {
    pub(super) adjustments: [Option<Adjustment>; 5],
}

impl Jitter {
    /// Leaves of every pixel its grey value, after all else.
    pub(super) fn lose_colours(&mut self) {
        self.adjustments[4] = Some(Adjustment::Saturation(0.0));
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.adjustments.iter().all(Option::is_none)
    }
}

/// Pixels that are changed together; their floats stay in the first-level cache.
const CHUNK: usize = 256;

/// White.
const WHITE: f32 = 255.0;

/// Red, green and blue values of some pixels, 0 to 255.
type Chunk = [[f32; CHUNK]; 3];

/// Changes planar pixels in place.
pub(super) struct Adjust<'a> {
    pub(super) jitter: &'a Jitter,
    pub(super) planar: &'a mut [u8],
}

impl Work for Adjust<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Steps>(self, _: S) {
        let plane = self.planar.len() / 3;
        let (red, rest) = self.planar.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let mut planes = [red, green, blue];
        let all = &self.jitter.adjustments;
        let before = all.iter().position(|a| matches!(a, Some(Adjustment::Contrast(_))));
        let mean = before.map_or(0.0, |before| mean_grey(&planes, &all[..before]));
        for start in (0..plane).step_by(CHUNK) {
            let mut chunk = read(&planes, start);
            for adjustment in all.iter().flatten() {
                adjust(&mut chunk, *adjustment, mean);
            }
            for (plane, values) in planes.iter_mut().zip(&chunk) {
                for (out, &value) in plane[start..].iter_mut().zip(values) {
                    *out = nearest(value);
                }
            }
        }
    }
}

/// The pixels from `start` on; black where there are no more.
#[inline(always)]
fn read(planes: &[&mut [u8]; 3], start: usize) -> Chunk {
    let mut chunk = [[0.0; CHUNK]; 3];
    for (values, plane) in chunk.iter_mut().zip(planes) {
        for (value, &byte) in values.iter_mut().zip(&plane[start..]) {
            *value = f32::from(byte);
        }
    }
    chunk
}

/// The mean grey value of a picture after the adjustments that come before its contrast is changed.
#[inline(always)]
fn mean_grey(planes: &[&mut [u8]; 3], before: &[Option<Adjustment>]) -> f32 {
    let mut sum = 0.0;
    for start in (0..planes[0].len()).step_by(CHUNK) {
        let mut chunk = read(planes, start);
        for adjustment in before.iter().flatten() {
            adjust(&mut chunk, *adjustment, 0.0);
        }
        // Black past the end stays black, and adds nothing.
        let mut lanes = [0.0; 16];
        let [r, g, b] = &chunk;
        for start in (0..CHUNK).step_by(16) {
            for (lane, sum) in lanes.iter_mut().enumerate() {
                let at = start + lane;
                *sum += grey(r[at], g[at], b[at]);
            }
        }
        sum += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    (sum / planes[0].len().max(1) as f64) as f32
}

/// torchvision's `rgb_to_grayscale`.
#[inline(always)]
fn grey(r: f32, g: f32, b: f32) -> f32 {
    0.2989 * r + 0.587 * g + 0.114 * b
}

#[inline(always)]
fn clamp(value: f32) -> f32 {
    smaller(larger(value, 0.0), WHITE)
}

/// Changes a chunk; `mean` is what contrast is measured from.
#[inline(always)]
fn adjust(chunk: &mut Chunk, adjustment: Adjustment, mean: f32) {
    let [r, g, b] = chunk;
    match adjustment {
        Adjustment::Brightness(factor) => {
            for at in 0..CHUNK {
                [r[at], g[at], b[at]] = [clamp(factor * r[at]), clamp(factor * g[at]), clamp(factor * b[at])];
            }
        }
        Adjustment::Contrast(factor) => {
            let rest = (1.0 - factor) * mean;
            for at in 0..CHUNK {
                r[at] = clamp(factor * r[at] + rest);
                g[at] = clamp(factor * g[at] + rest);
                b[at] = clamp(factor * b[at] + rest);
            }
        }
        Adjustment::Saturation(factor) => {
            for at in 0..CHUNK {
                let rest = (1.0 - factor) * grey(r[at], g[at], b[at]);
                r[at] = clamp(factor * r[at] + rest);
                g[at] = clamp(factor * g[at] + rest);
                b[at] = clamp(factor * b[at] + rest);
            }
        }
        Adjustment::Hue(turn) => {
            for at in 0..CHUNK {
                [r[at], g[at], b[at]] = turned([r[at], g[at], b[at]], turn);
            }
        }
    }
}

/// A pixel whose hue is turned, by way of HSV as in torchvision's `adjust_hue`, without branches: a channel is
/// `max - range · clamp(min(k, 4 - k), 0, 1)`, where k is the hue in sixths of a turn past 5, 3 or 1, modulo 6
/// (Smith, "Color gamut transform pairs", 1978, in one formula for all sextants).
#[inline(always)]
fn turned([r, g, b]: [f32; 3], turn: f32) -> [f32; 3] {
    let most = larger(larger(r, g), b);
    let range = most - smaller(smaller(r, g), b);
    let divisor = if range > 0.0 { range } else { 1.0 };
    let blue = (r - g, 4.0);
    let green = if most == g { (b - r, 2.0) } else { blue };
    let (difference, sextant) = if most == r { (g - b, 0.0) } else { green };
    // From -1 to 5, and by at most half a turn further.
    let hue = difference / divisor + sextant + 6.0 * turn;
    let hue = if hue < 0.0 { hue + 6.0 } else { hue };
    let hue = if hue >= 6.0 { hue - 6.0 } else { hue };
    [channel(most, range, hue + 5.0), channel(most, range, hue + 3.0), channel(most, range, hue + 1.0)]
}

#[inline(always)]
fn channel(most: f32, range: f32, k: f32) -> f32 {
    let k = if k >= 6.0 { k - 6.0 } else { k };
    let share = smaller(smaller(k, 4.0 - k), 1.0);
    most - range * larger(share, 0.0)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}
