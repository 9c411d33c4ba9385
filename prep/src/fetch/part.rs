//! A file that is not whole yet: `.NAME.part` beside its place, and `.NAME.part.json`, which says which bytes of it
//! are there. Only one process works on it; the record is replaced whole, and only after the bytes it claims are on
//! disk, so that no kill and no power cut leaves a claim without its bytes. Pure file work: no network here.

use std::{
    io::Seek as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use fs_err::{File, OpenOptions};
use serde::{Deserialize, Serialize};

use super::spans::Spans;
use crate::{Error, Result};

/// What is known of a part: written beside it as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// Where it comes from, without secrets.
    pub(super) url: String,
    /// Length of the whole.
    pub(super) bytes: u64,
    /// Strong etag or date of the version that the bytes belong to.
    pub(super) validator: Option<String>,
    /// The digest that the whole must have.
    pub(super) digest: Option<String>,
    /// Ranges that are on disk: first byte, byte after the last.
    done: Vec<[u64; 2]>,
}

impl Record {
    const VERSION: u32 = 1;

    pub(super) fn new(url: String, bytes: u64, validator: Option<String>, digest: Option<String>) -> Self {
        Self { version: Self::VERSION, url, bytes, validator, digest, done: Vec::new() }
    }

    /// The ranges on disk; none where the record contradicts itself.
    pub(super) fn spans(&self) -> Option<Spans> {
        Spans::from_pairs(&self.done, self.bytes)
    }

    pub(super) fn with(&self, spans: &Spans) -> Self {
        Self { done: spans.pairs(), ..self.clone() }
    }
}

/// The part of one destination, locked.
#[derive(Debug)]
pub(super) struct Part {
    dest: PathBuf,
    path: PathBuf,
    record_path: PathBuf,
    /// Holds the lock.
    file: File,
}

impl Part {
    /// Opens the part of `dest`, or begins one; waits while another process has it. `waiting` is called once if so.
    pub(super) fn open(dest: &Path, stop: &AtomicBool, waiting: impl FnOnce()) -> Result<Self> {
        let Some(name) = dest.file_name() else {
            return Err(Error::Config(format!("{} names no file to download to", dest.display())));
        };
        let beside = |end: &str| {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(end);
            dest.with_file_name(hidden)
        };
        let (path, record_path) = (beside(".part"), beside(".part.json"));
        if let Some(dir) = dest.parent() {
            fs_err::create_dir_all(dir).map_err(Error::io("create", dir))?;
        }
        let mut waiting = Some(waiting);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(Error::io("create", &path))?;
            match file.try_lock() {
                // The one before may have put the file in its place while we waited for the lock.
                Ok(()) if is_at(&file, &path) => {
                    return Ok(Self { dest: dest.to_path_buf(), path, record_path, file });
                }
                Ok(()) => continue,
                Err(std::fs::TryLockError::WouldBlock) => {}
                // A file system without locks: better unprotected than not at all.
                Err(std::fs::TryLockError::Error(_)) => {
                    return Ok(Self { dest: dest.to_path_buf(), path, record_path, file });
                }
            }
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The path of the part.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What an earlier run left: none where that is nothing, or cannot be trusted.
    pub(super) fn record(&self) -> Option<(Record, Spans)> {
        let text = fs_err::read(&self.record_path).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let length = self.file.metadata().ok()?.len();
        if record.version != Record::VERSION || length != record.bytes {
            return None;
        }
        let spans = record.spans()?;
        Some((record, spans))
    }

    /// Writes the record, after the bytes that it claims have been synced.
    pub(super) fn save(&self, record: &Record) -> Result<()> {
        shard::replace_file(&self.record_path, |file| Ok(serde_json::to_writer(file, record)?))?;
        Ok(())
    }

    /// Empties the part and forgets its record. With `bytes` it gets that length, as a hole.
    pub(super) fn reset(&self, bytes: u64) -> Result<()> {
        match fs_err::remove_file(&self.record_path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &self.record_path)(error));
            }
            _ => {}
        }
        let emptied = self.file.set_len(0).and_then(|()| self.file.set_len(bytes));
        emptied.map_err(Error::io("write", &self.path))
    }

    /// A handle to write from a place on.
    pub(super) fn writer(&self, at: u64) -> Result<File> {
        let mut file =
            OpenOptions::new().write(true).open(&self.path).map_err(Error::io("open", &self.path))?;
        file.seek(std::io::SeekFrom::Start(at)).map_err(Error::io("seek in", &self.path))?;
        Ok(file)
    }

    /// Puts the whole file in its place, synced.
    pub(super) fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(Error::io("sync", &self.path))?;
        fs_err::rename(&self.path, &self.dest).map_err(Error::io("rename", &self.path))?;
        if let Some(dir) = self.dest.parent() {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            #[cfg(unix)]
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))?;
        }
        let _ = fs_err::remove_file(&self.record_path); // without its part it says nothing
        Ok(())
    }

    /// Takes the part away: its file is in place already, or its bytes are wrong.
    pub(super) fn remove(self) {
        let _ = fs_err::remove_file(&self.path);
        let _ = fs_err::remove_file(&self.record_path);
    }
}

/// Whether the open file is still the one at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(ours), Ok(there)) = (file.metadata(), fs_err::metadata(path)) else { return false };
    ours.ino() == there.ino() && ours.dev() == there.dev()
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists() // an open file cannot be renamed there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_believed_only_beside_the_part_that_it_describes() {
        let dir = tempfile::tempdir().unwrap();
        let stop = AtomicBool::new(false);
        let part = Part::open(&dir.path().join("file"), &stop, || {}).unwrap();
        assert_eq!(part.record(), None);
        let mut spans = Spans::default();
        spans.insert(3..7);
        let record = Record::new("http://x/y".into(), 10, Some("\"e\"".into()), None).with(&spans);
        part.reset(10).unwrap();
        part.save(&record).unwrap();
        assert_eq!(part.record(), Some((record.clone(), spans)));
        fs_err::write(&part.path, b"short").unwrap();
        assert_eq!(part.record(), None, "the part has another length");
        part.reset(10).unwrap();
        assert_eq!(part.record(), None, "forgotten");
        for bad in [
            Record { version: 2, ..record.clone() },
            Record { done: vec![[4, 11]], ..record.clone() },
            Record { done: vec![[4, 4]], ..record.clone() },
        ] {
            part.save(&bad).unwrap();
            assert_eq!(part.record(), None, "{bad:?}");
        }
        fs_err::write(&part.record_path, b"{\"version\":1").unwrap();
        assert_eq!(part.record(), None, "cut short");
    }

    #[test]
    fn only_one_works_on_a_part_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("file");
        let stop = AtomicBool::new(false);
        let first = Part::open(&dest, &stop, || {}).unwrap();
        let second = Part::open(&dest, &stop, || stop.store(true, Ordering::Relaxed));
        assert!(matches!(second, Err(Error::Interrupted)));
        stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let mut first = Some(first);
            let next = Part::open(&dest, &stop, || {
                let first = first.take().unwrap();
                scope.spawn(move || first.finish().unwrap());
            });
            // The first has become the file; the second has a part of its own.
            let next = next.unwrap();
            assert!(dest.exists() && next.path().exists());
            next.remove();
        });
        let names: Vec<_> = fs_err::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
    }
}
