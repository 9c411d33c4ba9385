//! Bytes to the pixels that a model sees: averaged down to its size and normalised in one pass.
//!
//! Area averaging: each output pixel is the mean of the input that it covers, with fractional weights at the
//! borders. Leaves out enlarging.

use rayon::prelude::*;

/// From stored pictures to model input, for fixed sizes.
#[derive(Debug)]
pub struct Downscale {
    rows: Vec<Span>,
    columns: Vec<Span>,
    width: usize,
    size: usize,
    /// Scale and shift of each channel: (value / 255 − mean) / std.
    affine: [(f32, f32); 3],
}

/// What one output pixel covers along one axis: the first input and the weights from there, summing to 1.
#[derive(Debug)]
struct Span {
    first: usize,
    weights: Vec<f32>,
}

fn spans(from: usize, to: usize) -> Vec<Span> {
    let ratio = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let (start, end) = (i as f64 * ratio, ((i + 1) as f64 * ratio).min(from as f64));
            let (first, last) = (start.floor() as usize, (end.ceil() as usize).clamp(1, from));
            let overlap = |j: usize| (end.min((j + 1) as f64) - start.max(j as f64)).max(0.0);
            Span { first, weights: (first..last).map(|j| (overlap(j) / (end - start)) as f32).collect() }
        })
        .collect()
}

impl Downscale {
    /// For pictures of `height` × `width` to `size` × `size`; `None` where that would enlarge.
    pub fn new(height: usize, width: usize, size: usize, mean_std: ([f32; 3], [f32; 3])) -> Option<Self> {
        if size == 0 || size > height || size > width {
            return None;
        }
        let (mean, std) = mean_std;
        let affine = std::array::from_fn(|c| (1.0 / (255.0 * std[c]), -mean[c] / std[c]));
        Some(Self { rows: spans(height, size), columns: spans(width, size), width, size, affine })
    }

    /// Pictures of 3 × height × width bytes (R, G, B) to 3 × size × size floats each.
    ///
    /// Every picture is computed by itself, so the bits do not depend on the number of threads.
    pub fn apply(&self, pixels: &[u8], height: usize) -> Vec<f32> {
        let plane = height * self.width;
        let area = self.size * self.size;
        let planes = pixels.len().checked_div(plane).unwrap_or(0);
        let mut output = vec![0f32; planes * area];
        output.par_chunks_mut(area).zip(pixels.par_chunks_exact(plane.max(1))).enumerate().for_each(
            |(number, (output, plane))| {
                let (scale, shift) = self.affine[number % 3];
                self.plane(plane, output, scale, shift);
            },
        );
        output
    }

    fn plane(&self, plane: &[u8], output: &mut [f32], scale: f32, shift: f32) {
        let mut sums = vec![0f32; self.width];
        for (span, output) in self.rows.iter().zip(output.chunks_exact_mut(self.size)) {
            sums.fill(0.0);
            let rows = plane.chunks_exact(self.width).skip(span.first);
            for (weight, row) in span.weights.iter().zip(rows) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f32::from(*value));
            }
            for (span, output) in self.columns.iter().zip(output) {
                let covered = &sums[span.first..span.first + span.weights.len()];
                let mean: f32 = span.weights.iter().zip(covered).map(|(w, s)| w * s).sum();
                *output = mean * scale + shift;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither mean nor deviation: values stay on the scale 0 to 255.
    const PLAIN: ([f32; 3], [f32; 3]) = ([0.0; 3], [1.0 / 255.0; 3]);

    #[test]
    fn weights_sum_to_one_and_cover_everything_once() {
        for (from, to) in [(224, 64), (224, 112), (7, 7), (5, 3), (10, 1), (224, 223)] {
            let spans = spans(from, to);
            let mut covered = vec![0f64; from];
            for span in &spans {
                let sum: f32 = span.weights.iter().sum();
                assert!((sum - 1.0).abs() < 1e-5, "{from} to {to}: {sum}");
                for (i, weight) in span.weights.iter().enumerate() {
                    covered[span.first + i] += f64::from(*weight);
                }
            }
            let expected = to as f64 / from as f64;
            assert!(covered.iter().all(|c| (c - expected).abs() < 1e-5), "{from} to {to}");
        }
    }

    #[test]
    fn whole_ratios_are_plain_means() {
        let pixels: Vec<u8> = (0..3 * 16).map(|i| (i * 5) as u8).collect();
        let small = Downscale::new(4, 4, 2, PLAIN).unwrap().apply(&pixels, 4);
        let mean = |c: usize, y: usize, x: usize| -> f32 {
            let at = |dy: usize, dx: usize| f32::from(pixels[c * 16 + (2 * y + dy) * 4 + 2 * x + dx]);
            (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0
        };
        for c in 0..3 {
            for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                assert!((small[c * 4 + y * 2 + x] - mean(c, y, x)).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn the_same_size_only_normalises() {
        let pixels: Vec<u8> = (0..3 * 4).map(|i| (i * 20) as u8).collect();
        let (mean, std) = ([0.1, 0.2, 0.3], [0.5, 0.4, 0.3]);
        let out = Downscale::new(2, 2, 2, (mean, std)).unwrap().apply(&pixels, 2);
        for (i, value) in out.iter().enumerate() {
            let c = i / 4;
            let expected = (f32::from(pixels[i]) / 255.0 - mean[c]) / std[c];
            assert!((value - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn enlarging_is_refused() {
        assert!(Downscale::new(32, 32, 33, PLAIN).is_none());
        assert!(Downscale::new(32, 32, 0, PLAIN).is_none());
    }
}
