//! The command line: words, help texts, and their meaning for the library.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use loader::{CacheConfig, Distinct, Draws, Loader, LoaderConfig, Order, Part, Selection, Substitution};

/// Read a prepared data set as training would: print its order, measure its rate.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Order(OrderArgs),
    Bench(BenchArgs),
    VerifyResume(VerifyResumeArgs),
    Report(ReportArgs),
    Show(ShowArgs),
}

/// Which data set, and which of its samples.
#[derive(clap::Args)]
pub(crate) struct DataArgs {
    /// Folder of the data set, the one with dataset.json; or s3://, https:// or hf:// where it lies
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) view: ViewArgs,
}

impl DataArgs {
    /// Opens the data with `config`, whose split, order and selection it fills in.
    pub(crate) fn open(&self, config: LoaderConfig) -> Result<Loader> {
        self.view.open(&self.dir, config)
    }
}

/// Which samples of a data set, with which others, in which order.
#[derive(clap::Args)]
pub(crate) struct ViewArgs {
    /// Which split
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
    /// Share of the split that takes part, above 0 and up to 1
    #[arg(long, default_value_t = 1.0)]
    pub(crate) fraction: f64,
    /// Samples with these keys alone: a file with one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) only_keys: Option<PathBuf>,
    /// Samples alone whose captions all have so many words
    #[arg(long, value_name = "MIN..MAX", value_parser = words)]
    pub(crate) caption_words: Option<(u32, u32)>,
    /// Mix in the split of another data set; with weights, one for each of them and --weight
    #[arg(long, value_name = "DIR[=WEIGHT]")]
    pub(crate) mix: Vec<String>,
    /// Share of the first data set, where others are mixed in
    #[arg(long)]
    pub(crate) weight: Option<f64>,
    /// Samples of an epoch [default: as many as take part]
    #[arg(long, value_name = "SAMPLES")]
    pub(crate) epoch_samples: Option<u64>,
    /// How an epoch goes through the samples: global, block[:SAMPLESxBLOCKS], shard-buffer[:SAMPLES], none, auto
    #[arg(long, default_value_t = Order::Global)]
    pub(crate) shuffle: Order,
    /// No two samples with a caption in common in a batch
    #[arg(long)]
    pub(crate) distinct: bool,
    /// No two samples in a batch whose keys stand in one line of this file
    #[arg(long, value_name = "FILE")]
    pub(crate) distinct_keys: Option<PathBuf>,
    /// What becomes of damaged samples
    #[arg(long, value_enum, default_value_t = OnCorrupt::Error)]
    pub(crate) on_corrupt: OnCorrupt,
    /// Where samples of a data set in an object store are kept [default: shards in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Most bytes of them, such as 20GB or 500MB [default: half of what the disk has free]
    #[arg(long, value_name = "SIZE", value_parser = loader::parse_bytes)]
    pub(crate) cache_bytes: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnCorrupt {
    /// They end the epoch with an error that names them
    Error,
    /// Another sample, the same each time, takes their place, and both are named at the end
    Substitute,
}

impl ViewArgs {
    /// Whether it asks for nothing but a split and an order.
    pub(crate) fn is_plain(&self) -> bool {
        let narrows = self.fraction < 1.0 || self.only_keys.is_some() || self.caption_words.is_some();
        let mixes = !self.mix.is_empty() || self.weight.is_some() || self.epoch_samples.is_some();
        !(narrows || mixes || self.distinct || self.distinct_keys.is_some())
    }

    /// Opens the data set in `dir` with `config`, whose split, order and selection it fills in.
    pub(crate) fn open(&self, dir: &Path, config: LoaderConfig) -> Result<Loader> {
        let keys = self.only_keys.as_ref().map(|path| {
            let text = fs_err::read_to_string(path)?;
            let keys = text.lines().map(str::trim).filter(|line| !line.is_empty());
            anyhow::Ok(Arc::new(keys.map(str::to_owned).collect()))
        });
        let selection = Selection {
            fraction: self.fraction,
            keys: keys.transpose()?,
            caption_words: self.caption_words,
            filter: None,
        };
        let mut first = Part::new(dir).split(&self.split).selection(selection);
        first.weight = self.weight;
        let mut parts = vec![first];
        for text in &self.mix {
            let (dir, weight) = match text.rsplit_once('=') {
                Some((dir, weight)) if weight.parse::<f64>().is_ok() => (dir, weight.parse().ok()),
                _ => (text.as_str(), None),
            };
            parts.push(Part { weight, ..Part::new(dir).split(&self.split) });
        }
        let on_corrupt = match self.on_corrupt {
            OnCorrupt::Error => loader::OnCorrupt::Error,
            OnCorrupt::Substitute => loader::OnCorrupt::Substitute,
        };
        let keys = self.distinct_keys.as_ref().map(fs_err::read_to_string).transpose()?.unwrap_or_default();
        let keys = keys.lines().map(|line| line.split_whitespace().map(str::to_owned).collect());
        let distinct = Distinct { captions: self.distinct, keys: Arc::new(keys.collect()) };
        let distinct = Some(distinct).filter(|distinct| *distinct != Distinct::default());
        let (order, epoch_samples) = (self.shuffle, self.epoch_samples);
        let cache = CacheConfig { dir: self.cache_dir.clone(), bytes: self.cache_bytes, ..config.cache };
        let config = LoaderConfig { order, epoch_samples, on_corrupt, distinct, cache, ..config };
        let is_first = !config.profile;
        let loader = Loader::open_parts(parts, config)?;
        if self.shuffle == Order::Auto && is_first {
            crate::say(&format!("order: {}", loader.order()));
        }
        if let Some(stats) = loader.remote_stats().filter(|_| is_first) {
            for dir in &stats.dirs {
                crate::say(&format!("cache: {}", dir.display()));
            }
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            let (most, now) = (gigabytes(stats.limit_bytes), gigabytes(stats.cached_bytes));
            crate::say(&format!("cache: at most {most:.3} GB of samples, {now:.3} GB are there"));
        }
        if !self.mix.is_empty() && is_first {
            for Draws { dir, samples, draws } in loader.draws() {
                crate::say(&format!(
                    "{}: {draws} of an epoch's {} from {samples} samples",
                    dir.display(),
                    loader.len()
                ));
            }
        }
        Ok(loader)
    }
}

/// Names the samples that took others' places.
pub(crate) fn tell_substitutions(loader: &Loader) {
    for Substitution { epoch, sample, by, problem } in loader.substitutions() {
        let key = loader.key(by).unwrap_or_default();
        crate::say(&format!("epoch {epoch}: sample {sample} is damaged, {key} takes its place: {problem}"));
    }
    let (told, all) = (loader.substitutions().len() as u64, loader.stats().substituted);
    if all > told {
        crate::say(&format!("and {} more", all - told));
    }
}

/// `MIN..MAX`, both included.
fn words(text: &str) -> std::result::Result<(u32, u32), String> {
    let ends = text.split_once("..").map(|(fewest, most)| (fewest, most.trim_start_matches('=')));
    let ends = ends.and_then(|(fewest, most)| fewest.parse().ok().zip(most.parse().ok()));
    ends.ok_or_else(|| "two numbers of words, such as 3..20".to_owned())
}

/// Prove what a checkpoint has seen: replay the order up to its state by the index alone and compare the keys' hash.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  loader verify-resume data/coco --state runs/clip/checkpoints/step-00000800/state.json --batch-size 256
  loader verify-resume data/coco --state state.json --batch-size 256 --fraction 0.1 --shuffle block

The state is a line of the loader's JSON, or a JSON file that has one as its field `loader`.

Exit code: 0 the state's past is this data in this order, 1 it is not, 2 could not run.")]
pub(crate) struct VerifyResumeArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// The saved state
    #[arg(long, value_name = "FILE")]
    pub(crate) state: PathBuf,
    /// Samples in a batch, over all ranks
    #[arg(long)]
    pub(crate) batch_size: usize,
    /// What became of the samples that do not fill the last batch
    #[arg(long, value_enum, default_value_t = Remainder::DropLast)]
    pub(crate) remainder: Remainder,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the keys of an epoch, one a line, in the order in which batches deliver them.
///
/// Every sample is read and checked on the way, as in training.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  loader order data/coco --split train --seed 7 --epoch 3 --batch-size 256 | head
  loader order data/coco --split val --epoch 0 --batch-size 1 --shuffle none | sort | uniq -d
  loader order data/coco --mix data/t2i=0.7 --weight 0.3 --epoch-samples 200000 --caption-words 3..40

Exit code: 0 done, 1 a sample is damaged, 2 could not run.")]
pub(crate) struct OrderArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Decides the order, together with the epoch
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Which pass over the data, from 0
    #[arg(long, default_value_t = 0)]
    pub(crate) epoch: u64,
    /// Samples in a batch
    #[arg(long, default_value_t = 256)]
    pub(crate) batch_size: usize,
    /// What becomes of the samples that do not fill the last batch
    #[arg(long, value_enum, default_value_t = Remainder::PadLast)]
    pub(crate) remainder: Remainder,
    /// Worker threads [default: one per core]; the order does not depend on it
    #[arg(long)]
    pub(crate) threads: Option<usize>,
}

/// Measure how fast batches are delivered to a consumer that does nothing with them.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  loader bench data/coco --batch-size 256 --output u8
  loader bench data/coco --batch-size 256 --output f32 --threads 2 --seconds 10 --json
  loader bench data/coco --output f32 --normalize imagenet --augment rrc,flip,jitter
  loader bench s3://bucket/coco --shuffle auto --cache-dir /scratch/cache --cache-bytes 200GB

Exit code: 0 done, 1 a sample is damaged, 2 could not run.")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Samples in a batch
    #[arg(long, default_value_t = 256)]
    pub(crate) batch_size: usize,
    /// What the pixels are: bytes, or normalised floats
    #[arg(long, value_enum, default_value_t = Output::U8)]
    pub(crate) output: Output,
    /// How floats are normalised [default: clip]
    #[arg(long, value_enum)]
    pub(crate) normalize: Option<Normalize>,
    /// How pictures are changed at random, any of these with commas between
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) augment: Vec<Augment>,
    /// Decides the order
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// When checksums are compared
    #[arg(long, value_enum, default_value_t = Check::Always)]
    pub(crate) check: Check,
    /// Worker threads [default: one per core]; 0 reads in the consumer's own thread
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Epochs to read [default: 1, or as many as fit in --seconds]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) epochs: Option<u64>,
    /// Stop after this time, even within an epoch
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Judge how good a shuffle is, beside an ideal one of the same size.
///
/// Measures the order of a data set, or the keys that any loader delivered: shards a batch, how often batch-mates
/// meet again, variance of batch means on the source's order, correlations, the end of the epoch, what is left
/// out. Reads no pixels.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  loader report data/coco --epochs 3 --batch-size 256 --png order.png
  loader report data/coco --shuffle none
  loader report data/coco --shuffle block:16x2048 --fraction 0.1 --distinct
  loader report --keys epoch-0.txt epoch-1.txt --batch-size 256 --json
  loader report data/coco --keys epoch-0.txt --keys epoch-1.txt
  loader report --synthetic 262144 --shard-samples 1024

A line of a key file is KEY, or SHARD, a tab and KEY; a file is an epoch, in order of delivery.

Exit code: 0 as an ideal shuffle or near it, 1 a fault was found or an index is damaged, 2 could not run.")]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct ReportArgs {
    /// Folder of the data set, the one with dataset.json; or s3://, https:// or hf:// where it lies
    #[arg(value_name = "DIR", group = "what")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) view: ViewArgs,
    /// Epochs to measure, from epoch 0; pairs are compared from one to the next
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000), conflicts_with = "keys")]
    pub(crate) epochs: u64,
    /// Samples in a batch
    #[arg(long, default_value_t = 256)]
    pub(crate) batch_size: u64,
    /// Decides the order
    #[arg(long, default_value_t = 0, conflicts_with = "keys")]
    pub(crate) seed: u64,
    /// Files of delivered keys, one an epoch, instead of the loader's own order
    #[arg(long, value_name = "FILE", num_args = 1.., group = "what")]
    pub(crate) keys: Vec<PathBuf>,
    /// An imagined data set of this many samples in source order, instead of DIR
    #[arg(long, value_name = "SAMPLES", group = "what", conflicts_with_all = ["dir", "keys"])]
    pub(crate) synthetic: Option<u64>,
    /// Samples in a shard of the imagined data set
    #[arg(long, value_name = "SAMPLES", default_value_t = 1024, requires = "synthetic",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) shard_samples: u64,
    /// Ideal permutations to simulate beside it; fewer of very long orders
    #[arg(long, value_name = "COUNT", default_value_t = loader::report::SIMULATIONS,
        value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) simulations: u32,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw the order beside an ideal one
    #[arg(long, value_name = "FILE")]
    pub(crate) png: Option<PathBuf>,
}

/// Draw the batch of a step as a PNG: its pictures as the model gets them, with keys and captions.
///
/// Steps count batches from the start of the epoch, and go on into the next epochs.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  loader show data/coco --step 0 --batch-size 64 --png batch.png
  loader show data/coco --step 12000 --seed 7 --augment rrc,flip,jitter --png batch.png

Exit code: 0 done, 1 a sample is damaged, 2 could not run.")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Which batch, from 0
    #[arg(long)]
    pub(crate) step: u64,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) png: PathBuf,
    /// Decides the order and every draw, together with the epoch
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// The epoch that the steps are counted from
    #[arg(long, default_value_t = 0)]
    pub(crate) epoch: u64,
    /// Samples in a batch, all of which are drawn
    #[arg(long, default_value_t = 64)]
    pub(crate) batch_size: usize,
    /// What becomes of the samples that do not fill the last batch
    #[arg(long, value_enum, default_value_t = Remainder::DropLast)]
    pub(crate) remainder: Remainder,
    /// How pictures are changed at random, any of these with commas between
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) augment: Vec<Augment>,
}

/// Parts of an augmentation, with torchvision's defaults where it has them.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Augment {
    /// Random resized crop: 8 to 100 % of the area, ratio 3/4 to 4/3
    Rrc,
    /// Mirrored left to right, every other time
    Flip,
    /// Brightness, contrast and saturation by up to 40 %, hue by up to a tenth of a turn
    Jitter,
    /// Without colours, every fifth time
    Grayscale,
}

impl Augment {
    /// All parts together; nothing where there is none.
    pub(crate) fn all(parts: &[Augment]) -> Option<loader::Augment> {
        (!parts.is_empty()).then(|| loader::Augment {
            crop: parts.contains(&Augment::Rrc).then(loader::RandomResizedCrop::default),
            flip: parts.contains(&Augment::Flip).then_some(0.5),
            jitter: parts.contains(&Augment::Jitter).then(loader::ColorJitter::default),
            grayscale: parts.contains(&Augment::Grayscale).then_some(0.2),
        })
    }
}

/// What floats are: `(value / 255 - mean) / std`.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Normalize {
    /// Mean and deviation of CLIP's pictures
    Clip,
    /// Those of ImageNet
    Imagenet,
    /// From 0 to 1
    None,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Remainder {
    /// They are left out of this epoch
    DropLast,
    /// They are delivered, and the batch is filled up from the start of the epoch
    PadLast,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Output {
    U8,
    F32,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Check {
    Always,
    First,
    Never,
}

impl From<Remainder> for loader::Remainder {
    fn from(remainder: Remainder) -> Self {
        match remainder {
            Remainder::DropLast => loader::Remainder::DropLast,
            Remainder::PadLast => loader::Remainder::PadLast,
        }
    }
}

impl From<Normalize> for loader::Normalize {
    fn from(normalize: Normalize) -> Self {
        match normalize {
            Normalize::Clip => loader::CLIP_NORMALIZE,
            Normalize::Imagenet => loader::IMAGENET_NORMALIZE,
            Normalize::None => loader::NO_NORMALIZE,
        }
    }
}

impl From<Check> for loader::Check {
    fn from(check: Check) -> Self {
        match check {
            Check::Always => loader::Check::Always,
            Check::First => loader::Check::First,
            Check::Never => loader::Check::Never,
        }
    }
}
