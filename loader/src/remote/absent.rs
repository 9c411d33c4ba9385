//! In place of the reader of object stores where this was built without it: a URL is an error that says so. Left out:
//! everything else; the types have no values.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
};

use shard::Dataset;

use crate::{
    cache::{CacheConfig, RemoteStats, is_url, redact},
    collate::Source,
    config::LoaderConfig,
    error::{Error, Result},
    order::Order,
    parts::Part,
    select::Selected,
    sequence::EpochSamples,
    store::Store,
};

/// The data sets of a loader that lie in object stores: none.
#[derive(Debug)]
pub(crate) struct Remote(Infallible);

/// What is fetched for an epoch: nothing.
#[derive(Debug)]
pub(crate) struct Session(Infallible);

/// A batch whose bytes are at hand.
#[derive(Debug)]
pub(crate) struct Hold(Infallible);

/// The folders of the data sets.
pub(crate) fn open(parts: &[Part], _: &LoaderConfig) -> Result<(Vec<PathBuf>, Option<Remote>)> {
    match parts.iter().find(|part| is_url(&part.dir)) {
        Some(part) => Err(Error::WithoutRemote { url: redact(&part.dir.to_string_lossy()) }),
        None => Ok((parts.iter().map(|part| part.dir.clone()).collect(), None)),
    }
}

/// A local data set.
pub(crate) fn dataset(dir: &Path, _: &CacheConfig) -> Result<Dataset> {
    if is_url(dir) {
        return Err(Error::WithoutRemote { url: redact(&dir.to_string_lossy()) });
    }
    Ok(Dataset::open(dir)?)
}

impl Remote {
    pub(crate) fn order(&self, _: &Store, _: &[Selected]) -> Option<Order> {
        match self.0 {}
    }

    pub(crate) fn address(&self, _: usize) -> Option<PathBuf> {
        match self.0 {}
    }

    pub(crate) fn stats(&self) -> RemoteStats {
        match self.0 {}
    }

    pub(crate) fn session(&self, _: &Arc<Source>, _: &Arc<EpochSamples>, _: u64, _: u64) -> Result<Session> {
        match self.0 {}
    }
}

impl Session {
    pub(crate) fn hold(&self, _: u64) -> Result<Hold> {
        match self.0 {}
    }

    pub(crate) fn hold_sample(&self, _: u64) -> Result<Hold> {
        match self.0 {}
    }

    pub(crate) fn check(&self, _: u64) -> Result<()> {
        match self.0 {}
    }

    pub(crate) fn stop(&self) {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use crate::{CacheConfig, Error, Loader, Part, Remainder, open_dataset};

    #[test]
    fn a_url_is_an_error_that_names_the_feature() {
        let url = "https://user:hush@host/coco?key=hush";
        let data = testkit::Spec::small().temporary();
        let builder = || Loader::builder(url).batch_size(4).remainder(Remainder::DropLast);
        let local = || Loader::builder(data.path()).batch_size(4).remainder(Remainder::DropLast);
        for error in [
            builder().build().unwrap_err(),
            local().mix(Part::new(url)).build().unwrap_err(),
            open_dataset(url.as_ref(), &CacheConfig::default()).unwrap_err(),
        ] {
            assert!(matches!(error, Error::WithoutRemote { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with("https://host/coco lies in an object store"), "{text}");
            assert!(text.contains("--features remote"), "{text}");
            assert!(!text.contains("hush"), "{text}");
        }
        assert!(local().build().unwrap().remote_stats().is_none());
    }
}
