//! Settings → the source: found on disk, or fetched. It leaves out what is in it.

use std::path::{Path, PathBuf};

use crate::{
    Error, Result,
    cli::DatasetName,
    plan::{PlanSettings, Validation},
    source::{
        Source,
        coco::Coco,
        columns::Names,
        inputs::{Inputs, Kind, LocalInputs},
        list::{List, ListFormat, ListOptions},
        shapes::Shapes,
        webdataset::{NamedTar, TarOptions, WebDataset},
    },
};

/// Scenes of `shapes` where `--limit` does not say.
const SHAPES_DEFAULT: usize = 10_000;

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
    pub fn open(&self, plan: &PlanSettings) -> Result<Opened> {
        let from = self.from.clone().unwrap_or_default();
        let list = |dataset: &'static str, format: ListFormat| {
            let images = self.images.clone().or_else(|| from.parent().map(Path::to_path_buf));
            let images = images.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from("."));
            let columns = self.columns.clone();
            List::open(ListOptions { dataset, list: from.clone(), images, format, columns })
        };
        let whole = |source: Box<dyn Source>| Ok(Opened::Whole(source));
        match &self.dataset {
            DatasetName::Shapes => whole(Box::new(shapes(plan))),
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
            DatasetName::Hub(_) => Err(Error::Config("not yet".to_owned())),
        }
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
            Some(tars) => {
                Ok(Opened::Whole(Box::new(WebDataset::open(options, &tars, plan.rows_needed())?)))
            }
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
