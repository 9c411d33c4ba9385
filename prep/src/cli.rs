//! The command line: types and help texts alone.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    near,
    pixels::{Decode, Engine, Fit},
    plan::Validation,
};

const EXAMPLES: &str = "\
Examples:
  prep                                                   # 10,000 procedural scenes into data/shapes
  prep --dataset coco --shards 64                        # downloads MS-COCO 2017 -> data/coco/{train,val}
  prep --dataset coco --from /data/coco --shards 64      # its folders or zips are there
  prep --dataset text-to-image-2m --shards 512 --store jpeg
  prep --dataset hf:OWNER/NAME --limit 100000            # WebDataset tars or parquet of the Hub
  prep --dataset folder --from photos --val 0.05         # photos/captions.jsonl names the images
  prep --dataset csv --from list.csv --images photos --caption-column title
  prep --dataset webdataset --from tars --out data/mine
  prep --dataset coco --from /data/coco --advise         # tensors or JPEGs? with bytes and rates
  prep verify data/coco                                  # in CI: exit 0 sound, 1 damaged, 2 could not run
  prep repair data/coco --from /data/coco                # damaged shards alone, byte for byte
  prep inspect data/coco --grid samples.png
  prep inspect data/coco --html report.html              # samples, captions, left out, near-duplicates
  prep inspect data/coco --near                          # nearly the same pictures, across splits first
  prep judge data/shapes --captions captions.json        # how much of written captions is true of the scenes

The environment: HF_TOKEN, HF_ENDPOINT, HF_HOME and HF_HUB_CACHE as for every tool of the Hub; COCO_ENDPOINT for a
mirror of http://images.cocodataset.org.

A stopped or killed run goes on where it was when the same command is given again.

Exit codes: 0 success, 1 damage found, 2 the command could not be carried out.";

/// Pack image-text sets into shuffled, checksummed shards.
#[derive(Debug, Parser)]
#[command(name = "prep", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    /// verify, repair, inspect or judge; none packs.
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
    /// Make damaged shards again from the source, byte for byte.
    Repair(RepairArgs),
    /// Say what is in a data set, and draw some of it.
    Inspect(InspectArgs),
    /// Say how many claims of captions, written by a model or a person, are true of their scenes of shapes.
    Judge(JudgeArgs),
}

/// A source by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatasetName {
    /// Procedural scenes, made on the spot.
    Shapes,
    /// MS-COCO 2017 as it is published.
    Coco,
    /// Tars with KEY.jpg and KEY.json, the caption in "prompt".
    TextToImage2m,
    /// Images with captions.jsonl.
    Folder,
    /// A list in JSON lines.
    Jsonl,
    /// A list in CSV.
    Csv,
    /// Tars in WebDataset layout, plain or compressed.
    WebDataset,
    /// Parquet files with a column of images.
    Parquet,
    /// A data set of the Hugging Face Hub, by OWNER/NAME.
    Hub(String),
}

impl DatasetName {
    const NAMES: [(Self, &str); 8] = [
        (Self::Shapes, "shapes"),
        (Self::Coco, "coco"),
        (Self::TextToImage2m, "text-to-image-2m"),
        (Self::Folder, "folder"),
        (Self::Jsonl, "jsonl"),
        (Self::Csv, "csv"),
        (Self::WebDataset, "webdataset"),
        (Self::Parquet, "parquet"),
    ];
}

impl std::fmt::Display for DatasetName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hub(repo) => write!(f, "hf:{repo}"),
            known => {
                f.write_str(Self::NAMES.iter().find(|(name, _)| name == known).map_or("", |(_, name)| name))
            }
        }
    }
}

impl std::str::FromStr for DatasetName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(repo) = text.strip_prefix("hf:") {
            let parts: Vec<&str> = repo.split('/').collect();
            let fits = |part: &&str| {
                !part.is_empty()
                    && !part.starts_with('.')
                    && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            };
            return match parts.as_slice() {
                [_, _] if parts.iter().all(fits) => Ok(Self::Hub(repo.to_owned())),
                _ => Err("expected hf:OWNER/NAME".to_owned()),
            };
        }
        let known = Self::NAMES.into_iter().find(|(_, name)| *name == text);
        known.map(|(name, _)| name).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMES.iter().map(|(_, name)| *name).collect();
            format!("there is {}, or hf:OWNER/NAME", names.join(", "))
        })
    }
}

/// Which captions of a sample are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CaptionChoice {
    /// All of them.
    All,
    /// The source's first.
    First,
}

/// How pictures are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// uint8 arrays: fastest to read.
    Tensor,
    /// JPEGs: a tenth of the bytes, decoded on load.
    Jpeg,
}

/// How much of a JPEG's chroma is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Chroma {
    /// Half as many rows and columns.
    #[value(name = "4:2:0")]
    Half,
    /// All.
    #[value(name = "4:4:4")]
    Full,
}

impl From<Chroma> for shard::Subsampling {
    fn from(chroma: Chroma) -> Self {
        match chroma {
            Chroma::Half => Self::Half,
            Chroma::Full => Self::Full,
        }
    }
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

/// Where samples come from.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// What to pack: shapes, coco, text-to-image-2m, folder, jsonl, csv, webdataset, parquet or hf:OWNER/NAME.
    #[arg(long, default_value = "shapes", value_name = "NAME", help_heading = "Source")]
    pub dataset: DatasetName,
    /// Folder (or list, or file) of the source. Without it coco, text-to-image-2m and hf: are downloaded.
    #[arg(long, value_name = "PATH", help_heading = "Source")]
    pub from: Option<PathBuf>,
    /// Folder that image paths of a jsonl or csv list are below [default: the list's own].
    #[arg(long, value_name = "DIR", help_heading = "Source")]
    pub images: Option<PathBuf>,
    /// Hub repository to take coco or text-to-image-2m from, in WebDataset or parquet form.
    #[arg(long, value_name = "OWNER/NAME", help_heading = "Source")]
    pub repo: Option<String>,
    /// Branch, tag or commit of the Hub repository [default: main]; the commit is recorded.
    #[arg(long, value_name = "REV", help_heading = "Source")]
    pub revision: Option<String>,
    /// Folder of the repository to take [default for text-to-image-2m: 512_2M; else all].
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    pub subset: Option<String>,
    /// Column (parquet, csv), key (jsonl) or extension (webdataset) of images [default: found by its name].
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    pub image_column: Option<String>,
    /// Column, key or extension of captions [default: found by its name].
    #[arg(long, value_name = "NAME", help_heading = "Source")]
    pub caption_column: Option<String>,
    /// Karpathy's dataset_coco.json: its splits and captions instead of COCO's.
    #[arg(long, value_name = "FILE", help_heading = "Source")]
    pub karpathy: Option<PathBuf>,
    /// Captions of a sample that are kept.
    #[arg(long, value_enum, default_value = "all", help_heading = "Source")]
    pub captions: CaptionChoice,
    /// Keep what is downloaded from the Hub; else each file goes once its samples are kept.
    #[arg(long, help_heading = "Source")]
    pub keep_downloads: bool,
    /// Folder for coco's archives, which are kept [default: downloads/coco beside --out].
    #[arg(long, value_name = "DIR", help_heading = "Source")]
    pub downloads: Option<PathBuf>,
    /// Use what was downloaded before, and no network.
    #[arg(long, help_heading = "Source")]
    pub offline: bool,
}

/// Options of packing.
#[derive(Debug, Clone, Args)]
pub struct PackArgs {
    /// Where samples come from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Shards of train; other splits get theirs in proportion, at least one.
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub shards: u32,
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
    /// Chroma of --store jpeg; 4:4:4 takes a third more bytes [default: 4:2:0, as Pillow writes it].
    #[arg(long, value_enum, value_name = "CHROMA")]
    pub subsampling: Option<Chroma>,
    /// Side of the stored pictures; of shortest-side, the shorter one.
    #[arg(long, default_value_t = 224, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=2048))]
    pub size: u32,
    /// How pictures that are not square fill the square, or shortest-side: none is cut or squeezed, each keeps its own
    /// proportions, and the loader gives the centred square [default: center-crop].
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
    /// Leave out pictures of train that are nearly the same as one of another split.
    #[arg(long)]
    pub exclude_leaks: bool,
    /// Stop when more than this share of at least 100 samples cannot be used.
    #[arg(long, default_value_t = 0.5, value_name = "FRACTION")]
    pub max_bad: f64,
    /// Worker threads [default: all cores].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Try some samples, measure decoding and the disk, say which --store reads faster here, and write nothing.
    #[arg(long, conflicts_with = "dry_run")]
    pub advise: bool,
    /// List and plan, say what would be written, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
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

/// Options of `prep repair`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  prep repair data/coco --from /data/coco\n  prep repair data/shapes\n\nSeed, sizes, columns and the revision come from dataset.json; only where the source lies is to be said."
)]
pub struct RepairArgs {
    /// The data set.
    pub dir: PathBuf,
    /// Folder (or list, or file) of the source, as it was given to write the data set.
    #[arg(long, value_name = "PATH")]
    pub from: Option<PathBuf>,
    /// Folder that image paths of a jsonl or csv list are below [default: the list's own].
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Karpathy's dataset_coco.json, where the data set was made with it.
    #[arg(long, value_name = "FILE")]
    pub karpathy: Option<PathBuf>,
    /// Folder of coco's archives [default: downloads/coco beside DIR].
    #[arg(long, value_name = "DIR")]
    pub downloads: Option<PathBuf>,
    /// Use what was downloaded before, and no network.
    #[arg(long)]
    pub offline: bool,
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

/// Options of `prep judge`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  trainer caption --run caption_prefix data/shapes --split val --results captions.json\n  prep judge data/shapes --captions captions.json\n  prep judge data/shapes --captions written.jsonl --split train --json | jq .judged.share\n\nExit codes: 0 the captions were judged, whatever they came to; 2 they could not be."
)]
pub struct JudgeArgs {
    /// A data set of shapes: its manifest names the seed that the scenes are drawn from again.
    pub dir: PathBuf,
    /// The captions, each with the key of its sample.
    ///
    /// Either COCO's results, [{"image_id": KEY, "caption": TEXT}, …], or JSON lines, {"key": KEY, "caption": TEXT} or
    /// {"key": KEY, "captions": [{"text": TEXT}, …]}, of which the first is judged.
    #[arg(long, value_name = "FILE")]
    pub captions: PathBuf,
    /// The split that they are of.
    #[arg(long, default_value = "val", value_name = "NAME")]
    pub split: String,
    /// Print the numbers as JSON.
    #[arg(long)]
    pub json: bool,
}
