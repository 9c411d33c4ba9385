//! `loader report`: how good an order is, in words, as JSON, as a picture. The measurement is the library's.

mod draw;
mod input;

use std::io::Write;

use anyhow::{Context, Result};
use loader::report::{Report, Verdict, measure};
use serde::Serialize;

use crate::args::ReportArgs;
use input::Input;

/// What `--json` prints.
#[derive(Serialize)]
struct Output<'a> {
    /// What was measured, and what is not known of it.
    about: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

/// Whether the order is free of faults.
pub(crate) fn run(args: &ReportArgs) -> Result<bool> {
    let Input { about, delivered } = Input::of(args)?;
    let report = measure(&delivered, args.simulations)?;
    if let Some(path) = &args.png {
        let picture = draw::draw(&about, &delivered, &report)?;
        picture.write_png(path).with_context(|| format!("--png {}", path.display()))?;
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&Output { about: &about, report: &report })?)?;
    } else {
        print(&about, &report, &mut out)?;
    }
    Ok(report.verdict != Verdict::Bad)
}

fn print(about: &str, report: &Report, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{about}\n")?;
    let simulated = format!("{} simulated", report.simulations);
    writeln!(out, "{:<20} {:>10} {:>10} {simulated:>18} {:>9}  verdict", "", "found", "ideal", "z")?;
    for metric in &report.metrics {
        let simulated = metric.simulated.map_or("-".to_owned(), |spread| {
            format!("{} to {}", number(spread.lowest), number(spread.highest))
        });
        writeln!(
            out,
            "{:<20} {:>10} {:>10} {simulated:>18} {:>9}  {}",
            metric.name.replace('_', " "),
            number(metric.value),
            number(metric.ideal),
            format!("{:+.1}", metric.z),
            metric.words
        )?;
    }
    let coverage = &report.coverage;
    let delivered: u64 = coverage.epochs.iter().map(|epoch| epoch.delivered).sum();
    let missing: u64 = coverage.epochs.iter().map(|epoch| epoch.missing).sum();
    let repeated: u64 = coverage.epochs.iter().map(|epoch| epoch.repeated).sum();
    writeln!(
        out,
        "\ncoverage: {delivered} deliveries, {missing} missing, {repeated} repeated, {} never: {}",
        coverage.never, coverage.words
    )?;
    writeln!(out, "verdict: {}", report.words)
}

/// Four significant digits or so.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
