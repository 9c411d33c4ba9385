//! How a run goes, on standard error: a bar on a terminal, else a plain line for every logged step.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use trainer::checkpoint::State;
use trainer::fit::Reporter;
use trainer::metrics::{CaptionRow, TrainRow, ValRow};

/// Shows steps, evaluations and checkpoints.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    stop: Arc<AtomicBool>,
    told_to_stop: bool,
    begun: Instant,
    first_step: u64,
}

impl Progress {
    /// For this process's standard error; `stop` is the flag of the signal handler.
    pub(crate) fn new(stop: Arc<AtomicBool>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            let style = ProgressStyle::with_template("{pos}/{len} ETA {eta} {msg} {wide_bar}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, stop, told_to_stop: false, begun: Instant::now(), first_step: 0 }
    }

    /// Leaves the terminal clean.
    pub(crate) fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Says what the next run is.
    pub(crate) fn heading(&self, text: &str) {
        self.say(text);
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // A closed standard error must not end a run.
            None => drop(writeln!(std::io::stderr().lock(), "{text}")),
        }
    }
}

/// What changes from step to step, in one line.
fn figures(row: &TrainRow) -> String {
    format!(
        "loss {:.4} lr {:.2e} grad {:.3} {:.1} samples/s data wait {:.0}%",
        row.loss,
        row.lr,
        row.grad_norm,
        row.samples_per_s,
        100.0 * row.data_wait
    )
}

/// The same within a terminal's 80 columns.
fn short_figures(row: &TrainRow) -> String {
    format!(
        "loss {:.4} lr {:.1e} grad {:.3} {:.0} samples/s wait {:.0}%",
        row.loss,
        row.lr,
        row.grad_norm,
        row.samples_per_s,
        100.0 * row.data_wait
    )
}

/// What was measured of captions, in one line.
fn scores(row: &CaptionRow) -> String {
    let proximity = |name: &str, value: Option<f64>| value.map(|value| format!(", {name} {value:.3}"));
    let spread = match (row.embedding_norm, row.embedding_cosine) {
        (Some(norm), Some(cosine)) => format!(", embeddings' norm {norm:.2}, cosine {cosine:.2}"),
        _ => String::new(),
    };
    format!(
        "CIDEr {:.3}, BLEU-4 {:.3}, ROUGE-L {:.3}{}{}, {:.1} tokens, {:.1}% without an end{spread}",
        row.cider,
        row.bleu_4,
        row.rouge_l,
        proximity("image proximity", row.image_proximity).unwrap_or_default(),
        proximity("text proximity", row.text_proximity).unwrap_or_default(),
        row.length,
        100.0 * row.without_end
    )
}

impl Reporter for Progress {
    fn begin(&mut self, state: &State, total: u64, model: &str) {
        self.begun = Instant::now();
        self.first_step = state.step;
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(state.step);
            bar.reset_eta();
        }
        let verb =
            if state.step > 0 { format!("going on from step {}", state.step) } else { "beginning".into() };
        self.say(&format!("{verb}: {total} steps, {model}"));
    }

    fn step(&mut self, row: &TrainRow, total: u64, is_logged: bool) {
        if self.stop.load(Ordering::SeqCst) && !self.told_to_stop {
            self.told_to_stop = true;
            self.say("stopping: saving a checkpoint (a second Ctrl-C ends at once)");
        }
        if let Some(bar) = &self.bar {
            bar.set_position(row.step);
            bar.set_message(short_figures(row));
        } else if is_logged {
            let made = (row.step - self.first_step).max(1) as f64;
            let left = total.saturating_sub(row.step) as f64 * self.begun.elapsed().as_secs_f64() / made;
            self.say(&format!(
                "step {}/{total} epoch {} {} ETA {left:.0}s",
                row.step,
                row.epoch,
                figures(row)
            ));
        }
    }

    fn evaluated(&mut self, row: &ValRow) {
        let percent = |shares: [f64; 3]| shares.map(|s| format!("{:.1}", 100.0 * s)).join("/");
        let loss = row.loss.map_or_else(String::new, |loss| format!("loss {loss:.4}, "));
        let averaged = if row.averaged { " by the averaged weights" } else { "" };
        let found = match (&row.caption, row.image_to_text, row.text_to_image) {
            (Some(caption), _, _) => {
                format!("captions of {} images{averaged}: {}", row.images, scores(caption))
            }
            (None, Some(image_to_text), Some(text_to_image)) => format!(
                "recall@1/5/10 of {} images{averaged}: image to text {}%, text to image {}%",
                row.images,
                percent(image_to_text),
                percent(text_to_image)
            ),
            _ => format!("{} images{averaged}", row.images),
        };
        self.say(&format!("step {} {}: {loss}{found}", row.step, row.split));
    }

    fn note(&mut self, note: &str) {
        self.say(&format!("note: {note}"));
    }

    fn saved(&mut self, checkpoint: &Path) {
        self.say(&format!("saved {}", checkpoint.display()));
    }

    fn warned(&mut self, message: &str) {
        self.say(message);
    }
}
