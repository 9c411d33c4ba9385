//! The folded loss as a picture: what is left of the loss against the position in the epoch, a panel for each condition.
//!
//! A line is the mean over a run's epochs in each bin of the statistic, its band one standard error of that mean on
//! either side. All panels share one scale, so that they may be compared. Left out: the raw loss, which `trainer plot`
//! draws.

use super::verdict::p_text;
use super::{LogReport, Report, statistic};
use picture::{Chart, PANELS_MAX, Panel, Picture, PictureError, Series};

/// Mean and standard error of each bin: (position in the epoch, mean, error).
pub fn folded(log: &LogReport) -> Vec<(f64, f64, f64)> {
    let grid = &log.residuals;
    let epochs = grid.epochs.max(1) as f64;
    statistic::bins(grid.cells)
        .windows(2)
        .map(|edge| {
            let (begin, end) = (edge[0], edge[1]);
            let mean_of = |row: &[f64]| row[begin..end].iter().sum::<f64>() / (end - begin).max(1) as f64;
            let means: Vec<f64> = grid.rows().map(mean_of).collect();
            let mean = means.iter().sum::<f64>() / epochs;
            let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (epochs - 1.0).max(1.0);
            ((begin + end) as f64 / 2.0 / grid.cells as f64, mean, (variance / epochs).sqrt())
        })
        .collect()
}

/// Draws the folded loss of every report.
///
/// # Errors
/// [`PictureError`] for more conditions than a chart has panels.
pub fn draw(title: &str, reports: &[Report]) -> Result<Picture, PictureError> {
    if reports.len() > PANELS_MAX {
        return Err(PictureError::TooMany { what: "panels", found: reports.len(), at_most: PANELS_MAX });
    }
    let folds: Vec<Vec<Vec<(f64, f64, f64)>>> =
        reports.iter().map(|report| report.logs.iter().map(folded).collect()).collect();
    let reach =
        folds.iter().flatten().flatten().map(|(_, mean, error)| mean.abs() + error).fold(0.0, f64::max);
    let panels = reports.iter().zip(&folds).map(|(report, folds)| {
        let series = report.logs.iter().zip(folds).map(|(log, fold)| Series {
            band: fold.iter().map(|&(x, mean, error)| (x, mean - error, mean + error)).collect(),
            ..Series::new(&log.name, fold.iter().map(|&(x, mean, _)| (x, mean)).collect())
        });
        Panel {
            x_label: "position in the epoch".to_owned(),
            y_label: format!(
                "p {}, {:+.1} % of the variance above chance",
                p_text(report.p),
                100.0 * report.excess
            ),
            y_range: Some((-1.1 * reach, 1.1 * reach)),
            ..Panel::new(&report.name, series.collect())
        }
    });
    let chart = Chart {
        title: title.to_owned(),
        subtitle: "loss less each epoch's trend, in nats: mean over the epochs after the first, ± one standard error"
            .to_owned(),
        panel_height: if reports.len() > 2 { 150 } else { 260 },
        panels: panels.collect(),
        ..Chart::default()
    };
    chart.draw()
}
