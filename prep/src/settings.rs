//! Command line → settings: the one place where defaults that depend on one another live. It leaves out parsing.

use std::{collections::BTreeMap, path::PathBuf};

use shard::{ImageSettings, SampleOrder};

use crate::{
    Error, Result,
    cli::{DatasetName, Order, PackArgs, Store},
    pack::PackSettings,
    pixels::{DEFAULT_QUALITY, PixelSettings},
    plan::{PlanSettings, Validation},
    source::{Source, coco::Coco, folder::Folder, shapes::Shapes, text_to_image_2m::TextToImage2M},
};

/// Scenes of `shapes` where `--limit` does not say.
const SHAPES_DEFAULT: usize = 10_000;

/// A packing, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The source.
    pub dataset: DatasetName,
    /// Its folder.
    pub from: Option<PathBuf>,
    /// What decides the plan.
    pub plan: PlanSettings,
    /// What decides the bytes.
    pub pack: PackSettings,
}

impl Settings {
    /// Resolves the command line.
    ///
    /// # Errors
    /// `Config` where options do not go together.
    pub fn resolve(args: &PackArgs) -> Result<Self> {
        let name = dataset_name(args.dataset);
        match (args.dataset, &args.from) {
            (DatasetName::Shapes, Some(_)) => {
                return Err(Error::Config(
                    "--from does not go with shapes, which are made on the spot".to_owned(),
                ));
            }
            (DatasetName::Shapes, None) | (_, Some(_)) => {}
            (_, None) => {
                return Err(Error::Config(format!(
                    "--dataset {name} needs --from DIR, the folder it lies in"
                )));
            }
        }
        let mut image = match (args.store, args.quality) {
            (Store::Tensor, Some(_)) => {
                return Err(Error::Config("--quality goes with --store jpeg alone".to_owned()));
            }
            (Store::Tensor, None) => ImageSettings::tensor(args.size),
            (Store::Jpeg, quality) => ImageSettings::jpeg(args.size, quality.unwrap_or(DEFAULT_QUALITY)),
        };
        if args.dataset == DatasetName::Shapes {
            image.resize = "none".to_owned();
        }
        if args.threads == Some(0) {
            return Err(Error::Config("--threads 0: at least one".to_owned()));
        }
        let order = match args.order {
            Order::Shuffled => SampleOrder::Shuffled,
            Order::Source => SampleOrder::Source,
        };
        let validation = args.val.unwrap_or(Validation::Default);
        let limit = args.limit.map_or("none".to_owned(), |limit| limit.to_string());
        let selection =
            BTreeMap::from([("limit".to_owned(), limit), ("val".to_owned(), validation.to_string())]);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            dataset: args.dataset,
            from: args.from.clone(),
            plan: PlanSettings { seed: args.seed, shards: args.shards, order, validation, limit: args.limit },
            pack: PackSettings {
                out: args.out.clone().unwrap_or_else(|| PathBuf::from("data").join(name)),
                seed: args.seed,
                order,
                pixels: PixelSettings::of(image),
                threads: args.threads.unwrap_or(cores),
                selection,
            },
        })
    }

    /// Opens the source.
    ///
    /// # Errors
    /// What the source says.
    pub fn open_source(&self) -> Result<Box<dyn Source>> {
        let from = self.from.clone().unwrap_or_default();
        Ok(match self.dataset {
            DatasetName::Coco => Box::new(Coco::open(&from)?),
            DatasetName::Folder => Box::new(Folder::open(&from)?),
            DatasetName::TextToImage2m => Box::new(TextToImage2M::open(&from)?),
            DatasetName::Shapes => {
                let train = self.plan.limit.unwrap_or(SHAPES_DEFAULT);
                let val = match self.plan.validation {
                    Validation::Default => (train / 100).clamp(1, 10_000),
                    Validation::Fraction(fraction) => ((train as f64 * fraction).round() as usize).max(1),
                    Validation::Count(count) => count,
                };
                Box::new(Shapes::new(self.plan.seed, train, val))
            }
        })
    }

    /// The plan's settings for that source: shapes come at the size that was asked for.
    pub fn plan_settings(&self) -> PlanSettings {
        match self.dataset {
            DatasetName::Shapes => PlanSettings { limit: None, validation: Validation::Default, ..self.plan },
            _ => self.plan,
        }
    }
}

/// The name that a user types.
pub fn dataset_name(dataset: DatasetName) -> &'static str {
    match dataset {
        DatasetName::Shapes => "shapes",
        DatasetName::Coco => "coco",
        DatasetName::TextToImage2m => "text-to-image-2m",
        DatasetName::Folder => "folder",
    }
}
