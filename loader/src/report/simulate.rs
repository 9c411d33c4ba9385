//! Ideal shuffles of the same size, through the same code: what chance alone gives. Deterministic: each run's
//! permutations are seeded by its number, and the runs are kept in order whatever thread made them.

use super::figures::{self, Figures, Scale};
use crate::{error::Result, order::Order};

/// How many ideal permutations a report simulates where nothing else is asked for.
pub const SIMULATIONS: u32 = 20;

/// Samples that all simulations together draw, at most: longer orders get fewer simulations.
const SAMPLES_MAX: u64 = 24_000_000;
/// Nothing that trains with a small seed meets the simulated permutations.
const SEED: u64 = 0x1DEA_15EE_D000_0000;

/// Figures of up to `simulations` ideal orders whose epochs are as long as these; at least 2 where any are asked.
pub(super) fn run(scale: &Scale, epochs: &[Vec<u64>], simulations: u32) -> Result<Vec<Figures>> {
    let drawn: u64 = epochs.iter().map(|epoch| epoch.len() as u64).sum();
    let affordable = (SAMPLES_MAX / drawn.max(1)).clamp(2, u64::from(SIMULATIONS.max(simulations)));
    let count = u64::from(simulations).min(affordable);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 16) as u64;
    let part = count.div_ceil(threads).max(1);
    let parts: Vec<Result<Vec<Figures>>> = std::thread::scope(|scope| {
        let spawned: Vec<_> = (0..count)
            .step_by(part as usize)
            .map(|first| {
                let runs = first..(first + part).min(count);
                scope.spawn(move || runs.map(|number| one(scale, epochs, number)).collect())
            })
            .collect();
        let relay = |thread: std::thread::ScopedJoinHandle<'_, Result<Vec<Figures>>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        spawned.into_iter().map(relay).collect()
    });
    let mut all = Vec::with_capacity(count as usize);
    for part in parts {
        all.extend(part?);
    }
    Ok(all)
}

fn one(scale: &Scale, epochs: &[Vec<u64>], number: u64) -> Result<Figures> {
    let ideal: Result<Vec<Vec<u64>>> =
        epochs.iter().zip(0..).map(|(epoch, at)| permutation(scale, number, at, epoch.len())).collect();
    Ok(figures::measure(scale, &ideal?))
}

/// The first `len` samples of an ideal permutation of all.
fn permutation(scale: &Scale, number: u64, epoch: u64, len: usize) -> Result<Vec<u64>> {
    let samples = scale.samples as u64;
    let order = Order::Global.epoch(SEED + number, epoch, samples)?;
    Ok((0..samples.min(len as u64)).map(|position| order.sample(position)).collect())
}
