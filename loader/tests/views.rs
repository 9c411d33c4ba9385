//! Views of a split, and what is refused when it is opened.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::collections::BTreeSet;

use loader::{Error, Loader, LoaderBuilder, Remainder};
use testkit::Spec;

fn builder(dir: &tempfile::TempDir) -> LoaderBuilder {
    Loader::builder(dir.path()).batch_size(1).remainder(Remainder::DropLast).threads(1)
}

fn keys(dir: &tempfile::TempDir, fraction: f64, seed: u64) -> BTreeSet<String> {
    let loader = builder(dir).fraction(fraction).seed(seed).build().unwrap();
    let keys: BTreeSet<String> = loader.keys().map(|key| key.unwrap().to_owned()).collect();
    assert_eq!(keys.len() as u64, loader.len());
    let delivered: BTreeSet<String> =
        loader.epoch(0).unwrap().map(|b| b.unwrap().key(0).to_owned()).collect();
    assert_eq!(delivered, keys);
    keys
}

#[test]
fn fractions_are_nested_and_know_neither_seed_nor_sharding() {
    let data = Spec::train(300).size(2).temporary();
    let one_shard = Spec { seed: 77, ..Spec::train(300).size(2).shards(1) }.temporary();
    let mut inner = BTreeSet::new();
    for (fraction, size) in [(0.001, 1), (0.01, 3), (0.1, 30), (0.333, 100), (0.5, 150), (1.0, 300)] {
        let outer = keys(&data, fraction, 1);
        assert_eq!(outer.len(), size);
        assert!(inner.is_subset(&outer));
        assert_eq!(outer, keys(&data, fraction, 2));
        assert_eq!(outer, keys(&one_shard, fraction, 3));
        inner = outer;
    }
}

#[test]
fn a_fraction_is_a_fair_draw() {
    // Sample numbers of a 10 % view spread over the source: their mean is near the middle.
    let data = Spec::train(1000).size(1).temporary();
    let rows: Vec<f64> = keys(&data, 0.1, 0).iter().map(|key| key[6..].parse().unwrap()).collect();
    let mean = rows.iter().sum::<f64>() / rows.len() as f64;
    assert!((mean - 500.0).abs() < 5.0 * 29.0, "{mean}");
}

#[test]
fn all_captions_of_the_view_come_for_the_tokenizer() {
    let data = Spec::small().temporary();
    for fraction in [1.0, 0.2] {
        let loader = builder(&data).fraction(fraction).build().unwrap();
        let captions: Vec<&str> = loader.captions().map(Result::unwrap).collect();
        let expected: Vec<String> = loader
            .keys()
            .flat_map(|key| testkit::captions("train", key.unwrap()[6..].parse().unwrap()))
            .collect();
        assert_eq!(captions, expected);
    }
}

#[test]
fn what_cannot_work_is_one_clear_error() {
    let data = Spec { splits: vec![("train".into(), 5), ("val".into(), 0)], ..Spec::small() }.temporary();
    let refused = |builder: LoaderBuilder| builder.build().unwrap_err();
    let text = refused(builder(&data).batch_size(6)).to_string();
    assert!(text.contains("6 is larger than the 5 samples"), "{text}");
    assert!(matches!(refused(builder(&data).split("val")), Error::EmptySplit { .. }));
    let text = refused(builder(&data).split("test")).to_string();
    assert!(text.contains("test") && text.contains("train, val"), "{text}");
    assert!(refused(builder(&data).fraction(0.0)).to_string().contains("fraction"));
    assert!(
        refused(Loader::builder(data.path()).batch_size(1)).to_string().contains("drop_last or pad_last")
    );
    let huge = refused(builder(&data).batch_size(usize::MAX / 4).remainder(Remainder::PadLast)).to_string();
    assert!(huge.contains("does not fit") || huge.contains("2^62"), "{huge}");
    let missing = Loader::builder(data.path().join("nowhere")).batch_size(1).remainder(Remainder::DropLast);
    assert!(refused(missing).to_string().contains("nowhere"));
    let loader = builder(&data).build().unwrap();
    assert!(matches!(loader.key(5), Err(Error::NoSuchSample { sample: 5, len: 5 })));
}
