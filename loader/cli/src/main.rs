//! The program `loader`: prints the order that is delivered, judges an order, proves a state's past, draws a batch, measures
//! the rate of delivery. What batches are, and every promise about them, is the library's.

mod args;
mod bench;
mod limits;
mod memory;
mod order;
mod report;
mod show;
mod verify_resume;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let start = std::time::Instant::now();
    let outcome = match Args::parse().command {
        Command::Order(args) => order::run(&args).map(|()| true),
        Command::Bench(args) => bench::run(&args, start).map(|()| true),
        Command::VerifyResume(args) => verify_resume::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Show(args) => show::run(&args).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
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

/// A line for whoever looks on, beside the output.
#[expect(clippy::print_stderr, reason = "not part of the output")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

#[expect(clippy::print_stderr, reason = "the one place that prints errors")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
