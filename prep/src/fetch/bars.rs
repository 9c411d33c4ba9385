//! Downloads as bars on standard error: one a file and one for the whole, quiet where that is no terminal. Notices are
//! written there either way. It leaves out what is told (`watch`).

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Meter, Watch};
use crate::progress;

const TEMPLATE: &str =
    "{prefix:>24!} {wide_bar} {bytes:>10}/{total_bytes:<10} {binary_bytes_per_sec:>12} {eta:>4} left";

/// One bar a file, and one for the whole.
#[derive(Clone, Debug)]
pub struct Bars {
    all: MultiProgress,
    whole: ProgressBar,
    /// The whole grows by each file that begins.
    grows: bool,
}

impl Bars {
    /// Bars on standard error. `total_bytes` is what all files have together; without it, the whole is what is known
    /// of the files begun so far.
    pub fn new(total_bytes: Option<u64>) -> Self {
        Self::among(progress::all().clone(), total_bytes)
    }

    fn among(all: MultiProgress, total_bytes: Option<u64>) -> Self {
        let whole = all.add(bar("all downloads"));
        whole.set_length(total_bytes.unwrap_or(0));
        Self { all, whole, grows: total_bytes.is_none() }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        self.whole.finish_and_clear();
        let _ = self.all.clear();
    }
}

fn bar(prefix: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::hidden().with_style(style).with_prefix(prefix.to_owned())
}

/// The last characters of a name: there it differs from the next one.
fn tail(name: &str) -> String {
    let skipped = name.chars().count().saturating_sub(24);
    name.chars().skip(skipped).collect()
}

impl Watch for Bars {
    fn begin(&self, name: &str) -> Arc<dyn Meter> {
        let file = self.all.insert_before(&self.whole, bar(&tail(name)));
        Arc::new(FileBar {
            file,
            bars: self.clone(),
            total_bytes: AtomicU64::new(0),
            last_bytes: AtomicU64::new(0),
        })
    }

    fn notice(&self, text: &str) {
        self.all.suspend(|| {
            // A reader who has gone away is no error.
            let _ = writeln!(std::io::stderr().lock(), "prep: {text}");
        });
    }
}

/// One file's bar.
#[derive(Debug)]
struct FileBar {
    file: ProgressBar,
    bars: Bars,
    total_bytes: AtomicU64,
    last_bytes: AtomicU64,
}

impl Meter for FileBar {
    fn total(&self, bytes: u64) {
        self.file.set_length(bytes);
        let before = self.total_bytes.swap(bytes, Ordering::Relaxed);
        if self.bars.grows {
            self.bars.whole.inc_length(bytes.saturating_sub(before));
        }
    }

    fn at(&self, bytes: u64) {
        let before = self.last_bytes.swap(bytes, Ordering::Relaxed);
        self.file.set_position(bytes);
        self.bars.whole.inc(bytes.wrapping_sub(before)); // less than before where a file starts over
        if before == 0 && bytes > 0 {
            // What an earlier run has brought says nothing about this one's speed.
            self.file.reset_eta();
            self.bars.whole.reset_eta();
        }
    }
}

impl Drop for FileBar {
    fn drop(&mut self) {
        self.file.finish_and_clear();
        self.bars.all.remove(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_the_sum_of_its_files_also_when_one_starts_over() {
        for (total, length) in [(None, 300), (Some(1000), 1000)] {
            let bars =
                Bars::among(MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden()), total);
            let (first, second) = (bars.begin("first"), bars.begin("a/very/long/path/to/the/second.tar"));
            first.total(100);
            second.total(200);
            first.at(60);
            second.at(150);
            assert_eq!((bars.whole.position(), bars.whole.length()), (210, Some(length)));
            first.at(0);
            assert_eq!(bars.whole.position(), 150);
            first.total(100);
            first.at(100);
            second.at(200);
            drop((first, second));
            assert_eq!((bars.whole.position(), bars.whole.length()), (300, Some(length)));
            bars.finish();
        }
        assert_eq!(tail("a/very/long/path/to/the/second.tar"), "long/path/to/the/second.tar"[3..]);
    }
}
