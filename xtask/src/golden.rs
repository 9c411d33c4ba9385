//! `cargo xtask golden`: writes the format's golden files anew through the test that compares them.

use anyhow::Result;

use crate::command::{Line, root};

/// Writes the golden files, then compares them as every test run does.
///
/// # Errors
/// Where either fails.
pub(crate) fn run() -> Result<()> {
    let words = ["cargo", "test", "--package", "shard", "--test", "golden"];
    let root = root()?;
    Line::new(&words, &root).env("UPDATE_GOLDEN", "1").run()?;
    Line::new(&words, &root).run()?;
    println!("\nwritten: see `git diff --stat shard/tests/golden`; a changed file is a change of the format");
    Ok(())
}
