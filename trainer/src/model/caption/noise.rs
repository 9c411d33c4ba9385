//! The noise of a diffusion: how much of it there is at a step, and where it is drawn from.
//!
//! `x_t = √ᾱ_t·x_0 + √(1 − ᾱ_t)·ε` for t = 0 … T, with ᾱ by the cosine schedule (Nichol and Dhariwal 2021) or the square
//! root schedule of Diffusion-LM (Li et al. 2022), either with noise that is F times stronger: the odds ᾱ/(1 − ᾱ) become
//! ᾱ/(F²·(1 − ᾱ)) (Hoogeboom et al. 2023 shift image noise so; Gao et al. 2022 that of embeddings). Numbers are hashes
//! of (seed, row), so that a batch has the same noise in a resumed run and on any number of threads. Leaves out networks.

use crate::config::NoiseSchedule;
use crate::init::{Init, values};
use rayon::prelude::*;

/// ᾱ of every step.
#[derive(Clone, Debug)]
pub struct Noise {
    /// ᾱ_0 … ᾱ_T, falling.
    bars: Vec<f64>,
}

/// The least share of ᾱ that a step leaves, so that something is left at the last one (as Nichol and Dhariwal bound β).
const STEP_MIN: f64 = 1e-3;

/// The least that the mean of an earlier step must have of x_0 for x_0 to be told from it.
const OF_START_MIN: f64 = 1e-4;

impl Noise {
    /// A schedule of `steps` steps with noise `factor` times as strong as it says.
    pub fn new(schedule: NoiseSchedule, steps: usize, factor: f64) -> Self {
        let part = |step: usize| step as f64 / steps as f64;
        let cosine = |step: usize| ((part(step) + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
        let bar = |step: usize| match schedule {
            NoiseSchedule::Cosine => cosine(step) / cosine(0),
            NoiseSchedule::Sqrt => 1.0 - (part(step) + 1e-4).sqrt(),
        };
        let mut bars: Vec<f64> = Vec::with_capacity(steps + 1);
        for step in 0..=steps {
            let least = bars.last().map_or(0.0, |before| before * STEP_MIN);
            let plain = bar(step).clamp(0.0, 1.0);
            let stronger = plain / (plain + factor.powi(2) * (1.0 - plain));
            bars.push(stronger.clamp(least, 1.0));
        }
        Self { bars }
    }

    /// T.
    pub fn steps(&self) -> usize {
        self.bars.len() - 1
    }

    /// What x_t has of the caption and of noise: (√ᾱ_t, √(1 − ᾱ_t)).
    pub fn shares(&self, step: usize) -> (f64, f64) {
        let bar = self.bars[step.min(self.steps())];
        (bar.sqrt(), (1.0 - bar).sqrt())
    }

    /// What the mean of x_s given x_t and x_0 has of x_0 and of x_t, for s < t (Ho et al. 2020, equation 7, over
    /// t − s steps at once).
    pub fn posterior(&self, step: usize, earlier: usize) -> (f64, f64) {
        let (at, before) = (self.bars[step.min(self.steps())], self.bars[earlier]);
        let ratio = at / before;
        let left = (1.0 - at).max(f64::MIN_POSITIVE);
        (before.sqrt() * (1.0 - ratio) / left, ratio.sqrt() * (1.0 - before) / left)
    }

    /// Whether x_0 can be told from the mean of the step `stride` earlier, at every step.
    pub fn tells_start(&self, stride: usize) -> bool {
        (1..=self.steps()).all(|step| self.posterior(step, step.saturating_sub(stride)).0 >= OF_START_MIN)
    }
}

/// Normal numbers, `width` for each row of (seed, name, row).
pub(crate) fn normal(seed: u64, name: &str, rows: usize, width: usize) -> Vec<f32> {
    let mut numbers = vec![0.0; rows * width];
    numbers.par_chunks_mut(width.max(1)).enumerate().for_each(|(row, numbers)| {
        numbers.copy_from_slice(&values(Init::Normal(1.0), seed, &format!("{name} {row}"), numbers.len()));
    });
    numbers
}

/// Numbers from 0 to below 1, one a row.
pub(crate) fn uniform(seed: u64, name: &str, rows: usize) -> Vec<f64> {
    values(Init::Uniform(0.5), seed, name, rows)
        .into_iter()
        .map(|u| (f64::from(u) + 0.5).clamp(0.0, 1.0 - 1e-9))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_grows_from_almost_nothing_to_almost_all() {
        for schedule in [NoiseSchedule::Cosine, NoiseSchedule::Sqrt] {
            let noise = Noise::new(schedule, 1000, 1.0);
            assert_eq!(noise.steps(), 1000);
            let shares: Vec<f64> = (0..=1000).map(|step| noise.shares(step).0).collect();
            assert!(shares.windows(2).all(|pair| pair[1] < pair[0]));
            assert!(noise.tells_start(1) && noise.tells_start(1000));
            // Of a hundred times as many steps one takes too little off.
            let fine = Noise::new(schedule, 100_000, 1.0);
            assert!(!fine.tells_start(1) && fine.tells_start(100));
            assert!(shares[0] > 0.99 && shares[1000] < 0.02, "{} {}", shares[0], shares[1000]);
            for step in [0, 1, 500, 1000] {
                let (kept, added) = noise.shares(step);
                assert!((kept * kept + added * added - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_factor_divides_what_a_step_has_of_the_caption_beside_its_noise() {
        let ratio = |noise: &Noise, step: usize| noise.shares(step).0 / noise.shares(step).1;
        for schedule in [NoiseSchedule::Cosine, NoiseSchedule::Sqrt] {
            let (plain, strong) = (Noise::new(schedule, 1000, 1.0), Noise::new(schedule, 1000, 4.0));
            for step in [1, 10, 500, 900] {
                let (plain, strong) = (ratio(&plain, step), ratio(&strong, step));
                assert!((plain / strong - 4.0).abs() < 1e-9, "{schedule:?} {step}: {plain} {strong}");
            }
        }
    }

    #[test]
    fn the_posterior_of_a_point_without_noise_is_the_point() {
        let noise = Noise::new(NoiseSchedule::Cosine, 1000, 1.0);
        for (step, earlier) in [(1000, 900), (500, 499), (700, 0), (2, 1)] {
            // Of x_t = √ᾱ_t·x_0 the mean of x_s is √ᾱ_s·x_0.
            let (of_start, of_now) = noise.posterior(step, earlier);
            let found = of_start + of_now * noise.shares(step).0;
            assert!((found - noise.shares(earlier).0).abs() < 1e-9, "{step} {earlier}: {found}");
        }
    }

    #[test]
    fn rows_have_noise_of_their_own() {
        let all = normal(3, "x", 5, 700);
        assert_eq!(all[1400..2100], normal(3, "x", 3, 700)[1400..]);
        assert_ne!(all[..700], all[700..1400]);
        assert_ne!(all, normal(4, "x", 5, 700));
        let mean = all.iter().sum::<f32>() / all.len() as f32;
        assert!(mean.abs() < 0.06, "{mean}");
        let even = uniform(1, "t", 4000);
        assert!(even.iter().all(|u| (0.0..1.0).contains(u)));
        assert!((even.iter().sum::<f64>() / 4000.0 - 0.5).abs() < 0.02);
    }
}
