//! A split's mapped shards under one numbering: sample n of the split is row r of shard s. Left out: any order, and
//! what a payload means ([`crate::collate`]).

use shard::{Dataset, ImageSettings, Row, ShardReader};

use crate::error::{Error, Result};

/// All shards of a split, open.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) dataset: Dataset,
    pub(crate) split: String,
    shards: Vec<ShardReader>,
    /// The first sample number of each shard, and the number of all samples.
    starts: Vec<u64>,
}

impl Store {
    pub(crate) fn open(dataset: Dataset, split: &str) -> Result<Store> {
        let shards = dataset.open_split(split)?;
        let mut starts = vec![0];
        let mut len = 0;
        for shard in &shards {
            len += shard.len() as u64;
            starts.push(len);
        }
        if len == 0 {
            return Err(Error::EmptySplit { path: dataset.dir().to_path_buf(), split: split.to_owned() });
        }
        Ok(Store { dataset, split: split.to_owned(), shards, starts })
    }

    pub(crate) fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    pub(crate) fn image(&self) -> &ImageSettings {
        &self.dataset.manifest().image
    }

    /// The shard of a sample, and its row's number there.
    pub(crate) fn locate(&self, sample: u64) -> Result<(&ShardReader, usize)> {
        if sample >= self.len() {
            return Err(Error::NoSuchSample { sample, len: self.len() });
        }
        // The last shard that starts at or before the sample; empty shards start where the next one does.
        let shard = self.starts.partition_point(|&start| start <= sample) - 1;
        Ok((&self.shards[shard], (sample - self.starts[shard]) as usize))
    }

    /// A sample's checked row.
    pub(crate) fn row(&self, sample: u64) -> Result<Row<'_>> {
        let (shard, row) = self.locate(sample)?;
        let row = shard.row(row);
        shard.check_whole()?;
        Ok(row?)
    }
}
