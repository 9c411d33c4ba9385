//! The experiment's table in Markdown, and its place among the results.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Condition;
use super::options::Options;

/// One experiment, measured.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) heading: String,
    pub(super) conditions: Vec<Condition>,
    /// What `trainer periodicity --json` says.
    pub(super) measured: Value,
    pub(super) picture: PathBuf,
}

const HEAD: &str = "\
| prepared | order | variance explained above chance | combined p | lag one epoch (near by) | sawtooth, nats (p) | period | \
val loss | R@1 image → text | R@1 text → image |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

/// The whole text.
pub(super) fn document(sections: &[Section], options: &Options, root: &Path) -> Result<String> {
    let mut text = "# Does the loss have the period of an epoch?\n\n".to_owned();
    writeln!(text, "- command: `{}`", options.typed)?;
    let given = if options.programs.is_some() { " (programs given, as they were built)" } else { "" };
    writeln!(text, "- commit: {}{given}", commit(root))?;
    writeln!(text, "- machine: {}", machine())?;
    writeln!(
        text,
        "- seeds of each condition: {}; same samples, same model, same seeds in every row",
        options.seeds()
    )?;
    for section in sections {
        write!(text, "\n## {}\n\n{HEAD}{}", section.heading, rows(section)?)?;
    }
    text.push_str(
        "\nVariance: of the loss less each epoch's trend and what one bin of positions carries over to the next, the share\n\
         that the position in the epoch explains, less its mean when each epoch is turned by itself; mean over the seeds.\n\
         p: Fisher's, over the seeds. Sawtooth: the drop at an epoch's start, which a period may cause too. Loss and recall on held-out samples, last\n\
         step; ± is the standard deviation over the seeds.\n",
    );
    Ok(text)
}

fn rows(section: &Section) -> Result<String> {
    let measured = section.measured["conditions"].as_array().context("no conditions in the output")?;
    ensure!(measured.len() == section.conditions.len(), "conditions are missing in the output");
    let mut text = String::new();
    for (condition, found) in section.conditions.iter().zip(measured) {
        let logs = found["logs"].as_array().context("no logs in the output")?;
        let mean = |path: &str| mean_and_deviation(&numbers(logs, path)).0;
        let (lag, near) = (mean("/autocorrelation/at_one_epoch"), mean("/autocorrelation/near_by"));
        let of = |path: &str| found.pointer(path).and_then(Value::as_f64);
        let teeth = of("/sawtooth/drop").map_or("-".to_owned(), |drop| {
            format!("{drop:+.3} ({})", of("/sawtooth/p").map_or("-".to_owned(), p_text))
        });
        let last: Vec<Value> =
            condition.runs.iter().map(|run| last_evaluation(Path::new(run))).collect::<Result<_>>()?;
        let with_deviation = |path: &str, factor: f64, unit: &str| {
            let (mean, deviation) = mean_and_deviation(&numbers(&last, path));
            format!("{:.2} ± {:.2}{unit}", factor * mean, factor * deviation)
        };
        writeln!(
            text,
            "| {} | {} | {:.1} % | {} | {lag:.2} ({near:.2}) | {teeth} | {} | {} | {} | {} |",
            condition.prepared,
            condition.order,
            100.0 * of("/excess").context("no share in the output")?,
            p_text(of("/p").context("no p-value in the output")?),
            found["verdict"].as_str().context("no verdict in the output")?,
            with_deviation("/loss", 1.0, ""),
            with_deviation("/image_to_text/0", 100.0, " %"),
            with_deviation("/text_to_image/0", 100.0, " %"),
        )?;
    }
    Ok(text)
}

/// The numbers at a path; what has none is left out.
fn numbers(rows: &[Value], path: &str) -> Vec<f64> {
    rows.iter().filter_map(|row| row.pointer(path)?.as_f64()).collect()
}

fn mean_and_deviation(numbers: &[f64]) -> (f64, f64) {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    (mean, if numbers.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 })
}

fn p_text(p: f64) -> String {
    if p < 1e-3 { format!("{p:.0e}") } else { format!("{p:.3}") }
}

/// The evaluation that ends a run's log.
///
/// # Errors
/// Where the log does not end with one.
pub(super) fn last_evaluation(run: &Path) -> Result<Value> {
    let path = run.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let last = text.trim_end().lines().next_back().unwrap_or_default();
    let row: Value = serde_json::from_str(last).with_context(|| format!("{} is damaged", path.display()))?;
    ensure!(row["kind"] == "val", "{} does not end with an evaluation", path.display());
    Ok(row)
}

/// The commit of the workspace, with a mark where files differ from it.
fn commit(root: &Path) -> String {
    let described = Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(root).output();
    match described {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// The processor and how many of its cores are there.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let facts = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = facts.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{}, {cores} cores", name.map_or(std::env::consts::ARCH, |(_, name)| name))
}

/// Copies the table and the pictures to where the documents show them.
///
/// # Errors
/// Where a file cannot be written.
pub(super) fn record(text: &str, sections: &[Section], root: &Path) -> Result<()> {
    let table = root.join("benches/results/periodicity.md");
    std::fs::write(&table, text).with_context(|| format!("cannot write {}", table.display()))?;
    println!("{}", table.display());
    let docs = root.join("docs");
    std::fs::create_dir_all(&docs).context("cannot make docs/")?;
    for section in sections {
        let suffix = if section.name == "shapes" { String::new() } else { format!("-{}", section.name) };
        let picture = docs.join(format!("periodicity{suffix}.png"));
        std::fs::copy(&section.picture, &picture)
            .with_context(|| format!("cannot write {}", picture.display()))?;
        println!("{}", picture.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_deviations_and_p_values_are_written_shortly() {
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, 2f64.sqrt()));
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
        assert_eq!([0.25, 0.01, 3.2e-7].map(p_text), ["0.250", "0.010", "3e-7"]);
    }
}
