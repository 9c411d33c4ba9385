//! A real language model: SmolLM2-135M-Instruct in GGUF, against what transformers 5.23 computed from the same file.
//!
//! The file is named by `TRAINER_SMOLLM2`; without it the test says that it was skipped.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

use candle_core::{Device, Tensor};
use std::io::Write as _;
use trainer::lm::LanguageModel;

/// "A photo of a dog that", and what transformers writes behind it, greedily.
const PROMPT: [u32; 6] = [49, 8003, 282, 253, 2767, 338];
const WRITTEN: [u32; 24] = [
    553, 719, 5375, 411, 253, 2767, 198, 198, 504, 2767, 436, 5375, 411, 253, 2767, 30, 198, 198, 504, 2767,
    436, 5375, 411, 253,
];

/// The largest logits behind the prompt, in f32.
const LARGEST: [(u32, f32); 5] =
    [(553, 23.2292), (314, 22.7010), (506, 21.9028), (436, 21.7849), (14640, 20.6782)];

#[test]
fn it_writes_what_transformers_writes() {
    let Ok(path) = std::env::var("TRAINER_SMOLLM2") else {
        // Past the capture of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: TRAINER_SMOLLM2 does not name SmolLM2-135M-Instruct.Q4_1.gguf"
        );
        return;
    };
    let (model, tokenizer) = LanguageModel::open(&path, "", &Device::Cpu).unwrap();
    let encoded = tokenizer.encode(&["A photo of a dog that"], 16).unwrap();
    assert_eq!(encoded.input_ids[1..7], PROMPT);
    let mut ids = PROMPT.to_vec();
    for (place, expected) in WRITTEN.iter().enumerate() {
        let input = Tensor::from_vec(ids.clone(), (1, ids.len()), &Device::Cpu).unwrap();
        let logits = model.logits(&input).unwrap();
        let last =
            logits.narrow(1, ids.len() - 1, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        if place == 0 {
            for (token, expected) in LARGEST {
                let found = last[token as usize];
                assert!((found - expected).abs() < 2e-3, "{token}: {found} against {expected}");
            }
        }
        let best = (0..last.len()).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap();
        assert_eq!(best as u32, *expected, "token {place}");
        ids.push(best as u32);
    }
}
