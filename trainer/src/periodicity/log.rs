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

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of every so many steps, whose loss is the step within its epoch.
    fn thinned(epochs: u64, steps: u64, every: u64) -> Vec<LogRow> {
        (1..=epochs * steps)
            .filter(|step| *step == 1 || step.is_multiple_of(every))
            .map(|step| (step, Some((step - 1) / steps), ((step - 1) % steps) as f64))
            .collect()
    }

    #[test]
    fn the_length_of_an_epoch_is_found_exactly_or_within_a_row() {
        for steps in [17, 30, 63, 100, 1001] {
            assert_eq!(LossLog::new("", &thinned(4, steps, 1), None).unwrap().steps_per_epoch, steps as f64);
        }
        for (epochs, steps, every) in [(6, 200, 10), (6, 203, 10), (9, 1000, 7), (3, 333, 9)] {
            let found = LossLog::new("", &thinned(epochs, steps, every), None).unwrap().steps_per_epoch;
            assert!((found - steps as f64).abs() <= every as f64 / 2.0, "{steps} every {every}: {found}");
        }
        // Steps that take batches of two epochs at once: half a step more in each.
        let halves: Vec<LogRow> = (1..=101).map(|s| (s, Some(((s - 1) as f64 / 20.5) as u64), 0.0)).collect();
        let found = LossLog::new("", &halves, None).unwrap().steps_per_epoch;
        assert!((20.25..=20.75).contains(&found), "{found}");
    }

    #[test]
    fn the_grid_holds_whole_epochs_after_the_first_in_their_places() {
        let mut rows = thinned(5, 63, 1);
        rows.truncate(4 * 63 + 40);
        let grid = LossLog::new("", &rows, None).unwrap().grid(CELLS_MAX, usize::MAX).unwrap();
        assert_eq!((grid.epochs, grid.cells), (3, 63));
        assert!(grid.rows().all(|row| row.iter().enumerate().all(|(cell, loss)| *loss == cell as f64)));
        let small = LossLog::new("", &rows, None).unwrap().grid(21, 2).unwrap();
        assert_eq!((small.epochs, small.cells), (2, 21));
        assert!(small.rows().all(|row| (0..21).all(|cell| row[cell] == (3 * cell + 1) as f64)));
        // A row every ten steps of 203, so that the rows' places differ from epoch to epoch.
        let sparse =
            LossLog::new("", &thinned(6, 203, 10), None).unwrap().grid(CELLS_MAX, usize::MAX).unwrap();
        assert_eq!((sparse.epochs, sparse.cells), (5, 20));
        let off = |(cell, loss): (usize, &f64)| (loss / 203.0 - (cell as f64 + 0.5) / 20.0).abs();
        assert!(sparse.rows().flat_map(|row| row.iter().enumerate().map(off)).all(|off| off < 0.08));
    }

    #[test]
    fn a_cell_without_a_row_lies_between_its_neighbours() {
        let row = [(0.05, 1.0), (0.15, 2.0), (0.45, 5.0), (0.95, 10.0)];
        let cells = on_cells(&row, 10);
        let expected = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
        assert!(cells.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{cells:?}");
    }

    #[test]
    fn the_later_of_two_rows_counts_and_what_is_no_loss_does_not() {
        let path = Path::new("x.jsonl");
        let text = "{\"kind\":\"train\",\"step\":1,\"epoch\":0,\"loss\":3}\n{\"kind\":\"val\",\"step\":1,\"loss\":9}\n\
                    {\"step\":2,\"loss\":null}\n[1]\n{\"step\":2,\"epoch\":0.5,\"loss\":1}\n{\"step\":1,\"loss\":4}\n{\"st";
        assert_eq!(rows(path, text).unwrap(), [(1, None, 4.0), (2, None, 1.0)]);
        assert!(rows(path, &format!("{text}\n")).is_err());
        assert!(LossLog::new("empty", &[], None).unwrap_err().to_string().contains("no row"));
        for length in [0.0, f64::NAN, f64::INFINITY] {
            assert!(LossLog::new("", &thinned(3, 20, 1), Some(length)).is_err());
        }
        let uneven = [(1, Some(0), 0.0), (2, Some(1), 0.0), (10, Some(2), 0.0), (11, Some(9), 0.0)];
        assert!(LossLog::new("", &uneven, None).unwrap_err().to_string().contains("not of one length"));
    }
}
