//! The command line: words, help texts, and their meaning for the library. Nothing is opened here.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

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
    Show(ShowArgs),
}

/// Print the keys of an epoch, one a line, in the order in which batches deliver them.
///
/// Every sample is read and checked on the way, as in training.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  loader order data/coco --split train --seed 7 --epoch 3 --batch-size 256 | head
  loader order data/coco --split val --epoch 0 --batch-size 1 --shuffle none | sort | uniq -d

Exit code: 0 done, 1 a sample is damaged, 2 could not run.")]
pub(crate) struct OrderArgs {
    /// Folder of the data set, the one with dataset.json
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Which split
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
    /// Decides the order, together with the epoch
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Which pass over the data, from 0
    #[arg(long, default_value_t = 0)]
    pub(crate) epoch: u64,
    /// Samples in a batch
    #[arg(long, default_value_t = 256)]
    pub(crate) batch_size: usize,
    /// How the epoch goes through the samples
    #[arg(long, value_enum, default_value_t = Shuffle::Global)]
    pub(crate) shuffle: Shuffle,
    /// What becomes of the samples that do not fill the last batch
    #[arg(long, value_enum, default_value_t = Remainder::PadLast)]
    pub(crate) remainder: Remainder,
    /// Share of the split that takes part, above 0 and up to 1
    #[arg(long, default_value_t = 1.0)]
    pub(crate) fraction: f64,
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

Exit code: 0 done, 1 a sample is damaged, 2 could not run.")]
pub(crate) struct BenchArgs {
    /// Folder of the data set, the one with dataset.json
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Which split
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
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
    /// How each epoch goes through the samples
    #[arg(long, value_enum, default_value_t = Shuffle::Global)]
    pub(crate) shuffle: Shuffle,
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

/// Draw the batch of a step as a PNG: its pictures as the model gets them, with keys and captions.
///
/// Steps count batches from the start of the epoch, and go on into the next epochs.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  loader show data/coco --step 0 --batch-size 64 --png batch.png
  loader show data/coco --step 12000 --seed 7 --augment rrc,flip,jitter --png batch.png

Exit code: 0 done, 1 a sample is damaged, 2 could not run.")]
pub(crate) struct ShowArgs {
    /// Folder of the data set, the one with dataset.json
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Which batch, from 0
    #[arg(long)]
    pub(crate) step: u64,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) png: PathBuf,
    /// Which split
    #[arg(long, default_value = "train")]
    pub(crate) split: String,
    /// Decides the order and every draw, together with the epoch
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// The epoch that the steps are counted from
    #[arg(long, default_value_t = 0)]
    pub(crate) epoch: u64,
    /// Samples in a batch, all of which are drawn
    #[arg(long, default_value_t = 64)]
    pub(crate) batch_size: usize,
    /// How each epoch goes through the samples
    #[arg(long, value_enum, default_value_t = Shuffle::Global)]
    pub(crate) shuffle: Shuffle,
    /// What becomes of the samples that do not fill the last batch
    #[arg(long, value_enum, default_value_t = Remainder::DropLast)]
    pub(crate) remainder: Remainder,
    /// Share of the split that takes part, above 0 and up to 1
    #[arg(long, default_value_t = 1.0)]
    pub(crate) fraction: f64,
    /// How pictures are changed at random, any of these with commas between
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) augment: Vec<Augment>,
}

/// Parts of an augmentation, each with torchvision's defaults.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Augment {
    /// Random resized crop: 8 to 100 % of the area, ratio 3/4 to 4/3
    Rrc,
    /// Mirrored left to right, every other time
    Flip,
    /// Brightness, contrast and saturation by up to 40 %, hue by up to a tenth of a turn
    Jitter,
}

impl Augment {
    /// All parts together; nothing where there is none.
    pub(crate) fn all(parts: &[Augment]) -> Option<loader::Augment> {
        (!parts.is_empty()).then(|| loader::Augment {
            crop: parts.contains(&Augment::Rrc).then(loader::RandomResizedCrop::default),
            flip: parts.contains(&Augment::Flip).then_some(0.5),
            jitter: parts.contains(&Augment::Jitter).then(loader::ColorJitter::default),
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
pub(crate) enum Shuffle {
    /// A permutation of all samples, another one in each epoch
    Global,
    /// The order of the data set itself
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

impl From<Shuffle> for loader::Order {
    fn from(shuffle: Shuffle) -> Self {
        match shuffle {
            Shuffle::Global => loader::Order::Global,
            Shuffle::None => loader::Order::None,
        }
    }
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
