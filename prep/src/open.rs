//! Settings → the source: found on disk, or fetched. It leaves out what is in it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use crate::{
    Error, Result,
    cli::DatasetName,
    fetch::{Bars, Expected, FetchSettings, Fetcher},
    plan::{PlanSettings, Validation},
    source::{
        Source,
        coco::{ARCHIVES, Coco},
        columns::Names,
        hub::HubInputs,
        inputs::{Inputs, Kind, LocalInputs},
        list::{List, ListFormat, ListOptions},
        shapes::Shapes,
        webdataset::{NamedTar, TarOptions, WebDataset},
    },
};

/// Scenes of `shapes` where `--limit` does not say.
const SHAPES_DEFAULT: usize = 10_000;

/// Where COCO publishes its archives.
const COCO_ENDPOINT: &str = "http://images.cocodataset.org";

/// Where text-to-image-2M is published, and the larger of its two parts.
const TEXT_TO_IMAGE_2M: (&str, &str) = ("jackyhate/text-to-image-2M", "512_2M");

/// Files that a folder of WebDataset tars may hold.
const TARS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

/// Which source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSettings {
    /// Its kind.
    pub dataset: DatasetName,
    /// Where it lies; none where it is downloaded.
    pub from: Option<PathBuf>,
    /// Folder of a list's images.
    pub images: Option<PathBuf>,
    /// Repository of the Hub.
    pub repo: Option<String>,
    /// Branch, tag or commit.
    pub revision: Option<String>,
    /// Folder of the repository.
    pub subset: Option<String>,
    /// Columns that the user names.
    pub columns: Names,
    /// Karpathy's split of COCO.
    pub karpathy: Option<PathBuf>,
    /// Downloads stay.
    pub keep_downloads: bool,
    /// Folder of COCO's archives.
    pub downloads: PathBuf,
    /// No network.
    pub offline: bool,
}

/// A source, opened.
pub enum Opened {
    /// All of it is at hand.
    Whole(Box<dyn Source>),
    /// It comes in inputs.
    Inputs(Box<dyn Inputs>),
}

impl SourceSettings {
    /// Opens the source.
    ///
    /// # Errors
    /// What the source, or fetching it, says.
    pub fn open(&self, plan: &PlanSettings, stop: &Arc<AtomicBool>) -> Result<Opened> {
        let Some(from) = self.from.clone() else { return self.fetched(plan, stop) };
        let list = |dataset: &'static str, format: ListFormat| {
            let images = self.images.clone().or_else(|| from.parent().map(Path::to_path_buf));
            let images =
                images.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from("."));
            let columns = self.columns.clone();
            List::open(ListOptions { dataset, list: from.clone(), images, format, columns })
        };
        let whole = |source: Box<dyn Source>| Ok(Opened::Whole(source));
        match &self.dataset {
            DatasetName::Shapes | DatasetName::Hub(_) => self.fetched(plan, stop),
            DatasetName::Folder => whole(Box::new(List::folder(&from, self.columns.clone())?)),
            DatasetName::Jsonl => whole(Box::new(list("jsonl", ListFormat::JsonLines)?)),
            DatasetName::Csv => whole(Box::new(list("csv", ListFormat::Csv)?)),
            DatasetName::Coco => whole(Box::new(Coco::open(&from, self.karpathy.as_deref())?)),
            DatasetName::WebDataset => self.tars(&from, "webdataset", plan),
            DatasetName::TextToImage2m => {
                let dir = match &self.subset {
                    Some(subset) => from.join(format!("data_{subset}")),
                    None => from.clone(),
                };
                self.tars_below(&from, &dir, "text-to-image-2m", plan)
            }
            DatasetName::Parquet => {
                let files = LocalInputs::find(&from, "parquet", &[".parquet"])?;
                Ok(Opened::Inputs(Box::new(LocalInputs::open(&from, files, self.tar_options("parquet"))?)))
            }
        }
    }

    /// Sources that are made or downloaded.
    fn fetched(&self, plan: &PlanSettings, stop: &Arc<AtomicBool>) -> Result<Opened> {
        let repo = match (&self.dataset, self.repo.as_deref()) {
            (DatasetName::Shapes, _) => return Ok(Opened::Whole(Box::new(shapes(plan)))),
            (DatasetName::Hub(repo), _) => repo,
            (_, Some(repo)) => repo,
            (DatasetName::TextToImage2m, None) => TEXT_TO_IMAGE_2M.0,
            (DatasetName::Coco, None) => {
                self.fetch_coco(&self.fetcher(stop)?)?;
                let coco = Coco::open(&self.downloads, self.karpathy.as_deref())?;
                return Ok(Opened::Whole(Box::new(coco)));
            }
            (dataset, None) => {
                return Err(Error::Config(format!("{dataset} needs --from, the place where it lies")));
            }
        };
        let is_official = self.dataset == DatasetName::TextToImage2m && self.repo.is_none();
        let subset = self.subset.as_deref().or(is_official.then_some(TEXT_TO_IMAGE_2M.1));
        let repo = self.fetcher(stop)?.dataset_repo(repo, self.revision.as_deref())?;
        let options = self.tar_options(&self.dataset.to_string());
        let inputs = HubInputs::new(repo, subset, options, self.keep_downloads)?;
        Ok(if inputs.is_whole() {
            Opened::Whole(Box::new(inputs.whole(plan.rows_needed())?))
        } else {
            Opened::Inputs(Box::new(inputs))
        })
    }

    fn fetcher(&self, stop: &Arc<AtomicBool>) -> Result<Fetcher> {
        let mut settings = FetchSettings::from_env(|name| std::env::var(name).ok())?;
        settings.offline |= self.offline;
        Ok(Fetcher::new(settings, Arc::clone(stop)).watched(Arc::new(Bars::new(None))))
    }

    /// Brings COCO's archives into the folder for downloads, where they stay.
    fn fetch_coco(&self, fetcher: &Fetcher) -> Result<()> {
        let dir = &self.downloads;
        fs_err::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let endpoint = std::env::var("COCO_ENDPOINT").unwrap_or_else(|_| COCO_ENDPOINT.to_owned());
        for (path, name) in ARCHIVES {
            let url = format!("{}/{path}", endpoint.trim_end_matches('/'));
            fetcher.file(&url, &dir.join(name), &Expected::default())?;
        }
        Ok(())
    }

    fn tar_options(&self, dataset: &str) -> TarOptions {
        TarOptions {
            dataset: dataset.to_owned(),
            // As its card says.
            license: (dataset == "text-to-image-2m").then(|| "MIT".to_owned()),
            columns: self.columns.clone(),
        }
    }

    fn tars(&self, dir: &Path, dataset: &'static str, plan: &PlanSettings) -> Result<Opened> {
        self.tars_below(dir, dir, dataset, plan)
    }

    /// Tars below `dir`, named by their path below `root`: plain ones are read where they lie.
    fn tars_below(
        &self,
        root: &Path,
        dir: &Path,
        dataset: &'static str,
        plan: &PlanSettings,
    ) -> Result<Opened> {
        crate::source::require_dir(dataset, dir)?;
        let files = LocalInputs::find(dir, dataset, &TARS)?;
        let options = self.tar_options(dataset);
        let name = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        let plain = |path: &PathBuf| match Kind::of(&name(path)) {
            Some((Kind::Tar, stem)) => Some(NamedTar { path: path.clone(), name: stem.to_owned() }),
            _ => None,
        };
        match files.iter().map(plain).collect::<Option<Vec<NamedTar>>>() {
            Some(tars) => Ok(Opened::Whole(Box::new(WebDataset::open(
                options,
                tars.into_iter().map(Ok),
                plan.rows_needed(),
            )?))),
            None => Ok(Opened::Inputs(Box::new(LocalInputs::open(root, files, options)?))),
        }
    }
}

fn shapes(plan: &PlanSettings) -> Shapes {
    let train = plan.limit.unwrap_or(SHAPES_DEFAULT);
    let val = match plan.validation {
        Validation::Default => (train / 100).clamp(1, 10_000),
        Validation::Fraction(fraction) => ((train as f64 * fraction).round() as usize).max(1),
        Validation::Count(count) => count,
    };
    Shapes::new(plan.seed, train, val)
}
