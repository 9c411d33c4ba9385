//! A loss log from metrics.jsonl, and its whole epochs on one grid.
//!
//! Read are JSON lines with `step` and `loss`, ours or another program's; `epoch` says how long an epoch is, or the
//! caller does. Lines of another `kind` than "train" and losses that are no numbers are passed over; of two rows of one
//! step the later counts, as after a resume. Left out: what is made of the grid.

use super::residual::Grid;
use crate::error::{Error, Result};
use crate::metrics;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Cells of an epoch at most; more rows are averaged.
pub const CELLS_MAX: usize = 2048;

/// Cells of an epoch at least: fewer are no curve.
pub const CELLS_MIN: usize = 16;

/// Whole epochs after the first at least.
pub const EPOCHS_MIN: usize = 2;

/// The losses of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct LossLog {
    /// What it is called in tables and errors.
    pub name: String,
    /// (place, loss) in order: the place counts epochs, so that 2.25 is a quarter into the third.
    pub points: Vec<(f64, f64)>,
    /// Optimizer steps of an epoch.
    pub steps_per_epoch: f64,
}

/// One row: step, epoch where it has one, loss.
type LogRow = (u64, Option<u64>, f64);

impl LossLog {
    /// Reads a run's folder or a file of JSON lines.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::DamagedFile`] for a line in the middle that is no JSON; [`Error::NoPeriod`] where there
    /// is no loss, or nothing says how long an epoch is.
    pub fn read(path: &Path, steps_per_epoch: Option<f64>) -> Result<Self> {
        let file = if path.is_dir() { path.join(metrics::FILE) } else { path.to_path_buf() };
        let text = fs_err::read(&file).map_err(Error::io("read the loss log"))?;
        let rows = rows(&file, &String::from_utf8_lossy(&text))?;
        let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
        let name =
            name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        Self::new(&name, &rows, steps_per_epoch)
    }

    /// Of rows (step, epoch, loss) in order of steps.
    ///
    /// # Errors
    /// [`Error::NoPeriod`].
    pub fn new(name: &str, rows: &[LogRow], steps_per_epoch: Option<f64>) -> Result<Self> {
        let fail = |reason: &str| Error::NoPeriod { log: name.to_owned(), reason: reason.to_owned() };
        if rows.is_empty() {
            return Err(fail("it has no row with a step and a loss"));
        }
        // Ours counts steps made, from 1; others number them from 0.
        let first = u64::from(rows[0].0 > 0);
        let length = match steps_per_epoch {
            Some(length) => length,
            None => epoch_length(rows, first).map_err(|reason| fail(&reason))?,
        };
        if !(length.is_finite() && length >= 1.0) {
            return Err(fail("an epoch must have one step at least"));
        }
        let points = rows.iter().map(|(step, _, loss)| ((step - first) as f64 / length, *loss)).collect();
        Ok(Self { name: name.to_owned(), points, steps_per_epoch: length })
    }

    /// The whole epochs after the first, the last `epochs_max` of them, on a grid of at most `cells_max` cells.
    ///
    /// # Errors
    /// [`Error::NoPeriod`] with fewer than [`EPOCHS_MIN`] epochs or [`CELLS_MIN`] rows in one of them.
    pub fn grid(&self, cells_max: usize, epochs_max: usize) -> Result<Grid> {
        let fail = |reason: String| Error::NoPeriod { log: self.name.clone(), reason };
        let mut epochs: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
        for &(place, loss) in &self.points {
            epochs.entry(place as u64).or_default().push((place.fract(), loss));
        }
        let first = self.points.first().map_or(0, |(place, _)| *place as u64);
        // The first epoch is the steep one; a log that begins later has dropped it already.
        let mut whole: Vec<Vec<(f64, f64)>> = epochs
            .into_iter()
            .filter(|(epoch, row)| *epoch > 0 && (*epoch > first || is_whole(row)))
            .map(|(_, row)| row)
            .collect();
        if whole.last().is_some_and(|row| !is_whole(row)) {
            whole.pop();
        }
        if whole.len() < EPOCHS_MIN {
            return Err(fail(format!(
                "it has {} whole epochs after the first, and a period shows in {EPOCHS_MIN} or more (an epoch is {} steps)",
                whole.len(),
                self.steps_per_epoch
            )));
        }
        let rows_min = whole.iter().map(Vec::len).min().unwrap_or(0);
        if rows_min < CELLS_MIN {
            return Err(fail(format!(
                "one of its epochs has {rows_min} rows, and {CELLS_MIN} are needed; log more often (train.log_every = 1)"
            )));
        }
        let whole = &whole[whole.len().saturating_sub(epochs_max)..];
        let cells = rows_min.min(cells_max);
        let values = whole.iter().flat_map(|row| on_cells(row, cells)).collect();
        Ok(Grid { epochs: whole.len(), cells, values })
    }
}

/// Whether an epoch's rows reach from its start to its end, but for one gap between rows on either side.
fn is_whole(row: &[(f64, f64)]) -> bool {
    let mut gaps: Vec<f64> = row.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    gaps.sort_by(f64::total_cmp);
    let Some(gap) = gaps.get(gaps.len() / 2) else { return false };
    row[0].0 <= 1.5 * gap && row[row.len() - 1].0 >= 1.0 - 1.5 * gap
}

/// The means of the cells; one that no row fell in lies on the line between its neighbours.
fn on_cells(row: &[(f64, f64)], cells: usize) -> Vec<f64> {
    let mut sums = vec![(0.0, 0u32); cells];
    for &(place, loss) in row {
        // A place that was divided and multiplied again may lie a hair below its cell.
        let cell = &mut sums[((place * cells as f64 + 1e-6) as usize).min(cells - 1)];
        *cell = (cell.0 + loss, cell.1 + 1);
    }
    let filled: Vec<(usize, f64)> = sums
        .iter()
        .enumerate()
        .filter(|(_, (_, count))| *count > 0)
        .map(|(cell, (sum, count))| (cell, sum / f64::from(*count)))
        .collect();
    let between = |cell: usize| {
        let after = filled.partition_point(|(at, _)| *at < cell);
        match (after.checked_sub(1).map(|before| filled[before]), filled.get(after)) {
            (_, Some((at, value))) if *at == cell => *value,
            (Some((left, a)), Some((right, b))) => a + (b - a) * (cell - left) as f64 / (right - left) as f64,
            (Some((_, value)), None) | (None, Some(&(_, value))) => value,
            (None, None) => 0.0,
        }
    };
    (0..cells).map(between).collect()
}

/// Steps of an epoch, from rows whose epoch is known: every row must lie in its own epoch.
fn epoch_length(rows: &[LogRow], first: u64) -> Result<f64, String> {
    let (mut above, mut at_most) = (0.0_f64, f64::INFINITY);
    for (step, epoch, _) in rows {
        let Some(epoch) = epoch else {
            return Err(format!("its row of step {step} has no whole `epoch`; give --steps-per-epoch"));
        };
        let (step, epoch) = ((step - first) as f64, *epoch as f64);
        above = above.max(step / (epoch + 1.0));
        if epoch > 0.0 {
            at_most = at_most.min(step / epoch);
        }
    }
    if at_most.is_infinite() {
        return Err("it does not reach a second epoch".to_owned());
    }
    if above >= at_most {
        return Err("its epochs are not of one length; give --steps-per-epoch".to_owned());
    }
    // Steps between two rows leave a range; the whole number nearest to its middle, where one is in it.
    let middle = 0.5 * (above + at_most);
    let whole =
        [middle.round(), at_most.floor()].into_iter().find(|l| *l > above && *l <= at_most && *l >= 1.0);
    Ok(whole.unwrap_or(middle))
}

/// The rows of a file, by step.
fn rows(path: &Path, text: &str) -> Result<Vec<LogRow>> {
    let mut by_step = BTreeMap::new();
    let count = text.lines().count();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Value = match serde_json::from_str(line) {
            Ok(row) => row,
            // A last line without its end was being written.
            Err(_) if number + 1 == count && !text.ends_with('\n') => break,
            Err(e) => {
                let reason = format!("line {} is not JSON: {e}", number + 1);
                return Err(Error::DamagedFile { path: path.to_path_buf(), reason });
            }
        };
        let is_other = row.get("kind").is_some_and(|kind| kind != "train");
        let (step, loss) = (row["step"].as_u64(), row["loss"].as_f64());
        if let (false, Some(step), Some(loss)) = (is_other, step, loss) {
            let whole = |epoch: f64| (epoch >= 0.0 && epoch.fract() == 0.0).then_some(epoch as u64);
            by_step.insert(step, (row["epoch"].as_f64().and_then(whole), loss));
        }
    }
    Ok(by_step.into_iter().map(|(step, (epoch, loss))| (step, epoch, loss)).collect())
}
