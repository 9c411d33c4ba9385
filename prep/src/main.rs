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
        Some(Command::Inspect(args)) => commands::inspect::run(args).map(|()| true),
        None => commands::pack::run(&cli.pack).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("prep: {:#}", anyhow::Error::from(error));
            ExitCode::from(2)
        }
    }
}
