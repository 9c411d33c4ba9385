//! A picture as the shares of its colours.
//!
//! Leaves out where in the picture a colour stands.

/// Levels a channel; the histogram has their cube of bins.
pub const LEVELS: usize = 6;

/// Bins of the histogram and a constant.
pub const FEATURES: usize = LEVELS * LEVELS * LEVELS + 1;

/// The joint colour histogram of one picture of 3 × height × width bytes (R, G, B): the square roots of the
/// bins' shares, so that small and large areas weigh alike, and a constant 1 at the end.
pub fn histogram(pixels: &[u8]) -> Vec<f64> {
    let plane = pixels.len() / 3;
    let mut bins = vec![0f64; FEATURES];
    let level = |value: u8| usize::from(value) * LEVELS / 256;
    for i in 0..plane {
        let (r, g, b) = (level(pixels[i]), level(pixels[plane + i]), level(pixels[2 * plane + i]));
        bins[(r * LEVELS + g) * LEVELS + b] += 1.0;
    }
    bins.iter_mut().for_each(|bin| *bin = (*bin / plane.max(1) as f64).sqrt());
    bins[FEATURES - 1] = 1.0;
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_colours_and_nothing_else() {
        // Two red pixels and two black ones, in whichever order.
        let one = histogram(&[255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let other = histogram(&[0, 255, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(one, other);
        let red = 5 * LEVELS * LEVELS;
        assert!((one[red] - 0.5f64.sqrt()).abs() < 1e-12 && (one[0] - 0.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(one[FEATURES - 1], 1.0);
        assert_eq!(one.iter().filter(|v| **v != 0.0).count(), 3);
    }
}
