//! The arguments of what captioners are asked, and their help.

use super::trained::RunArguments;
use clap::{ArgGroup, Args};
use std::path::PathBuf;

pub(crate) const CAPTION_HELP: &str = "\
Examples:
  trainer caption --run caption_prefix photo.jpg
  trainer caption --run caption_prefix photos/ --n 5 --rerank --html captions.html
  trainer caption --run caption_prefix data/demo --split val --limit 100 --results captions.json
  trainer caption --run caption_prefix photo.jpg --set decode.method=beam --set decode.no_repeat_ngram=3

A line of JSON for each picture: key, captions (text, image_proximity, log_prob, tokens, has_ended) and, for a data set,
its references. --results also writes the first captions in the form that `trainer score` reads.";

/// What `caption` takes.
#[derive(Debug, Args)]
pub(crate) struct CaptionArguments {
    #[command(flatten)]
    pub(crate) run: RunArguments,
    /// Pictures (JPEG or PNG), folders of them, or a data set made by `prep`.
    #[arg(value_name = "IMAGE|DIR|DATA", required = true)]
    pub(crate) inputs: Vec<PathBuf>,
    /// Captions a picture; with a greedy configuration they are drawn [default: the configuration's decode.candidates].
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) n: Option<u16>,
    /// Put the caption first whose CLIP embedding is nearest to the picture's.
    #[arg(long)]
    pub(crate) rerank: bool,
    /// The split of a data set [default: the configuration's data.val_split].
    #[arg(long, value_name = "NAME")]
    pub(crate) split: Option<String>,
    /// Only the first N pictures.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Override a key of [decode]; may be given often.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Write a page of pictures with their captions.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the first captions as COCO's results: [{"image_id": KEY, "caption": TEXT}, …].
    #[arg(long, value_name = "FILE")]
    pub(crate) results: Option<PathBuf>,
    /// Write the data set's captions as COCO's annotations, for `trainer score --references`.
    #[arg(long, value_name = "FILE")]
    pub(crate) references: Option<PathBuf>,
}

pub(crate) const SCORE_HELP: &str = "\
Examples:
  trainer score --hypotheses captions.json --references annotations/captions_val2017.json
  trainer score --hypotheses captions.json --references references.json --json --per-image
  trainer score --hypotheses captions.json --references references.json --tower runs/demo --data data/demo
  trainer score --hypotheses captions.json --references references.json --meteor meteor-1.5.jar --spice spice-1.0.jar

Both files are COCO's: results [{\"image_id\": …, \"caption\": …}, …] and annotations {\"images\": …, \"annotations\": …}. BLEU,
ROUGE-L and CIDEr equal pycocoevalcap's. --tower adds CLIPScore, RefCLIPScore, proximities and the recall of pictures by
their captions; its pictures are those of --data whose keys are the image ids.";

/// What `score` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("jar").multiple(true))]
pub(crate) struct ScoreArguments {
    /// The captions, COCO's results.
    #[arg(long, value_name = "RESULTS.json")]
    pub(crate) hypotheses: PathBuf,
    /// What people wrote, COCO's annotations.
    #[arg(long, value_name = "CAPTIONS.json")]
    pub(crate) references: PathBuf,
    /// Score the images that have a caption, where others have none.
    #[arg(long)]
    pub(crate) skip_missing: bool,
    /// Document frequencies for CIDEr [default: those of the references].
    #[arg(long, value_name = "FILE.json")]
    pub(crate) df: Option<PathBuf>,
    /// Write the references' document frequencies for --df.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) write_df: Option<PathBuf>,
    /// METEOR by this Java program.
    #[arg(long, value_name = "meteor-1.5.jar", group = "jar")]
    pub(crate) meteor: Option<PathBuf>,
    /// SPICE by this Java program.
    #[arg(long, value_name = "spice-1.0.jar", group = "jar")]
    pub(crate) spice: Option<PathBuf>,
    /// The Java runtime for both.
    #[arg(long, value_name = "FILE", default_value = "java", requires = "jar")]
    pub(crate) java: PathBuf,
    /// CLIPScore by this CLIP: a run's folder, a captioner's run, or a safetensors file with its sizes by --set.
    #[arg(long, value_name = "RUN|FILE", requires = "data")]
    pub(crate) tower: Option<PathBuf>,
    /// The pictures for --tower, a data set made by `prep`.
    #[arg(long, value_name = "DIR", requires = "tower")]
    pub(crate) data: Option<PathBuf>,
    /// The split of --data.
    #[arg(long, value_name = "NAME", default_value = "val", requires = "data")]
    pub(crate) split: String,
    /// Sizes of a --tower that is a file (model.…, data.normalize, caption.tower_tokenizer); may be given often.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "tower")]
    pub(crate) overrides: Vec<String>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// With --json, each image's scores too.
    #[arg(long, requires = "json")]
    pub(crate) per_image: bool,
}
