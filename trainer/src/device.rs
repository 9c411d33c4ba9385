//! The one place that names devices.
//!
//! The CPU is the default; `train.device = "cuda"` needs a build with the feature `cuda`. Leaves out dtypes:
//! everything trains in f32.

use crate::error::{Error, Result};
use candle_core::Device;
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
    /// [`Error::Config`] when the build has no CUDA, [`Error::Tensor`] when the device does not open.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if cfg!(feature = "cuda") => {
                Device::new_cuda(0).map_err(Error::tensor("open the first CUDA device"))
            }
            Self::Cuda => Err(Error::Config {
                key: "train.device".into(),
                value: "\"cuda\"".into(),
                allowed: "\"cpu\", or build with --features cuda".into(),
            }),
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

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_so() {
        let text = DeviceChoice::Cuda.open().unwrap_err().to_string();
        assert!(text.contains("--features cuda"), "{text}");
    }
}
