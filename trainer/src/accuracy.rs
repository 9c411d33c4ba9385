//! Accuracy of a classification: over all, by class, and which classes are taken for which.
//!
//! Leaves out where scores come from.

use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// How many confused pairs are told.
const CONFUSIONS: usize = 10;

/// Hits of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassResult {
    /// Its name in prompts.
    pub class: String,
    /// Pictures of it.
    pub images: usize,
    /// Share whose best class is this one, 0 to 1.
    pub top1: f64,
    /// Share with this one among the five best.
    pub top5: f64,
}

/// Pictures of one class that were taken for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// What they are.
    pub class: String,
    /// What they were taken for.
    pub taken_for: String,
    /// How many.
    pub images: usize,
}

/// What a classification reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Accuracy {
    /// Pictures.
    pub images: usize,
    /// Classes to choose among.
    pub classes: usize,
    /// Share of pictures whose best class is theirs, 0 to 1.
    pub top1: f64,
    /// Share with theirs among the five best.
    pub top5: f64,
    /// Mean over the classes that have pictures of each one's share.
    pub mean_per_class: f64,
    /// Each class that has pictures, in the list's order.
    pub per_class: Vec<ClassResult>,
    /// The pairs confused most often, the worst first.
    pub confusions: Vec<Confusion>,
}

/// What one image's scores say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// Classes that stand before the right one.
    pub before: usize,
    /// The class that stands before all others.
    pub best: usize,
}

/// The rank of class `label` among `scores`, one a class; `None` when a score is not a number. Of equal
/// scores the first class stands before the others.
pub fn rank(scores: &[f32], label: usize) -> Option<Rank> {
    if scores.iter().any(|score| score.is_nan()) || label >= scores.len() {
        return None;
    }
    let is_before = |a: usize, b: usize| scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
    let before = (0..scores.len()).filter(|class| is_before(*class, label)).count();
    let best = (0..scores.len()).fold(0, |best, class| if is_before(class, best) { class } else { best });
    Some(Rank { before, best })
}

/// The error for scores that cannot be counted.
pub(crate) fn unfit(message: &str) -> Error {
    Error::Tensor { doing: "classify images", source: candle_core::Error::Msg(message.to_owned()) }
}

impl Accuracy {
    /// Counts what was found for images of classes `labels`; `names` has one a class.
    ///
    /// # Errors
    /// [`Error::Tensor`] when an image has no rank.
    pub fn count(found: &[Option<Rank>], labels: &[usize], names: &[&str]) -> Result<Self> {
        let share = |hits: usize, of: usize| if of == 0 { 0.0 } else { hits as f64 / of as f64 };
        let mut counts = vec![[0usize; 3]; names.len()];
        let mut confused: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (found, label) in found.iter().zip(labels) {
            let Rank { before, best } = found.ok_or_else(|| unfit("a score is not a number"))?;
            let [images, top1, top5] = &mut counts[*label];
            *images += 1;
            *top1 += usize::from(before == 0);
            *top5 += usize::from(before < 5);
            if best != *label {
                *confused.entry((*label, best)).or_default() += 1;
            }
        }
        let total = |field: usize| counts.iter().map(|count| count[field]).sum::<usize>();
        let with_images = counts.iter().zip(names).filter(|(count, _)| count[0] > 0);
        let per_class: Vec<ClassResult> = with_images
            .map(|([images, top1, top5], class)| ClassResult {
                class: (*class).to_owned(),
                images: *images,
                top1: share(*top1, *images),
                top5: share(*top5, *images),
            })
            .collect();
        let mut pairs: Vec<((usize, usize), usize)> = confused.into_iter().collect();
        pairs.sort_by_key(|(_, images)| std::cmp::Reverse(*images));
        let name = |class: usize| names[class].to_owned();
        let confusions = pairs.into_iter().take(CONFUSIONS).map(|((class, best), images)| Confusion {
            class: name(class),
            taken_for: name(best),
            images,
        });
        Ok(Self {
            images: found.len(),
            classes: names.len(),
            top1: share(total(1), found.len()),
            top5: share(total(2), found.len()),
            mean_per_class: per_class.iter().map(|c| c.top1).sum::<f64>() / per_class.len().max(1) as f64,
            per_class,
            confusions: confusions.collect(),
        })
    }
}
