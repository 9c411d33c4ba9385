//! A data set of the Hub, in WebDataset or parquet form, as inputs: each file is fetched when it is due and goes once its
//! samples are kept, unless it was in the cache before. It leaves out the fetching itself (`fetch`).

use std::{collections::BTreeSet, path::Path, sync::Arc};

use shard::SourceInfo;

use super::{
    Source,
    inputs::{Inputs, Kind, Opener},
    webdataset::{NamedTar, TarOptions, WebDataset},
};
use crate::{Error, Result, fetch::HubRepo};

/// In an input's scratch folder: the file was not in the cache before this data set was begun.
const BROUGHT: &str = "brought";

/// A repository's files that hold samples.
#[derive(Debug)]
pub struct HubInputs {
    repo: Arc<HubRepo>,
    opener: Opener,
    revision: String,
    /// Paths in the repository.
    files: Vec<String>,
    keep: bool,
}

impl HubInputs {
    /// Takes the files of `repo` that hold samples, of `subset` alone where it is given. Files that this brings here are
    /// kept where `keep` says so.
    ///
    /// # Errors
    /// `Config` where a subset must be chosen or there is no such one, `Offline` where not all files are known.
    pub fn new(repo: HubRepo, subset: Option<&str>, tar: TarOptions, keep: bool) -> Result<Self> {
        if !repo.is_complete() {
            let what = format!("the list of all files of {}", repo.name());
            return Err(Error::Offline { what, path: repo.url("").into() });
        }
        let paths = repo.files().iter().map(|file| file.path.as_str());
        let files = select(paths, subset)
            .map_err(|problem| Error::Config(format!("{} at {}: {problem}", repo.name(), repo.commit())))?;
        let subset = subset.map_or(String::new(), |subset| format!(" {subset}"));
        let revision = format!("{}@{}{subset}", repo.name(), repo.commit());
        Ok(Self { repo: Arc::new(repo), opener: Opener { tar }, revision, files, keep })
    }

    /// Whether every file may be read where it lies, in any order, and stays.
    pub fn is_whole(&self) -> bool {
        let is_tar = |file: &String| matches!(Kind::of(file), Some((Kind::Tar, _)));
        let is_here = || self.files.iter().all(|file| self.repo.cached(file).is_some());
        self.files.iter().all(is_tar) && (self.keep || is_here())
    }

    /// Fetches as many files as `rows_needed` samples take, and opens them in one.
    ///
    /// # Errors
    /// What fetching and listing say.
    pub fn whole(&self, rows_needed: Option<usize>) -> Result<WebDataset> {
        let tars = self.files.iter().map(|file| {
            let name = Kind::of(file).map_or(file.as_str(), |(_, stem)| stem).to_owned();
            Ok(NamedTar { path: self.repo.fetch(file)?, name })
        });
        Ok(WebDataset::open(self.opener.tar.clone(), tars, rows_needed)?.at_revision(self.revision.clone()))
    }
}

impl Inputs for HubInputs {
    fn info(&self) -> SourceInfo {
        SourceInfo { name: self.opener.tar.dataset.clone(), revision: self.revision.clone() }
    }

    fn names(&self) -> &[String] {
        &self.files
    }

    fn open(&self, input: usize, scratch: &Path) -> Result<Box<dyn Source>> {
        let file = &self.files[input];
        if self.repo.cached(file).is_none() {
            let brought = scratch.join(BROUGHT);
            fs_err::write(&brought, "").map_err(Error::io("write", &brought))?;
        }
        self.opener.open(&self.repo.fetch(file)?, file, scratch)
    }

    fn done(&self, input: usize, scratch: &Path) -> Result<()> {
        if !self.keep && scratch.join(BROUGHT).exists() {
            // The run that brought it may have been another one.
            self.repo.adopt(&self.files[input]);
            self.repo.discard(&self.files[input])?;
        }
        Ok(())
    }
}

/// The files that hold samples: tars where there are some, else parquet files.
fn select<'a>(paths: impl Iterator<Item = &'a str>, subset: Option<&str>) -> Result<Vec<String>, String> {
    let kinds: Vec<(Kind, &str)> = paths.filter_map(|path| Some((Kind::of(path)?.0, path))).collect();
    if kinds.is_empty() {
        return Err("it has neither tars nor parquet files".to_owned());
    }
    let has_tars = kinds.iter().any(|(kind, _)| *kind != Kind::Parquet);
    let files =
        || kinds.iter().filter(|(kind, _)| (*kind != Kind::Parquet) == has_tars).map(|(_, path)| *path);
    let folders: BTreeSet<String> = files().filter_map(folder_of).collect();
    let listed = || folders.iter().cloned().collect::<Vec<_>>().join(", ");
    let Some(subset) = subset else {
        // Parquet of several folders is several data sets; tars of several are parts of one.
        if !has_tars && folders.len() > 1 {
            return Err(format!("it has several subsets: choose one with --subset: {}", listed()));
        }
        return Ok(files().map(str::to_owned).collect());
    };
    let is_asked = |path: &&str| {
        let folder = folder_of(path);
        folder.is_some_and(|folder| folder == subset || folder == format!("data_{subset}"))
    };
    let asked: Vec<String> = files().filter(is_asked).map(str::to_owned).collect();
    if asked.is_empty() {
        return Err(format!("it has no subset {subset}: there is {}", listed()));
    }
    Ok(asked)
}

/// The folders above a file but those that name a split.
fn folder_of(path: &str) -> Option<String> {
    let (folder, _) = path.rsplit_once('/')?;
    let is_split = |part: &&str| matches!(*part, "train" | "val" | "validation" | "test" | "dev");
    let parts: Vec<&str> = folder.split('/').filter(|part| !is_split(part)).collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_chosen_by_kind_and_subset() {
        let of = |paths: &[&'static str], subset| select(paths.iter().copied(), subset);
        let t2i = ["README.md", "data_1024_10K/data_000000.tar", "data_512_2M/data_000000.tar"];
        assert_eq!(of(&t2i, Some("512_2M")).unwrap(), [t2i[2]]);
        assert_eq!(of(&t2i, None).unwrap(), [t2i[1], t2i[2]]);
        assert!(of(&t2i, Some("x")).unwrap_err().contains("data_512_2M"));
        let parquet = ["data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"];
        assert_eq!(of(&parquet, None).unwrap(), parquet);
        let configs = ["a/train/0.parquet", "b/train/0.parquet"];
        assert!(of(&configs, None).unwrap_err().contains("a, b"));
        assert_eq!(of(&configs, Some("b")).unwrap(), [configs[1]]);
        assert!(of(&["README.md"], None).is_err());
    }
}
