//! Several data sets in one epoch: each in its share, each with an order of its own, and all that is promised of one.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::collections::BTreeMap;

use loader::{Loader, LoaderBuilder, Order, Part, Remainder, Selection, World};
use testkit::Spec;

const ORDERS: [Order; 4] =
    [Order::Global, Order::Block { block: 4, window: 3 }, Order::ShardBuffer { buffer: 8 }, Order::None];

/// Three data sets of 60, 30 and 17 samples, keys apart.
fn data() -> [tempfile::TempDir; 3] {
    let named = |name: &str, samples| Spec { splits: vec![(name.to_owned(), samples)], ..Spec::small() };
    [Spec::train(60), named("extra", 30), named("third", 17)].map(|spec| spec.temporary())
}

fn builder(data: &[tempfile::TempDir; 3], weights: Option<[f64; 3]>) -> LoaderBuilder {
    let part = |number: usize, split: &str| {
        let part = Part::new(data[number].path()).split(split);
        weights.map_or(part.clone(), |weights| part.weight(weights[number]))
    };
    let builder =
        Loader::builder(data[0].path()).batch_size(10).remainder(Remainder::PadLast).seed(5).threads(2);
    let builder = weights.map_or(builder.clone(), |weights| builder.weight(weights[0]));
    builder.mix(part(1, "extra")).mix(part(2, "third"))
}

fn keys(loader: &Loader, epoch: u64) -> Vec<String> {
    let batches = loader.epoch(epoch).unwrap().map(Result::unwrap);
    batches.flat_map(|b| (0..b.valid_count()).map(|i| b.key(i).to_owned()).collect::<Vec<_>>()).collect()
}

fn counts(keys: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    keys.iter().for_each(|key| *counts.entry(&key[..key.find('-').unwrap()]).or_default() += 1);
    counts
}

#[test]
fn without_weights_every_sample_comes_once() {
    let data = data();
    for order in ORDERS {
        let loader = builder(&data, None).order(order).build().unwrap();
        assert_eq!(loader.len(), 107);
        let mut delivered = keys(&loader, 1);
        assert_eq!(counts(&delivered), [("extra", 30), ("third", 17), ("train", 60)].into());
        // In every run of 20 positions each data set has its share, to two samples.
        for run in delivered.chunks_exact(20) {
            let train = counts(run).get("train").copied().unwrap_or_default();
            assert!((9..=14).contains(&train), "{order}: {run:?}");
        }
        delivered.sort();
        delivered.dedup();
        assert_eq!(delivered.len(), 107, "{order}");
    }
}

#[test]
fn with_weights_draws_are_exact_and_even_over_the_epochs() {
    let data = data();
    for order in ORDERS {
        let loader = builder(&data, Some([1.0, 1.0, 2.0])).epoch_samples(80).order(order).build().unwrap();
        let draws: Vec<(u64, u64)> =
            loader.draws().iter().map(|draws| (draws.samples, draws.draws)).collect();
        assert_eq!(draws, [(60, 20), (30, 20), (17, 40)]);
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for epoch in 0..6 {
            let delivered = keys(&loader, epoch);
            assert_eq!(counts(&delivered), [("extra", 20), ("third", 40), ("train", 20)].into());
            delivered.into_iter().for_each(|key| *seen.entry(key).or_default() += 1);
        }
        // 6 epochs draw 120 of 60, 120 of 30, and 240 of 17: 14 or 15 times each.
        for (key, times) in seen {
            let due = match &key[..5] {
                "train" => 2..=2,
                "extra" => 4..=4,
                _ => 14..=15,
            };
            assert!(due.contains(&times), "{order}: {key} {times} times");
        }
    }
}

#[test]
fn ranks_threads_and_resumes_agree() {
    let data = data();
    for order in ORDERS {
        let build = |threads, world| {
            let builder = builder(&data, Some([0.5, 0.25, 0.25])).epoch_samples(90).order(order);
            builder.threads(threads).world(world).build().unwrap()
        };
        let whole = build(0, World::SINGLE);
        let expected = keys(&whole, 3);
        assert_eq!(expected, keys(&build(3, World::SINGLE), 3));
        let ranks: Vec<Loader> = (0..5).map(|rank| build(1, World::new(rank, 5).unwrap())).collect();
        let mut epochs: Vec<_> = ranks.iter().map(|loader| loader.epoch(3).unwrap()).collect();
        let mut joined = Vec::new();
        for _ in 0..whole.batch_count() {
            for epoch in &mut epochs {
                let batch = epoch.next().unwrap().unwrap();
                joined.extend((0..batch.len()).map(|i| batch.key(i).to_owned()));
            }
        }
        assert_eq!(joined, expected);
        let middle = whole.epoch(3).unwrap().nth(3).unwrap().unwrap();
        let state = whole.state_after(&middle);
        let rest = ranks[2].resume(&state).unwrap().next().unwrap().unwrap();
        assert_eq!(rest.key(0), expected[40 + 2 * 2]);
        assert_eq!(whole.replay(&state).unwrap(), state.history);
    }
}

#[test]
fn what_does_not_mix_is_refused() {
    let data = data();
    let text = builder(&data, None).weight(1.0).build().unwrap_err().to_string();
    assert!(text.contains("1 of 3 data sets have a weight"), "{text}");
    let text = builder(&data, Some([0.0, -1.0, 1.0])).build().unwrap_err().to_string();
    assert!(text.contains("weights"), "{text}");
    let text = builder(&data, Some([0.0; 3])).build().unwrap_err().to_string();
    assert!(text.contains("weights"), "{text}");
    let large = Spec::train(5).size(16).temporary();
    let text = builder(&data, None).mix(Part::new(large.path())).build().unwrap_err().to_string();
    assert!(text.contains("8x8") && text.contains("16x16"), "{text}");
    let bad = Part::new(data[0].path()).selection(Selection::fraction(2.0));
    let text = builder(&data, None).mix(bad).build().unwrap_err().to_string();
    assert!(text.contains("fraction"), "{text}");
}
