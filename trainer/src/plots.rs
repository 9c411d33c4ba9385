//! A run's curves as PNG pictures in `runs/NAME/plots/`, drawn from its rows; and several runs in one picture.
//!
//! Leaves out how a chart is drawn, which is the crate `picture`'s.

use crate::error::{Error, Result};
use crate::fsync;
use crate::metrics::{CaptionRow, Row, TrainRow, ValRow};
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
    let of_val = |name: &str, value: &dyn Fn(&ValRow) -> Option<f64>| {
        let points = val.iter().filter_map(|row| Some((row.step as f64, value(row)?)));
        Series::new(name, points.collect())
    };
    let mut charts = Vec::new();
    if !train.is_empty() {
        let mut losses = vec![of_train("train", &|r| f64::from(r.loss))];
        let points = val_losses(rows);
        if !points.is_empty() {
            losses.push(Series { is_exact: true, ..Series::new("validation", points) });
        }
        charts.push(("loss", "Loss", losses));
        charts.push(("learning_rate", "Learning rate", vec![of_train("lr", &|r| r.lr)]));
        charts.push(("gradient_norm", "Gradient norm", vec![of_train("before clipping", &|r| r.grad_norm)]));
        let scales: Vec<_> =
            train.iter().filter_map(|row| Some((row.step as f64, row.logit_scale?))).collect();
        if !scales.is_empty() {
            charts.push(("logit_scale", "Logit scale", vec![Series::new("exp", scales)]));
        }
    }
    if val.iter().any(|row| row.image_to_text.is_some()) {
        let series = vec![
            of_val("image to text @1", &|r| Some(r.image_to_text?[0])),
            of_val("image to text @10", &|r| Some(r.image_to_text?[2])),
            of_val("text to image @1", &|r| Some(r.text_to_image?[0])),
            of_val("text to image @10", &|r| Some(r.text_to_image?[2])),
        ];
        charts.push(("recall", "Recall on validation", series));
    }
    if val.iter().any(|row| row.caption.is_some()) {
        let of = |name: &str, value: &dyn Fn(&CaptionRow) -> Option<f64>| {
            of_val(name, &|row| row.caption.as_ref().and_then(value))
        };
        let scores = vec![
            of("CIDEr", &|r| Some(r.cider)),
            of("BLEU-4", &|r| Some(r.bleu_4)),
            of("ROUGE-L", &|r| Some(r.rouge_l)),
        ];
        charts.push(("scores", "Captions against references", scores));
        let proximity = vec![
            of("to the picture", &|r| r.image_proximity),
            of("to the references", &|r| r.text_proximity),
        ];
        if proximity.iter().any(|series| !series.points.is_empty()) {
            charts.push(("proximity", "Mean cosine of captions", proximity));
        }
        let degeneration = vec![
            of("repeated bigrams", &|r| Some(r.repeated_bigrams)),
            of("without an end", &|r| Some(r.without_end)),
            of("distinct words", &|r| Some(r.distinct_1)),
        ];
        charts.push(("degeneration", "Degeneration of captions", degeneration));
    }
    let folder = run.join("plots");
    fs_err::create_dir_all(&folder).map_err(Error::io("make the folder of the plots"))?;
    let title = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut files = Vec::new();
    for (file, name, series) in charts {
        let path = folder.join(format!("{file}.png"));
        // A single batch's loss is noisy: with enough points their moving average is drawn over them.
        let is_noisy = matches!(file, "loss" | "gradient_norm") && train.len() >= SMOOTHED_FROM;
        let smoothing = is_noisy.then(|| weight(train.len()));
        let panel = Panel { smoothing, ..Panel::new(name, series) };
        let chart = Chart { title: title.clone(), panels: vec![panel], ..Chart::default() };
        write(&chart, &path)?;
        files.push(path);
    }
    Ok(files)
}

/// Draws loss, validation loss, recall at 1 both ways and learning rate of several runs into one picture, a line
/// a run, for what was measured.
///
/// # Errors
/// [`Error::Plot`] and [`Error::Io`].
pub fn compare(runs: &[(&str, &[Row])], out: &Path) -> Result<()> {
    let panel = |title: &str, points: Points<'_>| {
        Panel::new(title, runs.iter().map(|(name, rows)| Series::new(name, points(rows))).collect())
    };
    let of_train = |rows: &[Row], value: &dyn Fn(&TrainRow) -> f64| -> Vec<(f64, f64)> {
        let point = |row: &Row| if let Row::Train(r) = row { Some((r.step as f64, value(r))) } else { None };
        rows.iter().filter_map(point).collect()
    };
    let of_val = |rows: &[Row], value: &dyn Fn(&ValRow) -> Option<f64>| -> Vec<(f64, f64)> {
        let point = |row: &Row| if let Row::Val(r) = row { Some((r.step as f64, value(r)?)) } else { None };
        rows.iter().filter_map(point).collect()
    };
    let loss = panel("Loss", &|rows| of_train(rows, &|r| f64::from(r.loss)));
    // One average for all lines: the shortest run's, which lags the least.
    let shortest = loss.series.iter().map(|s| s.points.len()).filter(|len| *len >= SMOOTHED_FROM).min();
    let panels = [
        Panel { smoothing: shortest.map(weight), ..loss },
        panel("Validation loss", &|rows| val_losses(rows)),
        panel("Recall at 1, image to text", &|rows| of_val(rows, &|r| Some(r.image_to_text?[0]))),
        panel("Recall at 1, text to image", &|rows| of_val(rows, &|r| Some(r.text_to_image?[0]))),
        panel("CIDEr", &|rows| of_val(rows, &|r| Some(r.caption.as_ref()?.cider))),
        panel("Learning rate", &|rows| of_train(rows, &|r| r.lr)),
    ];
    let is_measured = |panel: &Panel| panel.series.iter().any(|series| !series.points.is_empty());
    let panels = panels.into_iter().filter(is_measured).collect();
    let title = format!("{} runs", runs.len());
    write(&Chart { title, panels, ..Chart::default() }, out)
}

/// What is drawn of a run: (step, value).
type Points<'a> = &'a dyn Fn(&[Row]) -> Vec<(f64, f64)>;

/// The weight of the past in the average of so many points: it follows about a fortieth of the run, as more would
/// lag behind a short one.
fn weight(points: usize) -> f64 {
    (1.0 - 40.0 / points.max(1) as f64).clamp(0.0, 0.98)
}

fn val_losses(rows: &[Row]) -> Vec<(f64, f64)> {
    let loss =
        |row: &Row| if let Row::Val(r) = row { Some((r.step as f64, f64::from(r.loss?))) } else { None };
    rows.iter().filter_map(loss).collect()
}

fn write(chart: &Chart, path: &Path) -> Result<()> {
    let png = chart
        .draw()
        .and_then(|picture| picture.to_png())
        .map_err(|e| Error::Plot { path: path.to_path_buf(), reason: e.to_string() })?;
    fsync::replace(path, &png).map_err(Error::io("write a plot"))
}
