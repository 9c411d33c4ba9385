//! What may be written next: penalties, bans and the cut of the distribution that a token is drawn from.
//!
//! The order is the usual one: repetition penalty, no repeated n-gram, no end before its time; then, where tokens are
//! drawn, temperature, top-k and top-p (Holtzman et al. 2020).

use crate::config::DecodeConfig;
use crate::ops::log_sum_parts;

/// The rules of a caption.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) decode: &'a DecodeConfig,
    /// The ids that begin and end a caption.
    pub(super) markers: (u32, u32),
}

impl Rules<'_> {
    /// Changes the logits of the token behind `written`; what may not come is minus infinity.
    pub(super) fn apply(&self, written: &[u32], logits: &mut [f32]) {
        let (start, end) = self.markers;
        self.penalise(written, logits);
        for token in self.banned(written) {
            logits[token as usize] = f32::NEG_INFINITY;
        }
        if start != end {
            logits[start as usize] = f32::NEG_INFINITY;
        }
        if written.len() < self.decode.min_length {
            logits[end as usize] = f32::NEG_INFINITY;
        }
        if logits.iter().all(|logit| *logit == f32::NEG_INFINITY) {
            // Nothing else may come: the caption is over.
            logits[end as usize] = 0.0;
        }
    }

    /// Makes tokens that were written less likely, whatever the sign of their logit (Keskar et al. 2019).
    fn penalise(&self, written: &[u32], logits: &mut [f32]) {
        let penalty = self.decode.repetition_penalty as f32;
        if penalty == 1.0 {
            return;
        }
        let mut seen: Vec<u32> = written.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            let logit = &mut logits[token as usize];
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }

    /// Tokens that would end a run of `no_repeat_ngram` tokens that was written before.
    fn banned(&self, written: &[u32]) -> Vec<u32> {
        let size = self.decode.no_repeat_ngram;
        if size == 0 || written.len() + 1 < size {
            return Vec::new();
        }
        let begun = &written[written.len() + 1 - size..];
        written.windows(size).filter(|run| run[..size - 1] == *begun).map(|run| run[size - 1]).collect()
    }

    /// Draws a token with the chance `chance` in [0, 1).
    pub(super) fn sample(&self, logits: &[f32], chance: f64) -> u32 {
        let mut likeliest: Vec<(u32, f32)> =
            (0u32..).zip(logits.iter().copied()).filter(|(_, logit)| *logit > f32::NEG_INFINITY).collect();
        // The likeliest first, equal ones in the order of their ids.
        likeliest.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if self.decode.top_k > 0 {
            likeliest.truncate(self.decode.top_k);
        }
        let Some(&(first, top)) = likeliest.first() else { return self.markers.1 };
        let weight = |logit: f32| (f64::from(logit - top) / self.decode.temperature).exp();
        let mut kept: Vec<(u32, f64)> =
            likeliest.into_iter().map(|(token, logit)| (token, weight(logit))).collect();
        let all: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let enough = kept.iter().position(|(_, weight)| {
            sum += weight;
            sum >= self.decode.top_p * all
        });
        if let Some(last) = enough {
            kept.truncate(last + 1);
        }
        let mut left = chance * kept.iter().map(|(_, weight)| weight).sum::<f64>();
        for (token, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        kept.last().map_or(first, |(token, _)| *token)
    }
}

/// A number in [0, 1) for token `place` of a picture's caption `number`.
pub(super) fn draw(seed: u64, key: &str, number: usize, place: usize) -> f64 {
    let mut hasher = blake3::Hasher::new_derive_key("trainer v1 drawn tokens");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(number as u64).to_le_bytes()).update(&(place as u64).to_le_bytes());
    hasher.update(key.as_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64
}

/// `ln Σ exp` of a row of finite numbers.
pub(super) fn log_sum_exp(row: &[f32]) -> f64 {
    let (largest, sum) = log_sum_parts(row);
    f64::from(sum).ln() + f64::from(largest)
}
