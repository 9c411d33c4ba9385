//! Views of a split, and what is refused when it is opened.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::{collections::BTreeSet, sync::Arc};

use loader::{Error, Filter, Loader, LoaderBuilder, Remainder, Selection};
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
fn keys_caption_lengths_and_filters_select() {
    let data = Spec::train(90).size(2).temporary();
    let select = |selection: Selection| {
        let loader = builder(&data).selection(selection).build().unwrap();
        loader.keys().map(|key| key.unwrap()[6..].parse().unwrap()).collect::<BTreeSet<usize>>()
    };
    let wanted: BTreeSet<String> = [3, 50, 89].map(|row| testkit::source_id("train", row)).into();
    let keys = Selection { keys: Some(Arc::new(wanted)), ..Selection::default() };
    assert_eq!(select(keys.clone()), [3, 50, 89].into());
    // "caption 0 of train 7, naïve ☂" has seven words, every caption.
    let seven = Selection { caption_words: Some((7, 7)), ..Selection::default() };
    assert_eq!(select(seven).len(), 90);
    let odd = Filter::new("odd", |row| row.source_row % 2 == 1);
    let odd = Selection { filter: Some(odd), ..Selection::default() };
    assert_eq!(select(odd.clone()), (0..90).filter(|row| row % 2 == 1).collect());
    assert_eq!(select(Selection { keys: keys.keys.clone(), ..odd.clone() }), [3, 89].into());
    // A fraction is one of what the others leave.
    let third = select(Selection { fraction: 1.0 / 3.0, ..odd });
    assert_eq!((third.len(), third.iter().all(|row| row % 2 == 1)), (15, true));

    let refused = |selection| builder(&data).selection(selection).build().unwrap_err().to_string();
    let none = refused(Selection { caption_words: Some((8, 9)), ..Selection::default() });
    assert!(none.contains("captions of 8 to 9 words") && none.contains("train"), "{none}");
    let unknown = ["train-00003", "cat"].map(str::to_owned).into();
    let unknown = refused(Selection { keys: Some(Arc::new(unknown)), ..Selection::default() });
    assert!(unknown.contains("1 of the 2 keys") && unknown.contains("\"cat\""), "{unknown}");
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
