//! The first of two passes over inputs that cannot all be at hand. Each input is made ready while the one before it is
//! worked on; its samples are prepared and appended to the spill file of their shards; when all that is synced and
//! recorded, the input may go. A rerun goes on with the first input that is not recorded. The second pass is the packer
//! itself: [`Spilled`] is a source whose pictures are prepared already, so that the bytes are those of one pass.
//!
//! ```text
//! prep-spill/rows.jsonl        a line a sample: its split, id, captions, where its payload lies, or why it is left out;
//!                              after each input a line {"input", "rows", "spill_bytes"}, synced
//! prep-spill/spill-000.bin     payloads of some neighbouring shards, one behind the other
//! prep-spill/input-000000/     what the input itself needs on disk while it is worked on
//! ```

use std::{
    io::{BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};
use shard::{LeftOut, SampleOrder, SourceInfo, place};

use crate::{
    Error, Result, ordered,
    pack::{Counts, PackSettings, Progress},
    pixels::{OriginalSize, Preparer},
    plan::PlanSettings,
    source::{Ids, Listing, LoadError, Loaded, Picture, Reason, Rejection, Source, inputs::Inputs},
};

/// Most spill files: each is an open file.
const SPILLS_MAX: u32 = 256;

/// Prepares and spills all that `inputs` hold into the folder `dir`, or goes on where an earlier run stopped there.
///
/// # Errors
/// What an input says, `TooManyBad`, `Interrupted`, `Io`.
pub fn spill(
    inputs: &dyn Inputs,
    dir: &Path,
    plan: &PlanSettings,
    settings: &PackSettings,
    stop: &AtomicBool,
    progress: &mut dyn Progress,
) -> Result<Spilled> {
    spill_some(inputs, dir, plan, settings, stop, progress, &|_| true)
}

/// The same for samples whose id is `wanted`; the others are listed alone.
///
/// # Errors
/// As [`spill`].
pub(crate) fn spill_some(
    inputs: &dyn Inputs,
    dir: &Path,
    plan: &PlanSettings,
    settings: &PackSettings,
    stop: &AtomicBool,
    progress: &mut dyn Progress,
    wanted: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Spilled> {
    fs_err::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let mut spilled = Spilled::open(inputs.info(), dir, plan)?;
    for input in (0..spilled.inputs).filter(|input| scratch(dir, *input).exists()) {
        finish(inputs, input, dir)?; // stopped just before it
    }
    let names = inputs.names();
    let mut counts = Counts::new(settings.bad_max);
    let is_due = |spilled: &Spilled, input: usize| {
        input < names.len() && plan.rows_needed().is_none_or(|needed| spilled.len() < needed)
    };
    let taking = Taking { seed: plan.seed, settings, wanted, stop };
    let mut ready: Option<Result<Box<dyn Source>>> = None;
    while is_due(&spilled, spilled.inputs) {
        let input = spilled.inputs;
        progress.input(input, names.len(), &names[input]);
        let source = match ready.take() {
            Some(source) => source?,
            None => open(inputs, input, dir)?,
        };
        let listed: usize = source.listings().iter().map(|listing| listing.ids.len()).sum();
        let next = input + 1;
        let more =
            next < names.len() && plan.rows_needed().is_none_or(|needed| spilled.len() + listed < needed);
        let outcome = std::thread::scope(|scope| {
            let opening = more.then(|| scope.spawn(|| open(inputs, next, dir)));
            let worked = spilled
                .take_in(source.as_ref(), &taking, &mut counts, progress)
                .and_then(|()| spilled.record(&names[input]))
                .and_then(|()| finish(inputs, input, dir));
            // What is recorded is safe while the next input is still on its way, and its failure is met in its turn.
            ready = opening.map(|opening| {
                opening.join().unwrap_or_else(|_| {
                    let place = format!("opening {}", names[next]);
                    Err(Error::Worker { place, message: "a panic".to_owned() })
                })
            });
            worked
        });
        outcome?;
    }
    spilled.open_spills()?;
    Ok(spilled)
}

/// What decides which samples of an input are taken in, and how.
struct Taking<'a> {
    seed: u64,
    settings: &'a PackSettings,
    wanted: &'a (dyn Fn(&str) -> bool + Sync),
    stop: &'a AtomicBool,
}

fn scratch(dir: &Path, input: usize) -> PathBuf {
    dir.join(format!("input-{input:06}"))
}

fn open(inputs: &dyn Inputs, input: usize, dir: &Path) -> Result<Box<dyn Source>> {
    let scratch = scratch(dir, input);
    fs_err::create_dir_all(&scratch).map_err(Error::io("create", &scratch))?;
    inputs.open(input, &scratch)
}

/// Ends the work on an input that is recorded.
fn finish(inputs: &dyn Inputs, input: usize, dir: &Path) -> Result<()> {
    let scratch = scratch(dir, input);
    inputs.done(input, &scratch)?;
    fs_err::remove_dir_all(&scratch).map_err(Error::io("remove", &scratch))
}

/// A sample's line.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    split: String,
    id: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Kept(Kept),
    LeftOut(LeftOutRow),
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    spill: u32,
    offset: u64,
    bytes: u64,
    crc32: u32,
    original_height: u32,
    original_width: u32,
    captions: Vec<String>,
    url: Option<String>,
    license: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LeftOutRow {
    reason: String,
    detail: String,
}

/// The line behind an input's samples.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    input: String,
    rows: u64,
    spill_bytes: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Row(Row),
    Done(Done),
}

/// A spill file.
#[derive(Debug)]
struct Spill {
    path: PathBuf,
    file: Option<fs_err::File>,
    bytes: u64,
}

/// Prepared samples, as a source.
#[derive(Debug)]
pub struct Spilled {
    info: SourceInfo,
    shards: u32,
    order: SampleOrder,
    path: PathBuf,
    rows_file: fs_err::File,
    rows_bytes: u64,
    spills: Vec<Spill>,
    listings: Vec<Listing>,
    /// Where each row's line begins and its length, by listing.
    lines: Vec<Vec<(u64, u32)>>,
    /// Inputs that are recorded, and their rows.
    inputs: usize,
    rows_recorded: u64,
}

impl Spilled {
    /// Opens the folder as the last recorded input left it.
    fn open(info: SourceInfo, dir: &Path, plan: &PlanSettings) -> Result<Self> {
        let path = dir.join("rows.jsonl");
        let mut options = fs_err::OpenOptions::new();
        let rows_file = options.create(true).truncate(false).read(true).write(true).open(&path);
        let spill =
            |number: u32| Spill { path: dir.join(format!("spill-{number:03}.bin")), file: None, bytes: 0 };
        let mut spilled = Self {
            info,
            shards: plan.shards,
            order: plan.order,
            rows_file: rows_file.map_err(Error::io("write", &path))?,
            rows_bytes: 0,
            spills: (0..plan.shards.min(SPILLS_MAX)).map(spill).collect(),
            listings: Vec::new(),
            lines: Vec::new(),
            inputs: 0,
            rows_recorded: 0,
            path,
        };
        let lengths = spilled.read_rows()?;
        // Once shards are written from them, spill files go: then no input is due any more.
        let is_packing = dir.parent().is_some_and(|out| out.join("train").is_dir());
        for (spill, length) in spilled.spills.iter_mut().zip(lengths) {
            if !is_packing || spill.path.exists() {
                spill.restore(length)?;
            }
        }
        spilled.rows_recorded = spilled.len() as u64;
        Ok(spilled)
    }

    /// Reads the lines of every recorded input, cuts off what stands behind the last, and gives the lengths that the
    /// spill files had then.
    fn read_rows(&mut self) -> Result<Vec<u64>> {
        let read = Error::io("read", &self.path);
        let file = self.rows_file.try_clone().map_err(read)?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let (mut text, mut position, mut lengths) = (Vec::new(), 0u64, vec![0; self.spills.len()]);
        let mut waiting: Vec<(Row, u64, u32)> = Vec::new();
        loop {
            text.clear();
            let bytes = reader.read_until(b'\n', &mut text).map_err(Error::io("read", &self.path))?;
            if bytes == 0 || !text.ends_with(b"\n") {
                break;
            }
            match serde_json::from_slice(&text) {
                Ok(Line::Row(row)) => waiting.push((row, position, bytes as u32)),
                Ok(Line::Done(done))
                    if done.rows == waiting.len() as u64 && done.spill_bytes.len() == lengths.len() =>
                {
                    for (row, start, length) in waiting.drain(..) {
                        self.list(&row, start, length);
                    }
                    lengths = done.spill_bytes;
                    self.inputs += 1;
                    self.rows_bytes = position + bytes as u64;
                }
                Ok(Line::Done(_)) | Err(_) => break,
            }
            position += bytes as u64;
        }
        let cut = self.rows_file.file().set_len(self.rows_bytes);
        cut.map_err(Error::io("write", &self.path))?;
        Ok(lengths)
    }

    /// Rows of all splits.
    fn len(&self) -> usize {
        self.lines.iter().map(Vec::len).sum()
    }

    fn list(&mut self, row: &Row, start: u64, length: u32) {
        let listing = self.listings.iter().position(|listing| listing.split == row.split);
        let listing = listing.unwrap_or_else(|| {
            self.listings.push(Listing { split: row.split.clone(), ids: Ids::default() });
            self.lines.push(Vec::new());
            self.listings.len() - 1
        });
        self.listings[listing].ids.push(&row.id);
        self.lines[listing].push((start, length));
    }

    /// The spill file of a sample.
    fn spill_of(&self, seed: u64, id: &str) -> u32 {
        self.spill_of_shard(place::shard_of(place::hash128(seed, id), self.shards))
    }

    fn spill_of_shard(&self, shard: u32) -> u32 {
        (u64::from(shard) * self.spills.len() as u64 / u64::from(self.shards)) as u32
    }

    /// Prepares and spills every sample of an input; nothing of it counts before [`record`](Self::record).
    fn take_in(
        &mut self,
        source: &dyn Source,
        taking: &Taking<'_>,
        counts: &mut Counts,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let Taking { seed, settings, wanted, stop } = *taking;
        let listings = source.listings();
        let places: Vec<(usize, usize)> = (0..listings.len())
            .flat_map(|listing| (0..listings[listing].ids.len()).map(move |row| (listing, row)))
            .collect();
        self.rows_file.seek(SeekFrom::Start(self.rows_bytes)).map_err(Error::io("write", &self.path))?;
        let rows_file = self.rows_file.try_clone().map_err(Error::io("write", &self.path))?;
        let mut rows = BufWriter::with_capacity(1 << 20, rows_file);
        let path = self.path.clone();
        ordered::for_each(
            places.len(),
            settings.threads,
            8 * settings.threads,
            || Preparer::new(&settings.pixels),
            |preparer, position| {
                let (listing, row) = places[position];
                if !wanted(listings[listing].ids.get(row)) {
                    return Err(Rejection::new(Reason::BadEntry, "not wanted").into());
                }
                let mut loaded = source.load(listing, row, settings.pixels.image.height)?;
                settings.captions.apply(&mut loaded.captions);
                let mut payload = Vec::new();
                let original = preparer.prepare(&loaded.picture, &mut payload)?;
                Ok::<_, LoadError>((loaded, original, payload))
            },
            |position, prepared| {
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                let (listing, row) = places[position];
                let (split, id) =
                    (listings[listing].split.clone(), listings[listing].ids.get(row).to_owned());
                let outcome = match prepared {
                    Ok((loaded, original, payload)) => {
                        counts.add(None);
                        let spill = self.spill_of(seed, &id);
                        Outcome::Kept(self.keep(spill, loaded, original, &payload)?)
                    }
                    Err(LoadError::LeftOut(Rejection { reason, detail })) => {
                        let reason = reason.name().to_owned();
                        let (source_id, detail_too) = (id.clone(), detail.clone());
                        counts.add(Some(&LeftOut { source_id, reason: reason.clone(), detail: detail_too }));
                        Outcome::LeftOut(LeftOutRow { reason, detail })
                    }
                    Err(LoadError::Failed(error)) => return Err(error),
                };
                counts.check()?;
                let row = Row { split, id, outcome };
                let mut text = serde_json::to_vec(&row).expect("texts and numbers");
                text.push(b'\n');
                rows.write_all(&text).map_err(Error::io("write", &path))?;
                self.list(&row, self.rows_bytes, text.len() as u32);
                self.rows_bytes += text.len() as u64;
                progress.packed(self.len() as u64);
                Ok(())
            },
        )?;
        rows.flush().map_err(Error::io("write", &self.path))
    }

    fn keep(&mut self, spill: u32, loaded: Loaded, original: OriginalSize, payload: &[u8]) -> Result<Kept> {
        let Loaded { captions, url, license, .. } = loaded;
        Ok(Kept {
            offset: self.spills[spill as usize].append(payload)?,
            spill,
            bytes: payload.len() as u64,
            crc32: crc32fast::hash(payload),
            original_height: original.height,
            original_width: original.width,
            captions,
            url,
            license,
        })
    }

    /// Makes an input's samples last: payloads first, then their lines, then the line that says so.
    fn record(&mut self, name: &str) -> Result<()> {
        for spill in &self.spills {
            if let Some(file) = &spill.file {
                file.file().sync_data().map_err(Error::io("sync", &spill.path))?;
            }
        }
        let write = || Error::io("write", &self.path);
        self.rows_file.file().sync_data().map_err(write())?;
        let done = Done {
            input: name.to_owned(),
            rows: self.len() as u64 - self.rows_recorded,
            spill_bytes: self.spills.iter().map(|spill| spill.bytes).collect(),
        };
        let mut text = serde_json::to_vec(&done).expect("texts and numbers");
        text.push(b'\n');
        self.rows_file.file().write_all_at(&text, self.rows_bytes).map_err(write())?;
        self.rows_file.file().sync_data().map_err(write())?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        fs_err::File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))?;
        self.rows_bytes += text.len() as u64;
        self.rows_recorded = self.len() as u64;
        self.inputs += 1;
        Ok(())
    }
}

impl Spill {
    /// Brings the file back to the length that was recorded.
    fn restore(&mut self, length: u64) -> Result<()> {
        self.bytes = length;
        let there = fs_err::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if there < length {
            let (path, problem) = (self.path.clone(), format!("{there} bytes, but {length} were recorded"));
            let problem = format!("{problem}: it was cut; remove the output folder and start over");
            return Err(Error::Output { path, problem });
        }
        if there > length {
            self.open()?.file().set_len(length).map_err(Error::io("write", &self.path))?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<&fs_err::File> {
        if self.file.is_none() {
            let mut options = fs_err::OpenOptions::new();
            let file = options.create(true).truncate(false).read(true).write(true).open(&self.path);
            self.file = Some(file.map_err(Error::io("write", &self.path))?);
        }
        Ok(self.file.as_ref().expect("just opened"))
    }

    /// Appends a payload and gives the place where it begins.
    fn append(&mut self, payload: &[u8]) -> Result<u64> {
        let offset = self.bytes;
        self.open()?.file().write_all_at(payload, offset).map_err(Error::io("write", &self.path))?;
        self.bytes += payload.len() as u64;
        Ok(offset)
    }
}

impl Spilled {
    /// Opens every spill file for reading, once the last input is in.
    fn open_spills(&mut self) -> Result<()> {
        self.spills
            .iter_mut()
            .filter(|spill| spill.path.exists())
            .try_for_each(|spill| spill.open().map(|_| ()))
    }

    fn row(&self, listing: usize, row: usize) -> Result<Row> {
        let (start, length) = self.lines[listing][row];
        let mut text = vec![0; length as usize];
        self.rows_file.file().read_exact_at(&mut text, start).map_err(Error::io("read", &self.path))?;
        serde_json::from_slice(&text).map_err(|source| Error::Parse {
            path: self.path.clone(),
            what: "a damaged line (remove the output folder and start over)",
            source: source.into(),
        })
    }

    fn payload(&self, kept: &Kept) -> Result<Vec<u8>> {
        let spill = &self.spills[kept.spill as usize];
        let damaged = |problem: &str| Error::Output {
            path: spill.path.clone(),
            problem: format!(
                "{problem} at byte {}, {} bytes; remove the output folder and start over",
                kept.offset, kept.bytes
            ),
        };
        let Some(file) = &spill.file else { return Err(damaged("the file is gone")) };
        if kept.offset.checked_add(kept.bytes).is_none_or(|end| end > spill.bytes) {
            return Err(damaged("a payload beyond its end"));
        }
        let mut payload = vec![0; kept.bytes as usize];
        file.file().read_exact_at(&mut payload, kept.offset).map_err(Error::io("read", &spill.path))?;
        if crc32fast::hash(&payload) != kept.crc32 {
            return Err(damaged("a payload with another CRC-32"));
        }
        Ok(payload)
    }
}

impl Source for Spilled {
    fn info(&self) -> SourceInfo {
        self.info.clone()
    }

    fn listings(&self) -> &[Listing] {
        &self.listings
    }

    fn load(&self, listing: usize, row: usize, _size: u32) -> Result<Loaded, LoadError> {
        match self.row(listing, row)?.outcome {
            Outcome::Kept(kept) => {
                let original = OriginalSize { height: kept.original_height, width: kept.original_width };
                let picture = Picture::Stored(self.payload(&kept)?, original);
                Ok(Loaded { picture, captions: kept.captions, url: kept.url, license: kept.license })
            }
            Outcome::LeftOut(LeftOutRow { reason, detail }) => {
                let reason = Reason::from_name(&reason).unwrap_or(Reason::BadEntry);
                Err(Rejection { reason, detail }.into())
            }
        }
    }

    /// Spill files go as train's shards are written from them; the other splits are there by then.
    fn written(&self, split: &str, shard: u32) -> Result<()> {
        if split != "train" || self.order != SampleOrder::Shuffled {
            return Ok(());
        }
        let next =
            if shard + 1 < self.shards { self.spill_of_shard(shard + 1) } else { self.spills.len() as u32 };
        for spill in &self.spills[..next as usize] {
            if spill.path.exists() {
                fs_err::remove_file(&spill.path).map_err(Error::io("remove", &spill.path))?;
            }
        }
        Ok(())
    }
}
