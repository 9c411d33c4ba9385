//! `trainer zeroshot`: accuracy of a classifier made of prompts on a folder of pictures.

use super::{open, report};
use crate::cli::trained::ZeroshotArguments;
use anyhow::Result;
use serde_json::json;
use std::process::ExitCode;
use trainer::accuracy::Accuracy;
use trainer::imagefolder::ImageFolder;
use trainer::zeroshot::{self, Matched};

/// Prints accuracy, by class and over all, and the pairs that are confused most.
pub(crate) fn run(arguments: &ZeroshotArguments) -> Result<ExitCode> {
    let classes = zeroshot::read_classes(&arguments.classes)?;
    let templates = zeroshot::read_templates(&arguments.templates)?;
    let folder = ImageFolder::open(&arguments.images)?;
    let (of_directory, matched) =
        zeroshot::match_directories(&arguments.classes, &classes, &folder.directories)?;
    let trained = open(&arguments.run)?;
    let classifier = zeroshot::classifier(&trained, &classes, &templates)?;
    let images = trained.file_features(&folder.files)?;
    let labels: Vec<usize> = folder.labels.iter().map(|label| of_directory[*label]).collect();
    let outcome = zeroshot::score(&images, &labels, &classifier, &classes)?;
    if arguments.json {
        let mut value = json!(outcome);
        value["templates"] = json!(templates.len());
        value["folders_matched_by"] = json!(matched);
        value["files_left_out"] = json!(folder.others);
        value["checkpoint"] = json!(trained.checkpoint);
        value["step"] = json!(trained.state.step);
        report::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    report::line(&format!("{} on {}", trained.checkpoint.display(), arguments.images.display()));
    if matched == Matched::Order {
        report::line(
            "note: no folder has the name of a class; folders and classes are paired in their order",
        );
    }
    if folder.others > 0 {
        report::line(&format!("note: {} files are neither JPEG nor PNG and are left out", folder.others));
    }
    let Accuracy { images, classes, .. } = &outcome;
    report::line(&format!("{images} images, {classes} classes, {} templates", templates.len()));
    report::accuracy(&outcome, arguments.per_class);
    Ok(ExitCode::SUCCESS)
}
