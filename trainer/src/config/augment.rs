//! How pictures are changed at random in training, as torchvision defines it. Leaves out the changes, which are the
//! loader's.

use loader::{Augment, ColorJitter, RandomResizedCrop};
use serde::{Deserialize, Serialize};

/// Changes of a picture; as they are by default, nothing is changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// The least share of the area that a random resized crop takes; 1 for no crop. Its sides stand 3:4 to 4:3.
    pub least_area: f64,
    /// How likely a picture is mirrored, left to right.
    pub flip: f64,
    /// How far brightness goes: a factor from `1 - x` to `1 + x`.
    pub brightness: f64,
    /// How far contrast goes, likewise.
    pub contrast: f64,
    /// How far saturation goes, likewise.
    pub saturation: f64,
    /// How far the colour wheel turns, either way; 0.5 is half a turn.
    pub hue: f64,
    /// How likely a picture loses its colours.
    pub grayscale: f64,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            least_area: 1.0,
            flip: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            hue: 0.0,
            grayscale: 0.0,
        }
    }
}

impl AugmentConfig {
    /// Whether no picture is ever changed.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What the loader does to pictures.
    pub fn of_loader(&self) -> Option<Augment> {
        let jitter = ColorJitter {
            brightness: self.brightness as f32,
            contrast: self.contrast as f32,
            saturation: self.saturation as f32,
            hue: self.hue as f32,
        };
        let still = ColorJitter { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0 };
        let crop = RandomResizedCrop { scale: (self.least_area as f32, 1.0), ..RandomResizedCrop::default() };
        (!self.is_nothing()).then(|| Augment {
            crop: (self.least_area < 1.0).then_some(crop),
            flip: (self.flip > 0.0).then_some(self.flip as f32),
            jitter: (jitter != still).then_some(jitter),
            grayscale: (self.grayscale > 0.0).then_some(self.grayscale as f32),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_not_done() {
        assert_eq!(AugmentConfig::default().of_loader(), None);
        let grey = AugmentConfig { grayscale: 0.5, ..AugmentConfig::default() };
        assert_eq!(grey.of_loader(), Some(Augment { grayscale: Some(0.5), ..Augment::default() }));
        let all = AugmentConfig { least_area: 0.25, flip: 1.0, hue: 0.125, ..grey };
        let jitter = ColorJitter { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.125 };
        let crop = RandomResizedCrop { scale: (0.25, 1.0), ..RandomResizedCrop::default() };
        let expected =
            Augment { crop: Some(crop), flip: Some(1.0), jitter: Some(jitter), grayscale: Some(0.5) };
        assert_eq!(all.of_loader(), Some(expected));
    }
}
