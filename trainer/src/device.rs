//! The one place that names devices and precisions.
//!
//! The CPU is the default and computes in f32; `train.device = "cuda"` needs a build with the feature `cuda`. Leaves
//! out what is done in which precision, which is the model's.

use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

/// What a run computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// The first CUDA device.
    Cuda,
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Config`] when the build has no CUDA, or the device does not open.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if cfg!(feature = "cuda") => {
                // A stream of its own that all threads share: batches are made ready by another thread than the
                // one that computes with them, and candle's default is an unordered stream for each thread.
                Device::new_cuda_with_stream(0).map_err(|error| Error::Config {
                    key: "train.device".into(),
                    value: "\"cuda\"".into(),
                    allowed: format!(
                        "\"cpu\" on this machine, whose first CUDA device did not open ({})",
                        brief(&error)
                    ),
                })
            }
            Self::Cuda => Err(Error::Config {
                key: "train.device".into(),
                value: "\"cuda\"".into(),
                allowed: "\"cpu\", or build with --features cuda".into(),
            }),
        }
    }
}

/// The first line of an error: a trace of the program's calls may follow it.
fn brief(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// What a model's activations are computed in. Parameters, moments and sums are f32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Eight bits of exponent and seven of fraction.
    Bf16,
}

impl Precision {
    /// Makes sure that the device computes in it.
    ///
    /// # Errors
    /// [`Error::Config`] when it does not, as CUDA devices before compute capability 8.0 with bf16.
    pub fn check(self, device: &Device) -> Result<()> {
        let sum = Tensor::ones(1, self.dtype(), device).and_then(|one| &one + &one);
        let value = sum.and_then(|sum| sum.to_dtype(DType::F32)?.to_vec1::<f32>());
        if value.is_ok_and(|value| value == [2.0]) {
            return Ok(());
        }
        Err(Error::Config {
            key: "train.precision".into(),
            value: format!("\"{}\"", format!("{self:?}").to_lowercase()),
            allowed: "\"f32\" on this device".into(),
        })
    }

    /// Its type in the tensor library.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_always_there() {
        assert!(matches!(DeviceChoice::default().open().unwrap(), Device::Cpu));
    }

    #[test]
    fn the_processor_computes_in_f32() {
        Precision::F32.check(&Device::Cpu).unwrap();
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_so() {
        let text = DeviceChoice::Cuda.open().unwrap_err().to_string();
        assert!(text.contains("--features cuda"), "{text}");
    }
}
