//! What a cache holds, told in an append-only file beside it, so that the next run finds it warm. Each record has its own
//! checksum: a torn tail is dropped, and what it told is fetched again. Left out: whether the bytes are right, which is
//! found out by their own checksums.
//!
//! ```text
//! offset  bytes  a record, numbers little-endian
//! 0       4      number of the shard in its split
//! 4       4      row of the sample
//! 8       4      pages that it takes; 0 where it went
//! 12      4      CRC-32 of the 12 bytes before
//! ```

use std::{io::Write as _, path::Path, path::PathBuf};

use fs_err::File;

const RECORD_BYTES: usize = 16;

/// More records than this, and more than four for each sample that is there, are written anew.
const RECORDS_MIN: u64 = 1 << 16;

/// One sample came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) shard: u32,
    pub(super) row: u32,
    /// 0 where it went.
    pub(super) pages: u32,
}

/// A journal that is open for more.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    records: u64,
}

impl Journal {
    /// Reads the journal at `path`, as far as it is whole, and opens it for more. None is an empty one.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub(super) fn open(path: &Path) -> std::io::Result<(Journal, Vec<Record>)> {
        let bytes = match fs_err::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let records: Vec<Record> = bytes.chunks(RECORD_BYTES).map_while(decode).collect();
        let file = fs_err::OpenOptions::new().create(true).append(true).open(path)?;
        // Records after a torn one would be misread, so it goes.
        file.set_len((records.len() * RECORD_BYTES) as u64)?;
        Ok((Journal { path: path.to_path_buf(), file, records: records.len() as u64 }, records))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds records.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub(super) fn add(&mut self, records: &[Record]) -> std::io::Result<()> {
        let bytes: Vec<u8> = records.iter().flat_map(|record| encode(*record)).collect();
        self.records += records.len() as u64;
        self.file.write_all(&bytes)
    }

    /// Whether it tells much of what is no more, with `present` samples there.
    pub(super) fn is_long(&self, present: u64) -> bool {
        self.records > RECORDS_MIN.max(4 * present)
    }

    /// Puts these records in the place of all.
    ///
    /// # Errors
    /// Where the new file cannot be written; the old one then stays.
    pub(super) fn replace(&mut self, records: &[Record]) -> std::io::Result<()> {
        let bytes: Vec<u8> = records.iter().flat_map(|record| encode(*record)).collect();
        let new = self.path.with_extension("new");
        fs_err::write(&new, bytes)?;
        fs_err::rename(&new, &self.path)?;
        self.file = fs_err::OpenOptions::new().append(true).open(&self.path)?;
        self.records = records.len() as u64;
        Ok(())
    }
}

fn encode(record: Record) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..4].copy_from_slice(&record.shard.to_le_bytes());
    bytes[4..8].copy_from_slice(&record.row.to_le_bytes());
    bytes[8..12].copy_from_slice(&record.pages.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let (words, _) = bytes.as_chunks::<4>();
    let [shard, row, pages, crc] = *words else { return None };
    let [shard, row, pages, crc] = [shard, row, pages, crc].map(u32::from_le_bytes);
    (crc32fast::hash(&bytes[..12]) == crc).then_some(Record { shard, row, pages })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(count: u32) -> Vec<Record> {
        (0..count).map(|n| Record { shard: n / 3, row: n * 7, pages: n % 5 }).collect()
    }

    #[test]
    fn what_was_written_is_read_wherever_the_file_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let all = records(9);
        Journal::open(&path).unwrap().0.add(&all).unwrap();
        let bytes = fs_err::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            fs_err::write(&path, &bytes[..cut]).unwrap();
            let (mut journal, found) = Journal::open(&path).unwrap();
            assert_eq!(found, all[..cut / RECORD_BYTES], "cut at {cut}");
            journal.add(&all[8..]).unwrap();
            let (_, found) = Journal::open(&path).unwrap();
            assert_eq!(found[cut / RECORD_BYTES..], all[8..], "added after {cut}");
        }
    }

    #[test]
    fn a_damaged_record_ends_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        Journal::open(&path).unwrap().0.add(&records(5)).unwrap();
        let mut bytes = fs_err::read(&path).unwrap();
        bytes[2 * RECORD_BYTES + 5] ^= 1;
        fs_err::write(&path, bytes).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, records(5)[..2]);
    }

    #[test]
    fn a_journal_is_replaced_by_what_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.add(&records(20)).unwrap();
        assert!(!journal.is_long(0));
        journal.replace(&records(2)).unwrap();
        journal.add(&records(1)).unwrap();
        let found = Journal::open(&path).unwrap().1;
        assert_eq!((&found[..2], &found[2..]), (&records(2)[..], &records(1)[..]));
    }
}
