//! [`Loader`]: a split of a data set as epochs of batches. Ties the plan to the workers; the parts do the work.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use shard::Dataset;

use crate::{
    batch::Batch,
    buffer::Pool,
    builder::LoaderBuilder,
    collate::{Checked, EpochJob, Hook, Source},
    config::{Check, LoaderConfig},
    error::{Error, Result},
    plan::{Plan, Remainder},
    prefetch::Prefetch,
    rng::EpochStreams,
    state::LoaderState,
    stats::{Counters, Stats},
    store::Store,
    view::View,
};

/// A split of a data set, open for reading. Cheap to clone; clones share their mappings and buffers.
#[derive(Clone)]
pub struct Loader {
    source: Arc<Source>,
}

impl Loader {
    /// Settings for a loader over the data set in `dir`.
    pub fn builder(dir: impl Into<PathBuf>) -> LoaderBuilder {
        LoaderBuilder::new(dir.into())
    }

    /// Opens the data set in `dir`: maps the split's shards and reads no sample.
    ///
    /// # Errors
    /// [`Error::Shard`] where the data set or one of its shards cannot be opened, [`Error::EmptySplit`], and
    /// [`Error::Config`] where the settings cannot work, alone or with this data.
    pub fn open(dir: &Path, config: LoaderConfig) -> Result<Loader> {
        Self::open_with(dir, config, None)
    }

    pub(crate) fn open_with(dir: &Path, config: LoaderConfig, hook: Option<Hook>) -> Result<Loader> {
        config.validate()?;
        let store = Store::open(Dataset::open(dir)?, &config.split)?;
        let view = View::of(&store, config.fraction)?;
        // `validate` refused a missing policy.
        let remainder = config.remainder.unwrap_or(Remainder::DropLast);
        let plan = Plan::new(view.len(), config.batch_size as u64, remainder, config.world)?;
        let batch_bytes = plan.rank_batch_size().checked_mul(4 * store.image().pixel_bytes() as u64);
        if batch_bytes.is_none_or(|bytes| bytes > isize::MAX as u64) {
            return Err(Error::config(format!("a batch of {} does not fit in memory", config.batch_size)));
        }
        let checked =
            if config.check == Check::First { Checked::new(store.len()) } else { Checked::default() };
        // One batch in the consumer's hands beside those in the making.
        let pool = Arc::new(Pool::new(config.depth() + 1));
        let counters = Counters::default();
        let source = Source { store, view, config, plan, pool, counters, checked, hook };
        Ok(Loader { source: Arc::new(source) })
    }

    /// The batches of `epoch`, from its start.
    ///
    /// # Errors
    /// [`Error::Spawn`] where the system refuses a thread.
    pub fn epoch(&self, epoch: u64) -> Result<Epoch> {
        self.epoch_from(epoch, 0)
    }

    /// The batches of `epoch` from `position` on: the very batches that [`epoch`](Self::epoch) would deliver there.
    ///
    /// `position` counts samples over all ranks. At the epoch's end no batch is left, which is no error.
    ///
    /// # Errors
    /// [`Error::Position`] where no batch begins there; [`Error::Spawn`].
    pub fn epoch_from(&self, epoch: u64, position: u64) -> Result<Epoch> {
        let source = &self.source;
        let (first, end) = (source.plan.batch_at(position)?, source.plan.batch_count());
        let seed = source.config.seed;
        let job = EpochJob {
            source: Arc::clone(source),
            order: source.config.order.epoch(seed, epoch, source.view.len())?,
            streams: EpochStreams::new(seed, epoch),
            epoch,
        };
        let batches = Prefetch::start(job, first, end, source.config.threads, source.config.depth())?;
        Ok(Epoch { batches, source: Arc::clone(source), left: end - first })
    }

    /// The rest of the epoch that `state` stands in.
    ///
    /// # Errors
    /// [`Error::OtherData`] and [`Error::OtherSeed`] where the state is of another run's data or seed; else as
    /// [`epoch_from`](Self::epoch_from).
    pub fn resume(&self, state: &LoaderState) -> Result<Epoch> {
        state.check(self.seed(), self.fingerprint())?;
        self.epoch_from(state.epoch, state.position)
    }

    /// The state before the batch at `position` of `epoch`.
    pub fn state(&self, epoch: u64, position: u64) -> LoaderState {
        LoaderState { seed: self.seed(), epoch, position, fingerprint: self.fingerprint().to_owned() }
    }

    /// The state after `batch`: the start of the next epoch where it was its epoch's last.
    pub fn state_after(&self, batch: &Batch) -> LoaderState {
        if batch.number() + 1 >= self.batch_count() {
            self.state(batch.epoch() + 1, 0)
        } else {
            self.state(batch.epoch(), batch.end())
        }
    }

    /// How many batches an epoch has, the same on every rank.
    pub fn batch_count(&self) -> u64 {
        self.source.plan.batch_count()
    }

    /// How many samples take part in an epoch, before the remainder policy.
    pub fn len(&self) -> u64 {
        self.source.view.len()
    }

    /// Whether no sample takes part; never, for an empty split is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &LoaderConfig {
        &self.source.config
    }

    /// The opened data set.
    pub fn dataset(&self) -> &Dataset {
        &self.source.store.dataset
    }

    /// The identity of the data set's samples.
    pub fn fingerprint(&self) -> &str {
        self.dataset().fingerprint()
    }

    /// The seed of its orders and draws.
    pub fn seed(&self) -> u64 {
        self.source.config.seed
    }

    /// Rows of each picture.
    pub fn height(&self) -> usize {
        self.source.store.image().height as usize
    }

    /// Columns of each picture.
    pub fn width(&self) -> usize {
        self.source.store.image().width as usize
    }

    /// What it has done so far, over all epochs and clones.
    pub fn stats(&self) -> Stats {
        self.source.counters.snapshot(self.source.pool.fresh())
    }

    /// The numbers, within the split, of the samples that take part, ascending.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        // `usize` ranges know their length; no split has more samples than fit in memory's address space.
        (0..self.len() as usize).map(|place| self.source.view.sample(place as u64))
    }

    /// The key of a sample, by its number within the split.
    ///
    /// # Errors
    /// [`Error::NoSuchSample`]; [`Error::Shard`] where its index row is damaged.
    pub fn key(&self, sample: u64) -> Result<&str> {
        Ok(self.source.store.row(sample)?.key)
    }

    /// All captions of a sample, by its number within the split, whatever captions batches come with.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    pub fn sample_captions(&self, sample: u64) -> Result<impl ExactSizeIterator<Item = &str>> {
        let captions = self.source.store.row(sample)?.captions;
        Ok((0..captions.len()).map(move |caption| captions.get(caption).unwrap_or_default()))
    }

    /// The keys of all samples that take part, in the order of [`samples`](Self::samples).
    pub fn keys(&self) -> impl Iterator<Item = Result<&str>> {
        self.samples().map(|sample| self.key(sample))
    }

    /// All captions of all samples that take part, in the order of [`samples`](Self::samples): what a tokenizer is
    /// trained on.
    pub fn captions(&self) -> impl Iterator<Item = Result<&str>> {
        self.samples().flat_map(|sample| {
            let (captions, error) = match self.sample_captions(sample) {
                Ok(captions) => (Some(captions), None),
                Err(error) => (None, Some(Err(error))),
            };
            captions.into_iter().flatten().map(Ok).chain(error)
        })
    }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("dir", &self.dataset().dir())
            .field("split", &self.source.store.split)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The batches of an epoch, in order. Dropping it joins its threads; batches that are still held stay valid.
pub struct Epoch {
    batches: Prefetch<EpochJob>,
    source: Arc<Source>,
    left: u64,
}

impl Iterator for Epoch {
    type Item = Result<Batch, Error>;

    /// The next batch; an error takes a batch's place and ends the epoch.
    fn next(&mut self) -> Option<Self::Item> {
        let start = Instant::now();
        let batch = self.batches.next();
        let counters = &self.source.counters;
        counters.wait_ns.fetch_add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
        match &batch {
            Some(Ok(_)) => {
                self.left -= 1;
                counters.batches.fetch_add(1, Relaxed);
            }
            Some(Err(_)) | None => self.left = 0,
        }
        batch
    }

    /// The batches still to come; an error ends them early.
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        (left.min(1), Some(left))
    }
}

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoch").field("batches_left", &self.left).finish_non_exhaustive()
    }
}
