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
    if place.flip {
        across.reverse();
    }
    simd::run(instructions, Resample { place, out, down, across, band });
}

/// A count of weights that is not known before.
const ANY: usize = 0;

/// The count where a picture grows.
const TWO: usize = 2;

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
        let centre = |place: usize| (place as f64 + 0.5) * scale;
        let window = |place: usize| {
            let first = ((centre(place) - reach + 0.5).max(0.0) as usize).min(from - 1);
            first..((centre(place) + reach + 0.5) as usize).clamp(first + 1, from)
        };
        self.count = (0..to).map(|place| window(place).len()).max().unwrap_or(1);
        self.starts.clear();
        self.weights.clear();
        for place in 0..to {
            let window = window(place);
            let weight = |at: usize| {
                let distance = (at as f64 + 0.5 - centre(place)).abs() / reach;
                if window.contains(&at) { (1.0 - distance).max(0.0) } else { 0.0 }
            };
            let sum: f64 = window.clone().map(weight).sum();
            // All are `count` wide; at the end one begins earlier, with zeros.
            let start = window.start.min(from - self.count);
            self.weights.extend((start..start + self.count).map(|at| (weight(at) / sum) as f32));
            self.starts.push(start);
        }
    }

    /// The results in the opposite order.
    fn reverse(&mut self) {
        self.starts.reverse();
        self.weights.chunks_exact_mut(self.count).for_each(<[f32]>::reverse);
        self.weights.reverse();
    }

    /// The first source value of a result and the weights from there on. There are `COUNT` of them, so that the loop
    /// over them needs no counter; `ANY` where that is not known before.
    #[inline(always)]
    fn get<const COUNT: usize>(&self, place: usize) -> (usize, &[f32]) {
        let weights = &self.weights[place * self.count..];
        (self.starts[place], if COUNT == ANY { &weights[..self.count] } else { &weights[..COUNT] })
    }
}

/// Planes, and samples that stand side by side for each pixel.
fn planes_and_samples(layout: Layout) -> (usize, usize) {
    match layout {
        Layout::Chw => (3, 1),
        Layout::Hwc => (1, 3),
    }
}

/// A row of the region within one of the picture's planes.
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
        band.resize((samples * place.region.width).next_multiple_of(8), [0.0; 8]);
        let plane_bytes = place.picture.height * place.picture.width * samples;
        for (p, plane) in place.picture.pixels.chunks_exact(plane_bytes).take(planes).enumerate() {
            for top in (0..height).step_by(8) {
                match down.count {
                    TWO => fill_band::<S, TWO>(steps, &place, (plane, samples), down, top, band),
                    _ => fill_band::<S, ANY>(steps, &place, (plane, samples), down, top, band),
                }
                for c in 0..samples {
                    let start = ((p + c) * height + top) * width;
                    let rows = 8.min(height - top);
                    let out = &mut out[start..start + rows * width];
                    match (across.count, samples) {
                        (TWO, 1) => write_band::<S, TWO>(steps, band, 1, across, width, out),
                        (TWO, _) => write_band::<S, TWO>(steps, &band[c..], samples, across, width, out),
                        _ => write_band::<S, ANY>(steps, &band[c..], samples, across, width, out),
                    }
                }
            }
        }
    }
}

/// Eight rows of results from `top` on, as columns.
#[inline(always)]
fn fill_band<S: Steps, const COUNT: usize>(
    steps: S,
    place: &Place<'_>,
    (plane, samples): (&[u8], usize),
    down: &Taps,
    top: usize,
    band: &mut [[f32; 8]],
) {
    let stride = samples * place.picture.width;
    let start = samples * place.region.left;
    let windows: [(usize, &[f32]); 8] = std::array::from_fn(|r| {
        let (first, weights) = down.get::<COUNT>((top + r).min(place.size.0 - 1));
        ((place.region.top + first) * stride + start, weights)
    });
    let mut rows = [[0.0; 8]; 8];
    for (at, columns) in band.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        for (sums, (start, weights)) in rows.iter_mut().zip(windows) {
            let first = start + 8 * at;
            let weights = if COUNT == ANY { weights } else { &weights[..COUNT] };
            // Past the row's end stands the next row, whose columns nobody asks for, or nothing.
            *sums = if first + (weights.len() - 1) * stride + 8 <= plane.len() {
                steps.sum_of_rows(&plane[first..], stride, weights)
            } else {
                last_rows(steps, &plane[first..], stride, weights)
            };
        }
        *columns = steps.transposed(&rows);
    }
}

/// The same sums at the plane's end, with zeros past it.
#[cold]
fn last_rows<S: Steps>(steps: S, plane: &[u8], stride: usize, weights: &[f32]) -> [f32; 8] {
    let mut sums = [0.0; 8];
    for (k, &weight) in weights.iter().enumerate() {
        let rest = plane.get(k * stride..).unwrap_or_default();
        let len = rest.len().min(8);
        let mut values = [0; 8];
        values[..len].copy_from_slice(&rest[..len]);
        let products = steps.sum_of_rows(&values, 0, &[weight]);
        sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
    }
    sums
}

/// Up to eight rows of one channel, each of `width` results, from its columns, which stand `samples` apart.
#[inline(always)]
fn write_band<S: Steps, const COUNT: usize>(
    steps: S,
    band: &[[f32; 8]],
    samples: usize,
    across: &Taps,
    width: usize,
    out: &mut [u8],
) {
    let mut columns = [[0.0; 8]; 8];
    for left in (0..width).step_by(8) {
        for (i, sums) in columns.iter_mut().enumerate() {
            let (start, weights) = across.get::<COUNT>((left + i).min(width - 1));
            *sums = steps.sum_of_columns(&band[samples * start..], samples, weights);
        }
        let rows = steps.transposed(&columns);
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
            let mut bytes = [0; 8];
            for (byte, &value) in bytes.iter_mut().zip(row) {
                *byte = nearest(value);
            }
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
pub(super) fn nearest(value: f32) -> u8 {
    (value + 8_388_608.0).to_bits() as u8
}
