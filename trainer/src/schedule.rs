//! The learning rate as a pure function of the step: a warm-up, then a decay.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// What becomes of the learning rate after the warm-up, as a share of its peak; `f` is the final fraction and
/// `d` the share of the steps behind the warm-up that is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Half a cosine: `f + (1 − f)·½(1 + cos πd)`.
    #[default]
    Cosine,
    /// A straight line: `1 − (1 − f)·d`.
    Linear,
    /// The same factor each step: `f^d`.
    Exponential,
    /// No decay.
    Constant,
}

impl Decay {
    /// The share of the peak when `done` of 1 is done.
    fn share(self, done: f64, last: f64) -> f64 {
        match self {
            Self::Cosine => last + (1.0 - last) * 0.5 * (1.0 + (PI * done).cos()),
            Self::Linear => 1.0 - (1.0 - last) * done,
            Self::Exponential => last.powf(done),
            Self::Constant => 1.0,
        }
    }
}

/// How the learning rate comes to its peak; `d` is the share of the warm-up that is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Warmup {
    /// A straight line from 0: `d`.
    #[default]
    Linear,
    /// The same factor each step, from a hundredth: `100^(d − 1)`.
    Exponential,
}

impl Warmup {
    /// The share of the peak when `done` of 1 is done.
    fn share(self, done: f64) -> f64 {
        match self {
            Self::Linear => done,
            Self::Exponential => 100f64.powf(done - 1.0),
        }
    }
}

/// A warm-up and what follows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// How the warm-up rises.
    pub warmup: Warmup,
    /// What follows the warm-up.
    pub decay: Decay,
    /// Learning rate at the end of the warm-up.
    pub lr_max: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// Steps of the whole run, warm-up included.
    pub total_steps: u64,
    /// Learning rate at the end over `lr_max`; 0.1 by default in the configurations.
    pub final_fraction: f64,
}

impl Schedule {
    /// Learning rate of a step, counted from 0. The first step already learns; the last step of the warm-up
    /// has `lr_max`, and steps from `total_steps − 1` on have `lr_max · final_fraction`, but for a constant.
    pub fn lr(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.lr_max * self.warmup.share((step + 1) as f64 / self.warmup_steps as f64);
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let done = ((step + 1 - self.warmup_steps) as f64 / span as f64).min(1.0);
        self.lr_max * self.decay.share(done, self.final_fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Decay; 4] = [Decay::Cosine, Decay::Linear, Decay::Exponential, Decay::Constant];

    fn schedule(decay: Decay) -> Schedule {
        let warmup = Warmup::Linear;
        Schedule { warmup, decay, lr_max: 1e-3, warmup_steps: 10, total_steps: 110, final_fraction: 0.1 }
    }

    #[test]
    fn warms_up_then_falls_to_the_final_fraction() {
        for (decay, halfway, last) in [
            (Decay::Cosine, 0.55, 0.1),
            (Decay::Linear, 0.55, 0.1),
            (Decay::Exponential, 0.1f64.sqrt(), 0.1),
            (Decay::Constant, 1.0, 1.0),
        ] {
            let schedule = schedule(decay);
            assert!((schedule.lr(0) - 1e-4).abs() < 1e-12);
            assert!((schedule.lr(9) - 1e-3).abs() < 1e-12);
            assert!((schedule.lr(59) - 1e-3 * halfway).abs() < 1e-9, "{decay:?}");
            assert!((schedule.lr(109) - 1e-3 * last).abs() < 1e-12, "{decay:?}");
            assert!((schedule.lr(u64::MAX - 1) - 1e-3 * last).abs() < 1e-12, "{decay:?}");
            for step in 10..109 {
                let (now, next) = (schedule.lr(step), schedule.lr(step + 1));
                assert!(if decay == Decay::Constant { now == next } else { now > next }, "{decay:?} {step}");
            }
        }
    }

    #[test]
    fn an_exponential_warm_up_rises_by_the_same_factor() {
        let schedule = Schedule { warmup: Warmup::Exponential, ..schedule(Decay::Constant) };
        let factor = 100f64.powf(0.1);
        assert!((schedule.lr(0) - 1e-5 * factor).abs() < 1e-15);
        for step in 0..9 {
            assert!((schedule.lr(step + 1) / schedule.lr(step) - factor).abs() < 1e-9, "{step}");
        }
        assert!((schedule.lr(9) - 1e-3).abs() < 1e-15);
    }

    #[test]
    fn the_shapes_differ_at_a_quarter() {
        let share = |decay| schedule(decay).lr(34) / 1e-3;
        assert!((share(Decay::Cosine) - (0.1 + 0.9 * 0.5 * (1.0 + (PI / 4.0).cos()))).abs() < 1e-9);
        assert!((share(Decay::Linear) - 0.775).abs() < 1e-9);
        assert!((share(Decay::Exponential) - 0.1f64.powf(0.25)).abs() < 1e-9);
    }

    #[test]
    fn degenerate_lengths_stay_finite() {
        for decay in KINDS {
            for (warmup_steps, total_steps) in [(0, 0), (0, 1), (5, 5), (7, 3)] {
                let warmup = Warmup::Exponential;
                let schedule =
                    Schedule { warmup, decay, lr_max: 1.0, warmup_steps, total_steps, final_fraction: 0.1 };
                for step in 0..10 {
                    let lr = schedule.lr(step);
                    assert!(lr > 0.0 && lr <= 1.0, "{decay:?} {warmup_steps} {total_steps} {step}: {lr}");
                }
            }
        }
    }
}
