//! The whole loop learns: eight pairs are memorised in seconds, and not when their captions are dealt wrong.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod common;

use common::{Keep, config, train};
use testkit::Spec;
use trainer::checkpoint::{self, Checkpoints};
use trainer::retrieval::Retrieval;
use trainer::{data, embed, run, step};

/// Trains on eight pairs and asks for each among the eight; with the last loss.
fn memorise(set: &[&str]) -> (Retrieval, f32) {
    let splits = vec![("train".to_owned(), 8), ("val".to_owned(), 3)];
    let data = Spec { splits, ..Spec::small() }.size(32).temporary();
    let runs = tempfile::tempdir().unwrap();
    let path = runs.path().join("run");
    let base =
        ["data.batch_size=8", "optim.steps=120", "optim.lr=4e-3", "train.eval_every=0", "train.threads=1"];
    let config = config(&[&base[..], set].concat());
    let mut keep = Keep::default();
    train(&config, data.path(), &path, false, &mut keep).unwrap();
    let latest = Checkpoints::of_run(&path).latest().unwrap().unwrap();
    let state = checkpoint::read_state(&latest).unwrap();
    let cpu = candle_core::Device::Cpu;
    let tokenizer = run::read_tokenizer(&path).unwrap();
    let weights = checkpoint::read_evaluated(&latest, &state, &cpu).unwrap();
    let model = step::load_model(&config, tokenizer.vocab_size(), weights, &latest, &cpu).unwrap();
    let loader = data::open_eval(&config, data.path(), "train", 1.0).unwrap();
    let embedded = embed::embed(&model, &config, &loader, &tokenizer, &cpu, None).unwrap();
    (embedded.recall().unwrap(), keep.rows.last().unwrap().loss)
}

#[test]
fn eight_pairs_are_memorised() {
    let (found, loss) = memorise(&[]);
    assert!(loss < 0.1, "{loss}");
    assert_eq!((found.images, found.image_to_text.r1), (8, 1.0));
    assert_eq!(found.text_to_image.r1, 1.0);
}

#[test]
fn the_pairwise_loss_memorises_them_too_and_so_do_averaged_weights() {
    let (found, loss) = memorise(&["loss.kind=siglip", "train.ema_decay=0.9", "train.chunk_size=3"]);
    assert!(loss < 0.2, "{loss}");
    assert_eq!((found.image_to_text.r1, found.text_to_image.r1), (1.0, 1.0));
}

#[test]
fn captions_dealt_to_other_images_teach_nothing() {
    let (found, loss) = memorise(&["data.shuffle_captions=true"]);
    // What eight equal guesses cost is ln 8 = 2.08.
    assert!(loss > 1.2, "{loss}");
    assert!(found.text_to_image.r1 <= 0.5, "{found:?}");
}
