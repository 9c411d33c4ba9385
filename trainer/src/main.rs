//! The program `trainer`: reads its arguments, calls one command, prints an error once.
//!
//! Exit codes: 0 done, 1 a negative answer, 2 it could not run, 130 stopped by a signal after saving.

mod allocator;
mod cli;
mod commands;
mod progress;

use clap::Parser;
use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "the one place that prints an error")]
fn main() -> ExitCode {
    allocator::keep_pages();
    let arguments = cli::Arguments::parse();
    let result = match arguments.command {
        cli::Command::Train(arguments) => commands::train::run(&arguments),
        cli::Command::Bench(arguments) => commands::bench::run(&arguments),
        cli::Command::Eval(arguments) => commands::eval::run(&arguments),
        cli::Command::Zeroshot(arguments) => commands::zeroshot::run(&arguments),
        cli::Command::Probe(arguments) => commands::probe::run(&arguments),
        cli::Command::Search(arguments) => commands::search::run(&arguments),
        cli::Command::Embed(arguments) => commands::embed::run(&arguments),
        cli::Command::Export(arguments) => commands::export::run(&arguments),
        cli::Command::Caption(arguments) => commands::caption::run(&arguments),
        cli::Command::Score(arguments) => commands::score::run(&arguments),
        cli::Command::Baseline(arguments) => commands::baseline::run(&arguments),
        cli::Command::Plot(arguments) => commands::plot::run(&arguments),
        cli::Command::Runs(arguments) => commands::runs::run(&arguments),
        cli::Command::Diff(arguments) => commands::diff::run(&arguments),
        cli::Command::Sweep(arguments) => commands::sweep::run(&arguments),
        cli::Command::Worst(arguments) => commands::worst::run(&arguments),
        cli::Command::Periodicity(arguments) => commands::periodicity::run(&arguments),
    };
    match result.and_then(|code| commands::report::finish().map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
