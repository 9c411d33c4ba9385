//! Damage, panics, hoarding and early ends: each reaches the consumer as what it is.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::{
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use loader::{Batch, CLIP_NORMALIZE, Check, Error, Loader, LoaderBuilder, OnCorrupt, Output, Remainder};
use shard::Dataset;
use testkit::Spec;

fn builder(dir: &Path) -> LoaderBuilder {
    Loader::builder(dir).batch_size(4).remainder(Remainder::PadLast).threads(3)
}

/// The tar, key and image payload of a sample in the middle of the second shard.
fn victim(dir: &Path) -> (PathBuf, String, shard::Payload) {
    let shards = Dataset::open(dir).unwrap().open_split("train").unwrap();
    let row = shards[1].row(shards[1].len() / 2).unwrap();
    (shards[1].tar_path().to_path_buf(), row.key.to_owned(), row.image)
}

fn flip(path: &Path, offset: u64) -> u8 {
    let mut file = fs_err::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&[byte[0] ^ 0x10]).unwrap();
    byte[0]
}

/// Good batches, then exactly one error, then the end.
fn first_error(loader: &Loader) -> (usize, Error) {
    let mut epoch = loader.epoch(0).unwrap();
    let mut good = 0;
    let error = loop {
        match epoch.next().expect("an epoch with damage must not just end") {
            Ok(_) => good += 1,
            Err(error) => break error,
        }
    };
    assert!(epoch.next().is_none() && epoch.next().is_none());
    (good, error)
}

#[test]
fn a_flipped_byte_names_shard_key_offset_expected_and_found() {
    for spec in [Spec::small(), Spec::small().jpeg()] {
        for output in [Output::U8, Output::F32(CLIP_NORMALIZE)] {
            let data = spec.temporary();
            let (tar, key, payload) = victim(data.path());
            for at in [0, payload.bytes / 2, payload.bytes - 1].map(|at| payload.offset + at) {
                let byte = flip(&tar, at);
                let (good, error) = first_error(&builder(data.path()).output(output).build().unwrap());
                let text = error.to_string();
                assert!(error.is_corrupt());
                let (expected, found) = (format!("{byte:#04x}"), format!("{:#04x}", byte ^ 0x10));
                for part in [tar.to_str().unwrap(), &key, &at.to_string(), &expected, &found] {
                    assert!(text.contains(part), "{part} is missing in: {text}");
                }
                // The same batches come before it, whoever reads.
                assert_eq!(first_error(&builder(data.path()).threads(0).build().unwrap()).0, good);
                flip(&tar, at);
            }
            assert!(builder(data.path()).build().unwrap().epoch(0).unwrap().all(|batch| batch.is_ok()));
        }
    }
}

#[test]
fn a_damaged_sample_can_give_its_place_to_another_the_same_each_time() {
    let data = Spec::small().temporary();
    let (tar, key, payload) = victim(data.path());
    let sound = builder(data.path()).build().unwrap();
    let keys = |loader: &Loader, epoch| -> Vec<String> {
        let batches = loader.epoch(epoch).unwrap().map(Result::unwrap);
        batches.flat_map(|b| (0..b.valid_count()).map(|i| b.key(i).to_owned()).collect::<Vec<_>>()).collect()
    };
    let planned = keys(&sound, 2);
    let last = sound.epoch(2).unwrap().map(Result::unwrap).last().unwrap();
    let history = sound.state_after(&last).history;
    flip(&tar, payload.offset + 130);
    let mut delivered = Vec::new();
    for threads in [0, 1, 4] {
        let loader = builder(data.path()).threads(threads).on_corrupt(OnCorrupt::Substitute).build().unwrap();
        let now = keys(&loader, 2);
        let place = planned.iter().position(|planned| *planned == key).unwrap();
        assert_ne!(now[place], key);
        let others = |keys: &[String]| [&keys[..place], &keys[place + 1..]].concat();
        assert_eq!(others(&now), others(&planned));
        let [substitution] = &loader.substitutions()[..] else { panic!("one substitution") };
        assert_eq!(loader.key(substitution.sample).unwrap(), key);
        assert_eq!(loader.key(substitution.by).unwrap(), now[place]);
        assert!(
            substitution.problem.contains(&key) && substitution.problem.contains("CRC-32"),
            "{substitution:?}"
        );
        assert_eq!(loader.stats().substituted, 1);
        // The history is of the order: a replay of it needs no pixels.
        let batches: Vec<Batch> = loader.epoch(2).unwrap().map(Result::unwrap).collect();
        let batch = batches.iter().find(|batch| (0..batch.len()).any(|i| batch.instead_of(i).is_some()));
        let instead = batch.unwrap();
        let i = (0..instead.len()).find(|&i| instead.instead_of(i).is_some()).unwrap();
        let by = (0..60).find(|&row| testkit::source_id("train", row) == instead.key(i)).unwrap();
        assert_eq!(
            &instead.u8()[i * 192..(i + 1) * 192],
            Spec::small().pixels("train", by),
            "its own pixels"
        );
        let state = loader.state_after(batches.last().unwrap());
        assert_eq!(state.history, history);
        assert_eq!(loader.replay(&state).unwrap(), history);
        delivered.push(now);
    }
    assert!(delivered.windows(2).all(|pair| pair[0] == pair[1]));
    let loose =
        builder(data.path()).on_corrupt(OnCorrupt::Substitute).check(Check::First).build().unwrap_err();
    assert!(loose.to_string().contains("every checksum"), "{loose}");
}

#[test]
fn where_nothing_is_sound_the_error_is_delivered_after_all() {
    let data = Spec::small().temporary();
    for shard in Dataset::open(data.path()).unwrap().open_split("train").unwrap() {
        for row in 0..shard.len() {
            flip(shard.tar_path(), shard.row(row).unwrap().image.offset + 130);
        }
    }
    let loader = builder(data.path()).on_corrupt(OnCorrupt::Substitute).build().unwrap();
    let (good, error) = first_error(&loader);
    assert_eq!(good, 0);
    assert!(error.is_corrupt(), "{error}");
}

#[test]
fn a_panicking_sample_and_a_damaged_row_are_substituted_too() {
    let data = Spec::small().temporary();
    let loader = builder(data.path()).on_corrupt(OnCorrupt::Substitute);
    let loader = loader.before_sample(|sample| assert!(sample != 7, "seven")).build().unwrap();
    assert_eq!(
        loader.epoch(0).unwrap().map(Result::unwrap).map(|batch| batch.valid_count()).sum::<usize>(),
        60
    );
    assert!(loader.substitutions()[0].problem.contains("seven"));

    let shards = Dataset::open(data.path()).unwrap().open_split("train").unwrap();
    let (path, bytes) = (shards[0].index_path().to_path_buf(), fs_err::read(shards[0].index_path()).unwrap());
    let key = shards[0].row(0).unwrap().key.to_owned();
    drop(shards);
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap();
    flip(&path, at as u64 + key.len() as u64 - 1);
    let loader = builder(data.path()).on_corrupt(OnCorrupt::Substitute).build().unwrap();
    let batches: Vec<Batch> = loader.epoch(0).unwrap().map(Result::unwrap).collect();
    assert_eq!(loader.substitutions().len(), 1, "{:?}", loader.substitutions());
    let state = loader.state_after(batches.last().unwrap());
    assert_eq!(loader.replay(&state).unwrap(), state.history);
}

#[test]
fn the_check_can_be_once_or_never() {
    let data = Spec::small().temporary();
    let (tar, key, payload) = victim(data.path());
    let once = builder(data.path()).check(Check::First).build().unwrap();
    assert_eq!(once.epoch(0).unwrap().filter(Result::is_ok).count(), 15);
    flip(&tar, payload.offset + 200);
    let last = payload.offset + payload.bytes - 1;
    assert!(once.epoch(1).unwrap().all(|batch| batch.is_ok()), "all samples were checked in epoch 0");
    assert!(builder(data.path()).check(Check::Never).build().unwrap().epoch(0).unwrap().all(|b| b.is_ok()));
    let fresh = builder(data.path()).check(Check::First).build().unwrap();
    assert!(first_error(&fresh).1.to_string().contains(&key));
    assert!(last > payload.offset + 200);
}

#[test]
fn a_damaged_index_row_names_its_sample() {
    let data = Spec::small().temporary();
    let shards = Dataset::open(data.path()).unwrap().open_split("train").unwrap();
    let (index, caption) = (shards[0].index_path().to_path_buf(), shards[0].row(0).unwrap());
    let text = caption.captions.get(0).unwrap().to_owned();
    let key = caption.key.to_owned();
    drop(shards);
    let mut bytes = fs_err::read(&index).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs_err::write(&index, bytes).unwrap();
    let (_, error) = first_error(&builder(data.path()).build().unwrap());
    assert!(error.is_corrupt());
    assert!(error.to_string().contains(&key), "{error}");
}

#[test]
fn a_jpeg_that_does_not_decode_is_named() {
    // With the check off, damage that the checksum would have found meets the decoder.
    let data = Spec::small().jpeg().temporary();
    let (tar, key, payload) = victim(data.path());
    flip(&tar, payload.offset);
    let loader = builder(data.path()).check(Check::Never).build().unwrap();
    let (_, error) = first_error(&loader);
    assert!(matches!(error, Error::Decode { .. }), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    let end = payload.offset + payload.bytes;
    for part in [tar.to_str().unwrap(), &key, &format!("bytes {}..{end}", payload.offset)] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_shard_cut_short_is_refused_when_it_is_opened() {
    let data = Spec::small().temporary();
    let (tar, _, payload) = victim(data.path());
    let file = fs_err::OpenOptions::new().write(true).open(&tar).unwrap();
    file.set_len(payload.offset).unwrap();
    let error = builder(data.path()).build().unwrap_err();
    assert!(error.is_corrupt());
    assert!(error.to_string().contains(tar.to_str().unwrap()), "{error}");
}

#[test]
fn a_panicking_worker_is_an_error_that_names_the_sample() {
    let data = Spec::small().temporary();
    for threads in [0, 1, 4] {
        let hook = |sample| assert_ne!(sample, 33, "injected");
        let loader = builder(data.path()).threads(threads).before_sample(hook).build().unwrap();
        let (_, error) = first_error(&loader);
        let Error::SamplePanic { place, message } = &error else { panic!("{error}") };
        assert_eq!(place.key, loader.key(33).unwrap());
        assert!(message.contains("injected") && error.to_string().contains(".tar"), "{error}");
        // The loader itself is whole: another epoch fails at the same sample, not by a poisoned lock.
        assert!(matches!(first_error(&loader).1, Error::SamplePanic { .. }));
    }
}

#[test]
fn dropping_an_epoch_midway_leaves_no_worker() {
    let data = Spec::small().temporary();
    let held = Arc::new(());
    let active = Arc::new(AtomicUsize::new(0));
    let (token, count) = (Arc::clone(&held), Arc::clone(&active));
    let hook = move |_| {
        let _hold = &token;
        count.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(1));
        count.fetch_sub(1, Ordering::SeqCst);
    };
    let loader = builder(data.path()).threads(4).before_sample(hook).build().unwrap();
    let mut epoch = loader.epoch(0).unwrap();
    let batch = epoch.next().unwrap().unwrap();
    drop(epoch);
    assert_eq!(active.load(Ordering::SeqCst), 0, "a worker still reads");
    drop(loader);
    // Every worker held the loader's insides; only the hook's own token is gone with the last of them.
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(batch.len(), 4, "a batch outlives its loader");
}

#[test]
fn hoarded_batches_get_fresh_buffers_and_are_counted() {
    let data = Spec::small().temporary();
    let loader = builder(data.path()).threads(2).queue_depth(2).build().unwrap();
    let hoard: Vec<Batch> = loader.epoch(0).unwrap().map(Result::unwrap).collect();
    assert_eq!(loader.stats().fresh_buffers, 15 - 4);
    let keys: std::collections::BTreeSet<_> =
        hoard.iter().flat_map(|b| (0..b.len()).map(|i| b.key(i))).collect();
    assert_eq!(keys.len(), 60, "no held batch was overwritten");
    drop(hoard);
    let before = loader.stats().fresh_buffers;
    assert!(loader.epoch(1).unwrap().all(|batch| batch.is_ok()));
    let stats = loader.stats();
    assert_eq!((stats.fresh_buffers, stats.batches, stats.samples), (before, 30, 120));
    assert!(stats.payload_bytes > 120 * 192);
}
