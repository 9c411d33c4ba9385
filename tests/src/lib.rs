//! The project's three programs, for tests that run them as a user does: built once, called in temporary folders.
//! It leaves out data, which is `testkit`'s.
//!
//! Everything here panics on failure: a test that cannot run the programs has nothing to test.
#![expect(clippy::expect_used, reason = "a test without the programs has nothing to test")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

/// Where the programs lie.
#[derive(Debug)]
pub struct Programs {
    /// `prep`.
    pub prep: PathBuf,
    /// `loader`.
    pub loader: PathBuf,
    /// `trainer`.
    pub trainer: PathBuf,
}

/// What a run of a program came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace").to_path_buf()
}

/// The programs of this very checkout and profile. `cargo ci` has built them already, and then cargo
/// only says where they are; its own selection of targets is asked for, because another one would give the
/// dependencies other features and compile them anew.
pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let mut command = cargo();
        command.args(["test", "--workspace", "--exclude", "e2e-remote", "--no-run"]);
        command.args(["--message-format", "json-render-diagnostics"]);
        match profile().as_str() {
            "debug" => {}
            profile => drop(command.args(["--profile", profile])),
        }
        let output = command.current_dir(root()).stderr(Stdio::inherit()).output().expect("cargo can be run");
        assert!(output.status.success(), "cargo could not build the programs");
        let messages = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
        let built = |name: &str| {
            let path = messages.lines().find_map(|line| executable(line, name));
            path.expect("cargo names each program that it has built")
        };
        Programs { prep: built("prep"), loader: built("loader"), trainer: built("trainer") }
    })
}

/// The cargo that runs this test, without the variables that it sets for tests: some build scripts look at them, and
/// would have their crates compiled anew.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
            || text.starts_with("CARGO_BIN_")
        {
            command.env_remove(&name);
        }
    }
    command
}

/// The profile that this test was built with, by the folder that it lies in: `target/PROFILE/deps/TEST`.
fn profile() -> String {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test.parent().and_then(Path::parent).and_then(Path::file_name);
    folder.expect("tests lie in target/PROFILE/deps").to_string_lossy().into_owned()
}

/// The path of the program `name`, where this message of cargo is about it.
fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_program = message["target"]["kind"][0] == "bin" && message["target"]["name"] == name;
    let is_plain = message["profile"]["test"] == false;
    (is_program && is_plain).then(|| message["executable"].as_str().map(PathBuf::from))?
}

/// Says aloud that a check is skipped: on standard error itself, for what the macros print is held back from a test
/// that passes.
pub fn skipped(reason: &str) {
    // Nobody to tell it to is no reason to fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

/// Runs a program to its end, in `dir`.
pub fn run<S: AsRef<std::ffi::OsStr>>(program: &Path, arguments: &[S], dir: &Path) -> Finished {
    let output = Command::new(program).args(arguments).current_dir(dir).stdin(Stdio::null()).output();
    let output = output.expect("the program can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("programs print UTF-8");
    Finished { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Finished {
    /// Itself, where the exit code is `code`; a panic with everything that was printed otherwise.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\nstandard output:\n{}\nstandard error:\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str(&self.out) {
            Ok(value) => value,
            Err(error) => panic!("{error} in:\n{}", self.out),
        }
    }

    /// Standard output's lines.
    pub fn lines(&self) -> Vec<String> {
        self.out.lines().map(str::to_owned).collect()
    }
}
