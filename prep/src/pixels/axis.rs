//! One axis of a resize: for each output sample the samples that it is made of and their weights. The kernel is what
//! PIL calls bicubic (Catmull-Rom, a = −0.5), widened for shrinking, so that it is its own low-pass filter. Planes of
//! chroma at half size get the weights of both steps at once, interpolation to full size and reduction: they are
//! never enlarged. It leaves out the sums themselves (`reduce`).

use std::ops::Range;

/// Weights are whole numbers of this unit's inverse: 2⁻¹⁴.
pub(crate) const ONE: i32 = 1 << 14;

/// How samples of a plane stand to pixels of the picture along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sampling {
    /// A sample a pixel.
    Full,
    /// A sample for two pixels, which lie at a quarter of the way to its neighbours: ¾ of the nearer sample and ¼ of
    /// the farther one, as decoders of JPEG interpolate.
    Half,
}

/// The part of an axis that is reduced, in pixels: edges may lie between pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Span {
    /// Where it begins.
    pub start: f64,
    /// How long it is.
    pub length: f64,
}

/// Weights of an axis, in the same number for each output sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Axis {
    /// The first input sample of each output sample.
    first: Vec<u32>,
    /// `taps` weights for each output sample, in units of 2⁻¹⁴; they add up to one.
    weights: Vec<i16>,
    /// What rounding down leaves out of each output sample's sum, on average; see [`Axis::each`].
    lost: Vec<i16>,
    taps: usize,
    /// Input samples that are used.
    used: Range<usize>,
}

/// Catmull-Rom.
fn kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// The pixels that an output sample is made of, and their weights: the first pixel, and one weight for each from there.
fn pixel_weights(pixels: usize, span: Span, outputs: usize, output: usize) -> (usize, Vec<f64>) {
    let scale = span.length / outputs as f64;
    let widened = scale.max(1.0);
    let (centre, support) = (span.start + (output as f64 + 0.5) * scale, 2.0 * widened);
    // Casts of negative values give 0, as they should.
    let first = ((centre - support + 0.5) as usize).min(pixels - 1);
    let end = ((centre + support + 0.5) as usize).clamp(first + 1, pixels);
    let mut weights: Vec<f64> =
        (first..end).map(|pixel| kernel((pixel as f64 - centre + 0.5) / widened)).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    (first, weights)
}

/// The same output sample made of the samples of a plane.
fn sample_weights(sampling: Sampling, pixels: usize, first: usize, weights: Vec<f64>) -> (usize, Vec<f64>) {
    if sampling == Sampling::Full {
        return (first, weights);
    }
    let last = pixels.div_ceil(2) - 1;
    let from = (first / 2).saturating_sub(1);
    let mut sampled = vec![0.0; weights.len() / 2 + 4];
    for (pixel, weight) in (first..).zip(weights) {
        let near = pixel / 2;
        let far = if pixel % 2 == 0 { near.saturating_sub(1) } else { (near + 1).min(last) };
        sampled[near - from] += 0.75 * weight;
        sampled[far - from] += 0.25 * weight;
    }
    let end = sampled.iter().rposition(|weight| *weight != 0.0).map_or(1, |at| at + 1);
    sampled.truncate(end);
    (from, sampled)
}

impl Axis {
    /// `outputs` samples out of `span` of an axis of `pixels` pixels.
    pub(crate) fn new(pixels: usize, sampling: Sampling, span: Span, outputs: usize) -> Self {
        let rows: Vec<(usize, Vec<f64>)> = (0..outputs)
            .map(|output| {
                let (first, weights) = pixel_weights(pixels, span, outputs, output);
                sample_weights(sampling, pixels, first, weights)
            })
            .collect();
        let taps = rows.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1);
        let start = rows.iter().map(|(first, _)| *first).min().unwrap_or(0);
        let end = rows.iter().map(|(first, weights)| first + weights.len()).max().unwrap_or(1);
        let mut axis = Self { taps, used: start..end, ..Self::default() };
        for (first, weights) in rows {
            axis.first.push(first as u32);
            // The running sum is rounded, so that the whole comes to one however small the parts are.
            let (mut sum, mut given) = (0.0, 0);
            let mut whole = vec![0i16; taps];
            for (whole, weight) in whole.iter_mut().zip(weights) {
                sum += weight;
                let due = (sum * f64::from(ONE)).round() as i32;
                *whole = (due - given) as i16;
                given = due;
            }
            axis.lost.push((whole.iter().filter(|weight| **weight != 0).count() / 2) as i16);
            axis.weights.extend(whole);
        }
        axis
    }

    /// Input samples that are used, as a range of the plane's axis.
    pub(crate) fn used(&self) -> Range<usize> {
        self.used.clone()
    }

    /// Weights of each output sample: a reader may read that many samples from each first one, the last of them by
    /// weights of zero past the end of [`Axis::used`].
    pub(crate) fn taps(&self) -> usize {
        self.taps
    }

    /// For each output sample its first input sample, its weights, and half the number of its weights: what
    /// products that are rounded down lose together, in units of the products.
    pub(crate) fn each(&self) -> impl ExactSizeIterator<Item = (usize, &[i16], i16)> {
        let weights = self.weights.chunks_exact(self.taps);
        self.first
            .iter()
            .zip(weights)
            .zip(&self.lost)
            .map(|((&first, weights), &lost)| (first as usize, weights, lost))
    }
}
