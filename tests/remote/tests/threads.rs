//! Dropping an epoch midway leaves no thread behind, whatever the server does. Alone in its process, for it counts threads.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::time::{Duration, Instant};

use common::{Fault, Server, builder, url};
use testkit::Spec;

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
            assert!(common::loader_threads() > 0);
            let begun = Instant::now();
            drop(epoch);
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
            // A joined thread may be listed for a moment more.
            let left = (0..100).find(|_| {
                let is_none = common::loader_threads() == 0;
                std::thread::sleep(Duration::from_millis(if is_none { 0 } else { 10 }));
                is_none
            });
            assert!(left.is_some(), "{taken} batches taken, {} threads left", common::loader_threads());
            server.faults(|_| Fault::Pass);
            // The loader is as good as before.
            assert_eq!(remote.epoch(0).unwrap().map(Result::unwrap).count(), 8);
        }
    }
}
