//! Progress bars on standard error: quiet where that is no terminal. It leaves out results, which go through
//! `report`.

use std::sync::OnceLock;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::pack::Progress;

const COUNTED: &str = "{prefix:>9} {wide_bar} {human_pos}/{human_len} samples  {per_sec:>12}  {eta} left";
const OPEN: &str = "{prefix:>9} {human_pos} samples  {per_sec:>12}  {wide_msg}";

/// A bar over samples, with rate and time left where their number is known.
#[derive(Debug)]
pub(crate) struct Samples(ProgressBar);

impl Samples {
    /// A bar for samples that nobody has counted yet.
    pub(crate) fn new() -> Self {
        Self(bar(0, OPEN, "preparing"))
    }

    /// `count` samples are to be packed.
    pub(crate) fn plan(&self, count: usize) {
        self.0.set_style(style(COUNTED));
        self.0.set_prefix("packing");
        self.0.set_length(count as u64);
        self.0.reset();
    }

    /// Takes the bar away, and those of downloads with it.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
        let _ = all().clear();
    }
}

impl Progress for Samples {
    fn packed(&mut self, done: u64) {
        self.0.set_position(done);
    }

    fn input(&mut self, input: usize, count: usize, name: &str) {
        self.0.set_message(format!("{name}, {} of {count}", input + 1));
    }
}

/// A bar over bytes.
pub(crate) fn bytes(count: u64, prefix: &'static str) -> ProgressBar {
    bar(count, "{prefix:>9} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec:>12}  {eta} left", prefix)
}

/// A bar over samples.
pub(crate) fn samples(count: u64, prefix: &'static str) -> ProgressBar {
    bar(count, COUNTED, prefix)
}

/// The bars of this process: drawn together, so that none writes over another.
pub(crate) fn all() -> &'static MultiProgress {
    static ALL: OnceLock<MultiProgress> = OnceLock::new();
    ALL.get_or_init(MultiProgress::new)
}

fn bar(count: u64, template: &str, prefix: &'static str) -> ProgressBar {
    let bar = ProgressBar::hidden().with_style(style(template)).with_prefix(prefix);
    bar.set_length(count);
    all().add(bar)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
