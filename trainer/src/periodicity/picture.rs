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

/// The least of 1, 2 and 5 times a power of ten that is not below a number, so that ticks stand at the ends of its axis.
fn rounded_up(number: f64) -> f64 {
    if !(number.is_finite() && number > 1e-12) {
        return 1.0;
    }
    let power = 10_f64.powf(number.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|bound| *bound >= number)
        .unwrap_or(10.0 * power)
}

/// A log's name without the part that all names of its report begin with, up to a `-`.
fn short<'a>(name: &'a str, report: &Report) -> &'a str {
    let is_shared = |part: &str| report.logs.iter().all(|log| log.name.starts_with(part) && log.name != part);
    let shared = name
        .char_indices()
        .filter(|(_, c)| *c == '-')
        .map(|(at, _)| at + 1)
        .rfind(|at| is_shared(&name[..*at]));
    if report.logs.len() > 1 { &name[shared.unwrap_or(0)..] } else { name }
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
    let reach = rounded_up(reach);
    let panels = reports.iter().zip(&folds).map(|(report, folds)| {
        let series = report.logs.iter().zip(folds).map(|(log, fold)| Series {
            band: fold.iter().map(|&(x, mean, error)| (x, mean - error, mean + error)).collect(),
            ..Series::new(short(&log.name, report), fold.iter().map(|&(x, mean, _)| (x, mean)).collect())
        });
        Panel {
            x_label: "position in the epoch".to_owned(),
            y_label: format!("p {}, {:+.1} % of variance", p_text(report.p), 100.0 * report.excess),
            y_range: Some((-reach, reach)),
            ..Panel::new(&report.name, series.collect())
        }
    });
    let chart = Chart {
        title: title.to_owned(),
        subtitle: "loss less each epoch's trend, in nats: mean over the epochs after the first, ± one standard error"
            .to_owned(),
        panel_height: if reports.len() > 2 { 170 } else { 260 },
        panels: panels.collect(),
        ..Chart::default()
    };
    chart.draw()
}

#[cfg(test)]
mod tests {
    use super::super::log::LossLog;
    use super::super::{Options, of_logs};
    use super::*;

    #[test]
    fn the_fold_shows_the_pattern_and_the_picture_a_panel_for_each_condition() {
        // A step up in the second half of each epoch of 40 steps, and a little that changes from epoch to epoch.
        let loss = |step: u64| f64::from(step % 40 >= 20) + 0.01 * ((step * step) % 7) as f64;
        let rows: Vec<_> = (0..240).map(|step| (step + 1, Some(step / 40), loss(step))).collect();
        let log = LossLog::new("steps", &rows, None).unwrap();
        let report =
            of_logs("half", &[log.clone(), log], &Options { draws: 99, ..Options::default() }).unwrap();
        let fold = folded(&report.logs[0]);
        assert_eq!(fold.len(), 13);
        let at = |place: f64| {
            fold.iter().min_by(|a, b| (a.0 - place).abs().total_cmp(&(b.0 - place).abs())).unwrap().1
        };
        assert!(at(0.6) - at(0.4) > 0.5, "{fold:?}");
        let one = draw("", std::slice::from_ref(&report)).unwrap();
        let three = draw("", &[report.clone(), report.clone(), report.clone()]).unwrap();
        assert!(three.height() > one.height());
        assert_eq!([0.0, 0.03, 0.2, 0.21, 7.0].map(rounded_up), [1.0, 0.05, 0.2, 0.5, 10.0]);
        let mut named = report.clone();
        named.logs[0].name = "source-none-0".to_owned();
        named.logs[1].name = "source-none-1".to_owned();
        assert_eq!((short("source-none-1", &named), short("steps", &report)), ("1", "steps"));
        assert!(draw("", &vec![report; PANELS_MAX + 1]).is_err());
    }
}
