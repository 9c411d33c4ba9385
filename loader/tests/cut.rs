//! A mapped file cut short under a running loader ends in an error, not in a bus error. Each case runs in a process of
//! its own, which a signal would end.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::{path::Path, process::Command};

use loader::{Check, Loader, Remainder};
use testkit::Spec;

const DIR: &str = "LOADER_TEST_CUT_DIR";
const FILE: &str = "LOADER_TEST_CUT_FILE";

/// The child: reads a batch, cuts the file, reads on.
#[test]
fn child() {
    let (Some(dir), Some(file)) = (std::env::var_os(DIR), std::env::var_os(FILE)) else { return };
    for check in [Check::Always, Check::Never] {
        let loader = Loader::builder(&dir).batch_size(2).remainder(Remainder::DropLast).check(check);
        let loader = loader.threads(2).build().unwrap();
        let mut epoch = loader.epoch(0).unwrap();
        epoch.next().unwrap().unwrap();
        let bytes = fs_err::read(Path::new(&file)).unwrap();
        fs_err::OpenOptions::new().write(true).open(Path::new(&file)).unwrap().set_len(0).unwrap();
        let error = loop {
            match epoch.next().expect("the epoch must not just end") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(epoch.next().is_none());
        println!("{check:?}: corrupt {}: {error}", error.is_corrupt());
        drop((epoch, loader));
        fs_err::write(Path::new(&file), bytes).unwrap();
    }
}

#[test]
fn a_file_cut_under_a_running_loader_is_an_error_that_names_it() {
    // Pictures of a few pages, so that not all of a shard lies in the page that stays.
    let data = Spec::train(60).size(64).temporary();
    for name in ["train/shard-000001.tar", "train/shard-000001.arrow"] {
        let file = data.path().join(name);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .envs([(DIR, data.path()), (FILE, &file)])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success(),
            "{:?}\n{text}\n{}",
            child.status,
            String::from_utf8_lossy(&child.stderr)
        );
        for check in ["Always", "Never"] {
            let line = text.lines().find(|line| line.contains(&format!("{check}: corrupt true"))).unwrap();
            assert!(line.contains(name) && line.contains("cut short") && line.contains("found 0"), "{line}");
        }
    }
}
