//! Downloads that can be trusted: parallel byte ranges, resumed after any interruption, retried with patience, checked
//! against length and digest, put in place only when whole and synced.
//!
//! [`Fetcher::file`] brings one URL to one path; [`Fetcher::dataset_repo`] opens a data set on the Hub, whose files go
//! to the cache that the Hub's own clients share. The names in that cache are hf-hub's; what hf-hub does not do
//! (resume, check, give up stalls) is here. Left out: uploads, models, git, anything that reads what was downloaded.

mod bars;
mod cache;
mod digest;
mod http;
mod hub;
mod job;
mod part;
mod ranges;
mod retry;
mod settings;
pub mod space;
mod spans;
mod url;
mod watch;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

pub use bars::Bars;
pub use digest::Digest;
pub use hub::{HubFile, HubRepo};
pub use settings::{FetchSettings, Token};
pub use watch::{Meter, Quiet, Watch};

use crate::{Error, Result};

/// What is known of a file before it is downloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Its length.
    pub bytes: Option<u64>,
    /// Its digest.
    pub digest: Option<Digest>,
}

/// A file that is there, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is: the destination asked for.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The server's etag, or date where it has none; none where the file was there before, too.
    pub etag: Option<String>,
    /// Whether this call put it there; else it was there before.
    pub downloaded: bool,
}

/// Downloads files. Clones share connections; all of them end when `stop` is set, keeping what is there.
#[derive(Clone, Debug)]
pub struct Fetcher {
    http: Arc<http::Http>,
    watch: Arc<dyn Watch>,
}

impl Fetcher {
    /// A fetcher that tells nobody of its progress. Setting `stop` cuts all its requests short.
    pub fn new(settings: FetchSettings, stop: Arc<AtomicBool>) -> Self {
        Self { http: Arc::new(http::Http::new(settings, stop)), watch: Arc::new(Quiet) }
    }

    /// The same with someone who is told.
    #[must_use]
    pub fn watched(self, watch: Arc<dyn Watch>) -> Self {
        Self { watch, ..self }
    }

    /// The settings.
    pub fn settings(&self) -> &FetchSettings {
        &self.http.settings
    }

    /// Brings `url` to `dest`. A file that is there already with the expected length stays: nothing is put there
    /// before it is whole and checked. An unfinished one, `.NAME.part` beside it, is continued where it is still the
    /// same file on the server.
    ///
    /// # Errors
    /// `Download` (refused, or not there after all attempts), `Mismatch` (other bytes than expected, every time),
    /// `Space`, `Offline`, `Io`, `Interrupted`. But for `Mismatch`, what has arrived is kept for the next run.
    pub fn file(&self, url: &str, dest: &Path, expected: &Expected) -> Result<Fetched> {
        let parsed = url::Url::parse(url)
            .map_err(|problem| Error::Config(format!("cannot download from this address: {problem}")))?;
        let name = dest.file_name().unwrap_or_default().to_string_lossy();
        job::Job { http: &self.http, watch: &*self.watch, url: &parsed, dest, expected, name: &name }.run()
    }
}
