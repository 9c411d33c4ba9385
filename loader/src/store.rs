//! Mapped shards under one numbering: those of a split, or of several data sets' splits one after the other. Left out:
//! any order, and what a payload means ([`crate::collate`]).

use shard::{Dataset, ImageSettings, Row, ShardReader, mmap::Advice};

use crate::error::{Error, Result};

/// One data set's split within a store.
#[derive(Debug)]
pub(crate) struct StorePart {
    pub(crate) dataset: Dataset,
    pub(crate) split: String,
    /// The number of its first sample in the store.
    pub(crate) first: u64,
    pub(crate) len: u64,
    /// Its shards among those of the store.
    shards: std::ops::Range<usize>,
}

impl StorePart {
    /// Bytes of the split's tars.
    pub(crate) fn bytes(&self) -> u64 {
        let splits = &self.dataset.manifest().splits;
        let split = splits.iter().find(|split| split.name == self.split);
        split.map_or(0, |split| split.shards.iter().map(|shard| shard.tar_bytes).sum())
    }
}

/// All shards of one or more splits, open.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) parts: Vec<StorePart>,
    shards: Vec<ShardReader>,
    /// The first sample number of each shard, and the number of all samples.
    starts: Vec<u64>,
}

impl Store {
    /// Opens a split of each data set.
    pub(crate) fn open(datasets: Vec<(Dataset, String)>) -> Result<Store> {
        if datasets.is_empty() {
            return Err(Error::config("a loader needs one data set at least"));
        }
        let mut store = Store { parts: Vec::new(), shards: Vec::new(), starts: vec![0] };
        for (dataset, split) in datasets {
            store.add(dataset, split)?;
        }
        Ok(store)
    }

    fn add(&mut self, dataset: Dataset, split: String) -> Result<()> {
        if let Some(first) = self.parts.first() {
            let sides = |dataset: &Dataset| (dataset.manifest().image.height, dataset.manifest().image.width);
            let ((height, width), (other_height, other_width)) = (sides(&first.dataset), sides(&dataset));
            if (height, width) != (other_height, other_width) {
                return Err(Error::config(format!(
                    "pictures of a mixture have one size: {} has {height}x{width}, {} has {other_height}x{other_width}",
                    first.dataset.dir().display(),
                    dataset.dir().display()
                )));
            }
        }
        let shards = dataset.open_split(&split)?;
        let (first, first_shard) = (self.len(), self.shards.len());
        let mut end = first;
        for shard in &shards {
            end += shard.len() as u64;
            self.starts.push(end);
        }
        if end == first {
            return Err(Error::EmptySplit { path: dataset.dir().to_path_buf(), split });
        }
        self.shards.extend(shards);
        let shards = first_shard..self.shards.len();
        self.parts.push(StorePart { dataset, split, first, len: end - first, shards });
        Ok(())
    }

    /// Tells the kernel that samples are read in no order: that its own guesses at what comes next are wrong.
    pub(crate) fn advise_random(&self) {
        self.shards.iter().for_each(|shard| shard.advise(Advice::Random));
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    pub(crate) fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// The settings of the first data set's pictures; the others' have the same height and width.
    pub(crate) fn image(&self) -> &ImageSettings {
        &self.parts[0].dataset.manifest().image
    }

    /// Where the shards of a part begin, and where the last one ends.
    pub(crate) fn shard_starts(&self, part: &StorePart) -> &[u64] {
        &self.starts[part.shards.start..=part.shards.end]
    }

    /// The shard of a sample, and its row's number there.
    pub(crate) fn locate(&self, sample: u64) -> Result<(&ShardReader, usize)> {
        let shard = self.shard_number(sample)?;
        Ok((&self.shards[shard], (sample - self.starts[shard]) as usize))
    }

    /// The number of the shard of a sample.
    pub(crate) fn shard_number(&self, sample: u64) -> Result<usize> {
        if sample >= self.len() {
            return Err(Error::NoSuchSample { sample, len: self.len() });
        }
        // The last shard that starts at or before the sample; empty shards start where the next one does.
        Ok(self.starts.partition_point(|&start| start <= sample) - 1)
    }

    /// The number of the part of a sample that is there.
    pub(crate) fn part_number(&self, sample: u64) -> usize {
        self.parts.partition_point(|part| part.first <= sample).saturating_sub(1)
    }

    /// A sample's checked row.
    pub(crate) fn row(&self, sample: u64) -> Result<Row<'_>> {
        let (shard, row) = self.locate(sample)?;
        let row = shard.row(row);
        shard.check_whole()?;
        Ok(row?)
    }
}
