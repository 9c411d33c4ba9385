//! What happens around a running loader, and how long it holds out: files deleted or replaced, a disk that dawdles, ten
//! thousand openings. Files cut short are in `cut.rs`.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::{path::Path, time::Duration};

use loader::{Batch, Loader, LoaderBuilder, Remainder, Result};
use testkit::Spec;

fn builder(dir: &Path) -> LoaderBuilder {
    Loader::builder(dir).batch_size(4).remainder(Remainder::DropLast)
}

/// Keys and pixels of what is left of an epoch.
fn rest(batches: &mut dyn Iterator<Item = Result<Batch>>) -> Vec<(Vec<String>, Vec<u8>)> {
    batches
        .map(|batch| {
            let batch = batch.unwrap();
            ((0..batch.len()).map(|i| batch.key(i).to_owned()).collect(), batch.u8().to_vec())
        })
        .collect()
}

#[cfg(unix)]
#[test]
fn an_epoch_goes_on_over_files_that_are_deleted_or_replaced_and_the_next_opening_tells() {
    let other = Spec { seed: 2, ..Spec::train(60) }.size(24).temporary();
    for replace in [false, true] {
        let data = Spec::train(60).size(24).temporary();
        let whole = rest(&mut builder(data.path()).build().unwrap().epoch(0).unwrap());
        let loader = builder(data.path()).threads(2).build().unwrap();
        let mut epoch = loader.epoch(0).unwrap();
        let begun = rest(&mut epoch.by_ref().take(2));
        assert_eq!(begun, whole[..2]);
        let name = "train/shard-000001.tar";
        if replace {
            let beside = data.path().join("new.tar");
            fs_err::copy(other.path().join(name), &beside).unwrap();
            fs_err::rename(&beside, data.path().join(name)).unwrap();
        } else {
            fs_err::remove_file(data.path().join(name)).unwrap();
        }
        // What was opened stays what it is.
        assert_eq!(rest(&mut epoch), whole[2..]);
        assert_eq!(rest(&mut loader.epoch(0).unwrap()), whole);
        let reopened =
            builder(data.path()).build().map(|loader| loader.epoch(0).unwrap().find_map(Result::err));
        let error = match reopened {
            Ok(in_epoch) => in_epoch.expect("other bytes under the old name are found"),
            Err(error) => error,
        };
        let text = format!("{:#}", error);
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn a_disk_that_dawdles_changes_nothing_that_is_delivered() {
    let data = Spec::train(200).temporary();
    let due = rest(&mut builder(data.path()).threads(0).build().unwrap().epoch(3).unwrap());
    let slow = |sample: u64| {
        if sample.is_multiple_of(7) {
            std::thread::sleep(Duration::from_millis(sample % 5));
        }
    };
    for (threads, depth) in [(1, 1), (2, 1), (3, 2), (8, 5)] {
        let loader =
            builder(data.path()).threads(threads).queue_depth(depth).before_sample(slow).build().unwrap();
        assert_eq!(rest(&mut loader.epoch(3).unwrap()), due, "{threads} threads, depth {depth}");
    }
}

/// Threads, open files and mappings of this process.
#[cfg(target_os = "linux")]
fn held() -> [usize; 3] {
    let entries = |path: &str| fs_err::read_dir(path).unwrap().count();
    let mappings = fs_err::read_to_string("/proc/self/maps").unwrap();
    let mappings = mappings.lines().filter(|line| line.contains("/train/shard-")).count();
    [entries("/proc/self/task"), entries("/proc/self/fd"), mappings]
}

/// The child: it is alone in its process, so that what it holds can be counted.
#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_openings_child() {
    let Some(dir) = std::env::var_os("LOADER_TEST_ENDURANCE_DIR") else { return };
    let cycle = |number: u64| {
        let loader = builder(Path::new(&dir)).threads((number % 4) as usize).build().unwrap();
        let mut epoch = loader.epoch(number).unwrap();
        let batch = epoch.next().unwrap().unwrap();
        // In all orders: the batch last, the loader last, the epoch last.
        match number % 3 {
            0 => drop((epoch, loader, batch)),
            1 => drop((batch, epoch, loader)),
            _ => drop((loader, batch, epoch)),
        }
    };
    (0..20).for_each(cycle);
    let before = held();
    (20..10_000).for_each(cycle);
    assert_eq!(held(), before, "threads, open files, mappings");
    println!("held out");
}

#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_openings_leave_no_thread_file_or_mapping() {
    let data = Spec::train(24).temporary();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ten_thousand_openings_child", "--nocapture"])
        .env("LOADER_TEST_ENDURANCE_DIR", data.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && text.contains("held out"),
        "{text}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}
