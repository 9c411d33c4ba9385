//! Which samples a cache holds, within its bounds: one number (slot) for each sample of the lane's splits, its pages on disk,
//! who needs it now. Left out: which of them should go, which the order says (`uses`), and fetching.

use std::{collections::HashMap, ops::Range, path::Path, sync::Arc};

use fs_err::os::unix::fs::FileExt as _;
use shard::{Row, ShardReader};

use super::{
    disk,
    journal::{Journal, Record},
};
use crate::error::{Error, Result};

/// What a sample takes of a disk is counted in these.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Its checksum was compared since the cache was opened.
const CHECKED: u32 = 1 << 31;

/// The shards of a split, and the slots of their samples.
#[derive(Debug)]
pub(super) struct SplitPlace {
    pub(super) name: String,
    pub(super) readers: Vec<ShardReader>,
    /// Length of each tar.
    pub(super) tar_bytes: Vec<u64>,
    /// The first slot of each shard, and the end.
    pub(super) starts: Vec<usize>,
}

impl SplitPlace {
    /// The shard and the row of a slot of this split.
    pub(super) fn locate(&self, slot: usize) -> (usize, usize) {
        let shard = self.starts.partition_point(|&start| start <= slot) - 1;
        (shard, slot - self.starts[shard])
    }

    /// The index row of a slot.
    pub(super) fn row(&self, slot: usize) -> shard::Result<Row<'_>> {
        let (shard, row) = self.locate(slot);
        self.readers[shard].row(row)
    }

    /// The bytes of a slot's payload in its tar; none where its row is damaged or leaves the tar.
    pub(super) fn extent(&self, slot: usize) -> Option<Range<u64>> {
        let image = self.row(slot).ok()?.image;
        let end = image.offset.checked_add(image.bytes)?;
        (end <= self.tar_bytes[self.locate(slot).0]).then_some(image.offset..end)
    }

    fn holds(&self, slot: usize) -> bool {
        slot >= self.starts[0] && slot < self.starts[self.starts.len() - 1]
    }
}

/// The pages that a range of bytes touches.
pub(super) fn pages(range: &Range<u64>) -> u32 {
    let pages = range.end.div_ceil(PAGE_BYTES) - range.start / PAGE_BYTES;
    u32::try_from(pages).unwrap_or(CHECKED - 1).clamp(1, CHECKED - 1)
}

/// The contents of a cache.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// A slot's pages, 0 where it is not there, and whether it was checked.
    cells: Vec<u32>,
    /// Slots that must stay: of batches in the making or ahead, or on their way here.
    pins: HashMap<usize, u32>,
    splits: Vec<(Arc<SplitPlace>, Journal)>,
    /// Pages that are there or on their way.
    used: u64,
    present: u64,
    limit: u64,
}

impl Held {
    /// Room for `bytes`, or for what was set before where that is more.
    pub(super) fn allow(&mut self, bytes: u64) {
        self.limit = self.limit.max(bytes / PAGE_BYTES);
    }

    pub(super) fn slots(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn split(&self, name: &str) -> Option<Arc<SplitPlace>> {
        self.splits.iter().map(|(split, _)| split).find(|split| split.name == name).cloned()
    }

    /// Takes a split in, with what its journal tells of it. Its slots begin at [`slots`](Self::slots).
    pub(super) fn add(&mut self, split: Arc<SplitPlace>, journal: Journal, records: &[Record]) {
        let end = split.starts[split.starts.len() - 1];
        self.cells.resize(end, 0);
        for record in records {
            let start = split.starts.get(record.shard as usize).copied();
            let slot = start.map(|start| start + record.row as usize);
            let end = split.starts.get(record.shard as usize + 1).copied().unwrap_or(0);
            if let Some(slot) = slot.filter(|&slot| slot < end) {
                self.clear(slot);
                if record.pages > 0 {
                    self.cells[slot] = record.pages & !CHECKED;
                    self.used += u64::from(self.pages_of(slot));
                    self.present += 1;
                }
            }
        }
        self.splits.push((split, journal));
    }

    fn clear(&mut self, slot: usize) -> u32 {
        let pages = self.pages_of(slot);
        self.used -= u64::from(pages);
        self.present -= u64::from(pages > 0);
        self.cells[slot] = 0;
        pages
    }

    fn pages_of(&self, slot: usize) -> u32 {
        self.cells[slot] & !CHECKED
    }

    /// Pages of a slot that is there.
    pub(super) fn present(&self, slot: usize) -> Option<u32> {
        Some(self.pages_of(slot)).filter(|&pages| pages > 0)
    }

    pub(super) fn is_checked(&self, slot: usize) -> bool {
        self.cells[slot] & CHECKED != 0
    }

    pub(super) fn set_checked(&mut self, slot: usize) {
        if self.cells[slot] != 0 {
            self.cells[slot] |= CHECKED;
        }
    }

    pub(super) fn is_pinned(&self, slot: usize) -> bool {
        self.pins.contains_key(&slot)
    }

    pub(super) fn pin(&mut self, slot: usize) {
        *self.pins.entry(slot).or_default() += 1;
    }

    /// Whether nobody needs it any more.
    pub(super) fn unpin(&mut self, slot: usize) -> bool {
        let std::collections::hash_map::Entry::Occupied(mut pins) = self.pins.entry(slot) else {
            return true;
        };
        *pins.get_mut() -= 1;
        let is_free = *pins.get() == 0;
        if is_free {
            pins.remove();
        }
        is_free
    }

    /// Whether so many more pages have room.
    pub(super) fn has_room(&self, pages: u64) -> bool {
        self.used + pages <= self.limit
    }

    pub(super) fn limit_pages(&self) -> u64 {
        self.limit
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used * PAGE_BYTES
    }

    /// Counts pages for what is on its way.
    pub(super) fn reserve(&mut self, pages: u32) {
        self.used += u64::from(pages);
    }

    /// Gives back what did not come.
    pub(super) fn give_back(&mut self, pages: u32) {
        self.used -= u64::from(pages);
    }

    /// Samples have come, with pages that were reserved.
    ///
    /// # Errors
    /// [`Error::Cache`] where the journal cannot be written.
    pub(super) fn landed(&mut self, split: &SplitPlace, slots: &[(usize, u32)]) -> Result<()> {
        let mut records = Vec::new();
        for &(slot, pages) in slots {
            // Another session may have brought it meanwhile.
            self.clear(slot);
            self.cells[slot] = pages | CHECKED;
            self.present += 1;
            records.push(record(split, slot, pages));
        }
        self.note(split, &records)
    }

    /// A sample is not what its index row says, and counts as gone.
    ///
    /// # Errors
    /// As [`landed`](Self::landed).
    pub(super) fn lost(&mut self, split: &SplitPlace, slot: usize) -> Result<()> {
        self.clear(slot);
        self.note(split, &[record(split, slot, 0)])
    }

    /// Frees the pages of a sample that nobody needs; gives how many bytes that were. `folder` is the lane's.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub(super) fn evict(&mut self, slot: usize, folder: &Path) -> Result<u64> {
        let found = self.splits.iter().map(|(split, _)| split).find(|split| split.holds(slot)).cloned();
        let split = found.expect("every slot is of a split");
        let pages = self.clear(slot);
        self.note(&split, &[record(&split, slot, 0)])?;
        if let Some(range) = split.extent(slot) {
            let range = self.hole(&split, slot, range);
            let path = folder.join(&split.name).join(tar_name(&split, split.locate(slot).0));
            disk::punch(&path, range).map_err(Error::cache("make room in", &path))?;
        }
        Ok(u64::from(pages) * PAGE_BYTES)
    }

    /// Frees what a tar has on disk beyond what the journal told: the last owner was killed while it wrote or freed.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub(super) fn tidy(&self, split: &SplitPlace, folder: &Path) -> Result<()> {
        for (shard, ends) in split.starts.windows(2).enumerate() {
            let path = folder.join(&split.name).join(tar_name(split, shard));
            let due: u64 = (ends[0]..ends[1]).map(|slot| u64::from(self.pages_of(slot)) * PAGE_BYTES).sum();
            if disk::used_bytes(&path).map_err(Error::cache("look at", &path))? <= due {
                continue;
            }
            let end = split.tar_bytes[shard].div_ceil(PAGE_BYTES) * PAGE_BYTES;
            let there = (ends[0]..ends[1]).filter(|&slot| self.cells[slot] != 0);
            let there = there.filter_map(|slot| split.extent(slot));
            let mut free = 0;
            for range in there.chain(std::iter::once(end..end)) {
                let first = range.start / PAGE_BYTES * PAGE_BYTES;
                if first > free {
                    disk::punch(&path, free..first).map_err(Error::cache("make room in", &path))?;
                }
                free = free.max(range.end.div_ceil(PAGE_BYTES) * PAGE_BYTES);
            }
        }
        Ok(())
    }

    /// The bytes to free for a sample: whole pages where no neighbour that is here, or on its way, shares them.
    fn hole(&self, split: &SplitPlace, slot: usize, range: Range<u64>) -> Range<u64> {
        let shard = split.locate(slot).0;
        let is_free = |slot: usize| self.cells[slot] == 0 && !self.is_pinned(slot);
        let (mut start, mut end) =
            (range.start / PAGE_BYTES * PAGE_BYTES, range.end.div_ceil(PAGE_BYTES) * PAGE_BYTES);
        for before in (split.starts[shard]..slot).rev() {
            let Some(other) = split.extent(before) else { break };
            if other.end <= start {
                break;
            }
            if !is_free(before) {
                start = other.end.min(range.start);
                break;
            }
        }
        for after in slot + 1..split.starts[shard + 1] {
            let Some(other) = split.extent(after) else { break };
            if other.start >= end {
                break;
            }
            if !is_free(after) {
                end = other.start.max(range.end);
                break;
            }
        }
        start..end
    }

    fn note(&mut self, split: &SplitPlace, records: &[Record]) -> Result<()> {
        let present = self.present;
        let Some(at) = self.splits.iter().position(|(other, _)| other.name == split.name) else {
            return Ok(());
        };
        let journal = &mut self.splits[at].1;
        let path = journal.path().to_path_buf();
        let cannot = Error::cache("write", &path);
        if !journal.is_long(present) {
            return journal.add(records).map_err(cannot);
        }
        let slots = split.starts[0]..split.starts[split.starts.len() - 1];
        let there: Vec<Record> = slots
            .filter_map(|slot| {
                Some(record(split, slot, Some(self.cells[slot] & !CHECKED).filter(|&p| p > 0)?))
            })
            .collect();
        self.splits[at].1.replace(&there).map_err(cannot)
    }
}

fn record(split: &SplitPlace, slot: usize, pages: u32) -> Record {
    let (shard, row) = split.locate(slot);
    Record { shard: shard as u32, row: row as u32, pages }
}

/// The name of a shard's tar.
pub(super) fn tar_name(split: &SplitPlace, shard: usize) -> String {
    let path = split.readers[shard].tar_path();
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Writes a payload to its place in its tar.
pub(super) fn write(path: &Path, parts: &[(u64, &[u8])]) -> std::io::Result<()> {
    let file = fs_err::OpenOptions::new().write(true).open(path)?;
    parts.iter().try_for_each(|(offset, bytes)| file.write_all_at(bytes, *offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: usize = 12;

    fn held(dir: &Path, records: &[Record]) -> (Held, Arc<SplitPlace>) {
        let dataset = shard::Dataset::open(dir).unwrap();
        let readers = dataset.open_split("train").unwrap();
        let mut starts = vec![0];
        readers.iter().for_each(|reader| starts.push(starts[starts.len() - 1] + reader.len()));
        let shards = &dataset.split("train").unwrap().shards;
        let tar_bytes = shards.iter().map(|shard| shard.tar_bytes).collect();
        let split = Arc::new(SplitPlace { name: "train".to_owned(), readers, tar_bytes, starts });
        let (mut journal, _) = Journal::open(&dir.join("journal")).unwrap();
        journal.add(records).unwrap();
        let mut held = Held::default();
        held.add(Arc::clone(&split), journal, records);
        (held, split)
    }

    #[test]
    fn a_long_journal_is_written_anew_with_what_is_there() {
        let data = testkit::Spec::train(SAMPLES).temporary();
        let come_and_gone = (0..70_001).map(|n| Record { shard: 1, row: 0, pages: n % 2 });
        let (mut held, split) = held(data.path(), &come_and_gone.collect::<Vec<_>>());
        assert_eq!(held.used_bytes(), 0);
        for slot in [0, 5, 11] {
            held.reserve(2);
            held.landed(&split, &[(slot, 2)]).unwrap();
        }
        held.reserve(1);
        held.landed(&split, &[(5, 1)]).unwrap();
        assert_eq!((held.used_bytes(), held.present(5), held.present(6)), (5 * PAGE_BYTES, Some(1), None));
        let (_, records) = Journal::open(&data.path().join("journal")).unwrap();
        assert!(records.len() < 8, "{} records", records.len());
        let mut again = Held::default();
        let (journal, _) = Journal::open(&data.path().join("journal")).unwrap();
        again.add(split, journal, &records);
        assert_eq!([0, 5, 6, 11].map(|slot| again.present(slot)), [Some(2), Some(1), None, Some(2)]);
        assert!(!again.is_checked(0) && held.is_checked(0));
    }

    #[test]
    fn a_hole_leaves_the_neighbours_pages() {
        // 320 bytes a payload: several share a page.
        let data = testkit::Spec::train(SAMPLES).shards(1).temporary();
        let (mut held, split) = held(data.path(), &[]);
        let [before, it, after] = [4, 5, 6].map(|slot| split.extent(slot).unwrap());
        let page = it.start / PAGE_BYTES * PAGE_BYTES;
        let whole = page..it.end.div_ceil(PAGE_BYTES) * PAGE_BYTES;
        assert_eq!(held.hole(&split, 5, it.clone()), whole);
        held.pin(6);
        let beside = held.hole(&split, 5, it.clone());
        assert_eq!(beside, whole.start..after.start.min(whole.end));
        held.reserve(1);
        held.landed(&split, &[(4, 1)]).unwrap();
        assert_eq!(held.hole(&split, 5, it.clone()), before.end.max(whole.start)..after.start.min(whole.end));
        assert!(!held.unpin(6) || held.hole(&split, 5, it).end == whole.end);
    }

    #[test]
    fn records_of_samples_that_are_not_there_are_passed_over() {
        let data = testkit::Spec::train(SAMPLES).shards(2).temporary();
        let odd = [(0, 1000), (7, 0), (u32::MAX, u32::MAX), (1, 6)].map(|(shard, row)| Record {
            shard,
            row,
            pages: 3,
        });
        let (held, _) = held(data.path(), &odd);
        assert!((0..held.slots()).filter(|&slot| held.present(slot).is_some()).count() <= 1);
    }
}
