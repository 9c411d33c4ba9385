//! Thousands of random cases of what a distributed, interrupted run delivers: whatever the order, view, mixture, ranks,
//! threads and place of the stop, the union over ranks is the run of one process, sample by sample.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::sync::OnceLock;

use loader::{Loader, LoaderBuilder, Order, Part, Remainder, Selection, World};
use proptest::{prelude::*, test_runner::RngSeed};
use testkit::Spec;

/// Two data sets for all cases: their files are only read.
fn data() -> &'static [tempfile::TempDir; 2] {
    static DATA: OnceLock<[tempfile::TempDir; 2]> = OnceLock::new();
    DATA.get_or_init(|| {
        let set =
            |seed, samples, shards| Spec { seed, ..Spec::train(samples) }.shards(shards).size(2).temporary();
        [set(1, 57, 4), set(2, 23, 1)]
    })
}

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    epoch: u64,
    order: Order,
    fraction: f64,
    mix: Option<(f64, f64)>,
    epoch_samples: Option<u64>,
    rank_batch_size: usize,
    pad: bool,
    /// Ranks before the stop and after it.
    ranks: (u32, u32),
    threads: (usize, usize),
    depth: usize,
    /// Where in the epoch the run stops.
    stop: f64,
}

fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(Order::Global),
        Just(Order::None),
        (1u32..9, 1u32..9).prop_map(|(block, window)| Order::Block { block, window }),
        (1u32..40).prop_map(|buffer| Order::ShardBuffer { buffer }),
    ]
}

prop_compose! {
    fn cases()(
        seed: u64, epoch in 0u64..1000, order in orders(), fraction in 0.2f64..=1.0,
        mix in proptest::option::of((0.1f64..5.0, 0.1f64..5.0)), epoch_samples in proptest::option::of(20u64..150),
        rank_batch_size in 1usize..6, pad: bool, ranks in (1u32..5, 1u32..5), threads in (0usize..4, 0usize..4),
        depth in 1usize..4, stop in 0.0f64..1.0,
    ) -> Case {
        let epoch_samples = epoch_samples.filter(|_| mix.is_some());
        Case { seed, epoch, order, fraction, mix, epoch_samples, rank_batch_size, pad, ranks, threads, depth, stop }
    }
}

impl Case {
    /// The batch of all ranks is the same for both numbers of them.
    fn batch_size(&self) -> usize {
        self.rank_batch_size * (self.ranks.0 * self.ranks.1) as usize
    }

    fn builder(&self, threads: usize, world: World) -> LoaderBuilder {
        let [first, second] = data();
        let remainder = if self.pad { Remainder::PadLast } else { Remainder::DropLast };
        let mut builder = Loader::builder(first.path())
            .batch_size(self.batch_size())
            .remainder(remainder)
            .seed(self.seed)
            .order(self.order)
            .selection(Selection::fraction(self.fraction))
            .threads(threads)
            .queue_depth(self.depth)
            .world(world);
        if let Some((weight, other)) = self.mix {
            builder = builder.weight(weight).mix(Part::new(second.path()).weight(other));
        }
        match self.epoch_samples {
            Some(samples) => builder.epoch_samples(samples),
            None => builder,
        }
    }
}

/// Batches of an epoch from `position` on as all ranks together deliver them: numbers of samples, and which captions.
fn delivered(
    case: &Case,
    threads: usize,
    ranks: u32,
    position: u64,
    most: u64,
) -> Vec<Vec<(u64, String, bool)>> {
    let mut batches: Vec<Vec<(u64, String, bool)>> = Vec::new();
    for rank in 0..ranks {
        let loader = case.builder(threads, World::new(rank, ranks).unwrap()).build().unwrap();
        let state = loader.state(case.epoch, position);
        for (number, batch) in loader.resume(&state).unwrap().take(most as usize).enumerate() {
            let batch = batch.unwrap();
            if batches.len() <= number {
                batches.push(Vec::new());
            }
            let valid = batch.valid_count();
            let line = |i: usize| (batch.sample(i), batch.caption(i).to_owned(), i < valid);
            batches[number].extend((0..batch.len()).map(line));
        }
    }
    batches
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000, failure_persistence: None, rng_seed: RngSeed::Fixed(4), ..ProptestConfig::default()
    })]

    #[test]
    fn ranks_and_stops_change_nothing(case in cases()) {
        let Ok(whole) = case.builder(0, World::SINGLE).build() else {
            // A batch that is larger than the epoch, and no padding.
            prop_assert!(!case.pad);
            return Ok(());
        };
        let batch_size = case.batch_size() as u64;
        let planned: Vec<u64> = whole.epoch_samples(case.epoch).unwrap().map(Result::unwrap).collect();
        let one = delivered(&case, 0, 1, 0, u64::MAX);
        prop_assert_eq!(one.len() as u64, whole.batch_count());
        // One process delivers the plan.
        let valid: Vec<u64> = one.iter().flatten().filter(|(.., valid)| *valid).map(|(sample, ..)| *sample).collect();
        let due = if case.pad { planned.len() } else { planned.len() - planned.len() % batch_size as usize };
        prop_assert_eq!(&valid[..], &planned[..due]);
        // So do some ranks, and others after them.
        let stop = (case.stop * whole.batch_count() as f64) as u64;
        let mut split = delivered(&case, case.threads.0, case.ranks.0, 0, stop);
        split.extend(delivered(&case, case.threads.1, case.ranks.1, stop * batch_size, u64::MAX));
        prop_assert_eq!(split, one);
    }
}
