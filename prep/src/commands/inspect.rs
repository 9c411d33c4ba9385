//! `prep inspect DIR`: counts, sizes, caption lengths, and a sheet of samples. It leaves out whether the bytes are
//! sound, which is `verify`'s.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use shard::{Dataset, SampleMeta, SampleOrder, ShardReader, SplitEntry};

use crate::{Error, Result, cli::InspectArgs, pixels, report};

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
    /// Rows of the stored pictures.
    pub height: u32,
    /// Columns of the stored pictures.
    pub width: u32,
    /// Its splits.
    pub splits: Vec<SplitSummary>,
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
#[derive(Debug, Default)]
struct Histogram(BTreeMap<u64, u64>);

impl Histogram {
    fn add(&mut self, value: usize) {
        *self.0.entry(value as u64).or_default() += 1;
    }

    fn stats(&self) -> Stats {
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

/// Prints what is in a data set, and draws some of it.
///
/// # Errors
/// Where it cannot be read or drawn.
pub fn run(args: &InspectArgs) -> Result<()> {
    let dataset = Dataset::open(&args.dir)?;
    let manifest = dataset.manifest();
    let splits: Result<Vec<SplitSummary>> =
        manifest.splits.iter().map(|split| summarise(&dataset, split)).collect();
    let summary = Summary {
        source: manifest.source.name.clone(),
        source_revision: manifest.source.revision.clone(),
        program: manifest.program.clone(),
        engine: manifest.engine.clone(),
        fingerprint: manifest.fingerprint.clone(),
        seed: manifest.seed,
        order: if manifest.order == SampleOrder::Source { "source" } else { "shuffled" }.to_owned(),
        image_format: manifest.image.format.name().to_owned(),
        layout: manifest.image.layout.name().to_owned(),
        height: manifest.image.height,
        width: manifest.image.width,
        splits: splits?,
    };
    report::inspected(&args.dir, &summary, args.json);
    if let Some(path) = &args.grid {
        draw(&dataset, args, path)?;
        if !args.json {
            report::drawn(path);
        }
    }
    Ok(())
}

fn summarise(dataset: &Dataset, split: &SplitEntry) -> Result<SplitSummary> {
    let mut histograms: [Histogram; 5] = Default::default();
    let [captions, words, characters, widths, heights] = &mut histograms;
    for shard in dataset.open_split(&split.name)? {
        for number in 0..shard.len() {
            let row = shard.row(number)?;
            captions.add(row.captions.len());
            for caption in row.captions {
                words.add(caption.split_whitespace().count());
                characters.add(caption.chars().count());
            }
            let meta = meta(&shard, number)?;
            widths.add(meta.original_width as usize);
            heights.add(meta.original_height as usize);
        }
    }
    let samples = || split.shards.iter().map(|shard| shard.samples);
    Ok(SplitSummary {
        name: split.name.clone(),
        samples: split.samples,
        shards: split.shards.len(),
        shard_samples_min: samples().min().unwrap_or(0),
        shard_samples_max: samples().max().unwrap_or(0),
        bytes: split.shards.iter().map(|shard| shard.tar_bytes + shard.index_bytes).sum(),
        captions_per_sample: captions.stats(),
        caption_words: words.stats(),
        caption_characters: characters.stats(),
        original_width: widths.stats(),
        original_height: heights.stats(),
        left_out: split.left_out_counts.clone(),
    })
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

/// Draws samples evenly spread over the split: in a shuffled set, a fair draw of it.
fn draw(dataset: &Dataset, args: &InspectArgs, path: &Path) -> Result<()> {
    let first = dataset.manifest().splits.first().map(|split| split.name.clone()).unwrap_or_default();
    let name = args.split.clone().unwrap_or(first);
    let shards = dataset.open_split(&name)?;
    let image = &dataset.manifest().image;
    let total: usize = shards.iter().map(ShardReader::len).sum();
    let count = total.min(args.samples.into());
    let mut tiles = Vec::with_capacity(count);
    for tile in 0..count {
        let mut number = tile * total / count;
        let shard = shards.iter().find(|shard| {
            let inside = number < shard.len();
            number -= if inside { 0 } else { shard.len() };
            inside
        });
        let Some(shard) = shard else { continue };
        let row = shard.row(number)?;
        let payload = shard.payload(&row, row.image)?;
        shard.check(&row, row.image, payload)?;
        tiles.push(picture::Tile {
            pixels: pixels::stored_rgb(payload, image)?,
            height: image.height as usize,
            width: image.width as usize,
            title: row.key.to_owned(),
            captions: row.captions.into_iter().map(str::to_owned).collect(),
        });
    }
    let manifest = dataset.manifest();
    let sheet = picture::Sheet {
        heading: format!("{} · {name}", manifest.source.name),
        subheading: format!(
            "{count} of {total} samples · {}×{} {} · fingerprint {}",
            image.height,
            image.width,
            image.format.name(),
            &manifest.fingerprint[..12]
        ),
        tiles,
        ..Default::default()
    };
    Ok(sheet.draw()?.write_png(path)?)
}
