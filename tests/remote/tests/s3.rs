//! What comes from an S3-compatible server is the local data set, bit for bit: whole epochs, resumed ones, mixtures.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use common::{Delivered, Server, builder, epoch, url};
use loader::{Error, Order, Part, World};
use testkit::Spec;

const BLOCK: Order = Order::Block { block: 4, window: 5 };

#[test]
fn an_epoch_from_a_store_is_the_local_one() {
    let data = Spec::train(150).size(24).temporary();
    let server = Server::start(data.path(), &["a"]);
    let before = testkit::files::snapshot(&server.folder("a")).unwrap();
    for order in [Order::Global, BLOCK, Order::None] {
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
    let after = testkit::files::snapshot(&server.folder("a")).unwrap();
    assert_eq!(testkit::files::difference(&before, &after), None);
}

#[test]
fn jpegs_of_many_sides_come_as_well() {
    let data = Spec::train(40).size(16).shortest_side().jpeg().temporary();
    let server = Server::start(data.path(), &["deep/er"]);
    let cache = tempfile::tempdir().unwrap();
    let config = server.cache(cache.path());
    let local = builder(data.path(), &config).build().unwrap();
    let remote = builder(url("deep/er/"), &config).build().unwrap();
    assert_eq!(epoch(&remote, 0), epoch(&local, 0));
}

#[test]
fn a_resumed_epoch_goes_on_as_the_local_one() {
    let data = Spec::train(96).size(16).temporary();
    let server = Server::start(data.path(), &["a"]);
    let cache = tempfile::tempdir().unwrap();
    let config = server.cache(cache.path());
    for order in [Order::Global, BLOCK] {
        let local = builder(data.path(), &config).order(order).build().unwrap();
        let remote = builder(url("a"), &config).order(order).threads(1).build().unwrap();
        let whole = epoch(&local, 1);
        let mut begun = remote.epoch(1).unwrap();
        let mut state = None;
        for expected in &whole[..5] {
            let batch = begun.next().unwrap().unwrap();
            assert_eq!(Delivered::of(&batch), *expected);
            state = Some(remote.state_after(&batch));
        }
        drop((begun, remote));
        let again = builder(url("a"), &config).order(order).threads(3).build().unwrap();
        let rest: Vec<Delivered> =
            again.resume(&state.unwrap()).unwrap().map(|batch| Delivered::of(&batch.unwrap())).collect();
        assert_eq!(rest, whole[5..], "{order}");
    }
}

#[test]
fn two_ranks_and_a_mixture_with_a_local_part_are_the_local_ones() {
    let (data, other) = (Spec::train(64).size(16), Spec { seed: 9, ..Spec::train(48).size(16) });
    let (data, other) = (data.temporary(), other.temporary());
    let server = Server::start(data.path(), &["a"]);
    let far = Server::start(other.path(), &["b"]);
    let cache = tempfile::tempdir().unwrap();
    let config = server.cache(cache.path());
    for rank in 0..2 {
        for order in [Order::Global, BLOCK] {
            let world = World::new(rank, 2).unwrap();
            let mixed = |first: &str| {
                let builder =
                    builder(first, &config).order(order).world(world).epoch_samples(160).weight(0.7);
                builder.mix(Part::new(other.path()).weight(0.3)).build().unwrap()
            };
            let (local, remote) = (mixed(data.path().to_str().unwrap()), mixed(&url("a")));
            assert_eq!(epoch(&remote, 2), epoch(&local, 2), "rank {rank}, {order}");
            assert_eq!(remote.draws()[0].dir.to_str(), Some("s3://sets/a"));
        }
    }
    drop(far);
}

#[test]
fn what_is_not_there_is_told_with_its_address() {
    let data = Spec::train(20).temporary();
    let server = Server::start(data.path(), &["a"]);
    let cache = tempfile::tempdir().unwrap();
    let config = server.cache(cache.path());
    let error = builder(url("nowhere"), &config).build().unwrap_err();
    assert!(matches!(error, Error::Remote { .. }), "{error:?}");
    assert!(error.to_string().contains("s3://sets/nowhere/dataset.json: there is no such object"), "{error}");
    let error = builder(url("a"), &config).split("test").build().unwrap_err().to_string();
    assert!(error.contains("s3://sets/a has no split \"test\"; it has train"), "{error}");
    assert_eq!(loader::open_dataset(url("a").as_ref(), &config).unwrap().manifest().splits.len(), 1);
    let mut strange = config.clone();
    strange.variables.insert("AWS_SECRET_ACCESS_KEY".to_owned(), "another-secret".to_owned());
    let error = builder(url("a"), &strange).build().unwrap_err().to_string();
    assert!(error.contains("access is refused") && !error.contains("another-secret"), "{error}");
}
