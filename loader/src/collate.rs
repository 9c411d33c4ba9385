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
    batch::Batch,
    buffer::{Aligned, Buffer, PixelBuffer, Pool},
    config::{Captions, Check, LoaderConfig, Output},
    decode::{Decoded, decode},
    error::{Error, Place, Result, panic_message},
    history::{Added, Terms},
    order::Order,
    pixels::{self, Target, write_interleaved, write_planar},
    plan::Plan,
    prefetch::Job,
    rng::{EpochStreams, Purpose},
    sequence::{EpochSamples, Sequence},
    state::Identity,
    stats::Counters,
    store::Store,
};

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
    pub(crate) hook: Option<Hook>,
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
    pub(crate) source: Arc<Source>,
    pub(crate) samples: EpochSamples,
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
        for (place, position) in planned.positions().enumerate() {
            let sample = source.sequence.sample(&self.samples, position)?;
            self.add(sample, place, buffer, scratch)?;
        }
        let added = self.record(number, &batch)?;
        batch.set_added(added);
        Ok(batch)
    }
}

impl EpochJob {
    /// What a batch, of all ranks, adds to the history: of the other ranks' samples only the keys are read.
    fn record(&self, number: u64, batch: &Batch) -> Result<Added> {
        let source = &self.source;
        let first = source.plan.batch(number).first_slot();
        let mut added = Added::default();
        for position in source.plan.global(number) {
            let place = position.checked_sub(first).filter(|&place| place < batch.valid_count() as u64);
            match place {
                Some(place) => added.add(&self.terms, position, batch.key(place as usize)),
                None => {
                    let sample = source.sequence.sample(&self.samples, position)?;
                    added.add(&self.terms, position, source.store.row(sample)?.key);
                }
            }
        }
        Ok(added)
    }

    /// Reads a sample into its place in a batch; damage and panics come out as errors that name it.
    fn add(&self, sample: u64, place: usize, buffer: &mut Buffer, scratch: &mut Scratch) -> Result<()> {
        let source = &self.source;
        let (shard, number) = source.store.locate(sample)?;
        let mut at = None;
        let read = || {
            let row = shard.row(number)?;
            at = Some(row);
            self.write_text(sample, &row, buffer);
            source.read_pixels(sample, shard, &row, place, &mut buffer.pixels, scratch)
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
    fn new_buffer(&self) -> Buffer {
        let values = self.plan.rank_batch_size() as usize * self.store.image().pixel_bytes();
        Buffer::new(match self.config.output {
            Output::U8 => PixelBuffer::U8(Aligned::new(values)),
            Output::F32(_) => PixelBuffer::F32(Aligned::new(values)),
        })
    }

    /// Writes a sample's pixels to their place in a batch, and compares their checksum.
    fn read_pixels(
        &self,
        sample: u64,
        shard: &ShardReader,
        row: &Row<'_>,
        place: usize,
        pixels: &mut PixelBuffer,
        scratch: &mut Scratch,
    ) -> Result<()> {
        if let Some(hook) = &self.hook {
            hook(sample);
        }
        let values = self.store.image().pixel_bytes();
        let range = place * values..(place + 1) * values;
        let target = match (pixels, self.config.output) {
            (PixelBuffer::U8(pixels), _) => Target::U8(&mut pixels.get_mut()[range]),
            (PixelBuffer::F32(pixels), Output::F32(normalize)) => {
                Target::F32(&mut pixels.get_mut()[range], normalize.affine())
            }
            (PixelBuffer::F32(_), Output::U8) => unreachable!("buffers are made for the loader's one output"),
        };
        let (header, stored) = shard.image(row)?;
        let mut crc = self.must_check(sample).then(|| {
            let mut crc = crc32fast::Hasher::new();
            crc.update(header);
            crc
        });
        let image = self.store.image();
        if !image.varies() && (row.image_format, row.layout) == (ImageFormat::Npy, Layout::Chw) {
            write_planar(stored, target, crc.as_mut());
            self.compare(sample, shard, row, crc)?;
        } else {
            // Checked before it is decoded, so that damage is named as damage and not as a JPEG's whim.
            if let Some(crc) = &mut crc {
                crc.update(stored);
            }
            self.compare(sample, shard, row, crc)?;
            let Scratch { rgb, crop } = scratch;
            let mut pixels = stored;
            if row.image_format == ImageFormat::Jpg {
                decode_into(shard, row, stored, rgb)?;
                pixels = rgb;
            }
            if image.varies() {
                let sides = (row.height as usize, row.width as usize);
                pixels::crop(pixels, row.layout, sides, image.height as usize, crop);
                pixels = crop;
            }
            match row.layout {
                Layout::Chw => write_planar(pixels, target, None),
                Layout::Hwc => write_interleaved(pixels, target),
            }
        }
        self.counters.samples.fetch_add(1, Relaxed);
        self.counters.payload_bytes.fetch_add(row.image.bytes, Relaxed);
        Ok(())
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
