//! The arguments of what a trained model is asked, and their help.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Which run.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The run: a name below the folder of all runs, or a run's folder.
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) run: String,
    /// The folder of all runs.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub(crate) runs_dir: PathBuf,
}

/// Which images with their captions.
#[derive(Debug, Args)]
pub(crate) struct SamplesArguments {
    /// The data set, a folder made by `prep`; it need not be the one that the run was trained on.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The split [default: the configuration's data.val_split].
    #[arg(long, value_name = "NAME")]
    pub(crate) split: Option<String>,
    /// Only the first N images.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

pub(crate) const ZEROSHOT_HELP: &str = "\
Examples:
  trainer zeroshot --run vit --images imagenet/val \\
      --classes configs/zeroshot/imagenet_classes.txt --templates configs/zeroshot/imagenet_templates.txt
  trainer zeroshot --run demo --images pictures --classes classes.txt --templates templates.txt --json

The folder has one folder a class with JPEG or PNG files. The class list has one class a line, `name` or
`name<TAB>folder`; without folders they are found by name, or, where no folder has the name of a class,
taken in sorted order. A template has {} where the name goes. A class is the mean of its prompts' features.";

/// What `zeroshot` takes.
#[derive(Debug, Args)]
pub(crate) struct ZeroshotArguments {
    #[command(flatten)]
    pub(crate) run: RunArguments,
    /// The pictures: a folder with one folder a class.
    #[arg(long, value_name = "DIR")]
    pub(crate) images: PathBuf,
    /// The classes, one a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) classes: PathBuf,
    /// The prompt templates, one a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) templates: PathBuf,
    /// Print each class's accuracy as well.
    #[arg(long)]
    pub(crate) per_class: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) const PROBE_HELP: &str = "\
Examples:
  trainer probe --run vit --train pictures/train --test pictures/val
  trainer probe --run vit --train pictures/train --test pictures/val --l2 0.001 --json

Both folders have one folder a class, of the same names. The features of the frozen image tower are brought
to mean 0 and deviation 1 by the training pictures; multinomial logistic regression with an L2 penalty is
fitted to its optimum. Without --l2 the penalty is chosen on a fifth of the training pictures.";

/// What `probe` takes.
#[derive(Debug, Args)]
pub(crate) struct ProbeArguments {
    #[command(flatten)]
    pub(crate) run: RunArguments,
    /// The pictures to learn from: a folder with one folder a class.
    #[arg(long, value_name = "DIR")]
    pub(crate) train: PathBuf,
    /// The pictures to be judged by, with the same classes.
    #[arg(long, value_name = "DIR")]
    pub(crate) test: PathBuf,
    /// The penalty: half of it times the squared weights is added to the mean loss.
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) l2: Option<f64>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) const SEARCH_HELP: &str = "\
Examples:
  trainer search --run demo --data data/shapes \"a red circle\" --out red.png
  trainer search --run demo --data data/shapes \"a red circle\" \"a blue star\" --count 6 --out grid.png
  trainer search --run demo --data data/shapes --image photo.jpg --json

Prints the best images of each query with key and score (the cosine), and draws them with --out.";

/// What `search` takes.
#[derive(Debug, Args)]
pub(crate) struct SearchArguments {
    #[command(flatten)]
    pub(crate) run: RunArguments,
    #[command(flatten)]
    pub(crate) samples: SamplesArguments,
    /// Texts to find images for.
    #[arg(value_name = "TEXT", required_unless_present = "image")]
    pub(crate) texts: Vec<String>,
    /// A picture to find images for, JPEG or PNG; may be given often.
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Vec<PathBuf>,
    /// Images a query.
    #[arg(long, short = 'k', value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) count: u16,
    /// Draw the images into this PNG.
    #[arg(long, value_name = "FILE.png")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) const EMBED_HELP: &str = "\
Examples:
  trainer embed --run demo --data data/shapes --out features.parquet
  trainer embed --run demo --data data/shapes --split train --out train.parquet --json
  trainer embed --run demo --data data/shapes --side-table   # a captioner's tower then runs once, not every epoch

One row an image, in the data set's order: key, image_embedding, captions and caption_embeddings. Every
embedding is a list of f32 of fixed length with norm 1. The file's metadata name run, step and data set.";

/// What `embed` takes.
#[derive(Debug, Args)]
pub(crate) struct EmbedArguments {
    #[command(flatten)]
    pub(crate) run: RunArguments,
    #[command(flatten)]
    pub(crate) samples: SamplesArguments,
    /// The file; its folder must exist.
    #[arg(long, value_name = "FILE.parquet", required_unless_present = "side_table")]
    pub(crate) out: Option<PathBuf>,
    /// Write what captioners need of the pictures beside the data set's shards instead; of all splits without --split.
    #[arg(long, conflicts_with_all = ["out", "limit"])]
    pub(crate) side_table: bool,
    /// What the side table has; captioners ask for it by caption.features [default: patches].
    #[arg(long, value_name = "KIND", value_parser = ["vector", "patches"])]
    pub(crate) features: Option<String>,
    /// Blocks (of a ResNet, stages) at the end of the tower that patches do not go through; captioners ask for it by
    /// caption.skip_blocks [default: 1].
    #[arg(long, value_name = "N")]
    pub(crate) skip_blocks: Option<u8>,
    /// Print one JSON object instead of a line.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) const EXPORT_HELP: &str = "\
Examples:
  trainer export --run demo --layout open_clip --out exported/open_clip_model.safetensors
  trainer export --run demo --layout hf --out exported/model.safetensors
  trainer export --run caption_lora --layout peft --out adapter     # corrections alone, as PEFT reads them
  trainer export --run caption_lora --layout merged --out merged    # a language model for Hugging Face's transformers

Beside the weights it writes the configuration that the other program looks for
(open_clip_config.json or config.json) and the run's tokenizer.json, whose captions stand between the
markers that the configuration names. A file of either layout begins a run with --set model.weights=FILE.";

/// A layout of weights, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutChoice {
    /// open_clip's names.
    #[value(name = "open_clip")]
    OpenClip,
    /// CLIPModel of Hugging Face's transformers.
    Hf,
    /// PEFT's adapter, of a LoRA captioner.
    Peft,
    /// A LoRA captioner's language model with the corrections in it.
    Merged,
}

/// What `export` takes.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    pub(crate) run: RunArguments,
    /// Whose names and shapes.
    #[arg(long)]
    pub(crate) layout: LayoutChoice,
    /// The file of weights, whose folder must exist; of peft and merged a folder.
    #[arg(long, value_name = "FILE.safetensors|DIR")]
    pub(crate) out: PathBuf,
    /// Print one JSON object instead of a list.
    #[arg(long)]
    pub(crate) json: bool,
}
