//! The learning rate as a pure function of the step: linear warm-up, then half a cosine.

use std::f64::consts::PI;

/// A warm-up and cosine schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
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
    /// has `lr_max`, and steps from `total_steps − 1` on have `lr_max · final_fraction`.
    pub fn lr(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.lr_max * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let done = ((step + 1 - self.warmup_steps) as f64 / span as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (PI * done).cos());
        self.lr_max * (self.final_fraction + (1.0 - self.final_fraction) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_then_falls_to_the_final_fraction() {
        let schedule = Schedule { lr_max: 1e-3, warmup_steps: 10, total_steps: 110, final_fraction: 0.1 };
        assert!((schedule.lr(0) - 1e-4).abs() < 1e-12);
        assert!((schedule.lr(9) - 1e-3).abs() < 1e-12);
        assert!((schedule.lr(59) - 1e-3 * 0.55).abs() < 1e-9);
        assert!((schedule.lr(109) - 1e-4).abs() < 1e-12);
        assert!((schedule.lr(u64::MAX - 1) - 1e-4).abs() < 1e-12);
        for step in 10..109 {
            assert!(schedule.lr(step) > schedule.lr(step + 1));
        }
    }

    #[test]
    fn degenerate_lengths_stay_finite() {
        for (warmup_steps, total_steps) in [(0, 0), (0, 1), (5, 5), (7, 3)] {
            let schedule = Schedule { lr_max: 1.0, warmup_steps, total_steps, final_fraction: 0.1 };
            for step in 0..10 {
                let lr = schedule.lr(step);
                assert!(lr > 0.0 && lr <= 1.0, "{warmup_steps} {total_steps} {step}: {lr}");
            }
        }
    }
}
