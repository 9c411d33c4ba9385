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

use crate::{
    augment::{self, Drawn, Picture},
    batch::Batch,
    buffer::{Aligned, Buffer, PixelBuffer, Pool},
    config::{Captions, Check, LoaderConfig, OnCorrupt, Output},
    decode::{Decoded, decode},
    error::{Error, Place, Result, panic_message},
    history::{Added, Terms},
    order::Order,
    pixels::{self, Target, Values, simd::Stores, write_interleaved, write_planar},
    plan::Plan,
    prefetch::Job,
    remote::{Remote, Session},
    rng::{EpochStreams, Purpose},
    sequence::{EpochSamples, Sequence},
    stages::{Clock, Stage, touch},
    state::Identity,
    stats::Counters,
    store::Store,
    substitute::{Substitution, Substitutions},
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
    pub(crate) epoch: u64,
}

/// What a worker keeps from batch to batch.
#[derive(Default)]
pub(crate) struct Scratch {
    /// A decoded JPEG.
    rgb: Vec<u8>,
    /// The part of a picture that a batch holds.
    crop: Vec<u8>,
    /// A changed picture that is yet to be normalised.
    planar: Vec<u8>,
    augment: augment::Scratch,
}

impl Job for EpochJob {
    type Item = Batch;
    type Scratch = Scratch;

    fn make(&self, number: u64, scratch: &mut Scratch) -> Result<Batch> {
        let source = &self.source;
        let planned = source.plan.batch(number);
        let image = source.store.image();
        let (height, width) = (image.height as usize, image.width as usize);
        let buffer = source.pool.take(|| source.new_buffer());
        // From here on the buffer goes back to the pool by itself, on an error too.
        let mut batch =
            Batch::new(buffer, Arc::clone(&source.pool), planned, (self.epoch, number), (height, width));
        let buffer = batch.buffer_mut();
        let _held = self.fetched.as_ref().map(|fetched| fetched.hold(number)).transpose()?;
        for (place, position) in planned.positions().enumerate() {
            let sample = source.sequence.sample(&self.samples, position)?;
            self.add(sample, place, buffer, scratch)?;
        }
        let added = self.record(number, &batch)?;
        batch.set_added(added);
        Ok(batch)
    }

    fn stop(&self) {
        if let Some(fetched) = &self.fetched {
            fetched.stop();
        }
    }
}

impl EpochJob {
    /// What a batch, of all ranks, adds to the history: of the other ranks' samples only the keys are read, and where
    /// one took a damaged one's place, the damaged one's counts.
    fn record(&self, number: u64, batch: &Batch) -> Result<Added> {
        let source = &self.source;
        let first = source.plan.batch(number).first_slot();
        let mut added = Added::default();
        for position in source.plan.global(number) {
            let place = position.checked_sub(first).filter(|&place| place < batch.valid_count() as u64);
            let key = match place.map(|place| place as usize) {
                Some(place) if batch.instead_of(place).is_none() => batch.key(place),
                _ => source.planned_key(source.sequence.sample(&self.samples, position)?)?,
            };
            added.add(&self.terms, position, key);
        }
        Ok(added)
    }

    /// Reads a sample, or what takes its place, into its place in a batch.
    fn add(&self, sample: u64, place: usize, buffer: &mut Buffer, scratch: &mut Scratch) -> Result<()> {
        let error = match self.read(sample, place, buffer, scratch) {
            Err(error) if self.source.config.on_corrupt == OnCorrupt::Substitute && error.is_sample() => {
                error
            }
            outcome => return outcome,
        };
        let source = &self.source;
        let mut draws = self.streams.stream(sample, Purpose::Substitute);
        for _ in 0..SUBSTITUTES_MAX {
            buffer.truncate(place);
            let by = source.sequence.neighbour(&source.store, sample, &mut draws);
            let outcome = {
                let _held = self.fetched.as_ref().map(|fetched| fetched.hold_sample(by)).transpose()?;
                self.read(by, place, buffer, scratch)
            };
            if outcome.is_ok() {
                buffer.entries[place].instead_of = Some(sample);
                let problem = error.to_string();
                source.substitutions.add(Substitution { epoch: self.epoch, sample, by, problem });
                return Ok(());
            }
        }
        Err(error)
    }

    /// Reads a sample into its place in a batch; damage and panics come out as errors that name it.
    fn read(&self, sample: u64, place: usize, buffer: &mut Buffer, scratch: &mut Scratch) -> Result<()> {
        let source = &self.source;
        self.fetched.as_ref().map_or(Ok(()), |fetched| fetched.check(sample))?;
        let (shard, number) = source.store.locate(sample)?;
        let mut at = None;
        let read = || {
            let mut clock = Clock::start(source.config.profile.then_some(&source.counters.stages));
            let row = shard.row(number)?;
            at = Some(row);
            self.write_text(sample, &row, buffer);
            let image = source.store.image();
            let sides = (row.height as usize, row.width as usize);
            let size = (image.height as usize, image.width as usize);
            let augment = source.config.augment.as_ref();
            let drawn = augment.map(|augment| augment.draw(&self.streams, sample, sides, size));
            let target = source.target(&mut buffer.pixels, place);
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

    fn write_text(&self, sample: u64, row: &Row<'_>, buffer: &mut Buffer) {
        let captions = row.captions;
        match self.source.config.captions {
            Captions::All => {
                buffer.push(sample, row.key, (0..captions.len()).filter_map(|i| captions.get(i)))
            }
            Captions::First => buffer.push(sample, row.key, captions.get(0).into_iter()),
            Captions::Random => {
                let draw = self.streams.stream(sample, Purpose::Caption).below(captions.len() as u64);
                buffer.push(sample, row.key, captions.get(draw as usize).into_iter());
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

    fn new_buffer(&self) -> Buffer {
        let values = self.plan.rank_batch_size() as usize * self.store.image().pixel_bytes();
        Buffer::new(match self.config.output {
            Output::U8 => PixelBuffer::U8(Aligned::new(values)),
            Output::F32(_) => PixelBuffer::F32(Aligned::new(values)),
        })
    }

    /// The place of a sample in a batch.
    fn target<'a>(&self, pixels: &'a mut PixelBuffer, place: usize) -> Target<'a> {
        let values = self.store.image().pixel_bytes();
        let range = place * values..(place + 1) * values;
        let stores = Stores::of_batch(pixels.bytes());
        let values = match (pixels, self.config.output) {
            (PixelBuffer::U8(pixels), _) => Values::U8(&mut pixels.get_mut()[range]),
            (PixelBuffer::F32(pixels), Output::F32(normalize)) => {
                Values::F32(&mut pixels.get_mut()[range], normalize.affine())
            }
            (PixelBuffer::F32(_), Output::U8) => unreachable!("buffers are made for the loader's one output"),
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
        target: Target<'_>,
        (scratch, clock): (&mut Scratch, &mut Clock<'_>),
    ) -> Result<()> {
        let Scratch { rgb, crop, planar, augment } = scratch;
        let mut pixels = stored;
        if row.image_format == ImageFormat::Jpg {
            decode_into(shard, row, stored, rgb)?;
            clock.was(Stage::Decode);
            pixels = rgb;
        }
        let image = self.store.image();
        let (height, width) = (row.height as usize, row.width as usize);
        if let Some(drawn) = drawn {
            let picture = Picture { pixels, layout: row.layout, height, width };
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
            pixels::crop(pixels, row.layout, (height, width), image.height as usize, crop);
            pixels = crop;
        }
        match row.layout {
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

fn decode_into(shard: &ShardReader, row: &Row<'_>, jpeg: &[u8], rgb: &mut Vec<u8>) -> Result<()> {
    match decode(jpeg, row.height as usize, row.width as usize, rgb) {
        Ok(Decoded::Pixels) => Ok(()),
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
