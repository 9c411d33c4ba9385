//! A running average of the weights over the steps (EMA).
//!
//! After step t, `e ← d·e + (1 − d)·p` with `d = min(decay, (1 + t)/(10 + t))`, so that a short run's average is
//! not mostly its initial weights. What is not learned, running statistics among it, is copied. Leaves out when
//! it is evaluated and saved.

use super::Trainee;
use crate::ops::update::blend;
use candle_core::Result;

/// The averaged model.
pub(super) struct Average<T> {
    model: T,
    decay: f64,
}

impl<T: Trainee> Average<T> {
    /// An average that begins at the weights of `learned`.
    pub(super) fn new(learned: &T, decay: f64) -> Result<Self> {
        Ok(Self { model: learned.copied()?, decay })
    }

    /// The averaged model, for evaluation.
    pub(super) fn model(&self) -> &T {
        &self.model
    }

    /// Takes the weights of `learned` as they are.
    pub(super) fn begin(&self, learned: &T) -> Result<()> {
        let mut pairs = self.model.params().iter().zip(learned.params().iter());
        pairs.try_for_each(|(average, param)| average.var.set(&param.var.as_detached_tensor()))
    }

    /// Takes in the weights of `learned` after `steps` steps.
    pub(super) fn follow(&self, learned: &T, steps: u64) -> Result<()> {
        let keep = keep(self.decay, steps);
        for (average, param) in self.model.params().iter().zip(learned.params().iter()) {
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
    use crate::config::Config;
    use crate::step::ClipTrainee;
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
        let text = "model.preset = \"nano\"\ntrain.freeze = [\"visual\"]";
        let config = Config::from_toml(text, "test.toml", &[]).unwrap();
        let clip = ClipTrainee::new(&config, 300, &Device::Cpu).unwrap();
        let average = Average::new(&clip, 0.5).unwrap();
        let var = |clip: &ClipTrainee, name: &str| clip.params().get(name).unwrap().clone();
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
