//! Planes of samples → the stored pixels. Strips of eight rows are reduced along x as they come, and turned to rows
//! in the cache; at the end each output row is reduced along y, its colours are converted and its pixels are written
//! where they stay. Sums are of 16-bit products, which every instruction set has and which are the same on all of
//! them. It leaves out which samples make which (`axis`), and where strips come from.

use std::sync::Arc;

use jpeg::Strips;

use super::{axis::Axis, simd::Steps};

/// Bits below the point in sums: a sample of 8 bits times 2⁷, times a weight of 14 bits, over 2¹⁶.
const POINT: i32 = 5;

/// Bits below the point in samples.
const SAMPLE_POINT: i32 = 7;

/// How one plane is reduced.
#[derive(Debug, Clone)]
pub(crate) struct PlaneAxes {
    /// Along x.
    pub x: Arc<Axis>,
    /// Along y.
    pub y: Arc<Axis>,
}

/// What the planes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    /// One plane.
    Grey,
    /// Red, green, blue.
    Rgb,
    /// Luma and two of chroma, as JFIF has them: full range, BT.601.
    Ycc,
}

/// Planes reduced along x.
#[derive(Debug, Default)]
struct Reduced {
    /// Rows of `stride` samples, with 7 bits below the point.
    rows: Vec<i16>,
    stride: usize,
    /// The first row that is used, as a row of the plane.
    first_row: usize,
    /// The first column of a strip, as a column of the plane.
    first_column: usize,
}

/// A reduction, with buffers that are kept from one picture to the next.
#[derive(Debug, Default)]
pub(crate) struct Reduction {
    axes: Vec<PlaneAxes>,
    reduced: [Reduced; 3],
    /// A strip with 7 bits below the point, and room behind its end.
    padded: Vec<[i16; 8]>,
    /// An output row of each plane.
    sums: [Vec<i16>; 3],
}

/// A sample of 7 bits below the point times a weight, in units of 2⁻⁵, rounded down.
#[inline(always)]
fn product(sample: i16, weight: i16) -> i16 {
    ((i32::from(sample) * i32::from(weight)) >> 16) as i16
}

impl Reduction {
    /// Begins a picture: each plane's axes, and the first column of its strips.
    pub(crate) fn begin(&mut self, axes: Vec<PlaneAxes>, first_columns: &[usize]) {
        for ((reduced, axes), &first_column) in self.reduced.iter_mut().zip(&axes).zip(first_columns) {
            let used = axes.y.used();
            reduced.first_row = used.start / 8 * 8;
            reduced.first_column = first_column;
            reduced.stride = axes.x.each().len().next_multiple_of(8);
            // Weights of zero may reach past the last row.
            let rows = (used.end - reduced.first_row).next_multiple_of(8) + axes.y.taps();
            reduced.rows.resize(rows * reduced.stride, 0);
        }
        self.axes = axes;
    }

    #[inline(always)]
    fn take_strip<S: Steps>(&mut self, steps: S, component: usize, row: usize, columns: &[[u8; 8]]) {
        let (reduced, axis) = (&mut self.reduced[component], &self.axes[component].x);
        self.padded.resize(columns.len() + axis.taps(), [0; 8]);
        for (padded, column) in self.padded.iter_mut().zip(columns) {
            *padded = steps.widened(*column);
        }
        let Some(top) = (8 * row).checked_sub(reduced.first_row) else { return };
        let Some(rows) = reduced.rows.get_mut(top * reduced.stride..) else { return };
        let mut block = [[0; 8]; 8];
        let outputs = axis.each().len();
        for (output, (first, weights, lost)) in axis.each().enumerate() {
            let columns = &self.padded[first - reduced.first_column..];
            let sums = steps.sum_of_products(columns, weights, lost);
            block[output % 8] = sums.map(|sum| sum.clamp(0, 255 << POINT) << (SAMPLE_POINT - POINT));
            if output % 8 == 7 || output + 1 == outputs {
                let at = output / 8 * 8;
                for (row, samples) in rows.chunks_exact_mut(reduced.stride).zip(steps.transposed(&block)) {
                    row[at..at + 8].copy_from_slice(&samples);
                }
            }
        }
    }

    /// Ends a picture: gives each output row, from the top, as red, green and blue, and comes to how many of those
    /// values were well outside of what they can be.
    #[inline(always)]
    pub(crate) fn finish(&mut self, colours: Colours, mut give: impl FnMut(usize, [&[u8]; 3])) -> usize {
        let outputs = self.axes[0].y.each().len();
        let width = self.axes[0].x.each().len();
        let mut rgb = [const { Vec::new() }; 3];
        rgb.iter_mut().for_each(|row: &mut Vec<u8>| row.resize(width.next_multiple_of(8), 0));
        let mut outside = 0;
        for output in 0..outputs {
            for ((sums, reduced), axes) in self.sums.iter_mut().zip(&self.reduced).zip(&self.axes) {
                sum_of_rows(sums, reduced, &axes.y, output);
            }
            outside += usize::from(convert(colours, &self.sums, &mut rgb));
            let [red, green, blue] = &rgb;
            if colours == Colours::Grey {
                give(output, [&red[..width]; 3]);
            } else {
                give(output, [&red[..width], &green[..width], &blue[..width]]);
            }
        }
        outside
    }
}

#[inline(always)]
fn sum_of_rows(sums: &mut Vec<i16>, reduced: &Reduced, axis: &Axis, output: usize) {
    let Some((first, weights, lost)) = axis.each().nth(output) else { return };
    let stride = reduced.stride;
    sums.clear();
    sums.resize(stride, lost);
    let rows = &reduced.rows[(first - reduced.first_row) * stride..];
    const LANES: usize = 32;
    let mut at = 0;
    while at < stride {
        let lanes = LANES.min(stride - at);
        if lanes == LANES {
            let mut part = [lost; LANES];
            for (row, &weight) in rows.chunks_exact(stride).zip(weights) {
                let row: &[i16; LANES] = row[at..].first_chunk().expect("32 samples are left");
                for (sum, &sample) in part.iter_mut().zip(row) {
                    *sum = sum.wrapping_add(product(sample, weight));
                }
            }
            sums[at..at + LANES].copy_from_slice(&part);
        } else {
            for (row, &weight) in rows.chunks_exact(stride).zip(weights) {
                for (sum, &sample) in sums[at..].iter_mut().zip(&row[at..]) {
                    *sum = sum.wrapping_add(product(sample, weight));
                }
            }
        }
        at += lanes;
    }
}

/// Times a fraction of 2⁻¹⁶.
#[inline(always)]
fn part(value: i16, fraction: i16) -> i16 {
    ((i32::from(value) * i32::from(fraction)) >> 16) as i16
}

#[inline(always)]
fn rounded(sum: i16) -> u8 {
    (sum.wrapping_add(1 << (POINT - 1)) >> POINT).clamp(0, 255) as u8
}

/// Whether a sum of luma and chroma is four or more steps below black or above white. Decoders clip each pixel of the
/// picture, and a mean of clipped pixels is another than a clipped mean.
#[inline(always)]
fn is_outside(sum: i16) -> u16 {
    u16::from(sum < -(4 << POINT)) | u16::from(sum > 259 << POINT)
}

/// A row of sums to bytes; how many values of luma and chroma were outside.
#[inline(always)]
fn convert(colours: Colours, sums: &[Vec<i16>; 3], rgb: &mut [Vec<u8>; 3]) -> u16 {
    let [red, green, blue] = rgb;
    if colours != Colours::Ycc {
        for (row, sums) in [red, green, blue].into_iter().zip(sums) {
            row.iter_mut().zip(sums).for_each(|(byte, &sum)| *byte = rounded(sum));
        }
        return 0;
    }
    let [luma, blueness, redness] = sums;
    let mut outside = 0u16;
    for (((((red, green), blue), &y), &cb), &cr) in
        red.iter_mut().zip(green).zip(blue).zip(luma).zip(blueness).zip(redness)
    {
        let (cb, cr) = (cb.wrapping_sub(128 << POINT), cr.wrapping_sub(128 << POINT));
        // 1.402 = 1 + 0.402, 0.71414 = 1 - 0.28586, 1.772 = 2 - 0.228: fractions below a half fit 16 bits.
        let r = y.wrapping_add(cr).wrapping_add(part(cr, 26_345));
        let g = y.wrapping_sub(cr).wrapping_add(part(cr, 18_734)).wrapping_add(part(cb, -22_554));
        let b = y.wrapping_add(cb).wrapping_add(cb).wrapping_add(part(cb, -14_942));
        (*red, *green, *blue) = (rounded(r), rounded(g), rounded(b));
        outside += is_outside(r) + is_outside(g) + is_outside(b);
    }
    outside
}

impl<S: Steps> Strips<S> for Reduction {
    #[inline(always)]
    fn strip(&mut self, steps: S, component: usize, row: usize, columns: &[[u8; 8]]) {
        self.take_strip(steps, component, row, columns);
    }
}
