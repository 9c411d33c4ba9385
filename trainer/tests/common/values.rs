//! Fixtures of values that PyTorch computed, and what is compared with them.

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The path of a fixture.
pub(crate) fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{name}.safetensors"))
}

/// The tensors of a fixture.
pub(crate) fn fixture(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture_path(name), &Device::Cpu).unwrap()
}

/// All values in double precision.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Shapes are equal, and no value is off by more than `tolerance` as a share of the largest expected one.
#[track_caller]
pub(crate) fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims(), "{what}: shape");
    let (found, expected) = (numbers(found), numbers(expected));
    let scale = expected.iter().fold(1e-6f64, |a, b| a.max(b.abs()));
    for (place, (f, e)) in found.iter().zip(&expected).enumerate() {
        assert!(
            (f - e).abs() <= tolerance * scale,
            "{what}[{place}]: found {f}, expected {e}, scale {scale}"
        );
    }
}
