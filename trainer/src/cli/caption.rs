//! The arguments of what captioners are asked, and their help.

use super::trained::RunArguments;
use clap::Args;
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
    /// Write the first captions as COCO's results: [{\"image_id\": KEY, \"caption\": TEXT}, …].
    #[arg(long, value_name = "FILE")]
    pub(crate) results: Option<PathBuf>,
    /// Write the data set's captions as COCO's annotations, for `trainer score --references`.
    #[arg(long, value_name = "FILE")]
    pub(crate) references: Option<PathBuf>,
}
