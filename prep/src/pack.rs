//! The main job: a planned source → shards and manifest. Pictures are read and resized on every core, written in
//! order by one thread, so that the bytes do not depend on the number of threads. The manifest comes last: a folder
//! without it is unfinished. It leaves out what the user is shown.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use shard::{
    LeftOut, Manifest, Sample, SampleMeta, SampleOrder, ShardEntry, ShardWriter, SplitEntry,
    manifest::{LEFT_OUT_LISTED_MAX, MANIFEST_NAME},
};

use crate::{
    Error, Result, ordered,
    pixels::{OriginalSize, PixelSettings, Preparer},
    plan::{Place, Plan, SplitPlan},
    source::{Loaded, Rejection, Source},
};

/// Marks a folder in which prep is at work, or was stopped. Its content is the settings of that run.
pub const MARKER_NAME: &str = "prep-unfinished.json";

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
}

/// Where a run stands, told after each sample.
pub trait Progress {
    /// `done` samples of all are packed.
    fn packed(&mut self, done: usize);
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The data set was written.
    Written(Manifest),
    /// The same data set was there already.
    AlreadyThere(Manifest),
}

/// Packs a planned source. `stop` is looked at between samples.
///
/// # Errors
/// `Output` where the folder holds something else, `NoSamples`, `Interrupted`, `Io`, `Shard`, `Worker`. Whatever
/// happens, no manifest stands beside unfinished shards.
pub fn pack(
    source: &dyn Source,
    plan: &Plan,
    settings: &PackSettings,
    stop: &AtomicBool,
    progress: &mut dyn Progress,
) -> Result<Outcome> {
    let mut manifest = Manifest {
        program: concat!("prep ", env!("CARGO_PKG_VERSION")).to_owned(),
        engine: settings.pixels.engine(),
        source: source.info(),
        selection: settings.selection.clone(),
        seed: settings.seed,
        order: settings.order,
        ..Manifest::of(settings.pixels.image.clone(), Vec::new())
    };
    let output = match Output::claim(&settings.out, &manifest, plan)? {
        Claim::Finished(manifest) => return Ok(Outcome::AlreadyThere(*manifest)),
        Claim::Claimed(output) => output,
    };
    let mut done = 0;
    for split in &plan.splits {
        let packer = Packer { source, plan, split, settings, stop };
        manifest.splits.push(packer.run(&mut done, progress)?);
    }
    if manifest.splits.first().is_none_or(|train| train.samples == 0) {
        output.abandon()?;
        let source_name = manifest.source.name;
        return Err(Error::NoSamples { source_name, reasons: reasons(&manifest.splits) });
    }
    manifest.splits.retain(|split| split.name == "train" || split.samples > 0);
    output.finish(&mut manifest)?;
    Ok(Outcome::Written(manifest))
}

fn reasons(splits: &[SplitEntry]) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, count) in splits.iter().flat_map(|split| &split.left_out_counts) {
        *counts.entry(reason).or_default() += count;
    }
    let first = splits.iter().flat_map(|split| &split.left_out).next();
    let first =
        first.map(|left| format!(" (such as {}: {})", left.source_id, left.detail)).unwrap_or_default();
    let counts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!("{}{first}", counts.join(", "))
}

/// A sample with its pixels, or the reason why not.
type Prepared = Result<(Loaded, OriginalSize, Vec<u8>), Rejection>;

struct Packer<'a> {
    source: &'a dyn Source,
    plan: &'a Plan,
    split: &'a SplitPlan,
    settings: &'a PackSettings,
    stop: &'a AtomicBool,
}

impl Packer<'_> {
    fn run(&self, done: &mut usize, progress: &mut dyn Progress) -> Result<SplitEntry> {
        let dir = self.settings.out.join(&self.split.name);
        fs_err::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let mut entry = SplitEntry::of(&self.split.name, Vec::new());
        for left_out in &self.split.left_out {
            leave_out(&mut entry, left_out.clone());
        }
        let threads = self.settings.threads.max(1);
        let mut writer: Option<ShardWriter> = None;
        ordered::for_each(
            self.split.places.len(),
            threads,
            // A few waiting pictures a thread even out slow and fast ones; 150 kB each.
            8 * threads,
            || Preparer::new(&self.settings.pixels),
            |preparer, position| self.prepare(&self.split.places[position], preparer),
            |position, prepared| {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                let place = &self.split.places[position];
                self.open_shard(&mut writer, &mut entry.shards, place.shard, &dir)?;
                self.append(writer.as_mut().expect("just opened"), place, prepared, &mut entry)?;
                *done += 1;
                progress.packed(*done);
                Ok(())
            },
        )?;
        self.open_shard(&mut writer, &mut entry.shards, self.split.shards, &dir)?;
        entry.samples = entry.shards.iter().map(|shard| shard.samples).sum();
        Ok(entry)
    }

    fn prepare(&self, place: &Place, preparer: &mut Preparer) -> Prepared {
        let size = self.settings.pixels.image.height;
        let loaded = self.source.load(place.listing, place.row, size)?;
        let mut payload = Vec::new();
        let original = preparer.prepare(&loaded.picture, &mut payload)?;
        Ok((loaded, original, payload))
    }

    /// Commits shards below `due` and opens `due`, unless it is past the last.
    fn open_shard(
        &self,
        writer: &mut Option<ShardWriter>,
        committed: &mut Vec<ShardEntry>,
        due: u32,
        dir: &Path,
    ) -> Result<()> {
        while (committed.len() as u32) < due {
            let number = committed.len() as u32;
            let finished = match writer.take() {
                Some(writer) => writer,
                // A shard without samples is written too: the number of shards is part of the placement.
                None => ShardWriter::create(dir, number, &self.settings.pixels.image)?,
            };
            committed.push(finished.commit()?);
        }
        if writer.is_none() && due < self.split.shards {
            *writer = Some(ShardWriter::create(dir, due, &self.settings.pixels.image)?);
        }
        Ok(())
    }

    fn append(
        &self,
        writer: &mut ShardWriter,
        place: &Place,
        prepared: Prepared,
        entry: &mut SplitEntry,
    ) -> Result<()> {
        let id = &self.source.listings()[place.listing].ids[place.row];
        match prepared {
            Ok((loaded, original, payload)) => {
                let meta = SampleMeta {
                    key: self.plan.key(id),
                    source_id: id.clone(),
                    source_row: place.row as u64,
                    captions: loaded.captions,
                    original_height: original.height,
                    original_width: original.width,
                    url: loaded.url,
                    license: loaded.license,
                };
                Ok(writer.append(&Sample { meta: &meta, image: &payload })?)
            }
            Err(Rejection { reason, detail }) => {
                leave_out(entry, LeftOut { source_id: id.clone(), reason: reason.name().to_owned(), detail });
                Ok(())
            }
        }
    }
}

/// Counts a sample that is left out, and names it while there is room.
fn leave_out(entry: &mut SplitEntry, left_out: LeftOut) {
    *entry.left_out_counts.entry(left_out.reason.clone()).or_default() += 1;
    if entry.left_out.len() < LEFT_OUT_LISTED_MAX {
        entry.left_out.push(left_out);
    }
}

enum Claim {
    Claimed(Output),
    Finished(Box<Manifest>),
}

/// The output folder, claimed by this run: marked as unfinished, and locked against a second run.
struct Output {
    dir: PathBuf,
    marker: PathBuf,
    /// Held until the run ends.
    _lock: fs_err::File,
}

impl Output {
    /// Claims the folder: a new one, an empty one, or one that prep left unfinished, whose remains are removed.
    fn claim(dir: &Path, manifest: &Manifest, plan: &Plan) -> Result<Claim> {
        let foreign = |problem: String| Error::Output { path: dir.to_path_buf(), problem };
        fs_err::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let marker = dir.join(MARKER_NAME);
        let unfinished = marker.exists();
        if dir.join(MANIFEST_NAME).exists() {
            let there = Manifest::read(dir)?;
            if same_job(&there, manifest, plan) {
                if unfinished {
                    // Stopped between the manifest and the end: nothing is missing.
                    fs_err::remove_file(&marker).map_err(Error::io("remove", &marker))?;
                }
                return Ok(Claim::Finished(Box::new(there)));
            }
            return Err(foreign(
                "it holds a data set made from another source or with other options; \
                 give another --out, or remove the folder"
                    .to_owned(),
            ));
        }
        let remains = remains(dir)?;
        if !remains.is_empty() && !unfinished {
            let name = remains[0].strip_prefix(dir).unwrap_or(&remains[0]).display();
            return Err(foreign(format!(
                "it holds {name}, which prep did not leave there; give another --out, or remove it"
            )));
        }
        let mut lock = fs_err::OpenOptions::new();
        let lock = lock
            .create(true)
            .truncate(false)
            .write(true)
            .open(&marker)
            .map_err(Error::io("write", &marker))?;
        if lock.file().try_lock().is_err() {
            return Err(foreign("another prep is writing it".to_owned()));
        }
        lock.file().set_len(0).map_err(Error::io("write", &marker))?;
        let settings = serde_json::to_vec_pretty(manifest).expect("maps with text keys");
        (&lock).write_all(&settings).map_err(Error::io("write", &marker))?;
        for path in remains {
            fs_err::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(Claim::Claimed(Self { dir: dir.to_path_buf(), marker, _lock: lock }))
    }

    fn finish(self, manifest: &mut Manifest) -> Result<()> {
        manifest.write(&self.dir)?;
        fs_err::remove_file(&self.marker).map_err(Error::io("remove", &self.marker))
    }

    /// Removes what a run that cannot become a data set has written.
    fn abandon(self) -> Result<()> {
        for path in remains(&self.dir)? {
            fs_err::remove_file(&path).map_err(Error::io("remove", &path))?;
            // Only a folder that this leaves empty goes too.
            let _ = path.parent().map(fs_err::remove_dir);
        }
        fs_err::remove_file(&self.marker).map_err(Error::io("remove", &self.marker))
    }
}

/// Whether a finished data set is what this run would write.
fn same_job(there: &Manifest, due: &Manifest, plan: &Plan) -> bool {
    let shards =
        |name: &str| there.splits.iter().find(|split| split.name == name).map(|split| split.shards.len());
    (&there.source, there.seed, there.order, &there.image, &there.engine, &there.selection)
        == (&due.source, due.seed, due.order, &due.image, &due.engine, &due.selection)
        && plan
            .splits
            .iter()
            .all(|split| shards(&split.name).is_none_or(|count| count == split.shards as usize))
        && shards("train") == plan.splits.first().map(|split| split.shards as usize)
}

/// Shard files and their temporary files in the folders of a data set: all that prep itself leaves.
fn remains(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for split in ["train", "val", "test"] {
        let dir = dir.join(split);
        if !dir.is_dir() {
            continue;
        }
        for entry in fs_err::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let path = entry.map_err(Error::io("list", &dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let temporary = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
            if is_shard_file(temporary.unwrap_or(&name)) && path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// `shard-NNNNNN.tar`, `shard-NNNNNN.arrow`.
fn is_shard_file(name: &str) -> bool {
    let stem = name.strip_suffix(".tar").or_else(|| name.strip_suffix(".arrow"));
    let digits = stem.and_then(|stem| stem.strip_prefix("shard-"));
    digits.is_some_and(|digits| digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}
