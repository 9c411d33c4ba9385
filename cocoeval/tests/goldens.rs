//! Tokens and scores are those that pycocoevalcap 1.2 gave; `goldens/make.py` asked it.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests may unwrap as tests do")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use cocoeval::{Hypotheses, ImageId, Metrics, Options, References, Scores, evaluate, tokenize_joined};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What pycocoevalcap's floating point and ours may differ by, relative to the larger of the score and 1.
const TOLERANCE: f64 = 1e-9;
/// Captions of one group of hard.txt: the first is the hypothesis, the others are references.
const GROUP: usize = 5;

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(name);
    fs_err::read_to_string(path).unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_str(&golden(name)).unwrap()
}

/// A file of the data that lies beside the project; none, with a line that says so, where it is missing.
fn shared(name: &str) -> Option<String> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    let found = fs_err::read_to_string(&path).ok();
    if found.is_none() {
        // Past the test runner, which holds back what the macros print in a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {} is not there", path.display());
    }
    found
}

/// The hypotheses that `hypotheses` of goldens/make.py makes.
fn made_up(images: &[Vec<String>], kind: &str) -> Vec<String> {
    let first = |image: usize| images[image % images.len()][0].as_str();
    let words = |image: usize| first(image).split(' ').collect::<Vec<_>>();
    let one = |image: usize| match kind {
        "first" => first(image).to_owned(),
        "next" => first(image + 1).to_owned(),
        "backwards" => words(image).into_iter().rev().collect::<Vec<_>>().join(" "),
        "turned" => {
            let mut words = words(image);
            let by = image % words.len();
            words.rotate_left(by);
            words.join(" ")
        }
        "empty" => String::new(),
        "third_empty" if image.is_multiple_of(3) => String::new(),
        "third_empty" => first(image).to_owned(),
        "one_word" => words(image)[0].to_owned(),
        "four_times" => [first(image); 4].join(" "),
        "long" => (image..image + 20).map(first).collect::<Vec<_>>().join(" "),
        "reference" => images[image].last().unwrap().clone(),
        other => panic!("no such hypotheses: {other}"),
    };
    (0..images.len()).map(one).collect()
}

fn score(images: &[Vec<String>], kind: &str) -> Scores {
    let id = |image: usize| ImageId::Number(image as i64);
    let references =
        References::new(images.iter().enumerate().map(|(image, of)| (id(image), of[1..].to_vec())));
    let hypotheses =
        Hypotheses::new(made_up(images, kind).into_iter().enumerate().map(|(image, of)| (id(image), of)));
    evaluate(&references, &hypotheses, &Options::default()).unwrap()
}

fn by_name(metrics: &Metrics) -> Value {
    serde_json::to_value(metrics).unwrap()
}

/// Compares and returns the difference.
fn assert_near(found: f64, expected: f64, what: &str) -> f64 {
    let difference = (found - expected).abs() / expected.abs().max(1.0);
    assert!(difference <= TOLERANCE, "{what}: {found}, pycocoevalcap gives {expected}");
    difference
}

const NAMES: [&str; 6] = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"];

/// Compares all made-up hypotheses on some images.
fn compare(images: &[Vec<String>], goldens: &Value, set: &str) {
    let mut greatest = 0.0_f64;
    for (kind, golden) in goldens.as_object().unwrap() {
        let scores = score(images, kind);
        for name in NAMES {
            let what = format!("{set}, {kind}: {name}");
            let corpus = by_name(&scores.metrics)[name].as_f64().unwrap();
            greatest = greatest.max(assert_near(corpus, golden["corpus"][name].as_f64().unwrap(), &what));
            let by_image: Vec<f64> =
                scores.images.iter().map(|image| by_name(&image.metrics)[name].as_f64().unwrap()).collect();
            match &golden["images"][name] {
                Value::Array(whole) => {
                    assert_eq!(whole.len(), by_image.len());
                    for (image, (found, expected)) in by_image.iter().zip(whole).enumerate() {
                        let what = format!("{what} of image {image}");
                        greatest = greatest.max(assert_near(*found, expected.as_f64().unwrap(), &what));
                    }
                }
                sum => {
                    let weight = |image: usize| (image * 7919 % 101 + 1) as f64;
                    let found = by_image.iter().enumerate().map(|(image, of)| of * weight(image)).sum();
                    greatest = greatest.max(assert_near(found, sum.as_f64().unwrap(), &what));
                }
            }
        }
    }
    eprintln!("{set}: greatest relative difference {greatest:.1e}");
}

fn compare_outside(images: &[Vec<String>], name: &str) {
    let golden = json(name);
    assert_eq!(golden["images"].as_u64().unwrap(), images.len() as u64, "{name} is of other data");
    let hashes = golden["tokens_sha256_32"].as_str().unwrap();
    let captions: Vec<&String> = images.iter().flatten().collect();
    assert_eq!(hashes.len(), 8 * captions.len());
    for (number, caption) in captions.into_iter().enumerate() {
        let tokens = tokenize_joined(caption);
        let digest = Sha256::digest(tokens.as_bytes());
        let hash: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, hashes[8 * number..8 * number + 8], "{caption:?} gives {tokens:?}");
    }
    compare(images, &golden["scores"], name);
}

#[test]
fn tokens_of_hard_captions() {
    let (text, golden) = (golden("hard.txt"), json("hard.json"));
    let lines: Vec<&str> = text.strip_suffix('\n').unwrap().split('\n').collect();
    let tokens = golden["tokens"].as_array().unwrap();
    assert!(lines.len() >= 300 && lines.len() == tokens.len());
    let wrong: Vec<String> = lines
        .iter()
        .zip(tokens)
        .filter(|(line, tokens)| tokenize_joined(line) != tokens.as_str().unwrap())
        .map(|(line, tokens)| format!("{line:?}\n  is   {tokens}\n  here {:?}", tokenize_joined(line)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn scores_of_hard_captions() {
    let (text, golden) = (golden("hard.txt"), json("hard.json"));
    let lines: Vec<String> = text.strip_suffix('\n').unwrap().split('\n').map(str::to_owned).collect();
    let images: Vec<Vec<String>> = lines.chunks_exact(GROUP).map(<[String]>::to_vec).collect();
    compare(&images, &golden["scores"], "hard.json");
}

#[test]
fn flickr8k_700() {
    let Some(text) = shared("flickr8k-700/captions.jsonl") else { return };
    let images: Vec<Vec<String>> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|image| serde_json::from_value(image["captions"].clone()).unwrap())
        .collect();
    compare_outside(&images, "flickr.json");
}

#[test]
fn coco_mini() {
    let (mut order, mut images) = (Vec::new(), Vec::<Vec<String>>::new());
    for split in ["val", "train"] {
        let Some(text) = shared(&format!("coco-mini/annotations/captions_{split}2017.json")) else { return };
        let file: Value = serde_json::from_str(&text).unwrap();
        for annotation in file["annotations"].as_array().unwrap() {
            let id = annotation["image_id"].as_u64().unwrap();
            let place = order.iter().position(|&known| known == id).unwrap_or_else(|| {
                order.push(id);
                images.push(Vec::new());
                order.len() - 1
            });
            images[place].push(annotation["caption"].as_str().unwrap().to_owned());
        }
    }
    compare_outside(&images, "coco.json");
}
