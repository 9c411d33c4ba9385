//! Small caches, bad servers, several loaders at once: whatever is drawn, what comes is the local data set, and it ends.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::time::Duration;

use common::{Delivered, Fault, Server, builder, epoch, url};
use loader::{CacheConfig, Order, Remainder};
use testkit::Spec;

/// Numbers that look random: Vigna's splitmix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    fn order(&mut self) -> Order {
        match self.below(5) {
            0 => Order::Global,
            1 => Order::None,
            2 => Order::ShardBuffer { buffer: 1 + self.below(30) as u32 },
            _ => Order::Block { block: 1 + self.below(9) as u32, window: 1 + self.below(12) as u32 },
        }
    }
}

fn bad_server(server: &Server, seed: u64) {
    let mut draws = Draws(seed);
    server.faults(move |asked| match draws.below(24) {
        0 => Fault::Status(503),
        1 => Fault::Cut(draws.below(3000) as usize),
        2 => Fault::Flip(asked.range.map_or(200, |(first, last)| first + draws.below(last - first + 1))),
        3 => Fault::Slow(Duration::from_millis(draws.below(20))),
        _ => Fault::Pass,
    });
}

#[test]
fn loaders_at_once_through_one_small_cache_and_a_bad_server() {
    let data = Spec::train(90).size(40).temporary();
    let server = Server::start(data.path(), &["a"]);
    // More of them on request: each is a second or two.
    let seeds = std::env::var("REMOTE_STRESS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(4);
    for seed in 0..seeds {
        let mut draws = Draws(seed);
        bad_server(&server, seed);
        let cache = tempfile::tempdir().unwrap();
        // A batch of 8 needs 3 pages a sample at most, 98 kB; the whole is about 0.8 MB.
        let config = CacheConfig {
            bytes: Some(100_000 + draws.below(500_000)),
            ahead_bytes: 1 + draws.below(400_000),
            requests: 1 + draws.below(20) as usize,
            ..server.cache(cache.path())
        };
        let settings: Vec<_> = (0..3)
            .map(|_| {
                let remainder = if draws.below(2) == 0 { Remainder::DropLast } else { Remainder::PadLast };
                (draws.order(), draws.below(4) as usize, remainder, draws.below(9), draws.below(12) as usize)
            })
            .collect();
        std::thread::scope(|scope| {
            for (order, threads, remainder, from, leave_after) in settings {
                let (config, data) = (&config, data.path());
                scope.spawn(move || {
                    let open = |dir: &str| {
                        let builder = builder(dir, config).order(order).threads(threads).queue_depth(3);
                        builder.remainder(remainder).build().unwrap()
                    };
                    let (local, remote) = (open(data.to_str().unwrap()), open(&url("a")));
                    let deliver = |loader: &loader::Loader, epoch, from, count| -> Vec<Delivered> {
                        let batches = loader.epoch_from(epoch, from).unwrap().take(count);
                        batches.map(|batch| Delivered::of(&batch.unwrap())).collect()
                    };
                    let what = format!("seed {seed}, {order}, {threads} threads, {remainder:?}, from {from}");
                    assert_eq!(deliver(&remote, 0, 8 * from, 99), deliver(&local, 0, 8 * from, 99), "{what}");
                    assert_eq!(
                        deliver(&remote, 1, 0, leave_after),
                        deliver(&local, 1, 0, leave_after),
                        "{what}"
                    );
                    assert_eq!(epoch(&remote, 2), epoch(&local, 2), "{what}");
                });
            }
        });
    }
}
