//! The command line: types and help texts alone.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    pixels::{Decode, Engine, Fit},
    plan::Validation,
};

const EXAMPLES: &str = "\
Examples:
  prep                                                   # 10,000 procedural scenes into data/shapes
  prep --dataset shapes --limit 20000 --val 1000 --size 64 --shards 8 --out data/demo
  prep --dataset coco --from /data/coco --shards 64      # train2017/, val2017/, annotations/ are there
  prep --dataset folder --from photos --val 0.05         # photos/captions.jsonl names the images
  prep --dataset text-to-image-2m --from /data/t2i --shards 512 --store jpeg
  prep verify data/coco                                  # in CI: exit 0 sound, 1 damaged, 2 could not run
  prep inspect data/coco --grid samples.png

Exit codes: 0 success, 1 damage found, 2 the command could not be carried out.";

/// Pack image-text sets into shuffled, checksummed shards.
#[derive(Debug, Parser)]
#[command(name = "prep", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    /// verify or inspect; none packs.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of packing.
    #[command(flatten)]
    pub pack: PackArgs,
}

/// What to do with a data set that is there.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check every byte of a data set; exit 1 if any is wrong.
    Verify(VerifyArgs),
    /// Say what is in a data set, and draw some of it.
    Inspect(InspectArgs),
}

/// A source by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DatasetName {
    /// Procedural scenes, made on the spot.
    Shapes,
    /// MS-COCO 2017 in its official layout.
    Coco,
    /// Tars with KEY.jpg and KEY.json, the caption in "prompt".
    #[value(name = "text-to-image-2m")]
    TextToImage2m,
    /// Images with captions.jsonl.
    Folder,
}

/// How pictures are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// uint8 arrays: fastest to read.
    Tensor,
    /// JPEGs: a tenth of the bytes, decoded on load.
    Jpeg,
}

/// The order of a tensor's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TensorLayout {
    /// Channels, rows, columns, as PyTorch has them.
    Chw,
    /// Rows, columns, channels.
    Hwc,
}

/// The order of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// By a seeded hash of their id.
    Shuffled,
    /// As the source lists them: for experiments, and to see what goes wrong.
    Source,
}

/// Options of packing.
#[derive(Debug, Clone, Args)]
pub struct PackArgs {
    /// What to pack.
    #[arg(long, value_enum, default_value = "shapes", value_name = "NAME")]
    pub dataset: DatasetName,
    /// Shards of train; other splits get theirs in proportion, at least one.
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub shards: u32,
    /// Folder of the source (all but shapes need one).
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Folder of the data set [default: data/NAME].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Seed of the order, of the held-out samples and of shapes.
    #[arg(long, default_value_t = 0, value_name = "S")]
    pub seed: u64,
    /// How pictures are stored.
    #[arg(long, value_enum, default_value = "tensor")]
    pub store: Store,
    /// JPEG quality of --store jpeg [default: 90].
    #[arg(long, value_name = "Q", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: Option<u8>,
    /// Side of the stored pictures.
    #[arg(long, default_value_t = 224, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=2048))]
    pub size: u32,
    /// How pictures that are not square fill the square [default: center-crop].
    #[arg(long, value_enum, value_name = "MODE")]
    pub resize: Option<Fit>,
    /// Axes of --store tensor [default: chw].
    #[arg(long, value_enum, value_name = "AXES")]
    pub layout: Option<TensorLayout>,
    /// What decodes and reduces; recorded, for other engines give other bytes. turbo is libjpeg-turbo, in builds with
    /// the feature of that name.
    #[arg(long, value_enum, default_value = "rust")]
    pub engine: Engine,
    /// How JPEGs are decoded: fast takes a half, a quarter or an eighth of their pixels where that is enough (turbo).
    #[arg(long, value_enum, default_value = "exact")]
    pub decode: Decode,
    /// Leave out pictures that declare more pixels than this.
    #[arg(long, default_value_t = crate::pixels::PIXELS_MAX, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_pixels: u64,
    /// At most N samples of train; other splits keep their proportion. For shapes: how many scenes
    /// [default: 10000].
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Samples for validation, as a share or a number [default: 1 %, at most 10,000; all of a source's own].
    #[arg(long, value_name = "FRACTION|N")]
    pub val: Option<Validation>,
    /// The order of samples in the shards.
    #[arg(long, value_enum, default_value = "shuffled")]
    pub order: Order,
    /// Worker threads [default: all cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// Options of `prep verify`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  prep verify data/coco\n  prep verify data/coco --json | jq .report.damages"
)]
pub struct VerifyArgs {
    /// The data set.
    pub dir: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Threads [default: all cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// Options of `prep inspect`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  prep inspect data/coco\n  prep inspect data/coco --grid samples.png --samples 40 --split val"
)]
pub struct InspectArgs {
    /// The data set.
    pub dir: PathBuf,
    /// Draw a sheet of samples with their captions.
    #[arg(long, value_name = "FILE.png")]
    pub grid: Option<PathBuf>,
    /// How many samples to draw.
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=400))]
    pub samples: u16,
    /// Which split to draw [default: the first].
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Print the numbers as JSON.
    #[arg(long)]
    pub json: bool,
}
