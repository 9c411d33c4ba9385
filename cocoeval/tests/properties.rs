//! Whatever the captions: nothing panics, scores stay within their bounds, and a caption equals itself.

use cocoeval::{
    DocumentFrequencies, Hypotheses, Options, References, degeneration, evaluate, tokenize, tokenize_joined,
};
use proptest::prelude::*;

/// Captions of pieces that the rules care for, or of any characters.
fn caption() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "dog",
        "can't",
        "Mr.",
        "U.S.",
        "etc.",
        "'",
        "\"",
        "&amp;",
        "<b>",
        "...",
        "--",
        "(555) 123-4567",
        "3 1/2",
        "1,000.5",
        "http://a.b",
        "@a",
        "#b",
        ":)",
        "😀",
        "\u{AD}",
        "\u{A0}",
        "n’t",
        "’s",
        "$5",
        "a-b",
        ".",
        "-LRB-",
        " ",
        " ",
        " ",
        "\n",
        "\r",
        "\u{85}",
        "\u{1C}",
    ]);
    prop_oneof![
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()),
        ".{0,40}",
        "[ -~]{0,40}",
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tokens_are_lower_case_and_hold_no_space(caption in caption()) {
        let tokens = tokenize(&caption);
        prop_assert_eq!(tokens.join(" "), tokenize_joined(&caption));
        for token in tokens {
            prop_assert!(!token.is_empty() && !token.contains(' '), "{:?} of {:?}", token, caption);
            prop_assert!(token.to_lowercase() == token || !token.is_ascii(), "{:?} of {:?}", token, caption);
        }
    }

    #[test]
    fn scores_stay_within_bounds(
        captions in prop::collection::vec((caption(), prop::collection::vec(caption(), 1..4)), 1..6),
    ) {
        let id = |image: usize| (image as i64).into();
        let references = References::new(captions.iter().enumerate().map(|(i, of)| (id(i), of.1.clone())));
        let hypotheses = Hypotheses::new(captions.iter().enumerate().map(|(i, of)| (id(i), of.0.clone())));
        let scores = evaluate(&references, &hypotheses, &Options::default()).unwrap();
        for metrics in scores.images.iter().map(|image| image.metrics).chain([scores.metrics]) {
            for bleu in [metrics.bleu_1, metrics.bleu_2, metrics.bleu_3, metrics.bleu_4, metrics.rouge_l] {
                prop_assert!((0.0..=1.0 + 1e-9).contains(&bleu), "{:?}", metrics);
            }
            prop_assert!((0.0..=10.0 + 1e-9).contains(&metrics.cider), "{:?}", metrics);
        }
        let rates = scores.degeneration;
        for rate in [rates.distinct_1, rates.distinct_2].into_iter().chain(rates.repeated) {
            prop_assert!((0.0..=1.0).contains(&rate), "{:?}", rates);
        }
        // The file of frequencies holds all that CIDEr needs.
        let frequencies = Some(DocumentFrequencies::of(&references));
        let by_file = evaluate(&references, &hypotheses, &Options { frequencies, ..Options::default() }).unwrap();
        prop_assert_eq!(by_file, scores);
    }

    #[test]
    fn a_caption_equals_itself(captions in prop::collection::vec(caption(), 1..6)) {
        let id = |image: usize| (image as i64).into();
        let references = References::new(captions.iter().enumerate().map(|(i, of)| (id(i), vec![of.clone()])));
        let hypotheses = Hypotheses::new(captions.iter().enumerate().map(|(i, of)| (id(i), of.clone())));
        let scores = evaluate(&references, &hypotheses, &Options::default()).unwrap();
        prop_assert!((scores.metrics.rouge_l - 1.0).abs() < 1e-12);
        let words = scores.degeneration.mean_length;
        prop_assert!(words == 0.0 || (scores.metrics.bleu_1 - 1.0).abs() < 1e-6, "{:?}", scores);
    }

    #[test]
    fn repetition_of_any_tokens(captions in prop::collection::vec(prop::collection::vec("[ab]", 0..6), 0..6)) {
        let rates = degeneration(&captions);
        prop_assert!(rates.repeated.iter().all(|rate| (0.0..1.0).contains(rate)));
    }
}
