//! The program `loader`: prints the order that is delivered, measures the rate of delivery, draws a batch. What batches are, and
//! every promise about them, is the library's.

mod args;
mod bench;
mod memory;
mod order;
mod show;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let start = std::time::Instant::now();
    let outcome = match Args::parse().command {
        Command::Order(args) => order::run(&args),
        Command::Bench(args) => bench::run(&args, start),
        Command::Show(args) => show::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            // 1 is an answer, the data are damaged; 2 is no answer.
            let damaged = error
                .chain()
                .filter_map(|cause| cause.downcast_ref::<loader::Error>())
                .any(|e| e.is_corrupt());
            ExitCode::from(if damaged { 1 } else { 2 })
        }
    }
}

/// Whoever reads the output, `head` say, has enough: no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.into_iter().any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

#[expect(clippy::print_stderr, reason = "the one place that prints errors")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
