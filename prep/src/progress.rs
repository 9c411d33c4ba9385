//! Progress bars on standard error: quiet where that is no terminal. It leaves out results, which go through
//! `report`.

use indicatif::{ProgressBar, ProgressStyle};

use crate::pack::Progress;

/// A bar over samples, with rate and time left.
#[derive(Debug)]
pub(crate) struct Samples(ProgressBar);

impl Samples {
    /// A bar for `count` samples.
    pub(crate) fn new(count: usize) -> Self {
        let template = "{prefix:>9} {wide_bar} {human_pos}/{human_len} samples  {per_sec:>12}  {eta} left";
        Self(bar(count as u64, template, "packing"))
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Samples {
    fn packed(&mut self, done: usize) {
        self.0.set_position(done as u64);
    }
}

/// A bar over bytes.
pub(crate) fn bytes(count: u64, prefix: &'static str) -> ProgressBar {
    bar(count, "{prefix:>9} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec:>12}  {eta} left", prefix)
}

/// A bar over samples.
pub(crate) fn samples(count: u64, prefix: &'static str) -> ProgressBar {
    bar(count, "{prefix:>9} {wide_bar} {human_pos}/{human_len} samples  {per_sec:>12}  {eta} left", prefix)
}

fn bar(count: u64, template: &str, prefix: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(count).with_style(style).with_prefix(prefix)
}
