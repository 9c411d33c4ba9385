//! A whole epoch from an S3-compatible server is the local one, bit for bit.

mod common;

use common::{Server, builder, epoch, url};
use loader::Order;
use testkit::Spec;

#[test]
fn an_epoch_from_a_store_is_the_local_one() {
    let data = Spec::train(150).size(24).temporary();
    let server = Server::start(data.path(), &["a"]);
    for order in [Order::Global, Order::Block { block: 4, window: 5 }, Order::None] {
        for threads in [0, 1, 3] {
            let cache = tempfile::tempdir().unwrap();
            let config = server.cache(cache.path());
            let local = builder(data.path(), &config).order(order).threads(threads).build().unwrap();
            let remote = builder(url("a"), &config).order(order).threads(threads).build().unwrap();
            for number in 0..2 {
                assert_eq!(epoch(&remote, number), epoch(&local, number), "{order}, {threads} threads");
            }
            assert_eq!(remote.fingerprint(), local.fingerprint());
            let stats = remote.remote_stats().unwrap();
            assert_eq!((stats.refetched, stats.evicted_bytes), (0, 0), "{stats:?}");
        }
    }
}
