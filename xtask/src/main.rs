//! The project's own tasks: `cargo demo`, `cargo ci`, `cargo xtask golden`, `cargo xtask periodicity`. Each prints the real commands that it
//! runs, so that the reader learns them. It depends on none of the project's crates.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a task tells what it does")]

mod ci;
mod command;
mod demo;
mod golden;
mod periodicity;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask TASK

Tasks:
  demo [--dir DIR]  the whole way on the embedded data set: shards, training, evaluation, pictures
  ci                every check of the project, offline and on the CPU
  golden            write the format's golden files anew (a new format version alone may need it)
  periodicity       train under several orders and say in which of them the loss has the period of an epoch";

fn main() -> ExitCode {
    let task = std::env::args().nth(1);
    let outcome = match task.as_deref() {
        Some("demo") => demo::run(),
        Some("ci") => ci::run(),
        Some("golden") => golden::run(),
        Some("periodicity") => periodicity::run(),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
