//! The output folder of a run: claimed, marked as unfinished, locked against a second run, and continued where an
//! earlier run of the same job stopped. It leaves out what is written into it.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use shard::{
    Key, LeftOut, Manifest, NewFile,
    manifest::{MANIFEST_NAME, shard_name},
};

use crate::{
    Error, Result,
    ledger::{Ledger, Line},
};

/// Marks a folder in which prep is at work, or was stopped. Its content is the job of that run.
pub const MARKER_NAME: &str = "prep-unfinished.json";

/// Names every sample that was left out: split, key, source id, reason, detail.
pub const LEFT_OUT_NAME: &str = "left-out.jsonl";

/// The finished shards of an unfinished run.
const LEDGER_NAME: &str = "prep-unfinished.jsonl";

/// Holds prepared samples of inputs that cannot all be at hand.
pub(crate) const SPILL_NAME: &str = "prep-spill";

/// What came of claiming a folder.
pub enum Claim {
    /// It is this run's.
    Claimed(Output),
    /// The same data set is there already.
    Finished(Box<Manifest>),
}

/// A claimed folder.
pub struct Output {
    dir: PathBuf,
    marker: PathBuf,
    ledger: Ledger,
    finished: Vec<Line>,
    /// Held until the run ends.
    _lock: fs_err::File,
}

impl Output {
    /// Claims `dir` for the job that `manifest` (without splits) and the number of train's shards describe: a new
    /// folder, an empty one, or one that prep left unfinished. What the same job has finished there is kept, what
    /// another one left is removed.
    ///
    /// # Errors
    /// `Output` where the folder holds something else or another prep is at work in it, `Io`.
    pub fn claim(dir: &Path, manifest: &Manifest, shards: u32) -> Result<Claim> {
        let foreign = |problem: String| Error::Output { path: dir.to_path_buf(), problem };
        fs_err::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let marker = dir.join(MARKER_NAME);
        let unfinished = marker.exists();
        if dir.join(MANIFEST_NAME).exists() {
            let there = Manifest::read(dir)?;
            if !same_job(&there, manifest, shards) {
                let problem = "it holds a data set made from another source or with other options; \
                               give another --out, or remove the folder";
                return Err(foreign(problem.to_owned()));
            }
            if unfinished {
                // Stopped between the manifest and the end: nothing is missing.
                clear_work(dir)?;
                fs_err::remove_file(&marker).map_err(Error::io("remove", &marker))?;
            }
            return Ok(Claim::Finished(Box::new(there)));
        }
        if let (Some(first), false) = (remains(dir)?.first(), unfinished) {
            let name = first.strip_prefix(dir).unwrap_or(first).display();
            let problem =
                format!("it holds {name}, which prep did not leave there; give another --out, or remove it");
            return Err(foreign(problem));
        }
        let mut lock = fs_err::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&marker)
            .map_err(Error::io("write", &marker))?;
        if lock.file().try_lock().is_err() {
            return Err(foreign("another prep is writing it".to_owned()));
        }
        let mut job = serde_json::to_value(manifest).expect("maps with text keys");
        job["shards"] = shards.into();
        let job = serde_json::to_vec_pretty(&job).expect("maps with text keys");
        let mut before = Vec::new();
        lock.read_to_end(&mut before).map_err(Error::io("read", &marker))?;
        if before != job {
            clear_work(dir)?;
            let written = lock
                .rewind()
                .and_then(|()| lock.file().set_len(0))
                .and_then(|()| lock.write_all(&job))
                .and_then(|()| lock.sync_all());
            written.map_err(Error::io("write", &marker))?;
        }
        let (ledger, finished) = Ledger::open(&dir.join(LEDGER_NAME), follows(dir))?;
        let kept = finished.iter().flat_map(|line| files_of(dir, line)).collect();
        clear_shards(dir, &kept)?;
        Ok(Claim::Claimed(Self { dir: dir.to_path_buf(), marker, ledger, finished, _lock: lock }))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The shards of `split` that an earlier run finished, in order.
    pub(crate) fn take_finished(&mut self, split: &str) -> Vec<Line> {
        let (of_split, others) = self.finished.drain(..).partition(|line| line.split == split);
        self.finished = others;
        of_split
    }

    /// Records a shard that is at its place.
    pub(crate) fn record(&mut self, line: &Line) -> Result<()> {
        self.ledger.append(line)
    }

    /// Writes `left-out.jsonl` and the manifest, and ends the claim. `from_list` are the samples that no shard's record
    /// names, by split; `key` gives a source id's key.
    pub(crate) fn finish(
        self,
        manifest: &mut Manifest,
        from_list: &[(&str, &[LeftOut])],
        key: impl Fn(&str) -> Key,
    ) -> Result<()> {
        self.write_left_out(from_list, key)?;
        manifest.write(&self.dir)?;
        clear_work(&self.dir)?;
        fs_err::remove_file(&self.marker).map_err(Error::io("remove", &self.marker))
    }

    /// Every sample that is left out, a line of JSON each; no file where there is none.
    fn write_left_out(&self, from_list: &[(&str, &[LeftOut])], key: impl Fn(&str) -> Key) -> Result<()> {
        let path = self.dir.join(LEFT_OUT_NAME);
        let mut file = NewFile::create(&path)?;
        let mut count = 0u64;
        let mut write = |split: &str, left_out: &LeftOut| {
            let LeftOut { source_id, reason, detail } = left_out;
            let key = key(source_id);
            let line = serde_json::json!({
                "split": split, "key": key, "source_id": source_id, "reason": reason, "detail": detail,
            });
            count += 1;
            writeln!(file, "{line}").map_err(Error::io("write", &path))
        };
        for (split, samples) in from_list {
            samples.iter().try_for_each(|left_out| write(split, left_out))?;
        }
        let ledger = fs_err::File::open(self.dir.join(LEDGER_NAME)).map_err(Error::io("read", &self.dir))?;
        for text in BufReader::new(ledger).lines() {
            let text = text.map_err(Error::io("read", &self.dir))?;
            // Every line was parsed or written by this run.
            let Ok(line) = serde_json::from_str::<Line>(&text) else { continue };
            line.left_out.iter().try_for_each(|left_out| write(&line.split, left_out))?;
        }
        if count > 0 { Ok(file.commit()?) } else { Ok(()) }
    }

    /// Removes what a run that cannot become a data set has written.
    pub(crate) fn abandon(self) -> Result<()> {
        clear_shards(&self.dir, &BTreeSet::new())?;
        clear_work(&self.dir)?;
        for split in ["train", "val", "test"] {
            // Only a folder that this leaves empty goes too.
            let _ = fs_err::remove_dir(self.dir.join(split));
        }
        fs_err::remove_file(&self.marker).map_err(Error::io("remove", &self.marker))
    }
}

/// Whether a finished data set is what this run would write.
fn same_job(there: &Manifest, due: &Manifest, shards: u32) -> bool {
    let train = there.splits.iter().find(|split| split.name == "train").map(|split| split.shards.len());
    (&there.source, there.seed, there.order, &there.image, &there.engine, &there.selection)
        == (&due.source, due.seed, due.order, &due.image, &due.engine, &due.selection)
        && train == Some(shards as usize)
}

/// Whether a ledger's line is the next shard of its split, and its files are there with their lengths.
fn follows(dir: &Path) -> impl FnMut(&Line) -> bool {
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    move |line| {
        let count = counts.entry(line.split.clone()).or_default();
        let length = |path: &Path| fs_err::metadata(path).map(|metadata| metadata.len()).ok();
        let [tar, table] = files_of(dir, line);
        let is_next = ["train", "val", "test"].contains(&line.split.as_str())
            && line.shard.name == shard_name(*count)
            && length(&tar) == Some(line.shard.tar_bytes)
            && length(&table) == Some(line.shard.index_bytes);
        *count += 1;
        is_next
    }
}

fn files_of(dir: &Path, line: &Line) -> [PathBuf; 2] {
    let dir = dir.join(&line.split);
    [dir.join(line.shard.tar_name()), dir.join(line.shard.index_name())]
}

/// Removes what an unfinished run keeps beside its marker and its shards.
fn clear_work(dir: &Path) -> Result<()> {
    let spill = dir.join(SPILL_NAME);
    if spill.is_dir() {
        fs_err::remove_dir_all(&spill).map_err(Error::io("remove", &spill))?;
    }
    let ledger = dir.join(LEDGER_NAME);
    if ledger.exists() {
        fs_err::remove_file(&ledger).map_err(Error::io("remove", &ledger))?;
    }
    Ok(())
}

/// Removes shards that are not `kept`.
fn clear_shards(dir: &Path, kept: &BTreeSet<PathBuf>) -> Result<()> {
    for path in remains(dir)?.into_iter().filter(|path| !kept.contains(path)) {
        fs_err::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Shard files and their temporary files in the folders of a data set.
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
