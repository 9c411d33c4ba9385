//! Every way of writing against a language that is known: a table of next tokens.

use super::rules::{Rules, draw};
use super::*;
use candle_core::{DType, Device};
use std::collections::BTreeMap;

const START: u32 = 0;
const END: u32 = 1;

/// A model whose logits depend on the last token alone.
struct Table {
    /// Logits behind each token; row 0 begins a caption.
    next: Vec<Vec<f32>>,
}

impl Table {
    /// The probability of all captions of at most `room` tokens, by enumeration.
    fn captions(&self, room: usize) -> BTreeMap<Vec<u32>, f64> {
        let mut all = BTreeMap::new();
        let mut open = vec![(Vec::new(), 0.0)];
        while let Some((tokens, log_prob)) = open.pop() {
            let row = &self.next[tokens.last().copied().unwrap_or(START) as usize];
            let sum = log_sum_exp(row);
            for (token, logit) in (0u32..).zip(row) {
                let p = log_prob + f64::from(*logit) - sum;
                let mut longer = tokens.clone();
                longer.push(token);
                if token == END {
                    all.insert(tokens.clone(), p);
                } else if token != START && longer.len() < room {
                    open.push((longer, p));
                }
            }
        }
        all
    }
}

impl NextToken for Table {
    fn vocab_size(&self) -> usize {
        self.next.len()
    }

    fn begin(&self, features: &Tensor, _tokens: usize) -> Result<(Memory, Vec<f32>)> {
        let stack = crate::ops::cached::CachedStack::new(
            Vec::new(),
            crate::ops::cached::Sizes { width: 1, heads: 1, groups: 1, depth: 1, rope_theta: None },
        );
        let rows = features.dim(0)?;
        Ok((Memory(vec![stack.cache(rows, 1)]), self.next[0].repeat(rows)))
    }

    fn next(&self, memory: &mut Memory, tokens: &[u32], _place: usize) -> Result<Vec<f32>> {
        assert_eq!(memory.0[0].rows(), tokens.len());
        Ok(tokens.iter().flat_map(|token| self.next[*token as usize].clone()).collect())
    }
}

fn table() -> Table {
    let row = |numbers: [f32; 6]| numbers.to_vec();
    Table {
        next: vec![
            row([-9.0, -4.0, 2.0, 1.6, 0.5, 0.1]),
            row([0.0; 6]),
            row([-9.0, 0.2, -1.0, 0.3, 0.1, 0.0]),
            row([-9.0, 2.5, 0.0, -2.0, 1.0, 0.4]),
            row([-9.0, 1.0, 0.9, 0.2, -1.0, 0.3]),
            row([-9.0, 0.7, 0.1, 0.1, 0.1, 0.1]),
        ],
    }
}

fn features(count: usize) -> Tensor {
    Tensor::zeros((count, 1, 1), DType::F32, &Device::Cpu).unwrap()
}

fn decode(change: impl FnOnce(&mut DecodeConfig)) -> DecodeConfig {
    let mut decode = DecodeConfig { min_length: 0, ..DecodeConfig::default() };
    change(&mut decode);
    decode
}

fn run(decode: &DecodeConfig, keys: &[&str], room: usize) -> Vec<Vec<Written>> {
    let writing = Writing { decode, room, markers: (START, END) };
    write(&table(), &features(keys.len()), keys, &writing).unwrap()
}

#[test]
fn greedy_takes_the_likeliest_and_adds_up_what_the_model_says() {
    let found = run(&decode(|_| ()), &["a", "b"], 8);
    assert_eq!(found[0], found[1]);
    let written = &found[0][0];
    assert_eq!((written.tokens.as_slice(), written.has_ended), ([2, 3].as_slice(), true));
    let expected = table().captions(8)[&vec![2, 3]];
    assert!((written.log_prob - expected).abs() < 1e-6);
    let cut = &run(&decode(|_| ()), &["a"], 1)[0][0];
    assert_eq!((cut.tokens.as_slice(), cut.has_ended), ([2].as_slice(), false));
}

#[test]
fn a_wide_beam_finds_the_best_captions_of_all() {
    for penalty in [0.0, 0.7, 1.0] {
        let decode = decode(|d| {
            (d.method, d.beams, d.candidates, d.length_penalty) = (DecodeMethod::Beam, 64, 5, penalty);
        });
        let mut all: Vec<(f64, Vec<u32>)> = table()
            .captions(5)
            .into_iter()
            .map(|(tokens, p)| (p / ((tokens.len() + 1) as f64).powf(penalty), tokens))
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let found = run(&decode, &["a", "b"], 4);
        let found: Vec<&Vec<u32>> = found[1].iter().map(|w| &w.tokens).collect();
        let expected: Vec<&Vec<u32>> = all[..5].iter().map(|(_, tokens)| tokens).collect();
        assert_eq!(found, expected, "length penalty {penalty}");
    }
}

#[test]
fn a_beam_of_one_is_greedy_where_the_end_is_not_second() {
    let greedy = run(&decode(|_| ()), &["a"], 8);
    let beam = run(&decode(|d| (d.method, d.beams) = (DecodeMethod::Beam, 1)), &["a"], 8);
    assert_eq!(greedy, beam);
}

#[test]
fn drawn_captions_have_the_models_probabilities() {
    let decode = decode(|d| (d.method, d.candidates) = (DecodeMethod::Sample, 64));
    let keys: Vec<String> = (0..200).map(|i| format!("key{i}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = run(&decode, &keys, 6);
    let mut counts: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
    found.iter().flatten().for_each(|written| *counts.entry(written.tokens.clone()).or_default() += 1);
    let all = table().captions(7);
    for tokens in [vec![3], vec![2, 3], vec![2], vec![5]] {
        let (expected, found) = (all[&tokens].exp(), counts[&tokens] as f64 / 12_800.0);
        // Four standard deviations.
        let bound = 4.0 * (expected * (1.0 - expected) / 12_800.0).sqrt();
        assert!((expected - found).abs() < bound, "{tokens:?}: {found} against {expected}");
    }
    // A picture's captions are its own, wherever it stands and whoever is with it.
    assert_eq!(run(&decode, &keys[7..9], 6), found[7..9]);
}

#[test]
fn top_k_and_top_p_leave_out_the_unlikely() {
    let tokens_of = |change: &dyn Fn(&mut DecodeConfig)| {
        let decode = decode(|d| {
            (d.method, d.candidates) = (DecodeMethod::Sample, 64);
            change(d);
        });
        let mut first: Vec<u32> = run(&decode, &["a", "b", "c"], 3)
            .iter()
            .flatten()
            .filter_map(|written| written.tokens.first().copied())
            .collect();
        first.sort_unstable();
        first.dedup();
        first
    };
    assert_eq!(tokens_of(&|_| ()), [2, 3, 4, 5]);
    assert_eq!(tokens_of(&|d| d.top_k = 2), [2, 3]);
    assert_eq!(tokens_of(&|d| d.top_k = 1), [2]);
    // 2 has 0.47 of the mass, with 3 it is 0.79.
    assert_eq!(tokens_of(&|d| d.top_p = 0.4), [2]);
    assert_eq!(tokens_of(&|d| d.top_p = 0.6), [2, 3]);
    assert_eq!(tokens_of(&|d| d.temperature = 0.01), [2]);
}

#[test]
fn penalties_bans_and_lengths() {
    let decode = decode(|d| {
        (d.repetition_penalty, d.no_repeat_ngram, d.min_length) = (2.0, 2, 3);
    });
    let rules = Rules { decode: &decode, markers: (START, END) };
    let mut logits = [9.0, 9.0, 4.0, -4.0, 1.0, 1.0];
    rules.apply(&[2, 3], &mut logits);
    // Halved above zero, doubled below it; neither beginning nor end.
    assert_eq!(logits, [f32::NEG_INFINITY, f32::NEG_INFINITY, 2.0, -8.0, 1.0, 1.0]);
    let mut logits = [0.0; 6];
    rules.apply(&[2, 3, 2], &mut logits);
    // After 2 came 3; the end may come now.
    assert_eq!(logits, [f32::NEG_INFINITY, 0.0, 0.0, f32::NEG_INFINITY, 0.0, 0.0]);
    let ones = DecodeConfig { no_repeat_ngram: 1, ..decode.clone() };
    let rules = Rules { decode: &ones, markers: (START, END) };
    let mut logits = [0.0; 6];
    rules.apply(&[2, 3, 4, 5], &mut logits);
    assert_eq!(logits[1], 0.0);
    assert!([0, 2, 3, 4, 5].iter().all(|token| logits[*token] == f32::NEG_INFINITY));
    // Where everything is banned, the caption ends.
    let long = DecodeConfig { min_length: 9, ..ones };
    let rules = Rules { decode: &long, markers: (START, END) };
    let mut logits = [0.0; 6];
    rules.apply(&[2, 3, 4, 5], &mut logits);
    assert_eq!((logits[1], largest(&logits)), (0.0, END));
}

#[test]
fn chances_are_even_and_their_own() {
    let mean: f64 = (0..4000).map(|i| draw(1, "key", 0, i)).sum::<f64>() / 4000.0;
    assert!((mean - 0.5).abs() < 0.02, "{mean}");
    let base = draw(1, "key", 0, 0);
    assert!(
        [draw(2, "key", 0, 0), draw(1, "kez", 0, 0), draw(1, "key", 1, 0), draw(1, "key", 0, 1)]
            .iter()
            .all(|other| *other != base)
    );
}
