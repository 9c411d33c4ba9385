//! `cargo ci`: every check of the project, each a command that a person can type. A tool that is not installed is
//! named and skipped; everything else that fails, fails the whole, after all checks have run.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::command::{Line, has_subcommand, root};

struct Check {
    line: Line,
    /// The subcommand that has to be installed, and how.
    needs: Option<(&'static str, &'static str)>,
}

fn checks() -> Result<Vec<Check>> {
    let root = root()?;
    let line = |words: &[&str]| Line::new(words, &root);
    let fmt = ("fmt", "rustup component add rustfmt");
    let clippy = ("clippy", "rustup component add clippy");
    let deny = ("deny", "cargo install cargo-deny --locked");
    Ok(vec![
        Check { line: line(&["cargo", "fmt", "--all", "--check"]), needs: Some(fmt) },
        Check {
            line: line(&["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
            needs: Some(clippy),
        },
        // Apart, so that all else is tested with its default features.
        Check { line: line(&["cargo", "test", "--workspace", "--exclude", "e2e-remote"]), needs: None },
        // With the tests of `loader` once more: those of its feature are among them.
        Check { line: line(&["cargo", "test", "-p", "e2e-remote", "-p", "loader"]), needs: None },
        Check {
            line: line(&["cargo", "doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
            needs: None,
        },
        Check {
            line: line(&["cargo", "deny", "--log-level", "error", "check", "bans", "licenses", "sources"]),
            needs: Some(deny),
        },
    ])
}

/// Runs every check.
///
/// # Errors
/// Where one failed.
pub(crate) fn run() -> Result<()> {
    let mut results = Vec::new();
    let (mut failed, mut skipped) = (0, 0);
    for Check { line, needs } in checks()? {
        let begun = Instant::now();
        let result = match needs {
            Some((tool, how)) if !has_subcommand(tool) => {
                println!("\n$ {}\nSKIPPED: cargo {tool} is not installed ({how})", line.typed());
                skipped += 1;
                "skipped"
            }
            _ if line.succeeds()? => "passed",
            _ => {
                failed += 1;
                "FAILED"
            }
        };
        results.push(format!("  {result:<8}{:>7.1} s  {}", begun.elapsed().as_secs_f64(), line.typed()));
    }
    println!("\n{}", results.join("\n"));
    println!("ci: {} passed, {failed} failed, {skipped} skipped", results.len() - failed - skipped);
    if failed > 0 {
        bail!("{failed} of {} checks failed", results.len());
    }
    Ok(())
}
