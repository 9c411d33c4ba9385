//! The program `prep`: parse, run, print the error chain, choose the exit code.
#![allow(clippy::print_stderr, reason = "errors are printed here, once")]

use std::process::ExitCode;

use clap::Parser as _;
use prep::{
    cli::{Cli, Command},
    commands,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Some(Command::Verify(args)) => commands::verify::run(args),
        Some(Command::Repair(args)) => commands::repair::run(args),
        Some(Command::Inspect(args)) => commands::inspect::run(args).map(|()| true),
        Some(Command::Judge(args)) => commands::judge::run(args).map(|()| true),
        None => commands::pack::run(&cli.pack).map(|()| true),
    };
    if let (Ok(_), Some(error)) = (&outcome, prep::unwritten()) {
        eprintln!("prep: could not write the results to standard output: {error}");
        return ExitCode::from(2);
    }
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let error = anyhow::Error::from(error);
            eprintln!("prep: {error:#}{}", advice(&error));
            ExitCode::from(2)
        }
    }
}

/// What helps against a cause that no layer below knows the remedy of.
fn advice(error: &anyhow::Error) -> &'static str {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    if causes.any(|cause| cause.kind() == std::io::ErrorKind::StorageFull) {
        "; make room, and the same command goes on where this stopped"
    } else {
        ""
    }
}
