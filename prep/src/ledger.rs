//! What a run has finished, one line a shard, appended and synced: so that a rerun goes on where the last one stopped.
//! It leaves out which run it belongs to, which is the folder's marker (`output`).

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use shard::{LeftOut, ShardEntry};

use crate::{Error, Result};

/// A finished shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Its split.
    pub(crate) split: String,
    /// Its entry in the manifest.
    pub(crate) shard: ShardEntry,
    /// Samples left out of it.
    pub(crate) left_out: Vec<LeftOut>,
}

/// The file, open at its end.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: fs_err::File,
}

impl Ledger {
    /// Opens the ledger at `path`, or begins one, and gives its lines as long as `holds` says so of each. A line that
    /// does not hold, one cut short by a crash, and all behind it are cut off.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn open(path: &Path, mut holds: impl FnMut(&Line) -> bool) -> Result<(Self, Vec<Line>)> {
        let mut file = fs_err::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(Error::io("write", path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        let mut lines = Vec::new();
        let mut end = 0;
        for text in bytes.split_inclusive(|&byte| byte == b'\n') {
            let Some(text) = text.strip_suffix(b"\n") else { break };
            let Ok(line) = serde_json::from_slice::<Line>(text) else { break };
            if !holds(&line) {
                break;
            }
            lines.push(line);
            end += text.len() as u64 + 1;
        }
        file.set_len(end).map_err(Error::io("write", path))?;
        file.seek(SeekFrom::Start(end)).map_err(Error::io("write", path))?;
        Ok((Self { path: path.to_path_buf(), file }, lines))
    }

    /// Appends a line for good.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn append(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line).expect("texts and numbers");
        text.push(b'\n');
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        written.map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u32) -> Line {
        let shard = ShardEntry {
            name: shard::manifest::shard_name(number),
            samples: 1,
            tar_bytes: 2,
            tar_blake3: String::new(),
            index_bytes: 3,
            index_blake3: String::new(),
            side_tables: Default::default(),
        };
        Line { split: "train".to_owned(), shard, left_out: Vec::new() }
    }

    #[test]
    fn a_cut_line_is_cut_off_and_the_next_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let (mut ledger, lines) = Ledger::open(&path, |_| true).unwrap();
        assert!(lines.is_empty());
        (0..3).for_each(|number| ledger.append(&line(number)).unwrap());
        let whole = fs_err::read(&path).unwrap();
        let second = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for cut in [whole.len() - 1, whole.len() - 40] {
            fs_err::write(&path, &whole[..cut]).unwrap();
            let (mut ledger, lines) = Ledger::open(&path, |_| true).unwrap();
            assert_eq!(lines, [line(0), line(1)]);
            ledger.append(&line(2)).unwrap();
            assert_eq!(fs_err::read(&path).unwrap(), whole);
        }
        let (_, lines) = Ledger::open(&path, |line| line.shard.name != "shard-000001").unwrap();
        assert_eq!(lines, [line(0)]);
        assert_eq!(fs_err::metadata(&path).unwrap().len(), second as u64);
    }
}
