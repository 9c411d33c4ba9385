//! A batch as its consumer sees it: pixels in one contiguous, aligned slice, keys and captions beside them.
//!
//! A batch owns its buffer and gives it back to the loader's pool when it is dropped. Left out: tensors; copying the
//! slice into one is the consumer's affair.

use std::sync::Arc;

use crate::{
    draft::Filled,
    history::{Added, History},
    plan::PlannedBatch,
    pool::Pool,
    text::Entry,
};

/// A batch's pixels: samples × 3 × height × width, row-major, channels in the order R, G, B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pixels<'a> {
    /// The stored bytes.
    U8(&'a [u8]),
    /// Normalised values.
    F32(&'a [f32]),
}

/// Some samples of an epoch, in the order of the epoch.
///
/// Pixels, keys and captions are borrowed from its memory, which the loader uses again once the batch is dropped. It may
/// be sent to another thread, and outlives its epoch and its loader.
///
/// ```
/// use loader::{Batch, Epoch, Loader, Remainder};
/// fn sent<T: Send>() {}
/// (sent::<Batch>(), sent::<Epoch>(), sent::<Loader>());
/// # let data = testkit::Spec::small().temporary();
/// # let dir = data.path();
/// let loader = Loader::builder(dir).batch_size(8).remainder(Remainder::DropLast).build()?;
/// let batch = loader.epoch(0)?.next().expect("an epoch has a batch")?;
/// let consumer = std::thread::spawn(move || batch.u8().iter().map(|&value| u64::from(value)).sum::<u64>());
/// consumer.join().expect("it does not panic");
/// # Ok::<(), loader::Error>(())
/// ```
#[derive(Debug)]
pub struct Batch {
    /// Present until the batch is dropped.
    filled: Option<Filled>,
    pool: Arc<Pool>,
    planned: PlannedBatch,
    epoch: u64,
    number: u64,
    height: usize,
    width: usize,
    /// What it adds to the history, and the history up to its end once it is delivered.
    added: Added,
    history: History,
}

impl Batch {
    pub(crate) fn new(
        filled: Filled,
        pool: Arc<Pool>,
        planned: PlannedBatch,
        (epoch, number): (u64, u64),
        (height, width): (usize, usize),
    ) -> Batch {
        let history = History::since(epoch, planned.position);
        let mut added = Added::default();
        filled.texts().for_each(|text| added += text.added);
        Batch { filled: Some(filled), pool, planned, epoch, number, height, width, added, history }
    }

    /// Puts the batch behind what was delivered before it.
    pub(crate) fn follow(&mut self, history: &mut History) {
        history.add(self.added);
        self.history = history.clone();
    }

    /// What was delivered up to and with this batch, since the run's first position or the last resume's record.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How many samples it has, padding included.
    pub fn len(&self) -> usize {
        self.planned.len as usize
    }

    /// Whether it has none; no delivered batch is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of its samples, from the front, are no padding.
    pub fn valid_count(&self) -> usize {
        self.planned.valid_count as usize
    }

    /// Rows of each picture.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns of each picture.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The pixels, in whichever form the loader was asked for.
    pub fn pixels(&self) -> Pixels<'_> {
        self.filled().pixels()
    }

    /// The pixels of a loader with [`Output::U8`](crate::Output::U8).
    ///
    /// # Panics
    /// If the loader was asked for another output.
    pub fn u8(&self) -> &[u8] {
        match self.pixels() {
            Pixels::U8(pixels) => pixels,
            Pixels::F32(_) => panic!("this loader was built with Output::F32, so its batches have no bytes"),
        }
    }

    /// The pixels of a loader with [`Output::F32`](crate::Output::F32).
    ///
    /// # Panics
    /// If the loader was asked for another output.
    pub fn f32(&self) -> &[f32] {
        match self.pixels() {
            Pixels::F32(pixels) => pixels,
            Pixels::U8(_) => panic!("this loader was built with Output::U8, so its batches have no floats"),
        }
    }

    /// The key of sample `i` of the batch.
    pub fn key(&self, i: usize) -> &str {
        let (text, place) = self.filled().text(i);
        text.key(place)
    }

    /// The number of sample `i` of the batch within its split.
    pub fn sample(&self, i: usize) -> u64 {
        self.entry(i).sample
    }

    /// The damaged sample whose place sample `i` takes, if it does.
    pub fn instead_of(&self, i: usize) -> Option<u64> {
        self.entry(i).instead_of
    }

    /// The caption of sample `i`: the drawn one, or the first where all come; empty where a sample has none.
    pub fn caption(&self, i: usize) -> &str {
        self.captions(i).next().unwrap_or_default()
    }

    /// The captions of sample `i` that were asked for: one, or all of them, or none where a sample has none.
    pub fn captions(&self, i: usize) -> impl ExactSizeIterator<Item = &str> {
        let (text, place) = self.filled().text(i);
        text.captions(place)
    }

    /// The epoch that it belongs to.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Its number in the epoch, from zero.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Samples of the epoch, over all ranks, that come before this batch.
    pub fn position(&self) -> u64 {
        self.planned.position
    }

    /// Samples of the epoch, over all ranks, that are delivered with this batch: the position to resume at.
    pub fn end(&self) -> u64 {
        self.planned.end
    }

    fn entry(&self, i: usize) -> &Entry {
        let (text, place) = self.filled().text(i);
        &text.entries[place]
    }

    fn filled(&self) -> &Filled {
        self.filled.as_ref().expect("the memory leaves only when the batch is dropped")
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(filled) = self.filled.take() {
            self.pool.give_back(filled);
        }
    }
}
