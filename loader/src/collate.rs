//! Samples into batches: what a worker does for batch number b of an epoch. A pure function of that number.
//!
//! Left out: threads and order of delivery ([`crate::prefetch`]).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use shard::{ImageFormat, Layout, Row, ShardReader};
use zune_jpeg::errors::DecodeErrors;

use crate::{
    ahead::{Ahead, CHUNK_SAMPLES},
    augment::{self, Drawn, Picture},
    batch::Batch,
    config::{Captions, Check, LoaderConfig, OnCorrupt, Output},
    decode::{Decoded, Decoder},
    draft::{Draft, Kind, PART_SAMPLES, Part, PartPixels},
    error::{Error, Place, Result, panic_message},
    history::Terms,
    order::Order,
    pixels::{self, Target, Values, simd::Stores, write_interleaved, write_planar},
    plan::Plan,
    pool::Pool,
    prefetch::Job,
    remote::{Hold, Remote, Session},
    rng::{EpochStreams, Purpose},
    sequence::{EpochSamples, Sequence},
    stages::{Clock, Stage, touch},
    state::Identity,
    stats::Counters,
    store::Store,
    substitute::{Substitution, Substitutions},
    text::Text,
};

/// Samples that are tried in a damaged one's place before its error is delivered after all.
const SUBSTITUTES_MAX: usize = 16;

/// Called with a sample's number before it is read; lets tests make a worker panic or dawdle.
pub(crate) type Hook = Arc<dyn Fn(u64) + Send + Sync>;

/// What all epochs of a loader share.
pub(crate) struct Source {
    pub(crate) store: Store,
    pub(crate) sequence: Sequence,
    pub(crate) identity: Identity,
    /// The order that was asked for, or that was decided on.
    pub(crate) order: Order,
    pub(crate) config: LoaderConfig,
    pub(crate) plan: Plan,
    pub(crate) pool: Arc<Pool>,
    pub(crate) ahead: Ahead,
    pub(crate) counters: Counters,
    pub(crate) checked: Checked,
    pub(crate) substitutions: Substitutions,
    pub(crate) hook: Option<Hook>,
    /// The way to the bytes of what lies in object stores.
    pub(crate) remote: Option<Remote>,
}

/// The samples whose checksum has been compared: one bit each, kept for [`Check::First`] alone.
#[derive(Debug, Default)]
pub(crate) struct Checked(Vec<AtomicU64>);

impl Checked {
    pub(crate) fn new(samples: u64) -> Checked {
        Checked((0..samples.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    fn contains(&self, sample: u64) -> bool {
        self.0[(sample / 64) as usize].load(Relaxed) >> (sample % 64) & 1 == 1
    }

    fn insert(&self, sample: u64) {
        self.0[(sample / 64) as usize].fetch_or(1 << (sample % 64), Relaxed);
    }
}

/// The batches of one epoch.
pub(crate) struct EpochJob {
    /// Brings the bytes; first of the fields, for its thread ends before the rest goes.
    pub(crate) fetched: Option<Session>,
    pub(crate) source: Arc<Source>,
    pub(crate) samples: Arc<EpochSamples>,
    pub(crate) terms: Terms,
    pub(crate) streams: EpochStreams,
    /// The slot after the last one that was named to the kernel ([`crate::ahead`]).
    pub(crate) named: AtomicU64,
    pub(crate) epoch: u64,
}

/// A batch in the making: its memory, and, where its bytes were fetched, the hold on them.
#[derive(Clone)]
pub(crate) struct Making {
    draft: Draft,
    _held: Option<Arc<Hold>>,
}

/// What a worker keeps from batch to batch.
#[derive(Default)]
pub(crate) struct Scratch {
    jpeg: Decoder,
    /// The part of a picture that a batch holds.
    crop: Vec<u8>,
    /// A changed picture that is yet to be normalised.
    planar: Vec<u8>,
    augment: augment::Scratch,
}

impl Job for EpochJob {
    type Item = Batch;
    type Draft = Making;
    type Scratch = Scratch;

    fn parts(&self) -> usize {
        (self.source.plan.rank_batch_size() as usize).div_ceil(PART_SAMPLES)
    }

    fn begin(&self, number: u64) -> Result<Making> {
        let source = &self.source;
        let held = self.fetched.as_ref().map(|fetched| fetched.hold(number)).transpose()?;
        Ok(Making { draft: source.pool.take(|| source.new_draft()), _held: held.map(Arc::new) })
    }

    fn fill(&self, number: u64, making: &Making, part: usize, scratch: &mut Scratch) -> Result<()> {
        let source = &self.source;
        let planned = source.plan.batch(number);
        let first = (part * PART_SAMPLES) as u64;
        let end = planned.len.min(first + PART_SAMPLES as u64);
        let mut lent = making.draft.lend(part).expect("each part is made once");
        for place in first..end {
            let sample = source.sequence.sample(&self.samples, planned.position(place))?;
            if place == first && self.fetched.is_none() {
                self.read_ahead(number, place, sample);
            }
            self.add(sample, (place - first) as usize, &mut lent, scratch)?;
        }
        self.record(number, (first, end), &mut lent)
    }

    fn finish(&self, number: u64, making: Making) -> Result<Batch> {
        let source = &self.source;
        let image = source.store.image();
        let sides = (image.height as usize, image.width as usize);
        let filled = making.draft.finish().expect("its workers are done with it");
        let planned = source.plan.batch(number);
        Ok(Batch::new(filled, Arc::clone(&source.pool), planned, (self.epoch, number), sides))
    }

    fn give_up(&self, making: Making) {
        if let Some(filled) = making.draft.finish() {
            self.source.pool.give_back(filled);
        }
    }

    fn stop(&self) {
        if let Some(fetched) = &self.fetched {
            fetched.stop();
        }
    }
}

impl EpochJob {
    /// Sees to it that the samples from a chunk on are on their way, where they lie on a disk.
    fn read_ahead(&self, number: u64, place: u64, sample: u64) {
        let source = &self.source;
        let batch_size = source.plan.rank_batch_size();
        let batch = number * batch_size;
        if !source.ahead.is_cold() {
            if !source.ahead.waits_for(&source.store, sample) {
                return;
            }
            // Other workers may be some batches behind.
            let behind = batch_size.saturating_mul(source.config.threads as u64);
            self.named.fetch_max(batch.saturating_sub(behind), Relaxed);
        }
        let end = source.plan.batch_count() * batch_size;
        let mut extra = 0;
        while let Some(first) = source.ahead.claim(&self.named, batch + place, &mut extra) {
            let slots = first..first.saturating_add(CHUNK_SAMPLES).min(end);
            let samples = slots.map_while(|slot| {
                let position = source.plan.batch(slot / batch_size).position(slot % batch_size);
                source.sequence.sample(&self.samples, position).ok()
            });
            source.ahead.name(&source.store, samples);
        }
    }

    /// What a part of a batch adds to the history: its own samples, and of the other ranks' a part as large. Of those only
    /// the keys are read, and where a sample took a damaged one's place, the damaged one's counts.
    fn record(&self, number: u64, (first, end): (u64, u64), part: &mut Part<'_>) -> Result<()> {
        let source = &self.source;
        let planned = source.plan.batch(number);
        let ranks = u64::from(source.config.world.world_size());
        let global = source.plan.global(number);
        let own = planned.first_slot()..planned.first_slot() + planned.valid_count;
        for position in (first..end).flat_map(|place| (0..ranks).map(move |rank| place * ranks + rank)) {
            let position = global.start + position;
            if position >= global.end {
                break;
            }
            if !own.contains(&position) {
                let key = source.planned_key(source.sequence.sample(&self.samples, position)?)?;
                part.text.added.add(&self.terms, position, key);
            }
        }
        for place in first..end.min(planned.valid_count) {
            let (position, entry) = (planned.position(place), (place - first) as usize);
            let key = match part.text.entries[entry].instead_of {
                None => part.text.key(entry),
                Some(sample) => source.planned_key(sample)?,
            };
            let mut added = part.text.added;
            added.add(&self.terms, position, key);
            part.text.added = added;
        }
        Ok(())
    }

    /// Reads a sample, or what takes its place, into its place in a part.
    fn add(&self, sample: u64, place: usize, part: &mut Part<'_>, scratch: &mut Scratch) -> Result<()> {
        let error = match self.read(sample, place, part, scratch) {
            Err(error) if self.source.config.on_corrupt == OnCorrupt::Substitute && error.is_sample() => {
                error
            }
            outcome => return outcome,
        };
        let source = &self.source;
        let mut draws = self.streams.stream(sample, Purpose::Substitute);
        for _ in 0..SUBSTITUTES_MAX {
            part.text.truncate(place);
            let by = source.sequence.neighbour(&source.store, sample, &mut draws);
            let outcome = {
                let _held = self.fetched.as_ref().map(|fetched| fetched.hold_sample(by)).transpose()?;
                self.read(by, place, part, scratch)
            };
            if outcome.is_ok() {
                part.text.entries[place].instead_of = Some(sample);
                let problem = error.to_string();
                source.substitutions.add(Substitution { epoch: self.epoch, sample, by, problem });
                return Ok(());
            }
        }
        Err(error)
    }

    /// Reads a sample into its place in a part; damage and panics come out as errors that name it.
    fn read(&self, sample: u64, place: usize, part: &mut Part<'_>, scratch: &mut Scratch) -> Result<()> {
        let source = &self.source;
        self.fetched.as_ref().map_or(Ok(()), |fetched| fetched.check(sample))?;
        let (shard, number) = source.store.locate(sample)?;
        let mut at = None;
        let read = || {
            let mut clock = Clock::start(source.config.profile.then_some(&source.counters.stages));
            let row = shard.row(number)?;
            at = Some(row);
            self.write_text(sample, &row, part.text);
            let image = source.store.image();
            let sides = (row.height as usize, row.width as usize);
            let size = (image.height as usize, image.width as usize);
            let augment = source.config.augment.as_ref();
            let drawn = augment.map(|augment| augment.draw(&self.streams, sample, sides, size));
            let target = source.target(part, place);
            clock.was(Stage::Rows);
            source.read_pixels(sample, shard, &row, drawn, target, (scratch, &mut clock))
        };
        let outcome = catch_unwind(AssertUnwindSafe(read));
        // Zeros read past a new end of the file explain whatever else came of them.
        shard.check_whole()?;
        outcome.unwrap_or_else(|panic| {
            let message = panic_message(&*panic);
            Err(match at {
                Some(row) => Error::SamplePanic { place: place_of(shard, &row), message },
                None => Error::RowPanic { index: shard.index_path().to_path_buf(), row: number, message },
            })
        })
    }

    fn write_text(&self, sample: u64, row: &Row<'_>, text: &mut Text) {
        let captions = row.captions;
        match self.source.config.captions {
            Captions::All => text.push(sample, row.key, (0..captions.len()).filter_map(|i| captions.get(i))),
            Captions::First => text.push(sample, row.key, captions.get(0).into_iter()),
            Captions::Random => {
                let draw = self.streams.stream(sample, Purpose::Caption).below(captions.len() as u64);
                text.push(sample, row.key, captions.get(draw as usize).into_iter());
            }
        }
    }
}

impl Source {
    /// The key by which the history knows a sample; nothing where its row is damaged and another takes its place.
    pub(crate) fn planned_key(&self, sample: u64) -> Result<&str> {
        match self.store.row(sample) {
            Ok(row) => Ok(row.key),
            Err(error) if self.config.on_corrupt == OnCorrupt::Substitute && error.is_sample() => Ok(""),
            Err(error) => Err(error),
        }
    }

    fn new_draft(&self) -> Draft {
        let kind = match self.config.output {
            Output::U8 => Kind::U8,
            Output::F32(_) => Kind::F32,
        };
        Draft::new(kind, self.plan.rank_batch_size() as usize, self.store.image().pixel_bytes())
    }

    /// The place of a sample in a part.
    fn target<'a>(&self, part: &'a mut Part<'_>, place: usize) -> Target<'a> {
        let values = self.store.image().pixel_bytes();
        let range = place * values..(place + 1) * values;
        let stores = Stores::of_batch(part.batch_bytes);
        let values = match (&mut part.pixels, self.config.output) {
            (PartPixels::U8(pixels), _) => Values::U8(&mut pixels[range]),
            (PartPixels::F32(pixels), Output::F32(normalize)) => {
                Values::F32(&mut pixels[range], normalize.affine())
            }
            (PartPixels::F32(_), Output::U8) => unreachable!("memory is made for the loader's one output"),
        };
        Target { values, stores }
    }

    /// Writes a sample's pixels to their place in a batch, and compares their checksum.
    fn read_pixels(
        &self,
        sample: u64,
        shard: &ShardReader,
        row: &Row<'_>,
        drawn: Option<Drawn>,
        target: Target<'_>,
        (scratch, clock): (&mut Scratch, &mut Clock<'_>),
    ) -> Result<()> {
        if let Some(hook) = &self.hook {
            hook(sample);
        }
        let (header, stored) = shard.image(row)?;
        if clock.runs() {
            touch(stored);
            clock.was(Stage::Read);
        }
        let mut crc = self.must_check(sample).then(|| {
            let mut crc = crc32fast::Hasher::new();
            crc.update(header);
            crc
        });
        let as_stored = drawn.is_none() && self.has_batch_size(row);
        let is_planar = (row.image_format, row.layout) == (ImageFormat::Npy, Layout::Chw);
        if as_stored && is_planar && !clock.runs() {
            write_planar(stored, target, crc.as_mut());
            self.compare(sample, shard, row, crc)?;
        } else {
            // Checked before it is decoded, so that damage is named as damage and not as a JPEG's whim.
            if let Some(crc) = &mut crc {
                crc.update(stored);
            }
            self.compare(sample, shard, row, crc)?;
            clock.was(Stage::Check);
            self.convert(shard, row, stored, drawn, target, (scratch, clock))?;
            clock.was(Stage::Copy);
        }
        self.counters.samples.fetch_add(1, Relaxed);
        self.counters.payload_bytes.fetch_add(row.image.bytes, Relaxed);
        Ok(())
    }

    /// Decodes, cuts and changes a picture where that is due.
    fn convert(
        &self,
        shard: &ShardReader,
        row: &Row<'_>,
        stored: &[u8],
        drawn: Option<Drawn>,
        mut target: Target<'_>,
        (scratch, clock): (&mut Scratch, &mut Clock<'_>),
    ) -> Result<()> {
        let Scratch { jpeg, crop, planar, augment } = scratch;
        let image = self.store.image();
        let (height, width) = (row.height as usize, row.width as usize);
        let (mut pixels, mut layout) = (stored, row.layout);
        if row.image_format == ImageFormat::Jpg {
            // Floats are normalised from a picture that a cache holds, for a row at a time is slower.
            if let (None, true, Values::U8(out)) = (&drawn, self.has_batch_size(row), &mut target.values) {
                decoded(shard, row, jpeg.write(stored, (height, width), out))?;
                clock.was(Stage::Decode);
                return Ok(());
            }
            layout = decoded(shard, row, jpeg.decode(stored, (height, width)))?;
            clock.was(Stage::Decode);
            pixels = jpeg.pixels();
        }
        if let Some(drawn) = drawn {
            let picture = Picture { pixels, layout, height, width };
            let size = (image.height as usize, image.width as usize);
            if let Values::U8(out) = target.values {
                augment::apply(&drawn, picture, size, out, augment);
                clock.was(Stage::Augment);
            } else {
                planar.resize(image.pixel_bytes(), 0);
                augment::apply(&drawn, picture, size, planar, augment);
                clock.was(Stage::Augment);
                write_planar(planar, target, None);
            }
            return Ok(());
        }
        if !self.has_batch_size(row) {
            pixels::crop(pixels, layout, (height, width), image.height as usize, crop);
            pixels = crop;
        }
        match layout {
            Layout::Chw => write_planar(pixels, target, None),
            Layout::Hwc => write_interleaved(pixels, target),
        }
        Ok(())
    }

    /// Whether a picture has a batch's height and width; one with sides of its own may have more along one of them.
    fn has_batch_size(&self, row: &Row<'_>) -> bool {
        let image = self.store.image();
        (row.height, row.width) == (image.height, image.width)
    }

    fn must_check(&self, sample: u64) -> bool {
        match self.config.check {
            Check::Always => true,
            Check::First => !self.checked.contains(sample),
            Check::Never => false,
        }
    }

    fn compare(
        &self,
        sample: u64,
        shard: &ShardReader,
        row: &Row<'_>,
        crc: Option<crc32fast::Hasher>,
    ) -> Result<()> {
        let Some(crc) = crc else { return Ok(()) };
        let found = crc.finalize();
        if found != row.image.crc32 {
            let bytes = shard.payload(row, row.image)?;
            return Err(shard.crc_error(row.key, row.image, bytes, found).into());
        }
        if self.config.check == Check::First {
            self.checked.insert(sample);
        }
        Ok(())
    }
}

/// What was decoded, or why it was not.
fn decoded<T>(
    shard: &ShardReader,
    row: &Row<'_>,
    decoded: std::result::Result<Decoded<T>, DecodeErrors>,
) -> Result<T> {
    match decoded {
        Ok(Decoded::Pixels(pixels)) => Ok(pixels),
        Ok(Decoded::OtherSize(height, width)) => Err(Error::Corrupt {
            place: place_of(shard, row),
            what: "size of the JPEG (height x width)",
            expected: format!("{}x{}", row.height, row.width),
            found: format!("{height}x{width}"),
        }),
        Err(source) => Err(Error::Decode { place: place_of(shard, row), source }),
    }
}

fn place_of(shard: &ShardReader, row: &Row<'_>) -> Box<Place> {
    Box::new(Place {
        shard: shard.tar_path().to_path_buf(),
        key: row.key.to_owned(),
        offset: row.image.offset,
        bytes: row.image.bytes,
    })
}
