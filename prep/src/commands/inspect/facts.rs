//! What the rows and JSONs of a data set say in numbers: counted shard by shard on all of rayon's threads, put together
//! in order. It leaves out pixels.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;
use shard::{Dataset, Manifest, SampleMeta, SampleOrder, ShardReader, SplitEntry};

use crate::{Error, Result, near::NearDuplicates};

/// What is in a data set.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The source's name.
    pub source: String,
    /// What pins its content.
    pub source_revision: String,
    /// The program that wrote it.
    pub program: String,
    /// Decoder and resizer.
    pub engine: String,
    /// The data set's identity.
    pub fingerprint: String,
    /// Seed of the placement.
    pub seed: u64,
    /// shuffled or source.
    pub order: String,
    /// npy or jpg.
    pub image_format: String,
    /// chw or hwc.
    pub layout: String,
    /// How pictures were brought to their size; of shortest-side, height and width are the shorter one.
    pub resize: String,
    /// Rows of the stored pictures.
    pub height: u32,
    /// Columns of the stored pictures.
    pub width: u32,
    /// Its splits.
    pub splits: Vec<SplitSummary>,
    /// Near-duplicates, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near: Option<NearDuplicates>,
}

/// What is in a split.
#[derive(Debug, Serialize)]
pub struct SplitSummary {
    /// Its name.
    pub name: String,
    /// Its samples.
    pub samples: u64,
    /// Its shards.
    pub shards: usize,
    /// Samples of its smallest shard.
    pub shard_samples_min: u64,
    /// Samples of its largest shard.
    pub shard_samples_max: u64,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Captions a sample.
    pub captions_per_sample: Stats,
    /// Words a caption.
    pub caption_words: Stats,
    /// Characters a caption.
    pub caption_characters: Stats,
    /// Columns of the sources' pictures.
    pub original_width: Stats,
    /// Rows of the sources' pictures.
    pub original_height: Stats,
    /// Samples left out, by reason.
    pub left_out: BTreeMap<String, u64>,
}

/// A distribution in four numbers.
#[derive(Debug, Default, Serialize)]
pub struct Stats {
    /// Smallest.
    pub min: u64,
    /// The middle one, the lower of two.
    pub median: u64,
    /// Mean.
    pub mean: f64,
    /// Largest.
    pub max: u64,
}

/// Counts of values: a distribution in memory that does not grow with the samples.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram(BTreeMap<u64, u64>);

impl Histogram {
    /// Each value that occurs, and how often.
    pub(super) fn counts(&self) -> &BTreeMap<u64, u64> {
        &self.0
    }

    fn merge(&mut self, other: &Self) {
        for (&value, &times) in &other.0 {
            *self.0.entry(value).or_default() += times;
        }
    }

    pub(super) fn add(&mut self, value: usize) {
        *self.0.entry(value as u64).or_default() += 1;
    }

    /// Its four numbers.
    pub(super) fn stats(&self) -> Stats {
        let count: u64 = self.0.values().sum();
        let (Some((&min, _)), Some((&max, _))) = (self.0.first_key_value(), self.0.last_key_value()) else {
            return Stats::default();
        };
        let sum: u128 = self.0.iter().map(|(&value, &times)| u128::from(value) * u128::from(times)).sum();
        let mut before = 0;
        let median = self.0.iter().find(|(_, times)| {
            before += **times;
            2 * before >= count
        });
        Stats { min, median: median.map_or(max, |(&value, _)| value), mean: sum as f64 / count as f64, max }
    }
}

/// Shards that are counted before their counts are put together.
const CHUNK: usize = 32;

/// Longest word that is counted, in characters, and most words that are kept in mind; past that, those met once are
/// forgotten, so that captions of noise do not fill the memory.
const WORD_CHARACTERS_MAX: usize = 32;
const WORDS_MAX: usize = 1_000_000;

/// The distributions of a split.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Captions a sample.
    pub(super) captions: Histogram,
    /// Words a caption.
    pub(super) words: Histogram,
    /// Characters a caption.
    pub(super) characters: Histogram,
    /// Columns of the sources' pictures.
    pub(super) widths: Histogram,
    /// Rows of them.
    pub(super) heights: Histogram,
    /// Width over height, in hundredths.
    pub(super) aspects: Histogram,
    /// How many captions have each word, in lower case.
    pub(super) vocabulary: BTreeMap<String, u64>,
}

impl Facts {
    /// Counts a split; its vocabulary where `with_words`. `counted` is told of each shard's samples.
    ///
    /// # Errors
    /// Where a shard cannot be read or is damaged.
    pub(super) fn of(
        dataset: &Dataset,
        split: &SplitEntry,
        with_words: bool,
        counted: impl Fn(usize) + Sync,
    ) -> Result<Self> {
        let mut facts = Self::default();
        for shards in dataset.open_split(&split.name)?.chunks(CHUNK) {
            let of_shards: Result<Vec<Self>> = shards
                .par_iter()
                .map(|shard| {
                    let facts = Self::of_shard(shard, with_words);
                    counted(shard.len());
                    facts
                })
                .collect();
            for of_shard in of_shards? {
                facts.merge(of_shard);
            }
        }
        Ok(facts)
    }

    fn of_shard(shard: &ShardReader, with_words: bool) -> Result<Self> {
        let mut facts = Self::default();
        for number in 0..shard.len() {
            let row = shard.row(number)?;
            facts.captions.add(row.captions.len());
            for caption in row.captions {
                facts.words.add(caption.split_whitespace().count());
                facts.characters.add(caption.chars().count());
                if with_words {
                    facts.add_words(caption);
                }
            }
            let meta = meta(shard, number)?;
            let (width, height) = (meta.original_width as usize, meta.original_height as usize);
            facts.widths.add(width);
            facts.heights.add(height);
            facts.aspects.add(width * 100 / height.max(1));
        }
        Ok(facts)
    }

    fn add_words(&mut self, caption: &str) {
        let lower = caption.to_lowercase();
        let mut words: Vec<&str> = lower
            .split_whitespace()
            .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
            .filter(|word| !word.is_empty() && word.chars().count() <= WORD_CHARACTERS_MAX)
            .collect();
        words.sort_unstable();
        words.dedup();
        for word in words {
            match self.vocabulary.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(self.vocabulary.insert(word.to_owned(), 1)),
            }
        }
        self.forget_rare();
    }

    fn forget_rare(&mut self) {
        if self.vocabulary.len() > WORDS_MAX {
            self.vocabulary.retain(|_, count| *count > 1);
        }
    }

    fn merge(&mut self, other: Self) {
        for (mine, others) in [
            (&mut self.captions, &other.captions),
            (&mut self.words, &other.words),
            (&mut self.characters, &other.characters),
            (&mut self.widths, &other.widths),
            (&mut self.heights, &other.heights),
            (&mut self.aspects, &other.aspects),
        ] {
            mine.merge(others);
        }
        for (word, count) in other.vocabulary {
            *self.vocabulary.entry(word).or_default() += count;
        }
        self.forget_rare();
    }

    /// The split's part of the summary.
    pub(super) fn summary(&self, split: &SplitEntry) -> SplitSummary {
        let samples = || split.shards.iter().map(|shard| shard.samples);
        SplitSummary {
            name: split.name.clone(),
            samples: split.samples,
            shards: split.shards.len(),
            shard_samples_min: samples().min().unwrap_or(0),
            shard_samples_max: samples().max().unwrap_or(0),
            bytes: split.shards.iter().map(|shard| shard.tar_bytes + shard.index_bytes).sum(),
            captions_per_sample: self.captions.stats(),
            caption_words: self.words.stats(),
            caption_characters: self.characters.stats(),
            original_width: self.widths.stats(),
            original_height: self.heights.stats(),
            left_out: split.left_out_counts.clone(),
        }
    }
}

impl Summary {
    /// The summary of a data set whose splits have these facts.
    pub(super) fn of(manifest: &Manifest, facts: &[Facts], near: Option<NearDuplicates>) -> Self {
        Self {
            source: manifest.source.name.clone(),
            source_revision: manifest.source.revision.clone(),
            program: manifest.program.clone(),
            engine: manifest.engine.clone(),
            fingerprint: manifest.fingerprint.clone(),
            seed: manifest.seed,
            order: if manifest.order == SampleOrder::Source { "source" } else { "shuffled" }.to_owned(),
            image_format: manifest.image.format.name().to_owned(),
            layout: manifest.image.layout.name().to_owned(),
            resize: manifest.image.resize.clone(),
            height: manifest.image.height,
            width: manifest.image.width,
            splits: manifest.splits.iter().zip(facts).map(|(split, facts)| facts.summary(split)).collect(),
            near,
        }
    }
}

fn meta(shard: &ShardReader, number: usize) -> Result<SampleMeta> {
    let row = shard.row(number)?;
    let json = shard.payload(&row, row.json)?;
    shard.check(&row, row.json, json)?;
    serde_json::from_slice(json).map_err(|source| Error::Parse {
        path: shard.tar_path().to_path_buf(),
        what: "a sample's JSON",
        source: source.into(),
    })
}
