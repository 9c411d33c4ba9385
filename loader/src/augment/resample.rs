//! A part of a picture at another size, mirrored on the way if asked: the antialiased bilinear filter of Pillow,
//! torchvision and `torch.nn.functional.interpolate(…, antialias=True)`. A part of the right size is copied.
//!
//! The filter is a triangle, as wide as a source pixel where the picture grows and as a result's pixel where it
//! shrinks. Bands of eight rows are made first, column by column, so that both passes work on eight values side by
//! side, whatever the layout. Sums are floats, taken in one order and rounded to bytes once.

use shard::Layout;

use super::{Picture, Scratch, crop::Region};
use crate::pixels::simd::{self, Instructions, Steps, Stores, Work};

/// From where to where.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) picture: Picture<'a>,
    pub(super) region: Region,
    /// Height and width of the result.
    pub(super) size: (usize, usize),
    pub(super) flip: bool,
}

/// Writes the region to `out`, 3 planes.
pub(super) fn write(instructions: Instructions, place: Place<'_>, out: &mut [u8], scratch: &mut Scratch) {
    let Place { region, size, .. } = place;
    if (region.height, region.width) == size {
        return simd::run(instructions, Copy { place, out });
    }
    let Scratch { down, across, band } = scratch;
    down.fill(region.height, size.0);
    across.fill(region.width, size.1);
    simd::run(instructions, Resample { place, out, down, across, band });
}

/// One dimension's filter: which source values make each result, and with what weights.
#[derive(Debug, Default)]
pub(super) struct Taps {
    starts: Vec<usize>,
    /// `count` for each result; zero where fewer are needed.
    weights: Vec<f32>,
    count: usize,
}

impl Taps {
    /// The filter from `from` values to `to`, in the memory of the last one.
    fn fill(&mut self, from: usize, to: usize) {
        let scale = from as f64 / to as f64;
        let reach = scale.max(1.0);
        // A window is at most 2·reach + 1 wide, before the picture's edges cut it.
        self.count = ((2.0 * reach).ceil() as usize + 1).min(from);
        self.starts.clear();
        self.weights.clear();
        for place in 0..to {
            let centre = (place as f64 + 0.5) * scale;
            let first = ((centre - reach + 0.5).max(0.0) as usize).min(from - 1);
            let end = ((centre + reach + 0.5) as usize).clamp(first + 1, from);
            // Windows are all `count` wide; at the end one begins earlier, with zeros.
            let start = first.min(from - self.count);
            let weight = |at: usize| {
                let inside = (first..end).contains(&at);
                let distance = (at as f64 + 0.5 - centre).abs() / reach;
                if inside { (1.0 - distance).max(0.0) } else { 0.0 }
            };
            let window = start..start + self.count;
            let sum: f64 = window.clone().map(weight).sum();
            self.weights.extend(window.map(|at| (weight(at) / sum) as f32));
            self.starts.push(start);
        }
    }

    #[inline(always)]
    fn get(&self, place: usize) -> (usize, &[f32]) {
        (self.starts[place], &self.weights[place * self.count..(place + 1) * self.count])
    }
}

/// Planes, and samples that stand side by side for each pixel.
fn planes_and_samples(layout: Layout) -> (usize, usize) {
    match layout {
        Layout::Chw => (3, 1),
        Layout::Hwc => (1, 3),
    }
}

/// The region's rows within one of the picture's planes.
#[inline(always)]
fn row<'a>(place: &Place<'a>, plane: &'a [u8], samples: usize, y: usize) -> &'a [u8] {
    let start = ((place.region.top + y) * place.picture.width + place.region.left) * samples;
    &plane[start..start + samples * place.region.width]
}

struct Copy<'a> {
    place: Place<'a>,
    out: &'a mut [u8],
}

impl Work for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Steps>(self, steps: S) {
        let Copy { place, out } = self;
        let (planes, samples) = planes_and_samples(place.picture.layout);
        let (height, width) = place.size;
        let plane_bytes = place.picture.height * place.picture.width * samples;
        for (p, plane) in place.picture.pixels.chunks_exact(plane_bytes).take(planes).enumerate() {
            for y in 0..height {
                let from = row(&place, plane, samples, y);
                if samples == 1 {
                    let to = &mut out[(p * height + y) * width..][..width];
                    steps.copy(from, to, Stores::Cached);
                } else {
                    let (r, rest) = out.split_at_mut(height * width);
                    let (g, b) = rest.split_at_mut(height * width);
                    steps.split(from, [r, g, b].map(|plane| &mut plane[y * width..(y + 1) * width]));
                }
            }
        }
        if place.flip {
            out.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
    }
}

struct Resample<'a> {
    place: Place<'a>,
    out: &'a mut [u8],
    down: &'a Taps,
    across: &'a Taps,
    band: &'a mut Vec<[f32; 8]>,
}

impl Work for Resample<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Steps>(self, steps: S) {
        let Resample { place, out, down, across, band } = self;
        let (planes, samples) = planes_and_samples(place.picture.layout);
        let (height, width) = place.size;
        let values = samples * place.region.width;
        band.resize(values.next_multiple_of(8), [0.0; 8]);
        let plane_bytes = place.picture.height * place.picture.width * samples;
        for (p, plane) in place.picture.pixels.chunks_exact(plane_bytes).take(planes).enumerate() {
            for top in (0..height).step_by(8) {
                for (at, columns) in band.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                    *columns = columns_of(steps, &place, plane, samples, down, (top, 8 * at));
                }
                for c in 0..samples {
                    let start = ((p + c) * height + top) * width;
                    let rows = 8.min(height - top);
                    let out = &mut out[start..start + rows * width];
                    rows_of(steps, band, across, (samples, c), place.flip, width, out);
                }
            }
        }
    }
}

/// Eight columns of the band of eight results from `top`, beginning with the row's value `left`.
#[inline(always)]
fn columns_of<S: Steps>(
    steps: S,
    place: &Place<'_>,
    plane: &[u8],
    samples: usize,
    down: &Taps,
    (top, left): (usize, usize),
) -> [[f32; 8]; 8] {
    let last = place.size.0 - 1;
    let rows = std::array::from_fn(|r| {
        let mut sums = [0.0; 8];
        let (start, weights) = down.get((top + r).min(last));
        for (k, &weight) in weights.iter().enumerate() {
            let values = eight(row(place, plane, samples, start + k), left);
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += weight * f32::from(value);
            }
        }
        sums
    });
    steps.transposed(&rows)
}

/// Eight values of a row; zeros past its end.
#[inline(always)]
fn eight(row: &[u8], at: usize) -> [u8; 8] {
    let rest = &row[at..];
    match rest.first_chunk::<8>() {
        Some(values) => *values,
        None => {
            let mut values = [0; 8];
            values[..rest.len()].copy_from_slice(rest);
            values
        }
    }
}

/// Up to eight rows of channel `c`, each of `width` results, from their columns.
#[inline(always)]
fn rows_of<S: Steps>(
    steps: S,
    band: &[[f32; 8]],
    across: &Taps,
    (samples, c): (usize, usize),
    flip: bool,
    width: usize,
    out: &mut [u8],
) {
    for left in (0..width).step_by(8) {
        let columns = std::array::from_fn(|i| {
            let x = (left + i).min(width - 1);
            let (start, weights) = across.get(if flip { width - 1 - x } else { x });
            let mut sums = [0.0; 8];
            let window = band[samples * start + c..].iter().step_by(samples);
            for (&weight, values) in weights.iter().zip(window) {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += weight * value;
                }
            }
            sums
        });
        for (row, out) in steps.transposed(&columns).iter().zip(out.chunks_exact_mut(width)) {
            let bytes = row.map(byte);
            let out = &mut out[left..];
            match out.first_chunk_mut::<8>() {
                Some(out) => *out = bytes,
                None => out.copy_from_slice(&bytes[..out.len()]),
            }
        }
    }
}

/// The nearest whole number of a value from 0 to 255: added to 2^23, a float's last bit counts ones.
#[inline(always)]
pub(super) fn byte(value: f32) -> u8 {
    (value + 8_388_608.0).to_bits() as u8
}
