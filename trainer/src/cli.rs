//! The arguments of `trainer` and their help; nothing is done here.

pub(crate) mod caption;
pub(crate) mod experiments;
pub(crate) mod trained;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Trains and evaluates CLIP models and captioners on shards made by `prep`.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 a negative answer (periodicity found a period, diff a difference, a sweep a run that failed); 2 it could not run; 130 stopped by Ctrl-C or SIGTERM with a checkpoint saved.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a model, or go on training one.
    #[command(after_help = TRAIN_HELP, after_long_help = train_long_help())]
    Train(TrainArguments),
    /// Time training steps by phase.
    #[command(after_help = BENCH_HELP)]
    Bench(BenchArguments),
    /// Measure retrieval recall of a trained model, or a captioner's captions.
    #[command(after_help = EVAL_HELP)]
    Eval(EvalArguments),
    /// Classify a folder of pictures by prompts alone.
    #[command(after_help = trained::ZEROSHOT_HELP)]
    Zeroshot(trained::ZeroshotArguments),
    /// Learn a linear classifier on a trained model's image features.
    #[command(after_help = trained::PROBE_HELP)]
    Probe(trained::ProbeArguments),
    /// Find the images that fit a text, and draw them.
    #[command(after_help = trained::SEARCH_HELP)]
    Search(trained::SearchArguments),
    /// Write the features of images and captions as Parquet.
    #[command(after_help = trained::EMBED_HELP)]
    Embed(trained::EmbedArguments),
    /// Write a run's weights for open_clip or for Hugging Face's transformers.
    #[command(after_help = trained::EXPORT_HELP)]
    Export(trained::ExportArguments),
    /// Write captions for pictures, or for a data set.
    #[command(after_help = caption::CAPTION_HELP)]
    Caption(caption::CaptionArguments),
    /// Score captions against references, as COCO's tools do.
    #[command(after_help = caption::SCORE_HELP)]
    Score(caption::ScoreArguments),
    /// Measure what colour histograms alone reach: ridge regression to bags of words.
    Baseline(BaselineArguments),
    /// Draw a run's curves anew, or the curves of several runs in one picture.
    #[command(after_help = experiments::PLOT_HELP)]
    Plot(experiments::PlotArguments),
    /// List all runs with their figures.
    #[command(after_help = experiments::RUNS_HELP)]
    Runs(experiments::RunsArguments),
    /// Compare two runs: configuration, data set, figures.
    #[command(after_help = experiments::DIFF_HELP)]
    Diff(experiments::DiffArguments),
    /// Train a run for every combination of the lists in a configuration.
    #[command(after_help = experiments::SWEEP_HELP)]
    Sweep(experiments::SweepArguments),
    /// Show the samples that a run finds hardest.
    #[command(after_help = experiments::WORST_HELP)]
    Worst(experiments::WorstArguments),
    /// Say whether a loss repeats with the epoch, as it does when the data is not shuffled well.
    #[command(after_help = PERIODICITY_HELP)]
    Periodicity(PeriodicityArguments),
}

const TRAIN_HELP: &str = "\
Examples:
  trainer train --config configs/demo.toml --data data/shapes
  trainer train --config configs/clip_coco_tiny.toml --data data/coco --set optim.lr=3e-4 --run hot
  trainer train --config configs/demo.toml --data data/shapes --resume

The run's folder runs/NAME gets config.toml, tokenizer.json, metrics.jsonl, TensorBoard events,
checkpoints/ and plots/; runs/experiments.csv gets a row. Ctrl-C finishes the step, saves a checkpoint and exits with 130; a second
Ctrl-C ends at once. `--help` lists every key.";

fn train_long_help() -> String {
    format!(
        "{TRAIN_HELP}\n\nKeys of the configuration and what they take:\n{}",
        trainer::config::keys::listing()
    )
}

const BENCH_HELP: &str = "\
Examples:
  trainer bench --config configs/clip_coco_tiny.toml --steps 5
  trainer bench --config configs/demo.toml --data data/shapes --steps 50 --json
  trainer bench --config configs/clip_t2i_run1.toml --set data.batch_size=16 --set train.chunk_size=0
  trainer bench --config configs/caption_prefix.toml --write --set decode.method=beam

Without --data, batches are noise in memory with captions of full length. MFU is the share of the rate that
large matrix products reach on this machine, measured first.";

/// What `bench` takes.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The data set, a folder made by `prep`; noise without one.
    #[arg(long, value_name = "DIR", conflicts_with = "write")]
    pub(crate) data: Option<PathBuf>,
    /// Set one key of the configuration; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Steps that are counted.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: u64,
    /// Steps before them that are not.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) warmup: u64,
    /// Time a captioner's writing instead: a batch of captions as long as the context, once for each of --steps.
    #[arg(long)]
    pub(crate) write: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `train` takes.
#[derive(Debug, Args)]
pub(crate) struct TrainArguments {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The data set, a folder made by `prep`.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The run's name [default: the configuration's file name without .toml].
    #[arg(long, value_name = "NAME")]
    pub(crate) run: Option<String>,
    /// The folder of all runs.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs_dir: PathBuf,
    /// Go on from the run's newest checkpoint.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Override one key of the configuration; may be given often.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// The run that runs/experiments.csv compares this one with [default: the latest of the same configuration file].
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) parent: Option<String>,
    /// A note for runs/experiments.csv.
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

const EVAL_HELP: &str = "\
Examples:
  trainer eval --run demo --data data/shapes
  trainer eval --run runs/demo --data data/shapes --split val --limit 1000 --json
  trainer eval --run demo --data data/shapes --shuffle-captions   # a control: falls to chance
  trainer eval --run caption_prefix --data data/shapes --n 5 --set decode.temperature=0.7
  trainer eval --run caption_prefix --data data/shapes --results captions.json --html captions.html

Of a captioner it measures the captions: BLEU, ROUGE-L, CIDEr, proximities by the tower, degeneration; with --n also
those of the first caption, the mean of all and the one that CLIP prefers.

Recall@k counts a hit if any caption of the image (or the image of the caption) is among the k best,
with all captions kept; ties count as misses.";

/// What `eval` takes.
#[derive(Debug, Args)]
pub(crate) struct EvalArguments {
    #[command(flatten)]
    pub(crate) run: trained::RunArguments,
    #[command(flatten)]
    pub(crate) samples: trained::SamplesArguments,
    /// Deal the captions to other images first, as a control.
    #[arg(long)]
    pub(crate) shuffle_captions: bool,
    /// For a captioner: captions a picture, with a table of what re-ranking them is worth.
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) n: Option<u16>,
    /// For a captioner: override a key of [decode]; may be given often.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// For a captioner: write the captions as COCO's results, for `trainer score` and `prep judge`.
    #[arg(long, value_name = "FILE")]
    pub(crate) results: Option<PathBuf>,
    /// For a captioner: write a page of pictures with their captions.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `baseline` takes.
#[derive(Debug, Args)]
pub(crate) struct BaselineArguments {
    /// The data set, a folder made by `prep`.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The split to learn from.
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub(crate) train_split: String,
    /// The split to evaluate on.
    #[arg(long, value_name = "NAME", default_value = "val")]
    pub(crate) split: String,
    /// Evaluate only the first N images.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

const PERIODICITY_HELP: &str = "\
Examples:
  trainer periodicity runs/demo
  trainer periodicity runs/none-0 runs/none-1 runs/none-2 --out folded.png   # three seeds, one p-value
  trainer periodicity sorted=runs/none-0 sorted=runs/none-1 mixed=runs/global-0 mixed=runs/global-1 --json
  trainer periodicity log.jsonl --steps-per-epoch 500    # another program's: rows with step and loss

The first epoch is left out; two whole ones and 16 rows in each are the least (train.log_every = 1 gives
most). Runs that share a name before `=` are seeds of one condition; without names all are.

Exit codes: 0 no period; 1 a period; 2 the logs do not tell.";

/// What `periodicity` takes.
#[derive(Debug, Args)]
pub(crate) struct PeriodicityArguments {
    /// Runs' folders (or names below the folder of all runs) or metrics.jsonl files, with a condition's name or without.
    #[arg(value_name = "[NAME=]RUN", required = true)]
    pub(crate) logs: Vec<String>,
    /// The folder of all runs.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs_dir: PathBuf,
    /// Optimizer steps of an epoch, for logs without `epoch` [default: from the log].
    #[arg(long, value_name = "N")]
    pub(crate) steps_per_epoch: Option<f64>,
    /// A combined p-value below this is a period.
    #[arg(long, value_name = "P", default_value_t = 0.01)]
    pub(crate) alpha: f64,
    /// Draws of the null.
    #[arg(long, value_name = "N", default_value_t = 9_999, value_parser = clap::value_parser!(u64).range(99..=10_000_000))]
    pub(crate) draws: u64,
    /// Seed of the draws.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Draw the folded loss, a panel for each condition.
    #[arg(long, value_name = "PNG")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}
