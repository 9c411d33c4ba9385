//! Commands that are shown before they run. It leaves out what they are for.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// The workspace's folder.
pub(crate) fn root() -> Result<PathBuf> {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(crate_dir.parent().context("xtask lies in the workspace")?.to_path_buf())
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The variables that cargo set for this program. Some build scripts look at them, and a cargo called from here would
/// compile their crates anew.
fn set_by_cargo() -> impl Iterator<Item = OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| {
        let name = name.to_string_lossy();
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|start| name.starts_with(start))
    })
}

/// A command line: what is typed, and what it runs.
pub(crate) struct Line {
    typed: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
    dir: PathBuf,
}

impl Line {
    /// These words, in `dir`.
    pub(crate) fn new(words: &[&str], dir: &Path) -> Self {
        let typed = words.iter().map(|&word| word.to_owned()).collect();
        Self { typed, environment: Vec::new(), dir: dir.to_path_buf() }
    }

    /// With an environment variable.
    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// What a person types.
    pub(crate) fn typed(&self) -> String {
        let quoted = |word: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
            if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
        };
        let environment = self.environment.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        environment.chain(self.typed.iter().map(|word| quoted(word))).collect::<Vec<_>>().join(" ")
    }

    fn command(&self) -> Command {
        let program = if self.typed[0] == "cargo" { cargo() } else { OsString::from(&self.typed[0]) };
        let mut command = Command::new(program);
        for name in set_by_cargo() {
            command.env_remove(name);
        }
        command.args(&self.typed[1..]).envs(self.environment.iter().copied()).current_dir(&self.dir);
        command
    }

    /// Shows the line, runs it and says whether it succeeded. What it prints goes to the terminal.
    ///
    /// # Errors
    /// Where it could not be started.
    pub(crate) fn succeeds(&self) -> Result<bool> {
        println!("\n$ {}", self.typed());
        let status = self.command().status().with_context(|| format!("cannot run {}", self.typed[0]))?;
        Ok(status.success())
    }

    /// Shows the line and runs it.
    ///
    /// # Errors
    /// Where it could not be started or failed.
    pub(crate) fn run(&self) -> Result<()> {
        if self.succeeds()? { Ok(()) } else { bail!("failed: {}", self.typed()) }
    }

    /// Shows the line, runs it, shows and returns what it printed on standard output.
    ///
    /// # Errors
    /// Where it could not be started or failed, or printed no UTF-8.
    pub(crate) fn output(&self) -> Result<String> {
        let text = self.answer(&[0])?;
        print!("{text}");
        Ok(text)
    }

    /// Shows the line, runs it and returns what it printed on standard output; `codes` are the exit codes of an answer.
    ///
    /// # Errors
    /// Where it could not be started, ended with another code, or printed no UTF-8.
    pub(crate) fn answer(&self, codes: &[i32]) -> Result<String> {
        println!("\n$ {}", self.typed());
        let output = self.command().stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("cannot run {}", self.typed[0]))?;
        let text = String::from_utf8(output.stdout).context("its output is no UTF-8")?;
        if output.status.code().is_some_and(|code| codes.contains(&code)) {
            Ok(text)
        } else {
            print!("{text}");
            bail!("failed: {}", self.typed())
        }
    }
}

/// Whether `cargo NAME` is there to be run.
pub(crate) fn has_subcommand(name: &str) -> bool {
    let quiet =
        Command::new(cargo()).args([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}
