//! Pictures become model input as CLIP's own preprocessing makes it.

#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::Path;
use trainer::config::Normalize;
use trainer::imagefolder::{decode, pixel_values};

#[test]
fn pixel_values_are_those_of_open_clips_transform() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let reference: HashMap<String, Tensor> =
        candle_core::safetensors::load(fixtures.join("pictures_reference.safetensors"), &Device::Cpu)
            .unwrap();
    assert_eq!(reference.len(), 3);
    for (name, expected) in reference {
        let picture = decode(&fixtures.join(format!("picture_{name}.png"))).unwrap();
        let found = pixel_values(&picture, 24, Normalize::Clip.mean_std());
        let expected: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(found.len(), expected.len());
        // PIL rounds to whole levels between rows and columns, we do not: a level apart here and there, which
        // is 0.0151 at most, and a third of one in the mean.
        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let worst = off.clone().fold(0.0, f32::max);
        let mean = off.sum::<f32>() / found.len() as f32;
        assert!(worst < 0.0151 * 1.01 && mean < 0.005, "{name}: {worst} at most, {mean} in the mean");
    }
}
