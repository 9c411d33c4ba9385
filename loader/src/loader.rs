//! [`Loader`]: a split of a data set as epochs of batches. Ties the plan to the workers; the parts do the work.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use shard::Dataset;

use crate::{
    ahead::Ahead,
    batch::Batch,
    builder::LoaderBuilder,
    cache::{CacheConfig, RemoteStats},
    collate::{Checked, EpochJob, Hook, Source},
    config::{Check, LoaderConfig},
    error::{Error, Result},
    groups::Groups,
    history::{Added, History, Terms},
    memory,
    order::Order,
    parts::{Draws, Origin, Part},
    plan::{Plan, Remainder},
    pool::Pool,
    prefetch::Prefetch,
    remote,
    rng::EpochStreams,
    select::Selected,
    sequence::Sequence,
    stages::Stages,
    state::{Identity, LoaderState},
    stats::{Counters, Stats},
    store::Store,
    substitute::{Substitution, Substitutions},
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
        let part = Part::new(dir).split(config.split.clone()).selection(config.selection.clone());
        Self::open_with(vec![part], config, None)
    }

    /// Opens several data sets, at least one, as a mixture; the split and the selection of `config` are not looked at.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Config`] where their pictures differ in size or only some have a weight.
    pub fn open_parts(parts: Vec<Part>, config: LoaderConfig) -> Result<Loader> {
        Self::open_with(parts, config, None)
    }

    pub(crate) fn open_with(parts: Vec<Part>, config: LoaderConfig, hook: Option<Hook>) -> Result<Loader> {
        config.validate()?;
        let weights = weights(&parts)?;
        let (dirs, remote) = remote::open(&parts, &config)?;
        let opened = parts.iter().zip(&dirs).map(|(part, dir)| Ok((Dataset::open(dir)?, part.split.clone())));
        let store = Store::open(opened.collect::<Result<_>>()?)?;
        let selected = parts.iter().zip(&store.parts);
        let selected = selected.map(|(part, stored)| Selected::of(&store, stored, &part.selection));
        let selected: Vec<Selected> = selected.collect::<Result<_>>()?;
        let order = match config.order {
            Order::Auto => {
                let remote = remote.as_ref().and_then(|remote| remote.order(&store, &selected));
                remote.unwrap_or_else(|| memory::order_for(&store, &selected))
            }
            order => order,
        };
        let sequence = Sequence::new(order, config.seed, selected, weights.as_deref(), config.epoch_samples)?;
        let sequence = match &config.distinct {
            Some(distinct) => {
                let sequence = sequence.apart(Groups::of(&store, distinct)?, config.batch_size);
                // Where it cannot be, it is said now; the first epoch is like all others.
                sequence.epoch(0)?;
                sequence
            }
            None => sequence,
        };
        let identity = identity(&parts, &store, &sequence, order, &config);
        // `validate` refused a missing policy.
        let remainder = config.remainder.unwrap_or(Remainder::DropLast);
        let plan = Plan::new(sequence.len(), config.batch_size as u64, remainder, config.world)?;
        let batch_bytes = plan.rank_batch_size().checked_mul(4 * store.image().pixel_bytes() as u64);
        if batch_bytes.is_none_or(|bytes| bytes > isize::MAX as u64) {
            return Err(Error::config(format!("a batch of {} does not fit in memory", config.batch_size)));
        }
        let checked =
            if config.check == Check::First { Checked::new(store.len()) } else { Checked::default() };
        if order != Order::None {
            store.advise_random();
        }
        let ahead = Ahead::new(&store);
        // Beside those ahead, one in the consumer's hands and one that is begun while it waits.
        let pool = Arc::new(Pool::new(config.depth() + 2));
        let counters = Counters::default();
        let substitutions = Substitutions::default();
        let source = Source {
            store,
            sequence,
            identity,
            order,
            config,
            plan,
            pool,
            ahead,
            counters,
            checked,
            substitutions,
            hook,
            remote,
        };
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
        self.epoch_after(epoch, position, History::since(epoch, position))
    }

    fn epoch_after(&self, epoch: u64, position: u64, history: History) -> Result<Epoch> {
        let source = &self.source;
        let (first, end) = (source.plan.batch_at(position)?, source.plan.batch_count());
        let seed = source.config.seed;
        let samples = Arc::new(source.sequence.epoch(epoch)?);
        let fetched = source.remote.as_ref().map(|remote| remote.session(source, &samples, epoch, first));
        let job = EpochJob {
            fetched: fetched.transpose()?,
            source: Arc::clone(source),
            samples,
            terms: Terms::new(epoch),
            streams: EpochStreams::new(seed, epoch),
            named: AtomicU64::new(0),
            epoch,
        };
        let batches = Prefetch::start(job, first, end, source.config.threads, source.config.depth())?;
        Ok(Epoch { batches, source: Arc::clone(source), left: end - first, history })
    }

    /// The rest of the epoch that `state` stands in, its history going on from the state's.
    ///
    /// ```
    /// use loader::{Loader, LoaderState, Remainder};
    /// # let data = testkit::Spec::small().temporary();
    /// # let dir = data.path();
    /// let loader = Loader::builder(dir).batch_size(8).remainder(Remainder::DropLast).build()?;
    /// let batch = loader.epoch(3)?.next().expect("an epoch has a batch")?;
    /// let line = loader.state_after(&batch).to_json(); // into the checkpoint
    ///
    /// let state = LoaderState::from_json(&line)?; // in another process, with other ranks or threads
    /// for batch in loader.resume(&state)? {
    ///     assert!(batch?.position() >= 8);
    /// }
    /// # Ok::<(), loader::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OtherData`], [`Error::OtherSeed`] and [`Error::OtherOrder`] where the state is of another run; else as
    /// [`epoch_from`](Self::epoch_from).
    pub fn resume(&self, state: &LoaderState) -> Result<Epoch> {
        self.check(state)?;
        self.epoch_after(state.epoch, state.position, state.history.clone())
    }

    /// Whether `state` is of this loader's data, seed, order and selection.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub fn check(&self, state: &LoaderState) -> Result<()> {
        state.check(&self.source.identity)
    }

    /// The state before the batch at `position` of `epoch`, with nothing delivered yet.
    pub fn state(&self, epoch: u64, position: u64) -> LoaderState {
        let Identity { seed, fingerprint, order, selection } = self.source.identity.clone();
        let history = History::since(epoch, position);
        LoaderState { seed, epoch, position, fingerprint, order, selection, history }
    }

    /// The state after `batch`: the start of the next epoch where it was its epoch's last.
    pub fn state_after(&self, batch: &Batch) -> LoaderState {
        let is_last = batch.number() + 1 >= self.batch_count();
        let (epoch, position) = if is_last { (batch.epoch() + 1, 0) } else { (batch.epoch(), batch.end()) };
        LoaderState { history: batch.history().clone(), ..self.state(epoch, position) }
    }

    /// What a run that began where `state`'s history does and stands where it stands has delivered, by the data's index
    /// alone: equal to the state's history where it was a run over this data in this order. It ends with the first epoch
    /// that has more samples than the history says.
    ///
    /// # Errors
    /// As [`resume`](Self::resume); [`Error::Shard`] where an index row is damaged.
    pub fn replay(&self, state: &LoaderState) -> Result<History> {
        self.check(state)?;
        let source = &self.source;
        let mut history = History::since(state.history.epoch, state.history.position);
        for epoch in state.history.epoch..=state.epoch {
            let first = if epoch == state.history.epoch { state.history.position } else { 0 };
            let end = if epoch == state.epoch {
                state.position
            } else {
                source.plan.global(self.batch_count().saturating_sub(1)).end
            };
            let (samples, terms, mut added) =
                (source.sequence.epoch(epoch)?, Terms::new(epoch), Added::default());
            for position in first..end.min(self.len()) {
                let sample = source.sequence.sample(&samples, position)?;
                added.add(&terms, position, source.planned_key(sample)?);
            }
            history.add(added);
            if history.samples > state.history.samples {
                break;
            }
        }
        Ok(history)
    }

    /// How many batches an epoch has, the same on every rank.
    pub fn batch_count(&self) -> u64 {
        self.source.plan.batch_count()
    }

    /// How many samples an epoch has, before the remainder policy.
    pub fn len(&self) -> u64 {
        self.source.sequence.len()
    }

    /// The order of its epochs: what was decided where [`Order::Auto`] was asked for.
    pub fn order(&self) -> Order {
        self.source.order
    }

    /// How an epoch draws from each of its data sets.
    pub fn draws(&self) -> Vec<Draws> {
        let source = &self.source;
        let parts = source.store.parts.iter().zip(source.sequence.parts()).zip(source.sequence.draws());
        let address = |part| source.remote.as_ref().and_then(|remote| remote.address(part));
        parts
            .enumerate()
            .map(|(part, ((stored, selected), &draws))| Draws {
                dir: address(part).unwrap_or_else(|| stored.dataset.dir().to_path_buf()),
                samples: selected.len(),
                draws,
            })
            .collect()
    }

    /// Whether no sample takes part; never, for an empty split is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &LoaderConfig {
        &self.source.config
    }

    /// The opened data set; of a mixture, the first.
    pub fn dataset(&self) -> &Dataset {
        &self.source.store.parts[0].dataset
    }

    /// The identity of the data: the data set's fingerprint, or a hash of all of a mixture's.
    pub fn fingerprint(&self) -> &str {
        &self.source.identity.fingerprint
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
        self.source.counters.snapshot(self.source.pool.fresh(), self.source.substitutions.count())
    }

    /// What was fetched for data sets in object stores; none where all are local.
    pub fn remote_stats(&self) -> Option<RemoteStats> {
        self.source.remote.as_ref().map(remote::Remote::stats)
    }

    /// Where its workers' time went, where [`LoaderConfig::profile`] asked for it.
    pub fn stages(&self) -> Stages {
        self.source.counters.stages.snapshot()
    }

    /// The damaged samples whose place another one took, the first thousand of them.
    pub fn substitutions(&self) -> Vec<Substitution> {
        self.source.substitutions.listed()
    }

    /// The numbers of the samples that take part, ascending: within the split, or through a mixture's one after the
    /// other.
    pub fn samples(&self) -> impl Iterator<Item = u64> + '_ {
        let parts = self.source.sequence.parts().iter();
        parts.flat_map(|part| (0..part.len()).map(|place| part.sample(place)))
    }

    /// The sample at each position of `epoch`, from the front: its order without its pixels.
    ///
    /// ```
    /// use loader::{Loader, Remainder};
    /// # let data = testkit::Spec::small().temporary();
    /// # let dir = data.path();
    /// let loader = Loader::builder(dir).batch_size(8).remainder(Remainder::DropLast).seed(7).build()?;
    /// let mut samples = loader.epoch_samples(0)?.collect::<Result<Vec<_>, _>>()?;
    /// samples.sort_unstable();
    /// assert!(samples.into_iter().eq(loader.samples())); // each once
    /// # Ok::<(), loader::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] where the epoch cannot be counted.
    pub fn epoch_samples(&self, epoch: u64) -> Result<impl Iterator<Item = Result<u64>> + '_> {
        let samples = self.source.sequence.epoch(epoch)?;
        Ok((0..self.len()).map(move |position| self.source.sequence.sample(&samples, position)))
    }

    /// The key of a sample, by its number within the split.
    ///
    /// # Errors
    /// [`Error::NoSuchSample`]; [`Error::Shard`] where its index row is damaged.
    pub fn key(&self, sample: u64) -> Result<&str> {
        Ok(self.source.store.row(sample)?.key)
    }

    /// Where a sample comes from.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    pub fn origin(&self, sample: u64) -> Result<Origin> {
        let store = &self.source.store;
        let (shard, source_row) = (store.shard_number(sample)?, store.row(sample)?.source_row);
        Ok(Origin { part: store.part_number(sample), shard, source_row })
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

/// Opens a data set's manifest alone, wherever it lies: for what must be known before a [`Loader`] is asked for. That of
/// one in an object store is fetched into its cache, and its files are not there.
///
/// # Errors
/// As [`Loader::open`].
pub fn open_dataset(dir: &Path, cache: &CacheConfig) -> Result<Dataset> {
    remote::dataset(dir, cache)
}

/// One weight for each part, or none at all; a look at what else they say.
fn weights(parts: &[Part]) -> Result<Option<Vec<f64>>> {
    if let Some(problem) = parts.iter().find_map(|part| part.selection.problem()) {
        return Err(Error::config(problem));
    }
    let weights: Vec<f64> = parts.iter().filter_map(|part| part.weight).collect();
    if weights.is_empty() && !parts.is_empty() {
        return Ok(None);
    }
    if weights.len() != parts.len() {
        let (some, all) = (weights.len(), parts.len());
        return Err(Error::config(format!(
            "{some} of {all} data sets have a weight: give each one, or none"
        )));
    }
    if weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) || weights.iter().sum::<f64>() <= 0.0
    {
        return Err(Error::config(format!("weights are numbers from 0 on, not all of them 0: {weights:?}")));
    }
    Ok(Some(weights))
}

fn identity(
    parts: &[Part],
    store: &Store,
    sequence: &Sequence,
    order: Order,
    config: &LoaderConfig,
) -> Identity {
    let draws = sequence.draws().iter().zip(sequence.parts());
    let selection: Vec<String> = (parts.iter().zip(draws))
        .map(|(part, (draws, selected))| {
            let repeats = if *draws == selected.len() { String::new() } else { format!(", {draws} draws") };
            format!("{}{repeats}", part.selection)
        })
        .collect();
    let fingerprints: Vec<&str> = store.parts.iter().map(|part| part.dataset.fingerprint()).collect();
    let fingerprint = match &fingerprints[..] {
        [one] => (*one).to_owned(),
        several => {
            let mut hasher = blake3::Hasher::new_derive_key("loader v1 mixture");
            several.iter().for_each(|fingerprint| {
                hasher.update(fingerprint.as_bytes());
            });
            hasher.finalize().to_hex().to_string()
        }
    };
    let selection = selection.join("; ");
    let apart = config.distinct.as_ref();
    let apart =
        apart.map_or(String::new(), |d| format!(", batches of {} distinct by {d}", config.batch_size));
    Identity { seed: config.seed, fingerprint, order: format!("{order}{apart}"), selection }
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("dir", &self.dataset().dir())
            .field("split", &self.source.store.parts[0].split)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// The batches of an epoch, in order. Dropping it joins its threads; batches that are still held stay valid.
pub struct Epoch {
    batches: Prefetch<EpochJob>,
    source: Arc<Source>,
    left: u64,
    history: History,
}

impl Iterator for Epoch {
    type Item = Result<Batch, Error>;

    /// The next batch; an error takes a batch's place and ends the epoch.
    fn next(&mut self) -> Option<Self::Item> {
        let start = Instant::now();
        let mut batch = self.batches.next();
        let counters = &self.source.counters;
        counters.wait_ns.fetch_add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
        match &mut batch {
            Some(Ok(batch)) => {
                batch.follow(&mut self.history);
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
