//! Every promise of `FORMAT.md` checked against the bytes: any changed byte of a tar, an index, a side table or
//! the manifest, any missing, added, shortened or exchanged file. Each damage is named by file, sample, byte
//! offset, expected and found.
//!
//! [`Plan::of`] reads the manifest and lists the files, [`Plan::check_shard`] checks one shard (callers run these
//! on as many threads as they like), [`Plan::conclude`] checks what holds between shards. [`Plan::quick`] makes it
//! a check of the structure alone, as [`Depth::Quick`] says. It leaves out threads, progress and printing.

mod damage;
mod files;
mod index;
mod tar;

pub use damage::{DAMAGES_LISTED_MAX, Damage, Depth, Report};

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{Corruption, Error, Manifest, Result, ShardEntry, manifest, tar as archive};
use files::{Files, Listed};

/// Checks a whole data set in this thread.
///
/// # Errors
/// `Io`, `Unfinished` or `Unsupported` where the check could not be run; damage is in the report.
pub fn dataset(dir: impl AsRef<Path>) -> Result<Report> {
    let plan = Plan::of(dir.as_ref())?;
    let shards = (0..plan.jobs().len()).map(|job| plan.check_shard(job)).collect::<Result<_>>()?;
    Ok(plan.conclude(shards))
}

/// A shard to check.
#[derive(Debug, Clone)]
pub struct Job {
    split: usize,
    shard: usize,
    /// Bytes that its check reads, for a progress bar.
    pub bytes: u64,
}

/// What the check of one shard found.
#[derive(Debug, Clone, Default)]
pub struct ShardReport {
    samples: u64,
    bytes: u64,
    damages: Vec<Damage>,
    omitted: u64,
    /// A hash of each key without its case, and its row.
    keys: Vec<(u64, u32)>,
    /// First and last source row, where the order is the source's.
    source_rows: Option<(u64, u64)>,
}

impl ShardReport {
    /// Bytes read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn add(&mut self, damage: Damage) {
        if self.damages.len() < DAMAGES_LISTED_MAX {
            self.damages.push(damage);
        } else {
            self.omitted += 1;
        }
    }
}

/// A check of a data set, ready to run.
#[derive(Debug)]
pub struct Plan {
    dir: PathBuf,
    depth: Depth,
    manifest: Option<Manifest>,
    damages: Vec<Damage>,
    jobs: Vec<Job>,
    /// The file that the manifest gives each digest to.
    file_of_digest: BTreeMap<String, String>,
}

impl Plan {
    /// Reads the manifest and lists the folder.
    ///
    /// # Errors
    /// `Io`, `Unfinished`, `Unsupported`.
    pub fn of(dir: &Path) -> Result<Self> {
        let mut plan = Self {
            dir: dir.to_path_buf(),
            depth: Depth::Full,
            manifest: None,
            damages: Vec::new(),
            jobs: Vec::new(),
            file_of_digest: BTreeMap::new(),
        };
        match Manifest::read(dir) {
            Ok(manifest) => plan.manifest = Some(manifest),
            Err(error) if error.is_corrupt() => {
                plan.damages.push(plan.damage(error)?);
                plan.manifest = Manifest::read_damaged(dir);
            }
            Err(error) => return Err(error),
        }
        let Some(manifest) = &plan.manifest else { return Ok(plan) };
        for (split, entry) in manifest.splits.iter().enumerate() {
            for (shard, files) in entry.shards.iter().enumerate() {
                plan.jobs.push(Job {
                    split,
                    shard,
                    bytes: files.tar_bytes.saturating_add(files.index_bytes),
                });
                for (digest, name) in
                    [(&files.tar_blake3, files.tar_name()), (&files.index_blake3, files.index_name())]
                {
                    plan.file_of_digest.entry(digest.clone()).or_insert(format!("{}/{name}", entry.name));
                }
            }
        }
        let unlisted = plan.unlisted_files()?;
        plan.damages.extend(unlisted);
        Ok(plan)
    }

    /// The same check without the payloads: what [`Depth::Quick`] says is read, and no more.
    #[must_use]
    pub fn quick(mut self) -> Self {
        self.depth = Depth::Quick;
        let Some(manifest) = &self.manifest else { return self };
        for job in &mut self.jobs {
            let entry = &manifest.splits[job.split].shards[job.shard];
            let headers = entry.samples.saturating_mul(2 * archive::BLOCK_BYTES);
            job.bytes = entry.index_bytes.saturating_add(headers).saturating_add(archive::END_BYTES);
        }
        self
    }

    /// The shards to check.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// Checks one shard: both files whole, every header, payload, row and JSON; a quick check leaves out what
    /// [`Depth::Quick`] says.
    ///
    /// # Errors
    /// `Io` where a file is there and cannot be read.
    pub fn check_shard(&self, job: usize) -> Result<ShardReport> {
        let job = &self.jobs[job];
        let manifest = self.manifest.as_ref().expect("jobs come from the manifest");
        let split = &manifest.splits[job.split];
        let entry = &split.shards[job.shard];
        let mut report = ShardReport { samples: entry.samples, ..Default::default() };
        self.check_side_tables(&split.name, entry, &mut report)?;
        let listed = Listed { name: entry.tar_name(), bytes: entry.tar_bytes, blake3: &entry.tar_blake3 };
        let tar = self.open(&split.name, &listed, self.depth == Depth::Full, &mut report)?;
        let listed =
            Listed { name: entry.index_name(), bytes: entry.index_bytes, blake3: &entry.index_blake3 };
        let table = self.open(&split.name, &listed, true, &mut report)?;
        let (Some(tar), Some(table)) = (tar, table) else { return Ok(report) };
        if tar.exchanged || table.exchanged {
            return Ok(report); // its bytes are another shard's: each would be reported
        }
        let files = Files { tar, table };
        let rows = index::check(self, manifest, entry, &files, &mut report)?;
        tar::check(self, manifest, job, &files, &rows, &mut report)?;
        Ok(report)
    }

    /// Puts the shards' reports, in the order of [`Plan::jobs`], together and checks what holds between them:
    /// keys are unique without regard to case, and source order goes on from shard to shard.
    pub fn conclude(self, shards: Vec<ShardReport>) -> Report {
        let mut report = Report {
            depth: self.depth,
            fingerprint: self.manifest.as_ref().map(|manifest| manifest.fingerprint.clone()),
            shards: shards.len() as u64,
            ..Default::default()
        };
        let between = self.check_between(&shards);
        report.damages = self.damages;
        for shard in shards {
            report.samples += shard.samples;
            report.bytes += shard.bytes;
            report.damages.extend(shard.damages);
            report.damages_omitted += shard.omitted;
        }
        report.damages.extend(between);
        report
    }

    fn check_between(&self, shards: &[ShardReport]) -> Vec<Damage> {
        let mut damages = Vec::new();
        let mut keys: Vec<(u64, u32, u32)> = Vec::new();
        for (job, shard) in shards.iter().enumerate() {
            keys.extend(shard.keys.iter().map(|&(hash, row)| (hash, job as u32, row)));
        }
        keys.sort_unstable();
        for pair in keys.windows(2).filter(|pair| pair[0].0 == pair[1].0).take(DAMAGES_LISTED_MAX) {
            let place = |(_, job, row): (u64, u32, u32)| format!("{} row {row}", self.file(job as usize));
            damages.push(Damage {
                file: self.file(pair[1].1 as usize),
                key: None,
                offset: None,
                problem: "a key stands twice (without regard to case)".to_owned(),
                expected: format!("another key than {}", place(pair[0])),
                found: format!("the same in {}", place(pair[1])),
            });
        }
        for (number, pair) in shards.windows(2).enumerate() {
            if let (Some((_, last)), Some((first, _))) = (pair[0].source_rows, pair[1].source_rows)
                && self.jobs[number].split == self.jobs[number + 1].split
                && first <= last
            {
                damages.push(Damage {
                    file: self.file(number + 1),
                    key: None,
                    offset: None,
                    problem: "source order".to_owned(),
                    expected: format!("rows above {last}, the last of the shard before"),
                    found: first.to_string(),
                });
            }
        }
        damages
    }

    fn file(&self, job: usize) -> String {
        let job = &self.jobs[job];
        let split = self.manifest.as_ref().map(|manifest| &manifest.splits[job.split]);
        split
            .map(|split| format!("{}/{}", split.name, split.shards[job.shard].index_name()))
            .unwrap_or_default()
    }

    fn check_side_tables(&self, split: &str, entry: &ShardEntry, report: &mut ShardReport) -> Result<()> {
        for (table, listed) in &entry.side_tables {
            let listed =
                Listed { name: entry.side_table_name(table), bytes: listed.bytes, blake3: &listed.blake3 };
            let opened = self.open(split, &listed, self.depth == Depth::Full, report)?;
            let opened = opened.filter(|opened| !opened.sound && !opened.exchanged);
            if let Some(damage) = opened.and_then(|opened| opened.digest_damage(listed.blake3)) {
                report.add(damage);
            }
        }
        Ok(())
    }

    /// Files named like shards that the manifest does not list.
    fn unlisted_files(&self) -> Result<Vec<Damage>> {
        let Some(manifest) = &self.manifest else { return Ok(Vec::new()) };
        let mut listed = BTreeSet::new();
        for split in &manifest.splits {
            for entry in &split.shards {
                let tables = entry.side_tables.keys().map(|table| entry.side_table_name(table));
                for name in tables.chain([entry.tar_name(), entry.index_name()]) {
                    listed.insert(format!("{}/{name}", split.name));
                }
            }
        }
        let mut unlisted = BTreeSet::new();
        for folder in names_in(&self.dir)? {
            let path = self.dir.join(&folder);
            if !path.is_dir() {
                continue;
            }
            for name in names_in(&path)?.into_iter().filter(|name| name.starts_with("shard-")) {
                let file = format!("{folder}/{name}");
                if !listed.contains(&file) {
                    unlisted.insert(file);
                }
            }
        }
        let damage = |file| Damage {
            file,
            key: None,
            offset: None,
            problem: "a shard file that the manifest does not list".to_owned(),
            expected: "no such file (left by a program that was killed, it may be removed)".to_owned(),
            found: "the file".to_owned(),
        };
        Ok(unlisted.into_iter().map(damage).collect())
    }

    /// Turns a `Corrupt` into a damage; other errors go on.
    fn damage(&self, error: Error) -> Result<Damage> {
        match error {
            Error::Corrupt(corruption) => {
                let Corruption { path, key, offset, problem, expected, found } = *corruption;
                let file = path.strip_prefix(&self.dir).unwrap_or(&path).to_string_lossy().into_owned();
                Ok(Damage { file, key, offset: Some(offset), problem, expected, found })
            }
            other => Err(other),
        }
    }
}

fn names_in(dir: &Path) -> Result<Vec<String>> {
    let entries = fs_err::read_dir(dir).map_err(Error::io("list", dir))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", dir))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

impl Manifest {
    /// A manifest whose digest does not hold, if it still parses: what it says is then checked against the
    /// shards, which often names the value that changed.
    fn read_damaged(dir: &Path) -> Option<Self> {
        let bytes = fs_err::read(dir.join(manifest::MANIFEST_NAME)).ok()?;
        let manifest: Self = serde_json::from_slice(&bytes).ok()?;
        let safe = |split: &manifest::SplitEntry| {
            manifest::split_name_fits(&split.name)
                && split.shards.iter().enumerate().all(|(number, shard)| {
                    u32::try_from(number).is_ok_and(|number| shard.name == manifest::shard_name(number))
                        && shard.side_tables.keys().all(|table| manifest::split_name_fits(table))
                })
        };
        let fits = manifest.image.problem().is_none() && manifest.splits.iter().all(safe);
        fits.then_some(manifest)
    }
}
