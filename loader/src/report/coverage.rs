//! Which samples came: left out, repeated, padded, and what the last batch holds. Left out: in which order they
//! came, which the metrics are about.

use serde::Serialize;

use super::{Delivered, Verdict, ideal};

/// More than this share of samples missing from an epoch is a fault even where batches are dropped.
const MISSING_SHARE_MAX: f64 = 0.05;

/// Which samples an order delivers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Coverage {
    /// Each epoch.
    pub epochs: Vec<EpochCoverage>,
    /// Samples that no epoch delivers.
    pub never: u64,
    /// Whether it is as it should be.
    pub verdict: Verdict,
    /// The same in words.
    pub words: String,
}

/// Which samples one epoch delivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EpochCoverage {
    /// Samples delivered, repeats included.
    pub delivered: u64,
    /// Full batches.
    pub batches: u64,
    /// Samples in a last batch that is not full; 0 where all are.
    pub last_batch: u64,
    /// Samples that did not come.
    pub missing: u64,
    /// Deliveries of a sample that had come before in the epoch.
    pub repeated: u64,
    /// Whether all of these are in the last batch, as where it is padded.
    pub padded: bool,
}

pub(super) fn of(delivered: &Delivered) -> Coverage {
    let mut never = vec![true; delivered.samples as usize];
    let epochs: Vec<EpochCoverage> =
        delivered.epochs.iter().map(|epoch| of_epoch(delivered, epoch, &mut never)).collect();
    let never = never.iter().filter(|never| **never).count() as u64;
    let faults: Vec<(Verdict, String)> = epochs
        .iter()
        .enumerate()
        .filter_map(|(number, epoch)| fault(delivered, number, epoch))
        .chain(always_left_out(delivered, &epochs, never))
        .collect();
    let verdict = faults.iter().map(|(verdict, _)| *verdict).max().unwrap_or(Verdict::Ideal);
    let words = faults.into_iter().map(|(_, words)| words).collect::<Vec<_>>().join("; ");
    let words = if words.is_empty() { complete(&epochs) } else { words };
    Coverage { epochs, never, verdict, words }
}

fn of_epoch(delivered: &Delivered, epoch: &[u64], never: &mut [bool]) -> EpochCoverage {
    let batch_size = delivered.batch_size as usize;
    let mut came = vec![false; never.len()];
    let (mut repeated, mut padded) = (0, true);
    for (position, &sample) in epoch.iter().enumerate() {
        never[sample as usize] = false;
        if std::mem::replace(&mut came[sample as usize], true) {
            repeated += 1;
            padded &= position + batch_size >= epoch.len();
        }
    }
    EpochCoverage {
        delivered: epoch.len() as u64,
        batches: (epoch.len() / batch_size) as u64,
        last_batch: (epoch.len() % batch_size) as u64,
        missing: came.iter().filter(|came| !**came).count() as u64,
        repeated,
        padded: padded && repeated > 0,
    }
}

fn fault(delivered: &Delivered, number: usize, epoch: &EpochCoverage) -> Option<(Verdict, String)> {
    let (missing, repeated) = (epoch.missing, epoch.repeated);
    if repeated > 0 && !epoch.padded {
        let also = if missing > 0 { format!(", and leaves out {missing}") } else { String::new() };
        return Some((
            Verdict::Bad,
            format!("epoch {number} repeats {} before its last batch{also}", samples(repeated)),
        ));
    }
    if missing > 0 && epoch.last_batch > 0 {
        let words = format!(
            "epoch {number} leaves out {} although it delivers a last batch that is not full: they are lost, or \
             the batch size is not the loader's",
            samples(missing)
        );
        return Some((Verdict::Bad, words));
    }
    if missing > 0 && epoch.padded {
        return Some((
            Verdict::Bad,
            format!("epoch {number} leaves out {} and repeats {repeated}", samples(missing)),
        ));
    }
    // What fills no batch may be dropped: that is less than one batch, or one of each worker.
    let share = missing as f64 / delivered.samples as f64;
    (missing >= delivered.batch_size).then(|| {
        let verdict = if share > MISSING_SHARE_MAX { Verdict::Bad } else { Verdict::Near };
        (verdict, format!("epoch {number} leaves out {} ({:.1} %)", samples(missing), share * 100.0))
    })
}

/// Epochs that each drop a few other samples leave out none for ever.
fn always_left_out(delivered: &Delivered, epochs: &[EpochCoverage], never: u64) -> Option<(Verdict, String)> {
    let all = delivered.samples as f64;
    let by_chance = epochs.iter().map(|epoch| epoch.missing as f64 / all).product::<f64>() * all;
    let many = epochs.len() > 1 && ideal::poisson_z(never as f64, by_chance) > 4.0;
    let one = epochs.len() > 1 && never > 0 && by_chance < 1e-4;
    let words = || format!("{} left out of every epoch", are(never));
    (many || one).then(|| (Verdict::Bad, words()))
}

fn complete(epochs: &[EpochCoverage]) -> String {
    let missing = epochs.iter().map(|epoch| epoch.missing).max().unwrap_or(0);
    let repeated = epochs.iter().map(|epoch| epoch.repeated).max().unwrap_or(0);
    match (missing, repeated) {
        (0, 0) => "every sample comes once an epoch".to_owned(),
        (0, _) => format!("every sample comes once an epoch; the last batch is padded with {repeated}"),
        _ => format!("no sample comes twice; the {missing} that fill no batch are left out"),
    }
}

fn samples(count: u64) -> String {
    if count == 1 { "1 sample".to_owned() } else { format!("{count} samples") }
}

fn are(count: u64) -> String {
    if count == 1 { "1 sample is".to_owned() } else { format!("{count} samples are") }
}
