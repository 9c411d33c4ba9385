//! A running average of the weights over the steps (EMA).
//!
//! After step t, `e ← d·e + (1 − d)·p` with `d = min(decay, (1 + t)/(10 + t))`, so that a short run's average is
//! not mostly its initial weights. What is not learned, running statistics among it, is copied. Leaves out when
//! it is evaluated and saved.

use crate::model::Clip;
use crate::ops::update::blend;
use candle_core::Result;

/// The averaged model.
pub(super) struct Average {
    model: Clip,
    decay: f64,
}

impl Average {
    /// An average that begins at the weights of `clip`.
    pub(super) fn new(clip: &Clip, decay: f64) -> Result<Self> {
        Ok(Self { model: clip.copied()?, decay })
    }

    /// The averaged model, for evaluation.
    pub(super) fn model(&self) -> &Clip {
        &self.model
    }

    /// Takes the weights of `clip` as they are.
    pub(super) fn begin(&self, clip: &Clip) -> Result<()> {
        let mut pairs = self.model.params().iter().zip(clip.params().iter());
        pairs.try_for_each(|(average, param)| average.var.set(&param.var.as_detached_tensor()))
    }

    /// Takes in the weights of `clip` after `steps` steps.
    pub(super) fn follow(&self, clip: &Clip, steps: u64) -> Result<()> {
        let keep = keep(self.decay, steps);
        for (average, param) in self.model.params().iter().zip(clip.params().iter()) {
            let value = param.var.as_detached_tensor();
            if param.trainable {
                blend(&average.var, &value, keep as f32, (1.0 - keep) as f32)?;
            } else {
                average.var.set(&value)?;
            }
        }
        Ok(())
    }
}

/// The share of the average that stays at step `steps`, counted from 1.
fn keep(decay: f64, steps: u64) -> f64 {
    let steps = steps as f64;
    decay.min((1.0 + steps) / (10.0 + steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClipConfig;
    use candle_core::{Device, Tensor};

    #[test]
    fn the_decay_rises_to_what_was_asked_for() {
        assert!((keep(0.999, 1) - 2.0 / 11.0).abs() < 1e-12);
        assert!(keep(0.999, 100) < keep(0.999, 1000));
        assert_eq!(keep(0.999, 1_000_000), 0.999);
        assert_eq!(keep(0.1, 1), 0.1);
    }

    #[test]
    fn it_follows_what_is_learned_and_copies_what_is_not() {
        let mut config = ClipConfig::tiny();
        (config.vision.layers, config.text.layers) = (1, 1);
        let clip = Clip::new(&config, 1, &Device::Cpu).unwrap();
        let clip = clip.for_training(&|name| name.starts_with("visual."), false).unwrap();
        let average = Average::new(&clip, 0.5).unwrap();
        let var = |clip: &Clip, name: &str| clip.params().get(name).unwrap().clone();
        let (learned, frozen) = ("text_projection", "visual.proj");
        let before = var(&clip, learned).to_vec2::<f32>().unwrap();
        for name in [learned, frozen] {
            let var = var(&clip, name);
            var.set(&(var.as_detached_tensor() + 1.0).unwrap()).unwrap();
        }
        assert_eq!(var(average.model(), learned).to_vec2::<f32>().unwrap(), before, "it has its own memory");
        average.follow(&clip, 1_000).unwrap();
        let difference = |name: &str| -> f32 {
            let left: Tensor =
                (var(&clip, name).as_tensor() - var(average.model(), name).as_tensor()).unwrap();
            left.mean_all().unwrap().to_scalar().unwrap()
        };
        assert!((difference(learned) - 0.5).abs() < 1e-5, "{}", difference(learned));
        assert_eq!(difference(frozen), 0.0);
    }
}
