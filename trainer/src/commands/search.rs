//! `trainer search`: the images that fit a text or resemble a picture.

use super::{Samples, open, report, samples};
use crate::cli::trained::SearchArguments;
use anyhow::Result;
use serde_json::json;
use std::process::ExitCode;
use trainer::search;

/// Prints the hits of each query and draws them.
pub(crate) fn run(arguments: &SearchArguments) -> Result<ExitCode> {
    let trained = open(&arguments.run)?;
    let Samples { split, loader, limit } = samples(&trained, &arguments.samples)?;
    let mut features = trained.text_features(&arguments.texts)?;
    features.values.extend(trained.file_features(&arguments.image)?.values);
    let mut queries = arguments.texts.clone();
    queries.extend(arguments.image.iter().map(|path| path.display().to_string()));
    let (compared, found) =
        search::search(&trained, &loader, &features, usize::from(arguments.count), limit)?;
    if let Some(out) = &arguments.out {
        let mut sheet = search::sheet(&arguments.samples.data, &split, &queries, &found)?;
        sheet.subheading = format!(
            "{compared} images of {} / {split}, by {}",
            arguments.samples.data.display(),
            trained.checkpoint.display()
        );
        sheet.draw()?.write_png(out)?;
    }
    if arguments.json {
        let results: Vec<_> =
            queries.iter().zip(&found).map(|(query, hits)| json!({"query": query, "hits": hits})).collect();
        report::json(&json!({
            "checkpoint": trained.checkpoint, "step": trained.state.step, "split": split,
            "images": compared, "out": arguments.out, "queries": results,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    report::line(&format!("{compared} images of {} / {split}", arguments.samples.data.display()));
    for (query, hits) in queries.iter().zip(&found) {
        report::line(&format!("{query}:"));
        for hit in hits {
            let caption = hit.captions.first().map_or("", String::as_str);
            report::line(&format!("{:8.4}  {}  {caption}", hit.score, hit.key));
        }
    }
    if let Some(out) = &arguments.out {
        report::line(&format!("drawn in {}", out.display()));
    }
    Ok(ExitCode::SUCCESS)
}
