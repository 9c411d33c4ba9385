//! The table of others' shuffles: the measurement of the simulated orders gives the figures that are known of them.

use benches::orders::{LOADERS, Shuffle, Size};
use loader::report::Verdict;

/// Shards a batch, pair repeat, variance of batch means, as an independent simulation in another language had them
/// (one seed, rounded as here); verdict.
const KNOWN: [(&str, [f64; 3], Verdict); 7] = [
    ("ideal", [162.0, 1.0, 0.9], Verdict::Ideal),
    ("webdataset", [6.4, 41.0, 97.0], Verdict::Bad),
    ("open_clip", [17.0, 4.4, 27.0], Verdict::Bad),
    ("LitData", [1.0, 513.0, 256.0], Verdict::Bad),
    ("MosaicML", [139.0, 1.0, 1.1], Verdict::Near),
    ("FFCV", [34.0, 4.5, 8.2], Verdict::Bad),
    ("16-sample", [157.0, 1.0, 1.0], Verdict::Near),
];

/// How far apart the two may be, relative. The settings of the other are known by name alone, not the ramp of a
/// buffer or a page's samples: that is worth a few per cent. The variance differs by 15 % from seed to seed.
const TOLERANCE: [f64; 3] = [0.05, 0.05, 0.2];

#[test]
fn the_table_is_reproduced() {
    let metrics = ["shards_per_batch", "pair_repeat", "batch_variance"];
    for ((name, shuffle), (known, figures, verdict)) in LOADERS.into_iter().zip(KNOWN) {
        assert!(name.starts_with(known), "{name} is not {known}");
        let report = shuffle.report(Size::TABLE, 0, 3, 0).unwrap();
        for ((metric, value), tolerance) in metrics.iter().zip(figures).zip(TOLERANCE) {
            let found = report.metric(metric).unwrap().value;
            assert!(
                (found / value - 1.0).abs() <= tolerance,
                "{name}: {metric} is {found}, known is {value}"
            );
        }
        assert_eq!(report.verdict, verdict, "{name}: {}", report.words);
    }
}

#[test]
fn chunks_have_closed_forms_at_any_size() {
    // Two batch-mates of a chunk of c meet again with probability (batch - 1)/(c - 1).
    let size = Size { samples: 16_384, shard_samples: 256, batch_size: 32, workers: 4 };
    let report = Shuffle::Chunks { samples: 64 }.report(size, 5, 2, 0).unwrap();
    let value = |name| report.metric(name).unwrap().value;
    assert_eq!(value("shards_per_batch"), 1.0);
    let expected = 16_383.0 / 63.0;
    assert!((value("pair_repeat") / expected - 1.0).abs() < 0.05, "{}", value("pair_repeat"));
}

#[test]
fn a_larger_buffer_shuffles_better_and_never_well() {
    let size = Size { samples: 32_768, shard_samples: 128, batch_size: 32, workers: 8 };
    let report = |samples| Shuffle::Buffer { samples, initial: samples / 5 }.report(size, 1, 2, 0).unwrap();
    let (small, large) = (report(125), report(625));
    for (name, better_is_more) in
        [("shards_per_batch", true), ("pair_repeat", false), ("batch_variance", false)]
    {
        let (small, large) = (small.metric(name).unwrap(), large.metric(name).unwrap());
        assert_eq!(large.value > small.value, better_is_more, "{name}: {} {}", small.value, large.value);
        assert_eq!((small.verdict, large.verdict), (Verdict::Bad, Verdict::Bad), "{name}");
    }
}
