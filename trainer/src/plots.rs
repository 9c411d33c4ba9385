//! A run's curves as PNG pictures in `runs/NAME/plots/`, drawn from its rows.
//!
//! Leaves out how a chart is drawn, which is the crate `picture`'s.

use crate::error::{Error, Result};
use crate::fsync;
use crate::metrics::{Row, TrainRow, ValRow};
use picture::{Chart, Panel, Series};
use std::path::{Path, PathBuf};

/// Points from which on a noisy curve gets its moving average.
const SMOOTHED_FROM: usize = 30;

/// Draws every curve that has points; returns the files.
///
/// # Errors
/// [`Error::Plot`] and [`Error::Io`].
pub fn draw(run: &Path, rows: &[Row]) -> Result<Vec<PathBuf>> {
    let train: Vec<&TrainRow> =
        rows.iter().filter_map(|r| if let Row::Train(r) = r { Some(r) } else { None }).collect();
    let val: Vec<&ValRow> =
        rows.iter().filter_map(|r| if let Row::Val(r) = r { Some(r) } else { None }).collect();
    let of_train = |name: &str, value: &dyn Fn(&TrainRow) -> f64| {
        Series::new(name, train.iter().map(|row| (row.step as f64, value(row))).collect())
    };
    let of_val = |name: &str, value: &dyn Fn(&ValRow) -> f64| {
        Series::new(name, val.iter().map(|row| (row.step as f64, value(row))).collect())
    };
    let mut charts = Vec::new();
    if !train.is_empty() {
        charts.push(("loss", "Loss", vec![of_train("train", &|r| f64::from(r.loss))]));
        charts.push(("learning_rate", "Learning rate", vec![of_train("lr", &|r| r.lr)]));
        charts.push(("gradient_norm", "Gradient norm", vec![of_train("before clipping", &|r| r.grad_norm)]));
        charts.push(("logit_scale", "Logit scale", vec![of_train("exp", &|r| r.logit_scale)]));
    }
    if !val.is_empty() {
        let series = vec![
            of_val("image to text @1", &|r| r.image_to_text[0]),
            of_val("image to text @10", &|r| r.image_to_text[2]),
            of_val("text to image @1", &|r| r.text_to_image[0]),
            of_val("text to image @10", &|r| r.text_to_image[2]),
        ];
        charts.push(("recall", "Recall on validation", series));
    }
    let folder = run.join("plots");
    fs_err::create_dir_all(&folder).map_err(Error::io("make the folder of the plots"))?;
    let title = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut files = Vec::new();
    for (file, name, series) in charts {
        let path = folder.join(format!("{file}.png"));
        // A single batch's loss is noisy: with enough points their moving average is drawn over them.
        let is_noisy = matches!(file, "loss" | "gradient_norm") && train.len() >= SMOOTHED_FROM;
        // The average follows about a fortieth of the run: more would lag behind a short one.
        let weight = (1.0 - 40.0 / train.len().max(1) as f64).clamp(0.0, 0.98);
        let panel = Panel { smoothing: is_noisy.then_some(weight), ..Panel::new(name, series) };
        let chart = Chart { title: title.clone(), panels: vec![panel], ..Chart::default() };
        let png = chart
            .draw()
            .and_then(|picture| picture.to_png())
            .map_err(|e| Error::Plot { path: path.clone(), reason: e.to_string() })?;
        fsync::replace(&path, &png).map_err(Error::io("write a plot"))?;
        files.push(path);
    }
    Ok(files)
}
