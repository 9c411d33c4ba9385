//! Scores a file of hypotheses against a file of references and prints JSON, with the seconds that it took.
//!
//! `score REFERENCES HYPOTHESES [--df FILE] [--write-df FILE] [--skip-missing] [--meteor JAR] [--spice JAR]
//! [--java JAVA] [--summary]`; or `score --tokens`, which prints the tokens of each line of its input.
#![allow(clippy::print_stdout, reason = "an example that prints")]

use std::{
    error::Error,
    io::{BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use cocoeval::{
    DocumentFrequencies, Hypotheses, Missing, References, evaluate_tokenized,
    java::{JavaProgram, meteor, spice},
    tokenize_joined, tokenized,
};
use serde_json::json;

#[derive(Default)]
struct Arguments {
    files: Vec<PathBuf>,
    df: Option<PathBuf>,
    write_df: Option<PathBuf>,
    meteor: Option<PathBuf>,
    spice: Option<PathBuf>,
    java: Option<PathBuf>,
    missing: Missing,
    summary: bool,
    tokens: bool,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut found = Arguments::default();
    let mut given = std::env::args_os().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().map(PathBuf::from).ok_or("a value is missing at the end");
        match argument.to_str() {
            Some("--df") => found.df = Some(value()?),
            Some("--write-df") => found.write_df = Some(value()?),
            Some("--meteor") => found.meteor = Some(value()?),
            Some("--spice") => found.spice = Some(value()?),
            Some("--java") => found.java = Some(value()?),
            Some("--skip-missing") => found.missing = Missing::Skip,
            Some("--summary") => found.summary = true,
            Some("--tokens") => found.tokens = true,
            _ => found.files.push(argument.into()),
        }
    }
    Ok(found)
}

fn print_tokens() -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let mut out = BufWriter::new(std::io::stdout());
    for line in text.split('\n') {
        writeln!(out, "{}", tokenize_joined(line))?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments()?;
    if arguments.tokens {
        return print_tokens();
    }
    let [references, hypotheses] = arguments.files.as_slice() else {
        return Err("two files are needed: references and hypotheses".into());
    };
    let start = Instant::now();
    let references = References::read(references)?;
    let hypotheses = Hypotheses::read(hypotheses)?;
    let read_s = start.elapsed().as_secs_f64();
    if let Some(path) = &arguments.write_df {
        fs_err::write(path, DocumentFrequencies::of(&references).to_json()?)?;
    }
    let frequencies = arguments.df.as_deref().map(DocumentFrequencies::read).transpose()?;
    let start = Instant::now();
    let images = tokenized(&references, &hypotheses, arguments.missing)?;
    let tokenize_s = start.elapsed().as_secs_f64();
    let scores = evaluate_tokenized(&images, frequencies.as_ref());
    let evaluate_s = start.elapsed().as_secs_f64();
    let java = arguments.java.as_deref().unwrap_or(Path::new("java"));
    let meteor = arguments.meteor.map(|jar| meteor(&JavaProgram::meteor(java, &jar), &images)).transpose()?;
    let spice = arguments.spice.map(|jar| spice(&JavaProgram::spice(java, &jar), &images)).transpose()?;
    let seconds = json!({"read": read_s, "tokenize": tokenize_s, "evaluate": evaluate_s});
    let mut printed = json!({"scores": scores, "meteor": meteor, "spice": spice, "seconds": seconds});
    if arguments.summary {
        printed["scores"]["images"] = images.len().into();
    }
    println!("{printed}");
    Ok(())
}
