//! Dropping an epoch midway leaves no thread behind, whatever the server does. Alone in its process, for it counts threads.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::time::{Duration, Instant};

use common::{Fault, Server, builder, url};
use testkit::Spec;

/// Whether the count of threads is as told, within a second: a new thread gets its name, and a joined one leaves the
/// system's list, a moment later.
fn soon(is_so: impl Fn(usize) -> bool) -> bool {
    (0..100).any(|_| {
        let is_so = is_so(common::loader_threads());
        std::thread::sleep(Duration::from_millis(if is_so { 0 } else { 10 }));
        is_so
    })
}

#[test]
fn dropping_midway_leaves_no_thread() {
    let data = Spec::train(64).size(32).temporary();
    let server = Server::start(data.path(), &["a"]);
    assert_eq!(common::loader_threads(), 0);
    for slow in [false, true] {
        for taken in [0, 1, 3] {
            let cache = tempfile::tempdir().unwrap();
            let remote = builder(url("a"), &server.cache(cache.path())).threads(3).build().unwrap();
            let mut epoch = remote.epoch(0).unwrap();
            for _ in 0..taken {
                epoch.next().unwrap().unwrap();
            }
            if slow {
                server.faults(|asked| {
                    if asked.is_tar() { Fault::Slow(Duration::from_secs(20)) } else { Fault::Pass }
                });
            }
            assert!(soon(|threads| threads > 0), "their names must be those that are counted");
            let begun = Instant::now();
            drop(epoch);
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
            assert!(soon(|threads| threads == 0), "{taken} batches taken, threads are left");
            server.faults(|_| Fault::Pass);
            // The loader is as good as before.
            assert_eq!(remote.epoch(0).unwrap().map(Result::unwrap).count(), 8);
        }
    }
}
