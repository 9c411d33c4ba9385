//! The linear probe: multinomial logistic regression on the frozen image features (Radford et al. 2021,
//! appendix A.3).
//!
//! Features are brought to mean 0 and deviation 1 by the training pictures; the mean cross-entropy plus
//! half the penalty times the squared weights (not the biases) is brought to its minimum by L-BFGS. The
//! same features give the same weights with any number of threads. Leaves out where features come from.

mod lbfgs;
mod logistic;

use crate::accuracy::{self, Accuracy, Rank};
use crate::error::Result;
use crate::retrieval::Features;
use lbfgs::Minimum;
use logistic::Problem;
use serde::Serialize;

/// The penalties that are tried when none is given, the largest first.
const PENALTIES: [f64; 7] = [1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];

/// Every so manieth picture of a class judges the penalties.
const HELD_OUT: usize = 5;

/// Labelled features: `labels[i]` is the class of row i.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// One row a picture.
    pub features: &'a Features,
    /// The class of each row, below the number of classes.
    pub labels: &'a [usize],
}

/// What a probe reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Accuracy on the test pictures.
    pub test: Accuracy,
    /// Share of the training pictures that are classified rightly, 0 to 1.
    pub train_top1: f64,
    /// The penalty.
    pub l2: f64,
    /// Whether it was chosen on held-out training pictures.
    pub l2_chosen: bool,
    /// Steps of the minimiser.
    pub iterations: usize,
    /// The largest entry of the gradient where it stopped.
    pub gradient_max: f64,
}

/// Fits on `train` with penalty `l2` (chosen for `None`) and judges on `test`; `names` has one a class.
///
/// # Errors
/// [`Error::Tensor`](crate::Error::Tensor) when sizes do not fit, a feature is not a number, or there are
/// too few pictures to choose a penalty.
pub fn probe(train: Labelled<'_>, test: Labelled<'_>, names: &[&str], l2: Option<f64>) -> Result<Outcome> {
    for part in [train, test] {
        let fits = part.features.len() == part.labels.len()
            && part.features.width == train.features.width
            && part.labels.iter().all(|label| *label < names.len());
        if !fits || part.labels.is_empty() {
            return Err(accuracy::unfit("features, labels and classes do not fit together"));
        }
        if part.features.values.iter().any(|value| !value.is_finite()) {
            return Err(accuracy::unfit("a feature is not a number"));
        }
    }
    let chosen = match l2 {
        Some(l2) => l2,
        None => choose(train, names.len())?,
    };
    let scale = Standard::of(train.features);
    let rows = scale.apply(train.features);
    let minimum = fit(&rows, train.labels, names.len(), chosen, None);
    let ranks = ranks(&minimum.at, &rows, train.labels, names.len());
    let train_top1 = Accuracy::count(&ranks, train.labels, names)?.top1;
    let ranks = self::ranks(&minimum.at, &scale.apply(test.features), test.labels, names.len());
    Ok(Outcome {
        test: Accuracy::count(&ranks, test.labels, names)?,
        train_top1,
        l2: chosen,
        l2_chosen: l2.is_none(),
        iterations: minimum.iterations,
        gradient_max: minimum.gradient_max,
    })
}

/// The penalty with the lowest cross-entropy on the pictures that are held out.
fn choose(train: Labelled<'_>, classes: usize) -> Result<f64> {
    let mut seen = vec![0usize; classes];
    let is_held: Vec<bool> = train
        .labels
        .iter()
        .map(|label| {
            seen[*label] += 1;
            seen[*label].is_multiple_of(HELD_OUT)
        })
        .collect();
    if !is_held.contains(&true) {
        return Err(accuracy::unfit(
            "no class has 5 training pictures, so none can be held out to choose a penalty; give --l2",
        ));
    }
    let part = |held: bool| {
        let mut rows = Features { width: train.features.width, ..Features::default() };
        let mut labels = Vec::new();
        for (i, label) in train.labels.iter().enumerate().filter(|(i, _)| is_held[*i] == held) {
            rows.values.extend(train.features.row(i));
            labels.push(*label);
        }
        (rows, labels)
    };
    let ((rows, labels), (held_rows, held_labels)) = (part(false), part(true));
    let scale = Standard::of(&rows);
    let (rows, held_rows) = (scale.apply(&rows), scale.apply(&held_rows));
    let mut best = (f64::INFINITY, PENALTIES[0]);
    let mut from = None;
    for l2 in PENALTIES {
        // Each begins where the last one ended.
        let minimum = fit(&rows, &labels, classes, l2, from);
        let held = Problem { rows: &held_rows, labels: &held_labels, classes, l2: 0.0 };
        let loss = held.value_and_gradient(&minimum.at).0;
        if loss < best.0 {
            best = (loss, l2);
        }
        from = Some(minimum.at);
    }
    Ok(best.1)
}

fn fit(rows: &Features, labels: &[usize], classes: usize, l2: f64, from: Option<Vec<f64>>) -> Minimum {
    let problem = Problem { rows, labels, classes, l2 };
    let start = from.unwrap_or_else(|| vec![0.0; problem.len()]);
    lbfgs::minimise(start, |at| problem.value_and_gradient(at))
}

fn ranks(weights: &[f64], rows: &Features, labels: &[usize], classes: usize) -> Vec<Option<Rank>> {
    let scores = Problem { rows, labels, classes, l2: 0.0 }.logits(weights);
    scores.chunks_exact(classes).zip(labels).map(|(row, label)| accuracy::rank(row, *label)).collect()
}

/// Mean and deviation of each feature.
struct Standard {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Standard {
    fn of(features: &Features) -> Self {
        let (count, width) = (features.len() as f64, features.width);
        let (mut mean, mut deviation) = (vec![0.0; width], vec![0.0; width]);
        for row in features.values.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v) / count);
        }
        for row in features.values.chunks_exact(width) {
            for ((sum, v), mean) in deviation.iter_mut().zip(row).zip(&mean) {
                *sum += (f64::from(*v) - mean).powi(2) / count;
            }
        }
        // A feature that never changes says nothing and stays 0.
        deviation.iter_mut().for_each(|v| *v = if *v > 1e-20 { v.sqrt() } else { f64::INFINITY });
        Self { mean, deviation }
    }

    fn apply(&self, features: &Features) -> Features {
        let scaled = features.values.chunks_exact(features.width).flat_map(|row| {
            let of = |i: usize| (f64::from(row[i]) - self.mean[i]) / self.deviation[i];
            (0..row.len()).map(move |i| of(i) as f32)
        });
        Features { values: scaled.collect(), width: features.width }
    }
}

#[cfg(test)]
mod tests;
