//! The main job: a planned source → shards and manifest. Pictures are read and resized on every core, written in
//! order by one thread, so that the bytes do not depend on the number of threads. Each shard is recorded when it is at
//! its place, so that a rerun goes on with the next one; the manifest comes last: a folder without it is unfinished.
//! It leaves out the folder itself (`output`) and what the user is shown.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Scope, ScopedJoinHandle},
};

use shard::{
    ImageSettings, LeftOut, Manifest, Sample, SampleMeta, SampleOrder, ShardEntry, ShardReader, ShardWriter,
    SourceInfo, SplitEntry, manifest::LEFT_OUT_LISTED_MAX,
};

use crate::{
    Error, Result, contain,
    ledger::Line,
    near, ordered,
    output::Output,
    pixels::{OriginalSize, PixelSettings, Preparer},
    plan::{Place, Plan, SplitPlan},
    source::{LoadError, Loaded, Reason, Rejection, Source},
};

/// What a data set is made with, beside its plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PackSettings {
    /// The data set's folder.
    pub out: PathBuf,
    /// Seed of the placement.
    pub seed: u64,
    /// Shuffled or source order.
    pub order: SampleOrder,
    /// Stored pictures.
    pub pixels: PixelSettings,
    /// Worker threads.
    pub threads: usize,
    /// Options that decide which samples there are, as the manifest keeps them.
    pub selection: BTreeMap<String, String>,
    /// The share of samples left out above which a run stops.
    pub bad_max: f64,
    /// Which of a sample's captions are kept.
    pub captions: Captions,
    /// Pictures of train at most this far from one of another split are left out.
    pub leak_distance: Option<u32>,
}

/// Which of a sample's captions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Captions {
    /// All of them.
    All,
    /// The source's first.
    First,
}

impl Captions {
    /// Drops those that are not kept.
    pub(crate) fn apply(self, captions: &mut Vec<String>) {
        if self == Self::First {
            captions.truncate(1);
        }
    }
}

impl PackSettings {
    /// What is known of the manifest before the first sample: which job this is.
    pub fn manifest(&self, source: SourceInfo) -> Manifest {
        Manifest {
            program: concat!("prep ", env!("CARGO_PKG_VERSION")).to_owned(),
            engine: self.pixels.engine(),
            source,
            selection: self.selection.clone(),
            seed: self.seed,
            order: self.order,
            ..Manifest::of(self.pixels.image.clone(), Vec::new())
        }
    }
}

/// Where a run stands, told after each sample.
pub trait Progress {
    /// `done` samples of all are packed.
    fn packed(&mut self, done: u64);

    /// Input number `input` of `count` is being taken in: how many samples there are is not known yet.
    fn input(&mut self, _input: usize, _count: usize, _name: &str) {}
}

/// Packs a planned source into a claimed folder. `stop` is looked at between samples.
///
/// # Errors
/// `NoSamples`, `TooManyBad`, `Interrupted`, `Io`, `Shard`, `Worker`, what the source says. Whatever happens, no
/// manifest stands beside unfinished shards.
pub fn pack(
    mut output: Output,
    source: &dyn Source,
    plan: &Plan,
    settings: &PackSettings,
    stop: &AtomicBool,
    progress: &mut dyn Progress,
) -> Result<Manifest> {
    let mut manifest = settings.manifest(source.info());
    let mut counts = Counts::new(settings.bad_max);
    // Train comes last: by then all that it may be compared with is there.
    let (train, others): (Vec<_>, Vec<_>) = plan.splits.iter().partition(|split| split.name == "train");
    let mut entries = BTreeMap::<&str, SplitEntry>::new();
    for split in others.into_iter().chain(train) {
        let leaks = Leaks::of(settings, output.dir(), &split.name, entries.values())?;
        let packer = Packer::new(source, plan, split, settings, leaks, stop);
        let packed = packer.run(&mut output, &mut counts, progress);
        if let Err(error @ Error::TooManyBad { .. }) = packed {
            // Samples were left out that a mended source has: nothing of this may be gone on with.
            output.abandon()?;
            return Err(error);
        }
        entries.insert(split.name.as_str(), packed?);
    }
    manifest.splits = plan.splits.iter().filter_map(|split| entries.remove(split.name.as_str())).collect();
    if manifest.splits.first().is_none_or(|train| train.samples == 0) {
        output.abandon()?;
        let source_name = manifest.source.name;
        return Err(Error::NoSamples { source_name, reasons: counts.reasons() });
    }
    manifest.splits.retain(|split| split.name == "train" || split.samples > 0);
    let from_list: Vec<(&str, &[LeftOut])> =
        plan.splits.iter().map(|split| (split.name.as_str(), split.left_out.as_slice())).collect();
    output.finish(&mut manifest, &from_list, |id| plan.key(id))?;
    Ok(manifest)
}

/// Samples so far, over all splits.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    done: u64,
    left_out: u64,
    by_reason: BTreeMap<String, u64>,
    example: Option<LeftOut>,
    bad_max: f64,
}

/// A share of bad samples says nothing before so many.
const BAD_SAMPLES_MIN: u64 = 100;

impl Counts {
    /// Counts for a run that stops above this share.
    pub(crate) fn new(bad_max: f64) -> Self {
        Self { bad_max, ..Self::default() }
    }

    /// One more sample.
    pub(crate) fn add(&mut self, left_out: Option<&LeftOut>) {
        self.done += 1;
        if let Some(left_out) = left_out {
            self.left_out += 1;
            *self.by_reason.entry(left_out.reason.clone()).or_default() += 1;
            self.example.get_or_insert_with(|| left_out.clone());
        }
    }

    /// Whether the run may go on.
    pub(crate) fn check(&self) -> Result<()> {
        let share = self.left_out as f64 / self.done.max(1) as f64;
        if self.done < BAD_SAMPLES_MIN || share <= self.bad_max {
            return Ok(());
        }
        let (left_out, done, bad_max) = (self.left_out, self.done, self.bad_max);
        Err(Error::TooManyBad { left_out, done, bad_max, reasons: self.reasons() })
    }

    fn reasons(&self) -> String {
        let example = self.example.as_ref();
        let example =
            example.map(|left| format!(" (such as {}: {})", left.source_id, left.detail)).unwrap_or_default();
        let counts: Vec<String> =
            self.by_reason.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!("{}{example}", counts.join(", "))
    }
}

/// A sample with its payload, the reason why not, or why no sample can be had any more.
type Prepared = Result<(Loaded, OriginalSize, Vec<u8>), LoadError>;

/// Writes the shards of one split.
pub(crate) struct Packer<'a> {
    source: &'a dyn Source,
    plan: &'a Plan,
    split: &'a SplitPlan,
    settings: &'a PackSettings,
    leaks: Option<Leaks>,
    stop: &'a AtomicBool,
    /// Written payloads, to be filled again: fresh memory for each costs more than the copy.
    payloads: Mutex<Vec<Vec<u8>>>,
}

/// The shard being written.
struct Writing {
    writer: ShardWriter,
    number: u32,
    left_out: Vec<LeftOut>,
}

/// Syncs a finished shard and puts it into its place while the next one is written: a disk takes as long for a shard
/// as a few dozen pictures take. One at a time, recorded in order.
struct Placing<'scope, 'env, 'run> {
    packer: &'run Packer<'run>,
    entry: &'run mut SplitEntry,
    output: &'run mut Output,
    scope: &'scope Scope<'scope, 'env>,
    shard: Option<(ScopedJoinHandle<'scope, shard::Result<ShardEntry>>, u32, Vec<LeftOut>)>,
}

impl Placing<'_, '_, '_> {
    /// Begins to place a shard, once the one before it is recorded.
    fn place(&mut self, writing: Writing) -> Result<()> {
        self.settle()?;
        let Writing { writer, number, left_out } = writing;
        self.shard = Some((self.scope.spawn(|| writer.commit()), number, left_out));
        Ok(())
    }

    /// Records the shard that is being placed, once it is there.
    fn settle(&mut self) -> Result<()> {
        let Some((commit, number, left_out)) = self.shard.take() else { return Ok(()) };
        let shard = commit.join().map_err(|panic| Error::Worker {
            place: format!("shard {number}"),
            message: contain::message(panic.as_ref()),
        })??;
        let line = Line { split: self.packer.split.name.clone(), shard, left_out };
        self.output.record(&line)?;
        self.packer.finish(self.entry, line)
    }
}

impl<'a> Packer<'a> {
    /// A packer of `split`.
    pub(crate) fn new(
        source: &'a dyn Source,
        plan: &'a Plan,
        split: &'a SplitPlan,
        settings: &'a PackSettings,
        leaks: Option<Leaks>,
        stop: &'a AtomicBool,
    ) -> Self {
        Self { source, plan, split, settings, leaks, stop, payloads: Mutex::default() }
    }

    /// Writes shard number `number` alone into `dir`.
    pub(crate) fn rebuild(&self, number: u32, dir: &Path) -> Result<ShardEntry> {
        let mut writing = self.begin_shard(number, dir)?;
        let positions = self.split.positions(number);
        self.prepare_all(positions, |place, prepared| {
            self.append(&mut writing.writer, place, prepared).map(|_| ())
        })?;
        Ok(writing.writer.commit()?)
    }

    /// Prepares the samples at these positions on all threads and gives them in order.
    fn prepare_all(
        &self,
        positions: Range<usize>,
        mut consume: impl FnMut(&Place, Prepared) -> Result<()>,
    ) -> Result<()> {
        let threads = self.settings.threads.max(1);
        ordered::for_each(
            positions.len(),
            threads,
            // A few waiting pictures a thread even out slow and fast ones; 150 kB each.
            8 * threads,
            || Preparer::new(&self.settings.pixels),
            |preparer, position| self.prepare(&self.split.places[positions.start + position], preparer),
            |position, prepared| {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                consume(&self.split.places[positions.start + position], prepared)
            },
        )
    }

    fn run(
        &self,
        output: &mut Output,
        counts: &mut Counts,
        progress: &mut dyn Progress,
    ) -> Result<SplitEntry> {
        let dir = output.dir().join(&self.split.name);
        fs_err::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let mut entry = SplitEntry::of(&self.split.name, Vec::new());
        for left_out in &self.split.left_out {
            leave_out(&mut entry, left_out);
            counts.add(Some(left_out));
        }
        for line in output.take_finished(&self.split.name) {
            (0..line.shard.samples).for_each(|_| counts.add(None));
            line.left_out.iter().for_each(|left_out| counts.add(Some(left_out)));
            self.finish(&mut entry, line)?;
        }
        let first = entry.shards.len() as u32;
        if first >= self.split.shards() {
            entry.samples = entry.shards.iter().map(|shard| shard.samples).sum();
            return Ok(entry);
        }
        progress.packed(counts.done);
        let packed = std::thread::scope(|scope| {
            let mut placing = Placing { packer: self, entry: &mut entry, output, scope, shard: None };
            let packed = self.write_shards(first, &dir, &mut placing, counts, progress);
            // What is whole is recorded also where the run ends here.
            let placed = placing.settle();
            packed.and(placed)
        });
        packed?;
        entry.samples = entry.shards.iter().map(|shard| shard.samples).sum();
        Ok(entry)
    }

    /// Writes the shards from number `first` on into `dir`.
    fn write_shards(
        &self,
        first: u32,
        dir: &Path,
        placing: &mut Placing<'_, '_, '_>,
        counts: &mut Counts,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let mut position = self.split.positions(first).start;
        let mut writing = self.begin_shard(first, dir)?;
        self.prepare_all(position..self.split.places.len(), |place, prepared| {
            while position >= self.split.positions(writing.number).end {
                let next = self.begin_shard(writing.number + 1, dir)?;
                placing.place(std::mem::replace(&mut writing, next))?;
            }
            position += 1;
            let left_out = self.append(&mut writing.writer, place, prepared)?;
            counts.add(left_out.as_ref());
            counts.check()?;
            writing.left_out.extend(left_out);
            progress.packed(counts.done);
            Ok(())
        })?;
        // Shards without samples are written too: their number is part of the placement.
        while writing.number + 1 < self.split.shards() {
            let next = self.begin_shard(writing.number + 1, dir)?;
            placing.place(std::mem::replace(&mut writing, next))?;
        }
        placing.place(writing)
    }

    fn begin_shard(&self, number: u32, dir: &Path) -> Result<Writing> {
        let writer = ShardWriter::create(dir, number, &self.settings.pixels.image)?;
        Ok(Writing { writer, number, left_out: Vec::new() })
    }

    fn finish(&self, entry: &mut SplitEntry, line: Line) -> Result<()> {
        line.left_out.iter().for_each(|left_out| leave_out(entry, left_out));
        entry.shards.push(line.shard);
        self.source.written(&self.split.name, entry.shards.len() as u32 - 1)
    }

    fn prepare(&self, place: &Place, preparer: &mut Preparer) -> Prepared {
        let size = self.settings.pixels.image.height;
        let mut loaded = self.source.load(place.listing as usize, place.row as usize, size)?;
        self.settings.captions.apply(&mut loaded.captions);
        let mut payload = self.payloads().pop().unwrap_or_default();
        let original = preparer.prepare(&loaded.picture, &mut payload)?;
        if let Some(leaks) = &self.leaks {
            leaks.check(&payload, &self.settings.pixels.image)?;
        }
        Ok((loaded, original, payload))
    }

    fn payloads(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.payloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a sample, or says why it is left out.
    fn append(&self, writer: &mut ShardWriter, place: &Place, prepared: Prepared) -> Result<Option<LeftOut>> {
        let id = self.source.listings()[place.listing as usize].ids.get(place.row as usize);
        match prepared {
            Ok((loaded, original, payload)) => {
                let meta = SampleMeta {
                    key: self.plan.key(id),
                    source_id: id.to_owned(),
                    source_row: place.row.into(),
                    captions: loaded.captions,
                    original_height: original.height,
                    original_width: original.width,
                    url: loaded.url,
                    license: loaded.license,
                };
                writer.append(&Sample { meta: &meta, image: &payload })?;
                self.payloads().push(payload);
                Ok(None)
            }
            Err(LoadError::LeftOut(Rejection { reason, detail })) => {
                Ok(Some(LeftOut { source_id: id.to_owned(), reason: reason.name().to_owned(), detail }))
            }
            Err(LoadError::Failed(error)) => Err(error),
        }
    }
}

/// The pictures of all splits but train, to be compared with.
pub(crate) struct Leaks {
    hashes: near::Index,
    keys: Vec<String>,
    distance: u32,
}

impl Leaks {
    /// What `split` is compared with: for train, where the settings ask for it, the `others` below `dir`.
    ///
    /// # Errors
    /// Where their shards cannot be read.
    pub(crate) fn of<'a>(
        settings: &PackSettings,
        dir: &Path,
        split: &str,
        others: impl Iterator<Item = &'a SplitEntry>,
    ) -> Result<Option<Self>> {
        let Some(distance) = settings.leak_distance.filter(|_| split == "train") else { return Ok(None) };
        let image = &settings.pixels.image;
        let (mut hashes, mut keys) = (Vec::new(), Vec::new());
        for other in others.filter(|other| other.name != "train") {
            for entry in &other.shards {
                let shard = ShardReader::open(&dir.join(&other.name), entry, image)?;
                for sample in 0..shard.len() {
                    let row = shard.row(sample)?;
                    let payload = shard.payload(&row, row.image)?;
                    shard.check(&row, row.image, payload)?;
                    hashes.push(near::hash_stored(payload, image)?);
                    keys.push(row.key.to_owned());
                }
            }
        }
        Ok(Some(Self { hashes: near::Index::new(hashes), keys, distance }))
    }

    fn check(&self, payload: &[u8], image: &ImageSettings) -> Result<(), LoadError> {
        let hash = near::hash_stored(payload, image)?;
        let Some((position, distance)) = self.hashes.nearest(hash, self.distance) else { return Ok(()) };
        let detail = format!("near {} of another split: {distance} of 64 bits differ", self.keys[position]);
        Err(Rejection::new(Reason::Leak, detail).into())
    }
}

/// Counts a sample that is left out, and names it while there is room.
fn leave_out(entry: &mut SplitEntry, left_out: &LeftOut) {
    *entry.left_out_counts.entry(left_out.reason.clone()).or_default() += 1;
    if entry.left_out.len() < LEFT_OUT_LISTED_MAX {
        entry.left_out.push(left_out.clone());
    }
}
