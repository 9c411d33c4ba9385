//! The program `prep` as a user types it: what it makes, what it prints, its exit codes.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod bad_samples;
mod damage;
mod downloads;
mod full_disk;
mod inspect;
mod interrupted;
mod judge;
mod kills;
mod mistakes;
mod near;
mod pixel_options;
mod repair;
mod same_bytes;
mod sources;

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// What a run came to.
#[derive(Debug)]
struct Finished {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prep"));
    command.args(arguments).current_dir(dir).stdin(Stdio::null());
    command
}

/// Runs prep in `dir`.
fn prep(arguments: &[&str], dir: &Path) -> Finished {
    let output = command(arguments, dir).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Finished {
    /// Itself, where the exit code is as expected and nothing panicked.
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\nstandard output:\n{}\nstandard error:\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    /// The one line of an error.
    #[track_caller]
    fn complaint(self) -> String {
        let finished = self.expect(2);
        assert_eq!(finished.out, "");
        assert_eq!(finished.err.trim_end().lines().count(), 1, "{}", finished.err);
        assert!(finished.err.starts_with("prep: "), "{}", finished.err);
        finished.err
    }
}
