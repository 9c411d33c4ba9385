//! The printer of results on standard output: a table for people, one JSON object for programs.

use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::OnceLock;
use trainer::accuracy::Accuracy;
use trainer::ledger::{Span, Summary};
use trainer::retrieval::{Recall, Retrieval};

/// Why standard output takes no more lines.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// A line of text; the first that cannot be written is the last that is tried.
pub(crate) fn line(text: &str) {
    if FAILED.get().is_none()
        && let Err(error) = writeln!(io::stdout().lock(), "{text}")
    {
        let _ = FAILED.set(error);
    }
}

/// Whether nobody reads on: what is only printed need not be worked for.
pub(crate) fn is_closed() -> bool {
    FAILED.get().is_some()
}

/// Whether all lines were written. A reader that has seen enough, as `head`, closes the pipe; that is no failure.
pub(crate) fn finish() -> anyhow::Result<()> {
    match FAILED.get() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            anyhow::bail!("could not write the results to standard output: {error}")
        }
        _ => Ok(()),
    }
}

/// A result as one JSON object.
pub(crate) fn json(value: &Value) {
    line(&format!("{value:#}"));
}

/// A table: each column as wide as its widest cell; the columns `right` have numbers.
pub(crate) fn columns(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) {
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        line(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// A share in per cent; a dash where there is none.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.2}%", 100.0 * share))
}

/// A loss or a score; a dash where there is none.
pub(crate) fn number(loss: Option<f64>) -> String {
    loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}"))
}

/// The best loss, validation loss and recall at 1 both ways.
pub(crate) fn best(summary: &Summary) -> [String; 4] {
    let best = |span: Option<Span>| span.map(|span| span.best);
    [
        number(best(summary.loss)),
        number(best(summary.val_loss)),
        percent(best(summary.image_to_text_r1)),
        percent(best(summary.text_to_image_r1)),
    ]
}

/// Recall both ways beside chance.
pub(crate) fn table(found: &Retrieval) {
    line(&format!("{} images, {} captions", found.images, found.captions));
    line(&format!(
        "{:16} {:>8} {:>8} {:>8} {:>8}   chance @1 / @5 / @10",
        "", "R@1", "R@5", "R@10", "median"
    ));
    let rows = [
        ("image to text", found.image_to_text, found.median_rank_image_to_text, found.chance_image_to_text),
        ("text to image", found.text_to_image, found.median_rank_text_to_image, found.chance_text_to_image),
    ];
    for (name, recall, median, chance) in rows {
        let [r1, r5, r10] = recall.shares().map(|share| 100.0 * share);
        let [c1, c5, c10] = chance.shares().map(|share| 100.0 * share);
        line(&format!(
            "{name:16} {r1:7.2}% {r5:7.2}% {r10:7.2}% {median:8.1}   {c1:.2}% / {c5:.2}% / {c10:.2}%"
        ));
    }
}

/// Recall both ways as JSON, with how many times chance recall@1 is.
pub(crate) fn retrieval(found: &Retrieval) -> Value {
    let times = |recall: Recall, chance: Recall| if chance.r1 > 0.0 { recall.r1 / chance.r1 } else { 0.0 };
    json!({
        "images": found.images,
        "captions": found.captions,
        "image_to_text": found.image_to_text,
        "text_to_image": found.text_to_image,
        "median_rank": {
            "image_to_text": found.median_rank_image_to_text,
            "text_to_image": found.median_rank_text_to_image,
        },
        "chance": {"image_to_text": found.chance_image_to_text, "text_to_image": found.chance_text_to_image},
        "times_chance": {
            "image_to_text": times(found.image_to_text, found.chance_image_to_text),
            "text_to_image": times(found.text_to_image, found.chance_text_to_image),
        },
    })
}

/// Accuracy beside chance, by class where that is asked for, and what is confused.
pub(crate) fn accuracy(found: &Accuracy, per_class: bool) {
    let chance = |k: usize| 100.0 * k.min(found.classes) as f64 / found.classes.max(1) as f64;
    for (name, share, k) in [("top-1", found.top1, 1), ("top-5", found.top5, 5)] {
        line(&format!("{name:16} {:7.2}%   chance {:.2}%", 100.0 * share, chance(k)));
    }
    line(&format!("{:16} {:7.2}%", "mean per class", 100.0 * found.mean_per_class));
    if per_class {
        line(&format!("{:>8} {:>8} {:>8}  class", "top-1", "top-5", "images"));
        for class in &found.per_class {
            let (top1, top5) = (100.0 * class.top1, 100.0 * class.top5);
            line(&format!("{top1:7.2}% {top5:7.2}% {:8}  {}", class.images, class.class));
        }
    }
    if !found.confusions.is_empty() {
        line("confused most often:");
    }
    for pair in &found.confusions {
        line(&format!("{:8}  {} taken for {}", pair.images, pair.class, pair.taken_for));
    }
}
