//! What limits a loader, and what would help: a few batches once more, their stages measured apart. Left out: the rate
//! itself (`bench`), which this must not disturb.

use anyhow::Result;
use loader::{Loader, LoaderConfig, Stages};
use serde::Serialize;

/// Samples that are measured, in whole batches: enough for shares, and quickly done.
const SAMPLES: u64 = 2048;

/// Shares of the workers' time, and what follows.
#[derive(Serialize)]
pub(crate) struct Limits {
    /// Index rows, keys and captions.
    rows: f64,
    read: f64,
    check: f64,
    decode: f64,
    augment: f64,
    copy: f64,
    /// Workers waiting for the consumer, or done.
    idle: f64,
    /// The largest of them.
    limit: &'static str,
    /// What would help.
    advice: &'static str,
}

impl Limits {
    /// Measures the loader that `open` makes of `config`, from the epoch `epoch` on.
    pub(crate) fn measure(
        open: impl Fn(LoaderConfig) -> Result<Loader>,
        config: LoaderConfig,
        epoch: u64,
    ) -> Result<Limits> {
        let loader = open(LoaderConfig { profile: true, ..config })?;
        let begin = std::time::Instant::now();
        let mut samples = 0;
        for batch in loader.epoch(epoch)? {
            samples += batch?.len() as u64;
            if samples >= SAMPLES {
                break;
            }
        }
        let workers = loader.config().threads.max(1) as f64;
        let limits = Self::of(loader.stages(), workers * begin.elapsed().as_secs_f64());
        let fetches = loader.remote_stats().is_some_and(|stats| stats.misses > 0);
        Ok(if fetches { limits.of_a_store() } else { limits })
    }

    /// `worker_s`: the seconds of all workers together.
    fn of(stages: Stages, worker_s: f64) -> Limits {
        let Stages { rows_ns, read_ns, check_ns, decode_ns, augment_ns, copy_ns } = stages;
        let share = |ns: u64| (ns as f64 / 1e9 / worker_s.max(1e-9)).min(1.0);
        let [rows, read, check, decode, augment, copy] =
            [rows_ns, read_ns, check_ns, decode_ns, augment_ns, copy_ns].map(share);
        let idle = (1.0 - rows - read - check - decode - augment - copy).max(0.0);
        let named = [
            (rows, "rows", "many small samples: larger pictures cost no more here; more --threads"),
            (
                read,
                "read",
                "the data are not in memory: a faster disk, --shuffle block, or shards packed with --store jpeg",
            ),
            (check, "check", "--check first compares each checksum once; more --threads"),
            (decode, "decode", "shards packed with --store tensor need no decoding; more --threads"),
            (augment, "augment", "fewer changes, or more --threads"),
            (
                copy,
                "copy",
                "memory is the limit: --output u8, normalised where the batch is used, is a quarter of the bytes",
            ),
            (
                idle,
                "idle",
                "the workers wait for the consumer: nothing here; more batches ahead even out an uneven one",
            ),
        ];
        let (_, limit, advice) =
            named.into_iter().fold((-1.0, "", ""), |most, stage| if stage.0 > most.0 { stage } else { most });
        Limits { rows, read, check, decode, augment, copy, idle, limit, advice }
    }

    /// The same where samples come from an object store: idle workers wait for it.
    fn of_a_store(self) -> Limits {
        if self.limit != "idle" {
            return self;
        }
        let advice = "the workers wait for the object store: more --cache-bytes keep more for the next epoch, and \
                      --shuffle block asks for more at a time";
        Limits { limit: "fetch", advice, ..self }
    }

    /// Two lines for people.
    pub(crate) fn words(&self) -> String {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let Limits { rows, read, check, decode, augment, copy, idle, limit, advice } = self;
        let stages = [
            ("rows", rows),
            ("read", read),
            ("check", check),
            ("decode", decode),
            ("augment", augment),
            ("copy", copy),
            ("idle", idle),
        ];
        let stages: Vec<String> =
            stages.into_iter().map(|(name, share)| format!("{name} {}", percent(*share))).collect();
        format!("workers, stages apart: {}\nmost of it is {limit}: {advice}", stages.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_share_is_the_limit() {
        let stages = Stages { read_ns: 500_000_000, copy_ns: 300_000_000, ..Stages::default() };
        let limits = Limits::of(stages, 1.0);
        assert_eq!(limits.limit, "read");
        assert!((limits.idle - 0.2).abs() < 1e-9, "{}", limits.idle);
        assert!(limits.words().contains("read 50 %") && limits.words().contains("--shuffle block"));
        let idle = Limits::of(Stages::default(), 0.0);
        assert_eq!(idle.limit, "idle");
        assert_eq!(idle.of_a_store().limit, "fetch");
        assert_eq!(limits.of_a_store().limit, "read");
    }
}
