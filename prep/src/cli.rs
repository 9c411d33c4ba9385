//! The command line: types and help texts alone.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{near, plan::Validation};

const EXAMPLES: &str = "\
Examples:
  prep                                                   # 10,000 procedural scenes into data/shapes
  prep --dataset shapes --limit 20000 --val 1000 --size 64 --shards 8 --out data/demo
  prep --dataset coco --from /data/coco --shards 64      # train2017/, val2017/, annotations/ are there
  prep --dataset folder --from photos --val 0.05         # photos/captions.jsonl names the images
  prep --dataset text-to-image-2m --from /data/t2i --shards 512 --store jpeg
  prep verify data/coco                                  # in CI: exit 0 sound, 1 damaged, 2 could not run
  prep inspect data/coco --grid samples.png
  prep inspect data/coco --html report.html              # samples, captions, left out, near-duplicates
  prep inspect data/coco --near                          # nearly the same pictures, across splits first

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
    /// Check every byte of a data set, or with --quick its structure; exit 1 if anything is wrong.
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
    after_help = "Examples:\n  prep verify data/coco\n  prep verify data/coco --quick\n  prep verify data/coco --json | jq .report.damages"
)]
pub struct VerifyArgs {
    /// The data set.
    pub dir: PathBuf,
    /// Check the structure alone, in seconds.
    ///
    /// Read are the manifest with its digest, the presence and length of every file, every byte of the indexes (rows,
    /// their checksums, ranges, order, keys), the tar header in front of each member, and the end of each archive.
    /// NOT found are changed bytes of pictures, of JSONs, of padding and of side tables: for those, leave --quick
    /// away.
    #[arg(long)]
    pub quick: bool,
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
    after_help = "Examples:\n  prep inspect data/coco\n  prep inspect data/coco --grid samples.png --samples 40 --split val\n  prep inspect data/coco --html report.html\n  prep inspect data/coco --near --json | jq '.near.relations[0]'"
)]
pub struct InspectArgs {
    /// The data set.
    pub dir: PathBuf,
    /// Draw a sheet of samples with their captions.
    #[arg(long, value_name = "FILE.png")]
    pub grid: Option<PathBuf>,
    /// Write all of it as one page: samples, captions, sizes, what was left out, near-duplicates side by side.
    #[arg(long, value_name = "FILE.html")]
    pub html: Option<PathBuf>,
    /// List pictures that are nearly the same, across splits first.
    ///
    /// Each stored picture gets a perceptual hash of 64 bits; pairs whose hashes differ in few bits are listed. Found
    /// are pictures of another quality, size or brightness and slightly cropped ones; not mirrored or turned ones.
    #[arg(long)]
    pub near: bool,
    /// Most bits of 64 in which two pictures of --near or --html may differ.
    #[arg(long, default_value_t = near::DISTANCE_DEFAULT, value_name = "BITS", value_parser = clap::value_parser!(u32).range(0..=i64::from(near::DISTANCE_MAX)))]
    pub max_distance: u32,
    /// How many samples to draw (with --html, of each split).
    #[arg(long, default_value_t = 24, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=400))]
    pub samples: u16,
    /// Which split to draw [default: the first].
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Print the numbers as JSON.
    #[arg(long)]
    pub json: bool,
    /// Threads [default: all cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}
