//! The cache: within its bounds, nothing twice an epoch, what is needed last goes first, warm after a restart, and nothing
//! outside its folder.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::{collections::BTreeMap, path::Path};

use common::{Asked, Server, builder, epoch, url};
use loader::{CacheConfig, Error, Order};
use shard::{Dataset, Manifest, SplitEntry};
use testkit::Spec;

const BLOCK: Order = Order::Block { block: 4, window: 5 };

/// Whether no byte was asked for twice.
fn once(ranges: &[Asked]) -> Result<(), String> {
    let mut by_path: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for asked in ranges {
        by_path.entry(&asked.path).or_default().push(asked.range.unwrap());
    }
    for (path, mut ranges) in by_path {
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if pair[1].0 <= pair[0].1 {
                return Err(format!("{path}: {:?} and {:?}", pair[0], pair[1]));
            }
        }
    }
    Ok(())
}

/// Bytes of disk that the tars below a folder take.
fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in fs_err::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes += disk_bytes(&path);
        } else if path.extension().is_some_and(|extension| extension == "tar") {
            bytes += fs_err::metadata(&path).unwrap().blocks() * 512;
        }
    }
    bytes
}

fn with(config: &CacheConfig, bytes: u64) -> CacheConfig {
    CacheConfig { bytes: Some(bytes), ..config.clone() }
}

/// Two epochs through caches of several sizes: what was delivered is the local epoch, no byte came twice in one, the disk
/// holds no more than was allowed. Gives how many requests the first epoch took, from the smallest cache to the largest.
fn through_caches(order: Order) -> Vec<usize> {
    // 12.4 kB and up to 5 pages a sample; a batch of 8 needs 164 kB at most.
    let data = Spec::train(120).size(64).temporary();
    let server = Server::start(data.path(), &["a"]);
    let mut requests = Vec::new();
    for limit in [170_000, 700_000, 20_000_000] {
        let cache = tempfile::tempdir().unwrap();
        let config = with(&server.cache(cache.path()), limit);
        let local = builder(data.path(), &config).order(order).build().unwrap();
        let remote = builder(url("a"), &config).order(order).threads(2).build().unwrap();
        for number in 0..2 {
            server.take_ranges();
            assert_eq!(epoch(&remote, number), epoch(&local, number), "{order}, {limit} bytes");
            let ranges = server.take_ranges();
            once(&ranges).unwrap_or_else(|twice| panic!("{order}, {limit} bytes, epoch {number}: {twice}"));
            if number == 0 {
                requests.push(ranges.len());
            }
            let used = disk_bytes(cache.path());
            assert!(used <= limit, "{used} bytes on disk, {limit} allowed, epoch {number}");
        }
        let stats = remote.remote_stats().unwrap();
        assert_eq!(stats.evicted_bytes > 0, limit < 20_000_000, "{stats:?}");
        assert!(stats.cached_bytes <= limit && stats.refetched == 0, "{stats:?}");
    }
    requests
}

#[test]
fn blocks_are_fetched_once_an_epoch_however_small_the_cache() {
    let requests = through_caches(BLOCK);
    // Room for the window saves requests: 120 samples, 4 at a time but for the ends of shards.
    assert!(requests[1] <= 40 && requests[2] <= 40 && requests[0] > 60, "{requests:?}");
}

#[test]
fn a_window_larger_than_the_cache_is_fetched_once_as_well() {
    let requests = through_caches(Order::Block { block: 8, window: 40 });
    assert!(requests[2] <= 24 && requests[0] >= requests[1] && requests[1] >= requests[2], "{requests:?}");
}

#[test]
fn samples_in_any_order_are_fetched_once_an_epoch() {
    through_caches(Order::Global);
}

#[test]
fn what_is_needed_last_goes_first() {
    let data = Spec::train(240).size(64).temporary();
    let server = Server::start(data.path(), &["a"]);
    let cache = tempfile::tempdir().unwrap();
    // Room for half of the samples.
    let config = with(&server.cache(cache.path()), 2_000_000);
    let remote = builder(url("a"), &config).order(Order::None).build().unwrap();
    epoch(&remote, 0);
    let after_first = remote.remote_stats().unwrap();
    epoch(&remote, 1);
    let hits = remote.remote_stats().unwrap().hits - after_first.hits;
    // First in, first out would keep nothing of a scan; the order's own foresight keeps what the cache holds.
    assert!(hits >= 80, "{hits} of 240 samples were kept for the next epoch");
}

#[test]
fn a_cache_that_cannot_hold_a_batch_is_an_error_with_the_number() {
    let data = Spec::train(64).size(64).temporary();
    let server = Server::start(data.path(), &["a"]);
    let cache = tempfile::tempdir().unwrap();
    let config = with(&server.cache(cache.path()), 100_000);
    let remote = builder(url("a"), &config).build().unwrap();
    let (batches, error) = common::failing(&remote, 0);
    let Error::CacheTooSmall { needed_bytes, limit_bytes } = error else { panic!("{error:?}") };
    assert!(
        batches == 0 && (limit_bytes..=164_000).contains(&needed_bytes) && limit_bytes <= 100_000,
        "{error}"
    );
    drop(remote);
    let config = with(&config, needed_bytes.max(164_000));
    let remote = builder(url("a"), &config).build().unwrap();
    assert_eq!(epoch(&remote, 0).len(), 8);
}

#[test]
fn a_second_run_starts_warm_and_checks_what_it_finds() {
    let data = Spec::train(60).size(32).temporary();
    let server = Server::start(data.path(), &["a"]);
    let cache = tempfile::tempdir().unwrap();
    let config = server.cache(cache.path());
    let open = || builder(url("a"), &config).remainder(loader::Remainder::PadLast).build().unwrap();
    let first = open();
    let expected = epoch(&first, 0);
    let dir = first.remote_stats().unwrap().dirs[0].clone();
    drop(first);
    server.take_ranges();
    let second = open();
    assert_eq!(epoch(&second, 0), expected);
    assert_eq!(server.take_ranges(), []);
    let stats = second.remote_stats().unwrap();
    assert_eq!(
        (stats.requests, stats.misses, stats.refetched, stats.hits),
        (1, 0, 0, 64),
        "the manifest alone"
    );
    drop(second);

    // One payload is damaged on the disk, the journal's tail is torn.
    let dataset = Dataset::open(data.path()).unwrap();
    let shards = dataset.open_split("train").unwrap();
    let row = shards[1].row(2).unwrap();
    let tar = dir.join("train/shard-000001.tar");
    let mut bytes = fs_err::read(&tar).unwrap();
    bytes[row.image.offset as usize + 700] ^= 1;
    fs_err::write(&tar, bytes).unwrap();
    let journal = dir.join("train/journal");
    let mut bytes = fs_err::read(&journal).unwrap();
    assert_eq!(bytes.len(), 60 * 16);
    bytes.truncate(58 * 16 - 3);
    fs_err::write(&journal, bytes).unwrap();
    let third = open();
    assert_eq!(epoch(&third, 0), expected);
    let stats = third.remote_stats().unwrap();
    let refetched = stats.refetched;
    assert!(refetched <= 1 && (3..=4).contains(&stats.misses), "{stats:?}");
    assert_eq!(stats.misses, 3 + refetched, "{stats:?}");
    drop(third);
    let fourth = open();
    assert_eq!(epoch(&fourth, 0), expected);
    assert_eq!(fourth.remote_stats().unwrap().misses, 0);
    assert_eq!(fs_err::read(&tar).unwrap()[row.image.offset as usize..][..row.image.bytes as usize], {
        shards[1].payload(&row, row.image).unwrap().to_vec()
    });
}

#[test]
fn a_smaller_allowance_and_forgotten_bytes_are_freed() {
    let data = Spec::train(96).size(64).temporary();
    let server = Server::start(data.path(), &["a"]);
    let cache = tempfile::tempdir().unwrap();
    let config = server.cache(cache.path());
    let first = builder(url("a"), &config).build().unwrap();
    let expected = epoch(&first, 0);
    let dir = first.remote_stats().unwrap().dirs[0].clone();
    drop(first);
    let whole = disk_bytes(cache.path());
    assert!(whole > 1_190_000, "{whole}");
    // As if the process had been killed before it could note half of it.
    let journal = dir.join("train/journal");
    fs_err::OpenOptions::new().write(true).open(&journal).unwrap().set_len(48 * 16).unwrap();
    let second = builder(url("a"), &config).build().unwrap();
    let half = disk_bytes(cache.path());
    assert!(half <= second.remote_stats().unwrap().cached_bytes && half < whole / 3 * 2, "{half} of {whole}");
    assert_eq!(epoch(&second, 0), expected);
    assert_eq!(second.remote_stats().unwrap().refetched, 0);
    drop(second);
    let third = builder(url("a"), &with(&config, 500_000)).build().unwrap();
    third.epoch(0).unwrap().next().unwrap().unwrap();
    assert!(disk_bytes(cache.path()) <= 500_000);
    assert_eq!(epoch(&third, 0), expected);
    assert!(disk_bytes(cache.path()) <= 500_000);
}

#[test]
fn loaders_of_one_process_share_a_cache() {
    let data = Spec::small().temporary();
    let server = Server::start(data.path(), &["a"]);
    let cache = tempfile::tempdir().unwrap();
    let config = server.cache(cache.path());
    let local = |split: &str| builder(data.path(), &config).split(split).build().unwrap();
    let remote = |split: &str| builder(url("a"), &config).split(split).build().unwrap();
    let (first, second, third) = (remote("train"), remote("train"), remote("val"));
    let (mut one, mut two) = (first.epoch(0).unwrap(), second.epoch(1).unwrap());
    for batch in 0..7 {
        for (epochs, number) in [(&mut one, 0), (&mut two, 1)] {
            let found = common::Delivered::of(&epochs.next().unwrap().unwrap());
            assert_eq!(found, epoch(&local("train"), number)[batch]);
        }
    }
    assert_eq!(epoch(&third, 0), epoch(&local("val"), 0));
    let dirs = [&first, &second, &third].map(|loader| loader.remote_stats().unwrap().dirs);
    assert!(dirs[0] == dirs[1] && dirs[1] == dirs[2] && dirs[0][0].ends_with("lane-0"), "{dirs:?}");
}

#[test]
fn auto_is_blocks_until_all_is_here() {
    let data = Spec::train(60).temporary();
    let server = Server::start(data.path(), &["a"]);
    let cache = tempfile::tempdir().unwrap();
    let config = server.cache(cache.path());
    let open = || builder(url("a"), &config).batch_size(10).order(Order::Auto).build().unwrap();
    let cold = open();
    assert_eq!(cold.order(), Order::BLOCK);
    epoch(&cold, 0);
    drop(cold);
    assert_eq!(open().order(), Order::Global);
}

#[test]
fn another_data_set_at_the_same_address_gets_another_folder() {
    let (data, other) = (Spec::train(40).temporary(), Spec { seed: 5, ..Spec::train(40) }.temporary());
    let server = Server::start(data.path(), &["a"]);
    let cache = tempfile::tempdir().unwrap();
    let config = server.cache(cache.path());
    let first = builder(url("a"), &config).build().unwrap();
    epoch(&first, 0);
    let changed = testkit::files::snapshot(other.path()).unwrap();
    testkit::files::restore(&changed, &server.folder("a")).unwrap();
    let second = builder(url("a"), &config).build().unwrap();
    assert_eq!(epoch(&second, 0), epoch(&builder(other.path(), &config).build().unwrap(), 0));
    let dirs = [&first, &second].map(|loader| loader.remote_stats().unwrap().dirs.remove(0));
    assert_ne!(dirs[0], dirs[1]);
    let home = |dir: &Path| dir.parent().unwrap().parent().unwrap().to_path_buf();
    assert_eq!(home(&dirs[0]), home(&dirs[1]));
}

#[test]
fn a_hostile_manifest_gets_nothing_outside_the_cache() {
    let data = Spec::train(20).temporary();
    let dataset = Dataset::open(data.path()).unwrap();
    let server = Server::start(data.path(), &["a"]);
    for (split, shard) in
        [("../../../evil", None), ("/evil", None), ("train", Some("../../evil")), ("..", None)]
    {
        let room = tempfile::tempdir().unwrap();
        let cache = room.path().join("one/two/three/cache");
        let mut shards = dataset.split("train").unwrap().shards.clone();
        if let Some(name) = shard {
            name.clone_into(&mut shards[0].name);
        }
        let image = dataset.manifest().image.clone();
        let bytes = Manifest::of(image, vec![SplitEntry::of(split, shards)]).to_bytes();
        fs_err::write(server.folder("a").join("dataset.json"), bytes).unwrap();
        let config = CacheConfig { attempts: 1, ..server.cache(&cache) };
        let error = builder(url("a"), &config).split(split).build().unwrap_err();
        assert!(error.is_corrupt() && error.to_string().contains("s3://sets/a/dataset.json"), "{error}");
        let found = testkit::files::snapshot(room.path()).unwrap();
        assert!(found.is_empty(), "{:?}", found.keys());
    }
}
