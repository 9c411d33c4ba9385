//! The picture of an order: where in the source the samples of an epoch come from, and which batches of the next
//! epoch they meet in, each above the same picture of an ideal shuffle.

use anyhow::Result;
use loader::{
    Order,
    report::{Delivered, Report, Verdict},
};
use picture::{Density, DensitySheet, Picture};

use super::number;

/// Samples that a cell holds on average, at least: fewer are noise to the eye.
const SAMPLES_A_CELL: usize = 4;
const CELLS_MAX: usize = 256;

pub(super) fn draw(about: &str, delivered: &Delivered, report: &Report) -> Result<Picture> {
    let places = places(delivered);
    let own = panels(delivered, &places, &delivered.epochs, "delivered");
    let ideal: Result<Vec<Vec<u64>>> =
        (0..delivered.epochs.len().min(2) as u64).map(|epoch| ideal(delivered, epoch)).collect();
    let ideal = panels(delivered, &places, &ideal?, "an ideal shuffle");
    let title = match report.verdict {
        Verdict::Ideal => "As an ideal shuffle",
        Verdict::Near => "Near an ideal shuffle",
        Verdict::Bad => "No good shuffle",
    };
    let columns = own.len();
    let notes = report.metrics.iter().map(|metric| {
        let (value, ideal) = (number(metric.value), number(metric.ideal));
        format!("{}: {value} (ideal {ideal}), {}", metric.name.replace('_', " "), metric.words)
    });
    let sheet = DensitySheet {
        title: title.to_owned(),
        subtitle: about.to_owned(),
        columns,
        panels: own.into_iter().chain(ideal).collect(),
        notes: notes.chain([format!("coverage: {}", report.coverage.words)]).collect(),
    };
    Ok(sheet.draw()?)
}

fn ideal(delivered: &Delivered, epoch: u64) -> Result<Vec<u64>> {
    let order = Order::Global.epoch(u64::MAX, epoch, delivered.samples)?;
    let len = delivered.epochs.first().map_or(0, Vec::len) as u64;
    Ok((0..delivered.samples.min(len)).map(|position| order.sample(position)).collect())
}

/// Each sample's place in the source's order, from 0; its number where the source is not known.
fn places(delivered: &Delivered) -> Vec<u64> {
    let Some(source) = &delivered.source else { return (0..delivered.samples).collect() };
    let mut order: Vec<usize> = (0..source.len()).collect();
    order.sort_by_key(|&sample| source[sample]);
    let mut places = vec![0; source.len()];
    order.into_iter().zip(0..).for_each(|(sample, place)| places[sample] = place);
    places
}

fn panels(delivered: &Delivered, places: &[u64], epochs: &[Vec<u64>], whose: &str) -> Vec<Density> {
    let samples = delivered.samples as usize;
    let cells = (samples / SAMPLES_A_CELL).isqrt().clamp(4, CELLS_MAX);
    let order = epochs.iter().take(2).enumerate().map(|(number, epoch)| {
        let points = epoch.iter().enumerate().map(|(position, &sample)| {
            (position as f64 / epoch.len() as f64, places[sample as usize] as f64 / samples as f64)
        });
        let title = format!("Epoch {number}, {whose}");
        Density::of(&title, "position in the epoch", "place in the source", cells, points)
    });
    let mates = epochs.windows(2).take(1).map(|pair| {
        let mut position = vec![None; samples];
        pair[0].iter().enumerate().for_each(|(at, &sample)| position[sample as usize] = Some(at));
        let batch_size = delivered.batch_size as usize;
        let share = |at: usize, len: usize| {
            let batches = len.div_ceil(batch_size);
            // The middle of the batch, so that one batch is one column.
            ((at / batch_size) as f64 + 0.5) / batches as f64
        };
        let points = pair[1].iter().enumerate().filter_map(|(at, &sample)| {
            Some((share(position[sample as usize]?, pair[0].len()), share(at, pair[1].len())))
        });
        let cells = cells.min(pair[0].len().div_ceil(batch_size)).max(1);
        let title = format!("Batch-mates, {whose}");
        Density::of(&title, "batch in epoch 0", "batch in epoch 1", cells, points)
    });
    order.chain(mates).collect()
}
