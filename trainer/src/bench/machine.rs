//! What the machine can do: large matrix products a second, and how much memory the process has taken.

use candle_core::{Device, Tensor};
use std::time::Instant;

/// Height and width of the products that are timed.
const SIZE: usize = 1536;

/// Floating-point operations a second of large f32 matrix products over all threads: the best of a few.
pub fn gemm_rate() -> f64 {
    let matrix = |value: f32| Tensor::full(value, (SIZE, SIZE), &Device::Cpu);
    let (Ok(a), Ok(b)) = (matrix(0.5), matrix(0.25)) else { return f64::NAN };
    let mut best = f64::INFINITY;
    for _ in 0..6 {
        let begun = Instant::now();
        if crate::ops::linear(&a, &b, None).is_ok() {
            best = best.min(begun.elapsed().as_secs_f64());
        }
    }
    2.0 * (SIZE as f64).powi(3) / best
}

/// The largest resident memory of this process so far in bytes; none where the system does not tell.
pub fn peak_memory() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_multiplies() {
        let rate = gemm_rate();
        assert!(rate > 1e6 && rate < 1e15, "{rate}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_memory() {
        assert!(peak_memory().unwrap() > 1 << 20);
    }
}
