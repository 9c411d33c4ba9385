//! Seeded initial values: each parameter draws from its own stream, keyed by a hash of (seed, name), so
//! that neither the order of creation nor another parameter's size matters.
//!
//! The stream is BLAKE3's extendable output, integers turned into normal numbers by Box and Muller's
//! transform in double precision. Left out: candle's generator, which cannot be seeded on the CPU.

use std::f64::consts::TAU;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Every element the same.
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform between minus and plus this bound.
    Uniform(f64),
}

/// `len` initial values of the parameter `name` under `seed`.
pub fn values(init: Init, seed: u64, name: &str, len: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, name);
    match init {
        Init::Constant(value) => vec![value; len],
        Init::Uniform(bound) => (0..len).map(|_| ((2.0 * stream.next_unit() - 1.0) * bound) as f32).collect(),
        Init::Normal(deviation) => {
            let mut out = Vec::with_capacity(len + 1);
            while out.len() < len {
                let radius = deviation * (-2.0 * stream.next_unit().ln()).sqrt();
                let (sin, cos) = (TAU * stream.next_unit()).sin_cos();
                out.push((radius * cos) as f32);
                out.push((radius * sin) as f32);
            }
            out.truncate(len);
            out
        }
    }
}

/// A stream of numbers that is a pure function of (seed, name).
struct Stream {
    reader: blake3::OutputReader,
    block: [u8; 4096],
    used: usize,
}

impl Stream {
    fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("trainer parameter initialisation v1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(name.as_bytes());
        Self { reader: hasher.finalize_xof(), block: [0; 4096], used: 4096 }
    }

    /// A number in (0, 1], with 53 random bits.
    fn next_unit(&mut self) -> f64 {
        if self.used == self.block.len() {
            self.reader.fill(&mut self.block);
            self.used = 0;
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.block[self.used..self.used + 8]);
        self.used += 8;
        ((u64::from_le_bytes(bytes) >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f32]) -> (f64, f64) {
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
        (mean, (variance / values.len() as f64).sqrt())
    }

    #[test]
    fn normal_and_uniform_have_their_moments() {
        let (mean, deviation) = moments(&values(Init::Normal(0.02), 1, "a", 100_000));
        assert!(mean.abs() < 3e-4 && (deviation - 0.02).abs() < 3e-4, "{mean} {deviation}");
        let uniform = values(Init::Uniform(0.5), 1, "a", 100_000);
        let (mean, deviation) = moments(&uniform);
        assert!(mean.abs() < 5e-3 && (deviation - 0.5 / 3f64.sqrt()).abs() < 5e-3);
        assert!(uniform.iter().all(|v| v.abs() <= 0.5));
    }

    #[test]
    fn seed_and_name_select_the_stream() {
        let base = values(Init::Normal(1.0), 1, "a", 9);
        assert_eq!(base, values(Init::Normal(1.0), 1, "a", 9));
        assert_eq!(base[..5], values(Init::Normal(1.0), 1, "a", 5)[..]);
        assert_ne!(base, values(Init::Normal(1.0), 2, "a", 9));
        assert_ne!(base, values(Init::Normal(1.0), 1, "b", 9));
    }
}
