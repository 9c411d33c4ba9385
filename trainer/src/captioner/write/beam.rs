//! Beam search: the best captions by log-probability over length to a power.
//!
//! Each picture follows `decode.beams` captions. At every step each is continued by every token, and the best
//! continuations that are no ends are followed on; an end that is among the best `beams` is kept as a finished
//! caption. A picture is done when it has `beams` finished ones of which none can be bettered by one that is followed,
//! or when there is no room left.

use super::rules::log_sum_exp;
use super::{NextToken, Writing, Written};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// What a picture follows and has finished.
struct Search {
    picture: usize,
    /// The best first.
    followed: Vec<Followed>,
    /// With their scores, the best first.
    finished: Vec<(f64, Written)>,
}

/// A caption that is followed.
#[derive(Clone, Default)]
struct Followed {
    tokens: Vec<u32>,
    /// By the model.
    log_prob: f64,
    /// With the penalties of the rules: what the search goes by.
    ranked: f64,
}

/// A caption's continuation.
struct Next {
    beam: usize,
    token: u32,
    log_prob: f64,
    ranked: f64,
}

pub(super) fn search(
    model: &dyn NextToken,
    features: &Tensor,
    writing: &Writing<'_>,
) -> Result<Vec<Vec<Written>>> {
    let (mut memory, mut logits) = model.begin(features, writing.room)?;
    let vocab = model.vocab_size();
    let pictures = features.dim(0)?;
    let mut searches: Vec<Search> = (0..pictures)
        .map(|picture| Search { picture, followed: vec![Followed::default()], finished: Vec::new() })
        .collect();
    let mut done: Vec<Vec<Written>> = vec![Vec::new(); pictures];
    // A caption that fills its room may still end.
    for place in 1..=writing.room + 1 {
        let rows: usize = searches.iter().map(|search| search.followed.len()).sum();
        debug_assert_eq!(rows * vocab, logits.len());
        let mut first = 0;
        let mut parts: Vec<(&mut Search, usize)> = Vec::with_capacity(searches.len());
        for search in &mut searches {
            let own = search.followed.len();
            parts.push((search, first));
            first += own;
        }
        // Which row of the cache each followed caption continues.
        let parents: Vec<Vec<usize>> = parts
            .into_par_iter()
            .map(|(search, first)| {
                let rows = &logits[first * vocab..][..search.followed.len() * vocab];
                search.step(rows, vocab, writing).into_iter().map(|beam| first + beam).collect()
            })
            .collect();
        let (mut staying, mut chosen) = (Vec::new(), Vec::new());
        for (search, parents) in searches.into_iter().zip(parents) {
            if parents.is_empty() {
                let picture = search.picture;
                done[picture] = search.result(writing);
            } else {
                chosen.extend(parents);
                staying.push(search);
            }
        }
        searches = staying;
        if searches.is_empty() {
            break;
        }
        memory.choose(&chosen);
        let tokens: Vec<u32> = searches
            .iter()
            .flat_map(|search| &search.followed)
            .filter_map(|followed| followed.tokens.last().copied())
            .collect();
        logits = model.next(&mut memory, &tokens, place)?;
    }
    Ok(done)
}

/// A caption's score: its end counts as a token.
fn score(ranked: f64, tokens: usize, writing: &Writing<'_>) -> f64 {
    ranked / (tokens.max(1) as f64).powf(writing.decode.length_penalty)
}

impl Search {
    /// Continues every followed caption; returns which of them each new one continues, nothing when done.
    fn step(&mut self, logits: &[f32], vocab: usize, writing: &Writing<'_>) -> Vec<usize> {
        let beams = writing.decode.beams;
        let rules = writing.rules();
        let mut all: Vec<Next> = Vec::new();
        for (beam, (followed, row)) in self.followed.iter().zip(logits.chunks_exact(vocab)).enumerate() {
            let log_sum = log_sum_exp(row);
            let mut allowed = row.to_vec();
            rules.apply(&followed.tokens, &mut allowed);
            // As many as could be followed, and as many ends.
            let mut best: Vec<(u32, f32)> =
                (0u32..).zip(allowed).filter(|(_, logit)| *logit > f32::NEG_INFINITY).collect();
            let keep = (2 * beams).min(best.len());
            let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
            if keep < best.len() {
                best.select_nth_unstable_by(keep, order);
                best.truncate(keep);
            }
            best.sort_unstable_by(order);
            all.extend(best.into_iter().map(|(token, logit)| Next {
                beam,
                token,
                log_prob: followed.log_prob + f64::from(row[token as usize]) - log_sum,
                ranked: followed.ranked + f64::from(logit) - log_sum,
            }));
        }
        all.sort_by(|a, b| b.ranked.total_cmp(&a.ranked).then((a.beam, a.token).cmp(&(b.beam, b.token))));
        let (mut followed, mut parents) = (Vec::new(), Vec::new());
        for (rank, Next { beam, token, log_prob, ranked }) in all.into_iter().enumerate() {
            let mut tokens = self.followed[beam].tokens.clone();
            if token == writing.markers.1 {
                if rank < beams {
                    let score = score(ranked, tokens.len() + 1, writing);
                    self.finished.push((score, Written { tokens, log_prob, has_ended: true }));
                }
            } else if followed.len() < beams {
                tokens.push(token);
                followed.push(Followed { tokens, log_prob, ranked });
                parents.push(beam);
            }
        }
        self.finished.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.finished.truncate(beams);
        if self.followed.first().is_some_and(|followed| followed.tokens.len() >= writing.room) {
            return Vec::new();
        }
        self.followed = followed;
        if self.is_done(writing) { Vec::new() } else { parents }
    }

    /// Whether nothing that is followed can become better than what is finished.
    fn is_done(&self, writing: &Writing<'_>) -> bool {
        let Some(best) = self.followed.first() else { return true };
        let Some((worst, _)) = self.finished.last().filter(|_| self.finished.len() >= writing.decode.beams)
        else {
            return false;
        };
        // A log-probability only falls; over the longest length it weighs the least.
        score(best.ranked, writing.room + 1, writing) <= *worst
    }

    /// The best captions, those that have not ended behind those that have.
    fn result(mut self, writing: &Writing<'_>) -> Vec<Written> {
        let mut captions: Vec<Written> = self.finished.drain(..).map(|(_, written)| written).collect();
        let open = self.followed.into_iter();
        captions.extend(open.map(|Followed { tokens, log_prob, .. }| Written {
            tokens,
            log_prob,
            has_ended: false,
        }));
        captions.truncate(writing.decode.candidates);
        captions
    }
}
