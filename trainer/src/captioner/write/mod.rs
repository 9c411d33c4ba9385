//! Captions token by token: greedy, drawn, or by beam search, for many pictures at once.
//!
//! What is written for a picture depends on the picture's features, the settings and, where tokens are drawn, on
//! hash(seed, key, candidate, place): not on the number of threads. Captions that have ended leave the batch. Leaves
//! out which of several captions is kept, and models that do not write token by token.

mod beam;
mod rules;

use crate::config::{DecodeConfig, DecodeMethod};
use crate::ops::cached::Cache;
use candle_core::{Result, Tensor};
use rayon::prelude::*;
use rules::{Rules, draw, log_sum_exp};

/// What a model remembers of its rows: one memory for each of its stacks.
pub(crate) struct Memory(pub(crate) Vec<Cache>);

impl Memory {
    /// Goes on with these rows, each as often as it is named.
    pub(super) fn choose(&mut self, parents: &[usize]) {
        self.0.iter_mut().for_each(|cache| cache.choose(parents));
    }
}

/// A model that gives the logits of the next token; rows are captions.
pub(crate) trait NextToken {
    /// Token ids.
    fn vocab_size(&self) -> usize;

    /// Starts a caption for each picture of `features` (B, rows, inputs) with room for `tokens`: what is remembered,
    /// and the logits (B, V) of its first token.
    fn begin(&self, features: &Tensor, tokens: usize) -> Result<(Memory, Vec<f32>)>;

    /// The logits (rows, V) behind the next token of every row, which is the caption's token number `place`.
    fn next(&self, memory: &mut Memory, tokens: &[u32], place: usize) -> Result<Vec<f32>>;
}

/// A caption as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its tokens, without markers.
    pub tokens: Vec<u32>,
    /// The sum of its tokens' log-probabilities by the model, in nats, its end's among them.
    pub log_prob: f64,
    /// Whether it came to its end by itself.
    pub has_ended: bool,
}

/// The settings and the markers of a vocabulary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writing<'a> {
    /// How captions are written.
    pub(crate) decode: &'a DecodeConfig,
    /// Tokens of a caption at most.
    pub(crate) room: usize,
    /// The ids that begin and end a caption.
    pub(crate) markers: (u32, u32),
}

impl Writing<'_> {
    fn rules(&self) -> Rules<'_> {
        Rules { decode: self.decode, markers: self.markers }
    }
}

/// Captions for each picture of `features` (B, rows, inputs), whose `keys` seed what is drawn: `decode.candidates` a
/// picture, for a beam search the best first.
pub(crate) fn write(
    model: &dyn NextToken,
    features: &Tensor,
    keys: &[&str],
    writing: &Writing<'_>,
) -> Result<Vec<Vec<Written>>> {
    match writing.decode.method {
        DecodeMethod::Beam => beam::search(model, features, writing),
        DecodeMethod::Greedy => one_by_one(model, features, writing, keys, None),
        DecodeMethod::Sample => one_by_one(model, features, writing, keys, Some(writing.decode.seed)),
    }
}

/// A caption in the making.
#[derive(Clone, Debug)]
struct Draft {
    /// Its picture's number, and its number among the picture's captions.
    place: (usize, usize),
    tokens: Vec<u32>,
    log_prob: f64,
}

/// Greedy, or drawn from `seed`.
fn one_by_one(
    model: &dyn NextToken,
    features: &Tensor,
    writing: &Writing<'_>,
    keys: &[&str],
    seed: Option<u64>,
) -> Result<Vec<Vec<Written>>> {
    let count = writing.decode.candidates;
    let (mut memory, first) = model.begin(features, writing.room)?;
    let vocab = model.vocab_size();
    let parents: Vec<usize> =
        (0..keys.len()).flat_map(|picture| std::iter::repeat_n(picture, count)).collect();
    let mut drafts: Vec<Draft> = (0..keys.len())
        .flat_map(|picture| (0..count).map(move |number| (picture, number)))
        .map(|place| Draft { place, tokens: Vec::new(), log_prob: 0.0 })
        .collect();
    let mut logits = Vec::with_capacity(parents.len() * vocab);
    parents.iter().for_each(|parent| logits.extend_from_slice(&first[parent * vocab..][..vocab]));
    if count > 1 {
        memory.choose(&parents);
    }
    let mut done: Vec<Vec<Option<Written>>> = vec![vec![None; count]; keys.len()];
    let rules = writing.rules();
    loop {
        let chosen: Vec<(u32, f64)> = drafts
            .par_iter()
            .zip(logits.par_chunks_mut(vocab))
            .map(|(draft, row)| {
                let log_sum = log_sum_exp(row);
                let raw = row.to_vec();
                rules.apply(&draft.tokens, row);
                let token = match seed {
                    None => largest(row),
                    Some(seed) => {
                        let (picture, number) = draft.place;
                        let chance = draw(seed, keys[picture], number, draft.tokens.len());
                        rules.sample(row, chance)
                    }
                };
                (token, f64::from(raw[token as usize]) - log_sum)
            })
            .collect();
        let mut staying = Vec::new();
        for (row, (draft, (token, log_prob))) in drafts.iter_mut().zip(chosen).enumerate() {
            let has_ended = token == writing.markers.1;
            // A caption that fills its room may still end.
            let is_cut = !has_ended && draft.tokens.len() >= writing.room;
            draft.log_prob += if is_cut { 0.0 } else { log_prob };
            if has_ended || is_cut {
                let (picture, number) = draft.place;
                let tokens = std::mem::take(&mut draft.tokens);
                done[picture][number] = Some(Written { tokens, log_prob: draft.log_prob, has_ended });
            } else {
                draft.tokens.push(token);
                staying.push(row);
            }
        }
        if staying.is_empty() {
            break;
        }
        if staying.len() < drafts.len() {
            memory.choose(&staying);
            drafts = staying.iter().map(|row| drafts[*row].clone()).collect();
        }
        let tokens: Vec<u32> = drafts.iter().filter_map(|draft| draft.tokens.last().copied()).collect();
        logits = model.next(&mut memory, &tokens, drafts[0].tokens.len())?;
    }
    Ok(done.into_iter().map(|captions| captions.into_iter().flatten().collect()).collect())
}

/// The place of the largest number, the first of equal ones.
fn largest(row: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (place, value) in row.iter().enumerate() {
        if *value > best.1 {
            best = (place, *value);
        }
    }
    // A vocabulary has fewer than 2^32 tokens.
    best.0 as u32
}

#[cfg(test)]
mod tests;
