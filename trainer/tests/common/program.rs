//! The real program, run to its end.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program in the folder `at`, not started.
pub(crate) fn trainer(arguments: &[&str], at: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.args(arguments).current_dir(at).stdin(Stdio::null());
    command
}

/// Runs to the end: exit code, standard output, standard error.
pub(crate) fn run(arguments: &[&str], at: &Path) -> (i32, String, String) {
    let Output { status, stdout, stderr } = trainer(arguments, at).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Runs to the end, which must be a success; standard output.
#[track_caller]
pub(crate) fn done(arguments: &[&str], at: &Path) -> String {
    let (code, out, err) = run(arguments, at);
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

/// As [`done`], the output read as JSON.
#[track_caller]
pub(crate) fn json(arguments: &[&str], at: &Path) -> Value {
    serde_json::from_str(&done(arguments, at)).unwrap()
}
