//! Command line → settings: the one place where defaults that depend on one another live. It leaves out parsing, and
//! opening the source (`open`).

use std::{collections::BTreeMap, path::PathBuf};

use shard::{ImageSettings, SampleOrder};

use crate::{
    Error, Result,
    cli::{CaptionChoice, DatasetName, Order, PackArgs, SourceArgs, Store},
    open::SourceSettings,
    pack::{Captions, PackSettings},
    pixels::{DEFAULT_QUALITY, PixelSettings},
    plan::{PlanSettings, Validation},
    source::columns::Names,
};

/// A packing, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The source.
    pub source: SourceSettings,
    /// What decides the plan.
    pub plan: PlanSettings,
    /// What decides the bytes.
    pub pack: PackSettings,
    /// Only say what would be written.
    pub dry_run: bool,
}

impl Settings {
    /// Resolves the command line.
    ///
    /// # Errors
    /// `Config` where options do not go together.
    pub fn resolve(args: &PackArgs) -> Result<Self> {
        let out =
            args.out.clone().unwrap_or_else(|| PathBuf::from("data").join(folder_name(&args.source.dataset)));
        let source = source(&args.source, &out)?;
        let mut image = match (args.store, args.quality) {
            (Store::Tensor, Some(_)) => {
                return Err(Error::Config("--quality goes with --store jpeg alone".to_owned()));
            }
            (Store::Tensor, None) => ImageSettings::tensor(args.size),
            (Store::Jpeg, quality) => ImageSettings::jpeg(args.size, quality.unwrap_or(DEFAULT_QUALITY)),
        };
        if args.source.dataset == DatasetName::Shapes {
            image.resize = "none".to_owned();
        }
        if args.threads == Some(0) {
            return Err(Error::Config("--threads 0: at least one".to_owned()));
        }
        if !(0.0..=1.0).contains(&args.max_bad) {
            return Err(Error::Config(format!("--max-bad {}: a share from 0 to 1", args.max_bad)));
        }
        let order = match args.order {
            Order::Shuffled => SampleOrder::Shuffled,
            Order::Source => SampleOrder::Source,
        };
        let captions = match args.source.captions {
            CaptionChoice::All => Captions::All,
            CaptionChoice::First => Captions::First,
        };
        let validation = args.val.unwrap_or(Validation::Default);
        let plan =
            PlanSettings { seed: args.seed, shards: args.shards, order, validation, limit: args.limit };
        plan.check()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            pack: PackSettings {
                out,
                seed: args.seed,
                order,
                pixels: PixelSettings::of(image),
                threads: args.threads.unwrap_or(cores),
                selection: selection(&plan, captions, &source),
                bad_max: args.max_bad,
                captions,
            },
            source,
            plan,
            dry_run: args.dry_run,
        })
    }

    /// The plan's settings for that source: shapes come at the size that was asked for.
    pub fn plan_settings(&self) -> PlanSettings {
        match self.source.dataset {
            DatasetName::Shapes => PlanSettings { limit: None, validation: Validation::Default, ..self.plan },
            _ => self.plan,
        }
    }
}

/// The folder below `data/` that a data set gets.
fn folder_name(dataset: &DatasetName) -> String {
    match dataset {
        DatasetName::Hub(repo) => repo.rsplit('/').next().unwrap_or_default().to_owned(),
        known => known.to_string(),
    }
}

/// Options that decide which samples there are, as the manifest keeps them.
fn selection(plan: &PlanSettings, captions: Captions, source: &SourceSettings) -> BTreeMap<String, String> {
    let mut selection = BTreeMap::new();
    let mut set = |name: &str, value: String| _ = selection.insert(name.to_owned(), value);
    set("limit", plan.limit.map_or("none".to_owned(), |limit| limit.to_string()));
    set("val", plan.validation.to_string());
    if captions == Captions::First {
        set("captions", "first".to_owned());
    }
    for (name, value) in
        [("image-column", &source.columns.image), ("caption-column", &source.columns.caption)]
    {
        if let Some(value) = value {
            set(name, value.clone());
        }
    }
    if let Some(subset) = &source.subset {
        set("subset", subset.clone());
    }
    selection
}

fn source(args: &SourceArgs, out: &std::path::Path) -> Result<SourceSettings> {
    use DatasetName::{Coco, Csv, Folder, Hub, Jsonl, Parquet, Shapes, TextToImage2m, WebDataset};
    let name = &args.dataset;
    let refuse = |problem: String| Err(Error::Config(problem));
    match (name, &args.from) {
        (Shapes, Some(_)) => {
            return refuse("--from does not go with shapes, which are made on the spot".to_owned());
        }
        (Hub(_), Some(_)) => return refuse(format!("--from does not go with --dataset {name}")),
        (Folder | Jsonl | Csv | WebDataset | Parquet, None) => {
            let what =
                if matches!(name, Jsonl | Csv) { "FILE, the list" } else { "DIR, the folder it lies in" };
            return refuse(format!("--dataset {name} needs --from {what}"));
        }
        _ => {}
    }
    let goes_with = |option: &str, given: bool, fits: bool, with: &str| {
        let problem = || Err(Error::Config(format!("{option} goes with {with} alone")));
        if given && !fits { problem() } else { Ok(()) }
    };
    let is_remote = args.from.is_none() && matches!(name, Coco | TextToImage2m | Hub(_));
    let is_hub = is_remote && (args.repo.is_some() || *name != Coco);
    goes_with("--images", args.images.is_some(), matches!(name, Jsonl | Csv), "jsonl and csv")?;
    goes_with(
        "--karpathy",
        args.karpathy.is_some(),
        *name == Coco && args.repo.is_none(),
        "coco's own files",
    )?;
    let takes_repo = is_remote && !matches!(name, Hub(_));
    goes_with("--repo", args.repo.is_some(), takes_repo, "downloads of coco and text-to-image-2m")?;
    goes_with("--revision", args.revision.is_some(), is_hub, "downloads of the Hub")?;
    goes_with("--keep-downloads", args.keep_downloads, is_hub, "downloads of the Hub")?;
    goes_with("--offline", args.offline, is_remote, "what is downloaded")?;
    goes_with(
        "--subset",
        args.subset.is_some(),
        is_hub || *name == TextToImage2m,
        "the Hub and text-to-image-2m",
    )?;
    let beside = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    Ok(SourceSettings {
        dataset: name.clone(),
        from: args.from.clone(),
        images: args.images.clone(),
        repo: args.repo.clone(),
        revision: args.revision.clone(),
        subset: args.subset.clone(),
        columns: Names { image: args.image_column.clone(), caption: args.caption_column.clone() },
        karpathy: args.karpathy.clone(),
        keep_downloads: args.keep_downloads,
        downloads: args.downloads.clone().unwrap_or_else(|| beside.join("downloads").join("coco")),
        offline: args.offline,
    })
}
