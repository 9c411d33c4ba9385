//! Command line → settings: the one place where defaults that depend on one another live. It leaves out parsing.

use std::{collections::BTreeMap, path::PathBuf};

use shard::{ImageSettings, Layout, SampleOrder};

use crate::{
    Error, Result,
    cli::{DatasetName, Order, PackArgs, Store, TensorLayout},
    pack::PackSettings,
    pixels::{DEFAULT_QUALITY, Decode, Engine, Fit, PixelSettings},
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
        let pixels = pixel_settings(args)?;
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
                pixels,
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

/// What is stored of a picture.
fn pixel_settings(args: &PackArgs) -> Result<PixelSettings> {
    let config = |problem: &str| Err(Error::Config(problem.to_owned()));
    let mut image = match (args.store, args.quality) {
        (Store::Tensor, Some(_)) => return config("--quality goes with --store jpeg alone"),
        (Store::Tensor, None) => ImageSettings::tensor(args.size),
        (Store::Jpeg, quality) => ImageSettings::jpeg(args.size, quality.unwrap_or(DEFAULT_QUALITY)),
    };
    match (args.store, args.layout) {
        (Store::Jpeg, Some(_)) => return config("--layout goes with --store tensor alone"),
        (Store::Tensor, Some(TensorLayout::Hwc)) => image.layout = Layout::Hwc,
        (_, Some(TensorLayout::Chw) | None) => {}
    }
    image.resize = match (args.dataset, args.resize) {
        (DatasetName::Shapes, Some(_)) => {
            return config("--resize does not go with shapes, which are made at their size");
        }
        (DatasetName::Shapes, None) => "none".to_owned(),
        (_, fit) => fit.unwrap_or(Fit::CenterCrop).name().to_owned(),
    };
    if args.engine == Engine::Turbo && !cfg!(feature = "turbo") {
        return config(
            "this build has no engine turbo: build prep with `--features turbo` (it needs cmake and nasm)",
        );
    }
    if args.engine != Engine::Turbo && args.decode == Decode::Fast {
        return config("--decode fast goes with --engine turbo alone");
    }
    let PackArgs { engine, decode, max_pixels: pixels_max, .. } = *args;
    Ok(PixelSettings { engine, decode, pixels_max, ..PixelSettings::of(image) })
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
