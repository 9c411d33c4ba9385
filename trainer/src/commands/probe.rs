//! `trainer probe`: accuracy of a linear classifier on frozen features.

use super::{open, report};
use crate::cli::trained::ProbeArguments;
use anyhow::{Result, bail};
use serde_json::json;
use std::process::ExitCode;
use trainer::Error;
use trainer::imagefolder::ImageFolder;
use trainer::probe::{self, Labelled};

/// Fits on one folder and prints the accuracy on the other.
pub(crate) fn run(arguments: &ProbeArguments) -> Result<ExitCode> {
    if let Some(l2) = arguments.l2.filter(|l2| !(l2.is_finite() && *l2 > 0.0)) {
        bail!("`--l2 {l2}` is not allowed: give a number above 0");
    }
    let train = ImageFolder::open(&arguments.train)?;
    let test = ImageFolder::open(&arguments.test)?;
    let names: Vec<&str> = train.directories.iter().map(String::as_str).collect();
    if names.len() < 2 {
        let reason = "it has one folder; a classifier wants at least two".to_owned();
        return Err(Error::Data { data: arguments.train.clone(), reason }.into());
    }
    let mut of_directory = Vec::new();
    for directory in &test.directories {
        let Ok(class) = train.directories.binary_search(directory) else {
            let reason =
                format!("the folder {directory:?} is not among those of {}", arguments.train.display());
            return Err(Error::Data { data: arguments.test.clone(), reason }.into());
        };
        of_directory.push(class);
    }
    let test_labels: Vec<usize> = test.labels.iter().map(|label| of_directory[*label]).collect();
    let trained = open(&arguments.run)?;
    let features = [trained.file_features(&train.files)?, trained.file_features(&test.files)?];
    let outcome = probe::probe(
        Labelled { features: &features[0], labels: &train.labels },
        Labelled { features: &features[1], labels: &test_labels },
        &names,
        arguments.l2,
    )?;
    if arguments.json {
        let mut value = json!(outcome);
        value["train_images"] = json!(train.files.len());
        value["files_left_out"] = json!(train.others + test.others);
        value["checkpoint"] = json!(trained.checkpoint);
        value["step"] = json!(trained.state.step);
        report::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    report::line(&format!("{} on {}", trained.checkpoint.display(), arguments.test.display()));
    if train.others + test.others > 0 {
        let others = train.others + test.others;
        report::line(&format!("note: {others} files are neither JPEG nor PNG and are left out"));
    }
    let chosen = if outcome.l2_chosen { "chosen on a fifth of them" } else { "given" };
    report::line(&format!(
        "logistic regression on standardised features of {} images, penalty {} ({chosen}), {} steps to a \
         gradient of {:.0e}",
        train.files.len(),
        outcome.l2,
        outcome.iterations,
        outcome.gradient_max
    ));
    report::line(&format!("{} test images, {} classes", outcome.test.images, outcome.test.classes));
    report::line(&format!("{:16} {:7.2}%", "training top-1", 100.0 * outcome.train_top1));
    report::accuracy(&outcome.test, false);
    Ok(ExitCode::SUCCESS)
}
