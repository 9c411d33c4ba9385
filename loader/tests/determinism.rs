//! What is delivered depends on the data, the settings and (seed, epoch), and on nothing else.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::collections::BTreeSet;

use loader::{
    Batch, CLIP_NORMALIZE, Captions, Loader, LoaderBuilder, Order, Output, Pixels, Remainder, World,
};
use testkit::Spec;

fn builder(dir: &tempfile::TempDir) -> LoaderBuilder {
    Loader::builder(dir.path()).batch_size(7).remainder(Remainder::PadLast).seed(5).threads(0)
}

/// All that a batch says, as owned values.
fn content(batch: &Batch) -> (Vec<String>, Vec<Vec<String>>, Vec<u8>, usize, u64) {
    let bytes = match batch.pixels() {
        Pixels::U8(pixels) => pixels.to_vec(),
        Pixels::F32(pixels) => pixels.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let all = 0..batch.len();
    let keys = all.clone().map(|i| batch.key(i).to_owned()).collect();
    let captions = all.map(|i| batch.captions(i).map(str::to_owned).collect()).collect();
    (keys, captions, bytes, batch.valid_count(), batch.position())
}

fn keys(loader: &Loader, epoch: u64) -> Vec<String> {
    let batches = loader.epoch(epoch).unwrap().map(Result::unwrap);
    batches.flat_map(|b| (0..b.valid_count()).map(|i| b.key(i).to_owned()).collect::<Vec<_>>()).collect()
}

#[test]
fn keys_captions_and_bytes_are_the_same_for_any_number_of_threads() {
    let small = Spec::small();
    for spec in
        [small.clone(), small.clone().jpeg(), small.clone().shortest_side(), small.jpeg().shortest_side()]
    {
        let data = spec.temporary();
        for output in [Output::U8, Output::F32(CLIP_NORMALIZE)] {
            for captions in [Captions::Random, Captions::First, Captions::All] {
                let read = |threads, depth| {
                    let builder = builder(&data).output(output).captions(captions).threads(threads);
                    let loader = builder.queue_depth(depth).build().unwrap();
                    (0..2)
                        .flat_map(|epoch| loader.epoch(epoch).unwrap())
                        .map(|batch| content(&batch.unwrap()))
                        .collect::<Vec<_>>()
                };
                let expected = read(0, 1);
                assert_eq!(expected.len(), 18);
                for (threads, depth) in [(1, 1), (2, 1), (3, 2), (8, 8)] {
                    assert!(read(threads, depth) == expected, "{threads} threads, depth {depth}");
                }
            }
        }
    }
}

#[test]
fn pixels_and_captions_are_those_that_were_stored() {
    let spec = Spec::small();
    let data = spec.temporary();
    let bytes = builder(&data).captions(Captions::All).build().unwrap();
    let floats = builder(&data).output(Output::F32(CLIP_NORMALIZE)).build().unwrap();
    let plane = 8 * 8;
    for (a, b) in bytes.epoch(3).unwrap().zip(floats.epoch(3).unwrap()) {
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.height(), a.width(), a.epoch()), (8, 8, 3));
        assert_eq!(a.u8().as_ptr() as usize % loader::PIXEL_ALIGNMENT_BYTES, 0);
        for i in 0..a.len() {
            let row: usize = a.key(i).strip_prefix("train-").unwrap().parse().unwrap();
            let stored = spec.pixels("train", row);
            assert_eq!(&a.u8()[i * 3 * plane..(i + 1) * 3 * plane], stored);
            assert_eq!(a.captions(i).collect::<Vec<_>>(), testkit::captions("train", row));
            for (at, (&value, &stored)) in b.f32()[i * 3 * plane..].iter().zip(&stored).enumerate() {
                let c = at / plane;
                let expected = (f32::from(stored) / 255.0 - CLIP_NORMALIZE.mean[c]) / CLIP_NORMALIZE.std[c];
                assert!((value - expected).abs() < 2e-6);
            }
        }
    }
}

/// The centred square of a picture whose sides are its own.
fn centre(planar: &[u8], (height, width): (usize, usize), size: usize) -> Vec<u8> {
    let (top, left) = ((height - size) / 2, (width - size) / 2);
    let rows = planar.chunks(width).enumerate();
    let rows = rows.filter(|(row, _)| (top..top + size).contains(&(row % height)));
    rows.flat_map(|(_, row)| row[left..left + size].to_vec()).collect()
}

#[test]
fn of_pictures_with_sides_of_their_own_the_centre_is_given() {
    let spec = Spec::small().shortest_side();
    let data = spec.temporary();
    let mut sides = BTreeSet::new();
    for batch in builder(&data).build().unwrap().epoch(1).unwrap() {
        let batch = batch.unwrap();
        assert_eq!((batch.height(), batch.width()), (8, 8));
        for (i, pixels) in batch.u8().chunks(3 * 8 * 8).enumerate() {
            let row: usize = batch.key(i).strip_prefix("train-").unwrap().parse().unwrap();
            let (height, width) = spec.sides("train", row);
            sides.insert((height, width));
            let stored = spec.pixels("train", row);
            assert_eq!(pixels, centre(&stored, (height as usize, width as usize), 8), "{}", batch.key(i));
        }
    }
    assert!(sides.len() > 10, "{sides:?}");
}

#[test]
fn measuring_the_stages_changes_no_byte() {
    let small = Spec::small();
    for spec in [small.clone(), small.clone().interleaved(), small.jpeg()] {
        let data = spec.temporary();
        for output in [Output::U8, Output::F32(CLIP_NORMALIZE)] {
            let read = |profile| {
                let loader = builder(&data).output(output).profile(profile).build().unwrap();
                let batches: Vec<_> =
                    loader.epoch(0).unwrap().map(|batch| content(&batch.unwrap())).collect();
                (batches, loader.stages())
            };
            let (plain, measured) = (read(false), read(true));
            assert!(plain.0 == measured.0);
            assert_eq!(plain.1, loader::Stages::default());
            assert!(measured.1.copy_ns > 0 && measured.1.rows_ns > 0, "{:?}", measured.1);
        }
    }
}

#[test]
fn a_stored_jpeg_comes_close_to_the_pixels_it_was_made_of() {
    let spec = Spec::small().jpeg().size(32);
    let data = spec.temporary();
    for batch in builder(&data).build().unwrap().epoch(0).unwrap() {
        let batch = batch.unwrap();
        for (i, decoded) in batch.u8().chunks(3 * 32 * 32).enumerate() {
            let row: usize = batch.key(i).strip_prefix("train-").unwrap().parse().unwrap();
            let errors =
                spec.pixels("train", row).into_iter().zip(decoded).map(|(a, b)| u64::from(a.abs_diff(*b)));
            let mean = errors.sum::<u64>() as f64 / decoded.len() as f64;
            assert!(mean < 4.0, "{}: mean error {mean}", batch.key(i));
        }
    }
}

#[test]
fn every_sample_once_an_epoch_in_another_order_each_time() {
    let data = Spec::small().temporary();
    let loader = builder(&data).threads(2).build().unwrap();
    let (first, second) = (keys(&loader, 0), keys(&loader, 1));
    assert_ne!(first, second);
    assert_eq!(first, keys(&loader, 0));
    for epoch in [&first, &second] {
        assert_eq!(epoch.len(), 60);
        assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), 60);
    }
    let other_seed = builder(&data).seed(6).build().unwrap();
    assert_ne!(keys(&other_seed, 0), first);
    assert_ne!(keys(&other_seed, 0), second);
}

#[test]
fn no_order_is_the_order_of_the_shards() {
    let data = Spec::small().temporary();
    let loader = builder(&data).order(Order::None).build().unwrap();
    let stored: Vec<String> = loader.keys().map(|key| key.unwrap().to_owned()).collect();
    assert_eq!(keys(&loader, 0), stored);
    assert_eq!(keys(&loader, 4), stored);
}

#[test]
fn the_last_batch_is_dropped_or_padded_as_asked() {
    let data = Spec::small().temporary();
    let padded: Vec<Batch> = builder(&data).build().unwrap().epoch(0).unwrap().map(Result::unwrap).collect();
    let loader = builder(&data).remainder(Remainder::DropLast).build().unwrap();
    let dropped: Vec<Batch> = loader.epoch(0).unwrap().map(Result::unwrap).collect();
    assert_eq!((padded.len(), dropped.len(), loader.batch_count()), (9, 8, 8));
    assert!(dropped.iter().zip(&padded).all(|(a, b)| content(a) == content(b)));
    let last = &padded[8];
    assert_eq!((last.len(), last.valid_count(), last.position(), last.end()), (7, 4, 56, 60));
    for i in 4..7 {
        assert_eq!(last.key(i), padded[0].key(i - 4));
    }
}

#[test]
fn ranks_side_by_side_are_the_batches_of_one_process() {
    let data = Spec::small().temporary();
    let ranks = |count: u32| -> Vec<Vec<Batch>> {
        (0..count)
            .map(|rank| {
                let world = World::new(rank, count).unwrap();
                let loader = builder(&data).batch_size(12).world(world).build().unwrap();
                loader.epoch(2).unwrap().map(Result::unwrap).collect()
            })
            .collect()
    };
    let whole = ranks(1).remove(0);
    for count in [2, 3, 4] {
        let parts = ranks(count);
        for (b, batch) in whole.iter().enumerate() {
            let union: Vec<_> = parts.iter().flat_map(|rank| content(&rank[b]).0).collect();
            assert_eq!(union, content(batch).0);
            assert_eq!(parts.iter().map(|rank| rank[b].valid_count()).sum::<usize>(), batch.valid_count());
            assert!(parts.iter().all(|rank| rank[b].position() == batch.position()));
        }
    }
}

#[test]
fn captions_are_drawn_anew_each_epoch_and_evenly() {
    let data = Spec::train(200).temporary();
    let loader = builder(&data).batch_size(200).build().unwrap();
    let mut counts = [0u32; 5];
    for epoch in 0..50 {
        for batch in loader.epoch(epoch).unwrap() {
            let batch = batch.unwrap();
            for i in (0..batch.len()).filter(|&i| loader.sample_captions(batch.sample(i)).unwrap().len() == 5)
            {
                let place =
                    loader.sample_captions(batch.sample(i)).unwrap().position(|c| c == batch.caption(i));
                counts[place.unwrap()] += 1;
            }
        }
    }
    // 2,000 draws; the standard deviation of each count is 18.
    assert!(counts.iter().all(|&count| count.abs_diff(400) < 90), "{counts:?}");
}
