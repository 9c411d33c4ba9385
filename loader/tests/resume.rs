//! A run resumed at any batch edge goes on with the very batches that it would have had, or is refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use loader::{Batch, Loader, LoaderBuilder, LoaderState, Order, Remainder, World};
use proptest::prelude::*;
use testkit::Spec;

fn builder(dir: &std::path::Path) -> LoaderBuilder {
    Loader::builder(dir).batch_size(8).remainder(Remainder::PadLast).seed(3).threads(2)
}

fn lines(batches: impl Iterator<Item = loader::Result<Batch>>) -> Vec<String> {
    batches
        .map(Result::unwrap)
        .flat_map(|batch| {
            let line = |i| {
                format!(
                    "{} {} {} {:?}",
                    batch.position(),
                    batch.key(i),
                    batch.caption(i),
                    batch.valid_count()
                )
            };
            (0..batch.len()).map(line).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_position_resumes_to_the_tail_of_the_epoch() {
    let data = Spec::small().temporary();
    for remainder in [Remainder::PadLast, Remainder::DropLast] {
        for order in [
            Order::Global,
            Order::None,
            Order::Block { block: 3, window: 4 },
            Order::ShardBuffer { buffer: 9 },
        ] {
            let loader = builder(data.path()).remainder(remainder).order(order).build().unwrap();
            let whole = lines(loader.epoch(4).unwrap());
            for batch in 0..=loader.batch_count() {
                let position = (batch * 8).min(loader.len());
                let state = LoaderState::from_json(&loader.state(4, position).to_json()).unwrap();
                let tail = lines(loader.resume(&state).unwrap());
                assert_eq!(tail, whole[batch as usize * 8..], "{position}");
            }
        }
    }
}

#[test]
fn states_follow_batches_into_the_next_epoch() {
    let data = Spec::small().temporary();
    for remainder in [Remainder::PadLast, Remainder::DropLast] {
        let loader = builder(data.path()).remainder(remainder).build().unwrap();
        let two_epochs = lines(loader.epoch(0).unwrap().chain(loader.epoch(1).unwrap()));
        let mut walked = Vec::new();
        let mut state = loader.state(0, 0);
        while state.epoch < 2 {
            // One batch from each of many runs, each resumed where the one before it stopped.
            let batch = loader.resume(&state).unwrap().next().unwrap().unwrap();
            state = loader.state_after(&batch);
            walked.extend(lines(std::iter::once(Ok(batch))));
        }
        assert_eq!(walked, two_epochs);
        assert_eq!((state.epoch, state.position), (2, 0));
    }
}

#[test]
fn a_run_resumes_under_another_number_of_ranks() {
    let data = Spec::small().temporary();
    let keys = |rank, ranks, position| -> Vec<Vec<String>> {
        let world = World::new(rank, ranks).unwrap();
        let loader = builder(data.path()).world(world).build().unwrap();
        let batches = loader.epoch_from(1, position).unwrap().map(Result::unwrap);
        batches.map(|b| (0..b.len()).map(|i| b.key(i).to_owned()).collect()).collect()
    };
    let whole = keys(0, 1, 24);
    let (a, b) = (keys(0, 2, 24), keys(1, 2, 24));
    let joined: Vec<Vec<String>> = a.into_iter().zip(b).map(|(a, b)| [a, b].concat()).collect();
    assert_eq!(joined, whole);
}

#[test]
fn the_history_is_the_same_for_any_ranks_and_stops_and_is_what_a_replay_gives() {
    let data = Spec::small().temporary();
    for remainder in [Remainder::PadLast, Remainder::DropLast] {
        for order in [Order::Global, Order::Block { block: 3, window: 4 }] {
            let build = |rank, ranks| {
                let world = World::new(rank, ranks).unwrap();
                builder(data.path()).remainder(remainder).order(order).world(world).build().unwrap()
            };
            let whole = build(0, 1);
            let mut expected = Vec::new();
            let mut state = whole.state(0, 0);
            for _ in 0..2 {
                let batches: Vec<_> = whole.resume(&state).unwrap().map(Result::unwrap).collect();
                expected.extend(batches.iter().map(|batch| whole.state_after(batch)));
                state = expected.last().unwrap().clone();
            }
            let mut state = whole.state(0, 0);
            for (step, expected) in expected.iter().enumerate() {
                // Another number of ranks each step; each rank comes to the same state.
                let ranks = [1, 2, 4, 8][step % 4];
                let states: Vec<LoaderState> = (0..ranks)
                    .map(|rank| {
                        let loader = build(rank, ranks);
                        let batch = loader.resume(&state).unwrap().next().unwrap().unwrap();
                        loader.state_after(&batch)
                    })
                    .collect();
                assert!(states.iter().all(|state| state == expected), "step {step}: {states:#?}");
                state = states[0].clone();
                assert_eq!(whole.replay(&state).unwrap(), state.history);
            }
            let mut lie = state.clone();
            lie.history.hash ^= 1;
            assert_ne!(whole.replay(&lie).unwrap(), lie.history);
        }
    }
}

#[test]
fn a_state_of_another_order_or_selection_is_refused_with_both() {
    let data = Spec::small().temporary();
    let loader = builder(data.path()).build().unwrap();
    let blocks = builder(data.path()).order(Order::BLOCK).build().unwrap();
    let text = blocks.resume(&loader.state(0, 8)).unwrap_err().to_string();
    assert!(text.contains("global") && text.contains("block:16x2048"), "{text}");
    let half = builder(data.path()).fraction(0.5).build().unwrap();
    let text = half.resume(&loader.state(0, 8)).unwrap_err().to_string();
    assert!(text.contains("all") && text.contains("fraction 0.5"), "{text}");
}

#[test]
fn a_state_of_other_data_or_another_seed_is_refused_with_both_values() {
    let (data, other) = (Spec::small().temporary(), Spec::train(61).temporary());
    let loader = builder(data.path()).build().unwrap();
    let elsewhere = builder(other.path()).build().unwrap();
    assert_ne!(loader.fingerprint(), elsewhere.fingerprint());
    let text = elsewhere.resume(&loader.state(0, 8)).unwrap_err().to_string();
    assert!(text.contains(loader.fingerprint()) && text.contains(elsewhere.fingerprint()), "{text}");
    let reseeded = builder(data.path()).seed(99).build().unwrap();
    let text = reseeded.resume(&loader.state(0, 8)).unwrap_err().to_string();
    assert!(text.contains('3') && text.contains("99"), "{text}");
}

#[test]
fn a_position_inside_a_batch_is_refused() {
    let data = Spec::small().temporary();
    let loader = builder(data.path()).build().unwrap();
    for position in [1, 7, 9, 61, 72, u64::MAX] {
        let text = loader.epoch_from(0, position).unwrap_err().to_string();
        assert!(text.contains(&position.to_string()) && text.contains("multiples of 8"), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_length_and_batch_deliver_every_sample_once(
        samples in 1usize..40, shards in 1u32..5, batch_size in 1usize..12, threads in 0usize..4, seed: u64
    ) {
        let data = Spec::train(samples).shards(shards).size(2).temporary();
        let loader = builder(data.path()).batch_size(batch_size).threads(threads).seed(seed).build().unwrap();
        let mut keys: Vec<String> = Vec::new();
        for batch in loader.epoch(0).unwrap() {
            let batch = batch.unwrap();
            prop_assert_eq!(batch.len(), batch_size);
            keys.extend((0..batch.valid_count()).map(|i| batch.key(i).to_owned()));
        }
        keys.sort();
        let expected: Vec<String> = (0..samples).map(|row| testkit::source_id("train", row)).collect();
        prop_assert_eq!(keys, expected);
    }
}
