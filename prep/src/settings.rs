//! Command line → settings: the one place where defaults that depend on one another live. It leaves out parsing, and
//! opening the source (`open`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use shard::{ImageSettings, Layout, Manifest, SampleOrder};

use crate::{
    Error, Result,
    cli::{CaptionChoice, Chroma, DatasetName, Order, PackArgs, RepairArgs, SourceArgs, Store, TensorLayout},
    near,
    open::SourceSettings,
    pack::{Captions, PackSettings},
    pixels::{DEFAULT_QUALITY, Decode, Engine, Fit, PIXELS_MAX, PixelSettings},
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
        let pixels = pixel_settings(args)?;
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
        let leak_distance = args.exclude_leaks.then_some(near::DISTANCE_DEFAULT);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            pack: PackSettings {
                out,
                seed: args.seed,
                order,
                pixels,
                threads: args.threads.unwrap_or(cores),
                selection: selection(&plan, captions, leak_distance, args.max_pixels, &source),
                bad_max: args.max_bad,
                captions,
                leak_distance,
            },
            source,
            plan,
            dry_run: args.dry_run,
        })
    }

    /// The settings that a data set was made with, as its manifest has them; `args` say where the source lies.
    ///
    /// # Errors
    /// `Config` where the manifest speaks of things that this program does not know.
    pub fn of_manifest(args: &RepairArgs, manifest: &Manifest) -> Result<Self> {
        let unknown = |what: &str, value: &str| {
            let problem = format!("dataset.json has the {what} {value:?}, which this program does not know");
            Error::Config(format!("{problem}; it was written by {}", manifest.program))
        };
        let selected = |name: &str| manifest.selection.get(name).map(String::as_str);
        let name = &manifest.source.name;
        let dataset = name.parse::<DatasetName>().map_err(|_| unknown("source", name))?;
        let limit = selected("limit").filter(|limit| *limit != "none");
        let limit = limit.map(|limit| limit.parse().map_err(|_| unknown("limit", limit))).transpose()?;
        let validation = selected("val").unwrap_or("default");
        let validation = validation.parse().map_err(|_| unknown("share of validation", validation))?;
        let train = manifest.splits.first().map_or(0, |split| split.shards.len());
        let distance = selected("exclude-leaks");
        let distance =
            distance.map(|text| text.parse().map_err(|_| unknown("distance", text))).transpose()?;
        let columns = Names {
            image: selected("image-column").map(str::to_owned),
            caption: selected("caption-column").map(str::to_owned),
        };
        // `OWNER/NAME@COMMIT SUBSET`, where it came from the Hub.
        let hub = args.from.is_none().then(|| manifest.source.revision.split_once('@')).flatten();
        let commit = hub.and_then(|(_, commit)| commit.split(' ').next()).map(str::to_owned);
        let source = SourceSettings {
            repo: hub.map(|(repo, _)| repo.to_owned()).filter(|_| !matches!(dataset, DatasetName::Hub(_))),
            dataset,
            from: args.from.clone(),
            images: args.images.clone(),
            revision: commit,
            subset: selected("subset").map(str::to_owned),
            columns,
            karpathy: args.karpathy.clone(),
            keep_downloads: false,
            downloads: args.downloads.clone().unwrap_or_else(|| downloads_beside(&args.dir)),
            offline: args.offline,
        };
        let plan = PlanSettings {
            seed: manifest.seed,
            shards: u32::try_from(train).unwrap_or(u32::MAX),
            order: manifest.order,
            validation,
            limit,
        };
        let pixels_max = selected("max-pixels");
        let pixels_max =
            pixels_max.map(|text| text.parse().map_err(|_| unknown("bound on pixels", text))).transpose()?;
        let of_engine = |(engine, decode)| {
            let pixels_max = pixels_max.unwrap_or(PIXELS_MAX);
            PixelSettings { engine, decode, pixels_max, ..PixelSettings::of(manifest.image.clone()) }
        };
        let engines =
            [(Engine::Rust, Decode::Exact), (Engine::Turbo, Decode::Exact), (Engine::Turbo, Decode::Fast)];
        let pixels = engines.map(of_engine).into_iter().find(|pixels| pixels.engine() == manifest.engine);
        let Some(pixels) = pixels else {
            let (engine, program) = (&manifest.engine, &manifest.program);
            return Err(Error::Config(format!(
                "the data set was made by the pixel engine {engine:?}, which this build does not have: other pixels \
                 would come of it; use the program that wrote it ({program})"
            )));
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let captions = if selected("captions") == Some("first") { Captions::First } else { Captions::All };
        let pack = PackSettings {
            out: args.dir.clone(),
            seed: manifest.seed,
            order: manifest.order,
            pixels,
            threads: args.threads.filter(|threads| *threads > 0).unwrap_or(cores),
            selection: manifest.selection.clone(),
            bad_max: 1.0,
            captions,
            leak_distance: distance,
        };
        Ok(Self { source, plan, pack, dry_run: false })
    }

    /// The plan's settings for that source: shapes come at the size that was asked for.
    pub fn plan_settings(&self) -> PlanSettings {
        match self.source.dataset {
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
        (Store::Tensor, None) if args.subsampling.is_some() => {
            return config("--subsampling goes with --store jpeg alone");
        }
        (Store::Tensor, None) => ImageSettings::tensor(args.size),
        (Store::Jpeg, quality) => ImageSettings {
            subsampling: Some(args.subsampling.unwrap_or(Chroma::Half).into()),
            ..ImageSettings::jpeg(args.size, quality.unwrap_or(DEFAULT_QUALITY))
        },
    };
    match (args.store, args.layout) {
        (Store::Jpeg, Some(_)) => return config("--layout goes with --store tensor alone"),
        (Store::Tensor, Some(TensorLayout::Hwc)) => image.layout = Layout::Hwc,
        (_, Some(TensorLayout::Chw) | None) => {}
    }
    image.resize = match (&args.source.dataset, args.resize) {
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

/// The folder below `data/` that a data set gets.
fn folder_name(dataset: &DatasetName) -> String {
    match dataset {
        DatasetName::Hub(repo) => repo.rsplit('/').next().unwrap_or_default().to_owned(),
        known => known.to_string(),
    }
}

/// Options that decide which samples there are, as the manifest keeps them.
fn selection(
    plan: &PlanSettings,
    captions: Captions,
    leak_distance: Option<u32>,
    pixels_max: u64,
    source: &SourceSettings,
) -> BTreeMap<String, String> {
    let mut selection = BTreeMap::new();
    let mut set = |name: &str, value: String| _ = selection.insert(name.to_owned(), value);
    set("limit", plan.limit.map_or("none".to_owned(), |limit| limit.to_string()));
    set("val", plan.validation.to_string());
    if captions == Captions::First {
        set("captions", "first".to_owned());
    }
    if let Some(distance) = leak_distance {
        set("exclude-leaks", distance.to_string());
    }
    for (name, value) in
        [("image-column", &source.columns.image), ("caption-column", &source.columns.caption)]
    {
        if let Some(value) = value {
            set(name, value.clone());
        }
    }
    if pixels_max != PIXELS_MAX {
        set("max-pixels", pixels_max.to_string());
    }
    if let Some(subset) = &source.subset {
        set("subset", subset.clone());
    }
    selection
}

fn source(args: &SourceArgs, out: &Path) -> Result<SourceSettings> {
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
        downloads: args.downloads.clone().unwrap_or_else(|| downloads_beside(out)),
        offline: args.offline,
    })
}

/// Where COCO's archives go: beside the data sets that are made of them.
fn downloads_beside(out: &Path) -> PathBuf {
    let beside = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    beside.join("downloads").join("coco")
}
