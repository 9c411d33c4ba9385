//! Batches without two samples of one group: for contrastive training, no negative that is none.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::{collections::BTreeSet, sync::Arc};

use loader::{Distinct, Loader, LoaderBuilder, Order, Remainder, World};
use testkit::Spec;

/// Rows that belong together: those equal modulo 20, three of each.
fn groups() -> Distinct {
    let keys = (0..20).map(|group| (0..3).map(|k| testkit::source_id("train", group + 20 * k)).collect());
    Distinct { captions: false, keys: Arc::new(keys.collect()) }
}

fn builder(data: &tempfile::TempDir) -> LoaderBuilder {
    Loader::builder(data.path()).batch_size(12).remainder(Remainder::PadLast).seed(4).threads(2)
}

fn rows(loader: &Loader, epoch: u64) -> Vec<Vec<usize>> {
    let batches = loader.epoch(epoch).unwrap().map(Result::unwrap);
    batches.map(|b| (0..b.valid_count()).map(|i| b.key(i)[6..].parse().unwrap()).collect()).collect()
}

#[test]
fn no_two_of_a_group_meet_in_any_order_rank_or_resume() {
    let data = Spec::small().temporary();
    for order in [Order::Global, Order::Block { block: 4, window: 3 }, Order::None] {
        let plain = builder(&data).order(order).build().unwrap();
        let build = |world| builder(&data).order(order).distinct(groups()).world(world).build().unwrap();
        let apart = build(World::SINGLE);
        let (mut met, mut moved) = (0, 0);
        for epoch in 0..6 {
            let batches = rows(&apart, epoch);
            for batch in &batches {
                assert_eq!(batch.iter().map(|row| row % 20).collect::<BTreeSet<_>>().len(), batch.len());
            }
            let all: BTreeSet<usize> = batches.concat().into_iter().collect();
            assert_eq!(all.len(), 60);
            let before = rows(&plain, epoch);
            met += before
                .iter()
                .map(|b| b.len() - b.iter().map(|row| row % 20).collect::<BTreeSet<_>>().len())
                .sum::<usize>();
            moved += batches.concat().iter().zip(before.concat()).filter(|(a, b)| **a != *b).count();
        }
        assert!(met > 0 || order == Order::None, "{order}: the plain order has meetings to prevent");
        assert!(moved <= 3 * met, "{order}: {moved} moved for {met} meetings");
        let batch = apart.epoch(3).unwrap().nth(1).unwrap().unwrap();
        let state = apart.state_after(&batch);
        let halves = [0, 1].map(|rank| build(World::new(rank, 2).unwrap()));
        let halves = halves.map(|half| half.resume(&state).unwrap().next().unwrap().unwrap());
        let joined: Vec<String> = halves
            .iter()
            .flat_map(|b| (0..b.len()).map(|i| b.key(i).to_owned()).collect::<Vec<_>>())
            .collect();
        let expected = apart.resume(&state).unwrap().next().unwrap().unwrap();
        assert_eq!(joined, (0..12).map(|i| expected.key(i).to_owned()).collect::<Vec<_>>());
        assert_eq!(apart.replay(&state).unwrap(), state.history);
        assert!(plain.check(&state).unwrap_err().to_string().contains("distinct"));
    }
}

#[test]
fn samples_with_a_caption_in_common_are_a_group() {
    // Every caption names its own row, so nothing meets; and no group is larger than one.
    let data = Spec::small().temporary();
    let captions = Distinct { captions: true, ..Distinct::default() };
    let apart = builder(&data).distinct(captions).build().unwrap();
    assert_eq!(rows(&apart, 0), rows(&builder(&data).build().unwrap(), 0));

    let data = Spec { caption_rows: Some(20), ..Spec::small() }.temporary();
    let captions = Distinct { captions: true, ..Distinct::default() };
    let apart = builder(&data).distinct(captions).build().unwrap();
    for epoch in 0..4 {
        let batches = rows(&apart, epoch);
        assert_ne!(batches, rows(&builder(&data).build().unwrap(), epoch));
        for batch in batches {
            assert_eq!(batch.iter().map(|row| row % 20).collect::<BTreeSet<_>>().len(), batch.len());
        }
    }
}

#[test]
fn a_group_larger_than_the_epochs_batches_is_refused_with_its_size() {
    let data = Spec::small().temporary();
    let keys = vec![(0..7).map(|row| testkit::source_id("train", row)).collect()];
    let large = Distinct { captions: false, keys: Arc::new(keys) };
    let error = builder(&data).distinct(large.clone()).build().unwrap_err().to_string();
    assert!(error.contains("7 samples must not meet") && error.contains("5 full batches"), "{error}");
    assert!(builder(&data).batch_size(8).distinct(large).build().is_ok());
}
