//! Two processes on one cache, and one that is killed: each lane has one owner, and a dead one's is taken over as it is.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use common::{Delivered, Server, builder, epoch, url};
use loader::CacheConfig;
use testkit::Spec;

const CHILD: &str = "REMOTE_TEST_CHILD";
const CACHE: &str = "REMOTE_TEST_CACHE";

/// A child that finds the store by the environment, as a program would.
fn child(server: &Server, test: &str, cache: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .envs(server.variables())
        .env(CHILD, "1")
        .env(CACHE, cache)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn as_child() -> Option<loader::Loader> {
    std::env::var_os(CHILD)?;
    let dir = std::env::var_os(CACHE).map(Into::into);
    let config = CacheConfig { dir, ahead_bytes: 1, ..CacheConfig::default() };
    Some(builder(url("a"), &config).threads(1).build().unwrap())
}

#[expect(clippy::print_stdout, reason = "what the parent waits for")]
fn tell(word: &str) {
    println!("\n{word}");
}

/// Reads the child's lines up to `word`.
fn wait_for(lines: &mut impl Iterator<Item = std::io::Result<String>>, word: &str) {
    assert!(lines.any(|line| line.unwrap() == word), "the child never said {word}");
}

#[test]
fn two_processes_each_have_a_lane() {
    if let Some(loader) = as_child() {
        let mut batches = loader.epoch(0).unwrap();
        let mut found = vec![Delivered::of(&batches.next().unwrap().unwrap())];
        tell("holding");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        found.extend(batches.map(|batch| Delivered::of(&batch.unwrap())));
        tell(&shard::checksum::blake3_hex(format!("{found:?}").as_bytes()));
        return;
    }
    let data = Spec::train(48).size(24).temporary();
    let server = Server::start(data.path(), &["a"]);
    let cache = tempfile::tempdir().unwrap();
    let config = server.cache(cache.path());
    let expected = epoch(&builder(data.path(), &config).build().unwrap(), 0);
    let mut other = child(&server, "two_processes_each_have_a_lane", cache.path());
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    wait_for(&mut lines, "holding");
    let remote = builder(url("a"), &config).build().unwrap();
    assert!(remote.remote_stats().unwrap().dirs[0].ends_with("lane-1"));
    assert_eq!(epoch(&remote, 0), expected);
    drop(other.stdin.take());
    wait_for(&mut lines, &shard::checksum::blake3_hex(format!("{expected:?}").as_bytes()));
    assert!(other.wait().unwrap().success());
    drop(remote);
    let again = builder(url("a"), &config).build().unwrap();
    assert!(again.remote_stats().unwrap().dirs[0].ends_with("lane-0"));
    assert_eq!(epoch(&again, 0), expected);
    assert_eq!(again.remote_stats().unwrap().misses, 0);
}

#[test]
fn a_killed_process_leaves_a_cache_that_is_taken_over() {
    if let Some(loader) = as_child() {
        let mut batches = loader.epoch(0).unwrap();
        for _ in 0..3 {
            batches.next().unwrap().unwrap();
        }
        tell("ready");
        // Goes on fetching until it is killed.
        batches.for_each(|batch| drop(batch.unwrap()));
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let data = Spec::train(48).size(24).temporary();
    let server = Server::start(data.path(), &["a"]);
    let cache = tempfile::tempdir().unwrap();
    let mut other = child(&server, "a_killed_process_leaves_a_cache_that_is_taken_over", cache.path());
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    wait_for(&mut lines, "ready");
    other.kill().unwrap();
    other.wait().unwrap();
    let config = server.cache(cache.path());
    let remote = builder(url("a"), &config).build().unwrap();
    let stats = remote.remote_stats().unwrap();
    assert!(stats.dirs[0].ends_with("lane-0") && stats.cached_bytes > 0, "{stats:?}");
    assert_eq!(epoch(&remote, 0), epoch(&builder(data.path(), &config).build().unwrap(), 0));
    let stats = remote.remote_stats().unwrap();
    assert!(stats.hits >= 24 && stats.hits + stats.misses == 48, "{stats:?}");
}
