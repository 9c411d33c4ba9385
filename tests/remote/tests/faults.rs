//! A store that misbehaves: what passes is tried again, what stays is an error with address, key and numbers.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::time::{Duration, Instant};

use common::{Asked, Fault, Server, builder, epoch, failing, url};
use loader::{CacheConfig, Error, OnCorrupt, Order};
use shard::Dataset;
use testkit::Spec;

struct Scene {
    data: tempfile::TempDir,
    server: Server,
    cache: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let data = Spec::train(48).size(32).temporary();
        let server = Server::start(data.path(), &["a"]);
        Scene { data, server, cache: tempfile::tempdir().unwrap() }
    }

    fn config(&self) -> CacheConfig {
        CacheConfig { attempts: 3, ..self.server.cache(self.cache.path()) }
    }

    fn local(&self) -> Vec<common::Delivered> {
        epoch(&builder(self.data.path(), &self.config()).build().unwrap(), 0)
    }

    fn remote(&self) -> loader::Loader {
        builder(url("a"), &self.config()).threads(2).build().unwrap()
    }

    /// Key, first byte and length of a sample's payload.
    fn sample(&self, shard: usize, row: usize) -> (String, u64, u64) {
        let shards = Dataset::open(self.data.path()).unwrap().open_split("train").unwrap();
        let row = shards[shard].row(row).unwrap();
        (row.key.to_owned(), row.image.offset, row.image.bytes)
    }
}

/// The fault for each `every`th request of a tar.
fn some(every: usize, fault: impl Fn() -> Fault + Send + 'static) -> impl FnMut(&Asked) -> Fault + Send {
    let mut count = 0;
    move |asked| {
        count += usize::from(asked.is_tar());
        if asked.is_tar() && count % every == 1 { fault() } else { Fault::Pass }
    }
}

#[test]
fn what_passes_is_tried_again() {
    for fault in [Fault::Status(500), Fault::Status(503), Fault::Status(429), Fault::Cut(100), Fault::Cut(0)]
    {
        let scene = Scene::new();
        let other = tempfile::tempdir().unwrap();
        let clean = builder(url("a"), &scene.server.cache(other.path())).build().unwrap();
        epoch(&clean, 0);
        let clean = clean.remote_stats().unwrap();
        let theirs = fault.clone();
        scene.server.faults(some(9, move || theirs.clone()));
        let remote = scene.remote();
        assert_eq!(epoch(&remote, 0), scene.local(), "{fault:?}");
        let stats = remote.remote_stats().unwrap();
        assert!(stats.requests > clean.requests && stats.refetched == 0, "{fault:?}: {stats:?}");
        assert_eq!(stats.payload_bytes, clean.payload_bytes);
    }
}

#[test]
fn the_files_that_an_opening_needs_are_tried_again_too() {
    let scene = Scene::new();
    let mut left = 6;
    scene.server.faults(move |asked| {
        left -= i32::from(!asked.is_tar() && left > 0);
        match left {
            5 => Fault::Status(500),
            4 => Fault::Flip(40),
            2 => Fault::Cut(10),
            _ => Fault::Pass,
        }
    });
    assert_eq!(epoch(&scene.remote(), 0), scene.local());
}

#[test]
fn a_slow_answer_is_given_up_and_asked_for_again() {
    let scene = Scene::new();
    scene.server.faults(some(20, || Fault::Slow(Duration::from_secs(3))));
    let config = CacheConfig { timeout: Duration::from_millis(200), ..scene.config() };
    let remote = builder(url("a"), &config).threads(2).build().unwrap();
    let begun = Instant::now();
    assert_eq!(epoch(&remote, 0), scene.local());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn a_byte_that_flips_on_the_way_is_fetched_again() {
    let scene = Scene::new();
    let (_, offset, bytes) = scene.sample(1, 3);
    let mut once = true;
    scene.server.faults(move |asked| {
        let covers =
            asked.range.is_some_and(|(first, last)| first <= offset + 9 && offset + bytes - 1 <= last);
        let hit = covers && asked.path.ends_with("shard-000001.tar") && std::mem::take(&mut once);
        if hit { Fault::Flip(offset + 9) } else { Fault::Pass }
    });
    let remote = scene.remote();
    assert_eq!(epoch(&remote, 0), scene.local());
    assert_eq!(remote.remote_stats().unwrap().refetched, 1);
}

fn flip_at_rest(scene: &Scene, at: u64) {
    let tar = scene.server.folder("a/train/shard-000001.tar");
    let mut bytes = fs_err::read(&tar).unwrap();
    bytes[at as usize] ^= 0x40;
    fs_err::write(&tar, bytes).unwrap();
}

#[test]
fn a_byte_that_stays_wrong_is_an_error_with_key_and_offset() {
    let scene = Scene::new();
    let (key, offset, bytes) = scene.sample(1, 3);
    flip_at_rest(&scene, offset + 200);
    let remote = scene.remote();
    let (_, error) = failing(&remote, 0);
    assert!(error.is_corrupt());
    let text = error.to_string();
    let place =
        format!("s3://sets/a/train/shard-000001.tar: sample {key}: bytes {offset}..{}", offset + bytes);
    assert!(text.starts_with(&place) && text.contains(&format!("byte {}", offset + 200)), "{text}");
    assert_eq!(remote.remote_stats().unwrap().refetched, 2, "three attempts");
}

#[test]
fn a_damaged_sample_can_be_substituted() {
    let scene = Scene::new();
    let (_, offset, _) = scene.sample(1, 3);
    flip_at_rest(&scene, offset + 200);
    let bad = testkit::files::snapshot(&scene.server.folder("a")).unwrap();
    let local_dir = tempfile::tempdir().unwrap();
    testkit::files::restore(&bad, local_dir.path()).unwrap();
    let open = |dir: &str| builder(dir, &scene.config()).on_corrupt(OnCorrupt::Substitute).build().unwrap();
    let (local, remote) = (open(local_dir.path().to_str().unwrap()), open(&url("a")));
    assert_eq!(epoch(&remote, 0), epoch(&local, 0));
    let told =
        |loader: &loader::Loader| loader.substitutions().iter().map(|s| (s.sample, s.by)).collect::<Vec<_>>();
    assert_eq!(told(&remote), told(&local));
    assert_eq!(remote.stats().substituted, 1);
}

#[test]
fn an_object_of_another_length_is_told_with_both_lengths() {
    for (longer, order) in [(true, Order::Global), (false, Order::None)] {
        let scene = Scene::new();
        let tar = scene.server.folder("a/train/shard-000002.tar");
        let due = fs_err::metadata(&tar).unwrap().len();
        let found = if longer { due + 512 } else { 9_000 };
        fs_err::OpenOptions::new().write(true).open(&tar).unwrap().set_len(found).unwrap();
        let remote = builder(url("a"), &scene.config()).order(order).build().unwrap();
        let (_, error) = failing(&remote, 0);
        let text = error.to_string();
        let said = format!("length of the object: expected {due}, found {found}");
        assert!(text.contains("s3://sets/a/train/shard-000002.tar") && text.contains(&said), "{text}");
    }
}

#[test]
fn an_object_that_vanishes_in_mid_epoch_is_an_error_in_its_place() {
    let scene = Scene::new();
    let config = CacheConfig { ahead_bytes: 1, ..scene.config() };
    let remote = builder(url("a"), &config).order(Order::None).threads(1).queue_depth(1).build().unwrap();
    let mut batches = remote.epoch(0).unwrap();
    batches.next().unwrap().unwrap();
    fs_err::remove_file(scene.server.folder("a/train/shard-000002.tar")).unwrap();
    let rest: Vec<_> = batches.collect();
    let error = rest.last().unwrap().as_ref().unwrap_err();
    assert!(rest.len() > 1 && rest.len() < 6, "what came before is delivered: {}", rest.len());
    let text = error.to_string();
    assert!(matches!(error, Error::Fetch { .. }) && !error.is_corrupt(), "{error:?}");
    assert!(text.contains("s3://sets/a/train/shard-000002.tar: sample ") && text.contains("404"), "{text}");
}

#[test]
fn an_object_that_is_replaced_in_mid_epoch_is_told() {
    let scene = Scene::new();
    let config = CacheConfig { ahead_bytes: 1, ..scene.config() };
    let remote = builder(url("a"), &config).order(Order::None).threads(1).queue_depth(1).build().unwrap();
    let mut batches = remote.epoch(0).unwrap();
    batches.next().unwrap().unwrap();
    // As long, with other bytes.
    let tar = scene.server.folder("a/train/shard-000000.tar");
    let bytes: Vec<u8> = fs_err::read(&tar).unwrap().iter().map(|byte| !byte).collect();
    fs_err::write(&tar, bytes).unwrap();
    let error = batches.last().unwrap().unwrap_err();
    let text = error.to_string();
    assert!(
        error.is_corrupt() && text.contains("shard-000000.tar: sample ") && text.contains("was replaced"),
        "{text}"
    );
}

#[test]
fn a_store_that_stays_down_is_an_error_and_later_a_loader_again() {
    let scene = Scene::new();
    let remote = scene.remote();
    scene.server.faults(|asked| if asked.is_tar() { Fault::Status(503) } else { Fault::Pass });
    let (batches, error) = failing(&remote, 0);
    let text = error.to_string();
    assert!(batches == 0 && text.contains("503") && text.contains("(3 attempts)"), "{text}");
    assert!(!text.contains(common::SECRET) && !text.contains(common::ACCESS), "{text}");
    scene.server.faults(|_| Fault::Pass);
    assert_eq!(epoch(&remote, 0), scene.local());
}
