//! Downloads against a server of our own that misbehaves on request.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod faults;
mod file;
mod hub;
mod resume;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prep::{
    Error, Result,
    fetch::{Digest, Expected, FetchSettings, Fetched, Fetcher, Meter, Watch},
};
use testkit::server::{Server, sha256};

/// Settings of a test: small ranges, waits of milliseconds.
fn settings(server: &Server, dir: &Path) -> FetchSettings {
    FetchSettings {
        range_bytes: 1000,
        attempts: 4,
        backoff: Duration::from_millis(1),
        wait_max: Duration::from_millis(20),
        restarts: 2,
        ..FetchSettings::new(&server.url(), dir.join("hub"))
    }
}

fn fetcher(settings: FetchSettings) -> Fetcher {
    Fetcher::new(settings, Arc::new(AtomicBool::new(false)))
}

/// Bytes without a pattern, different for each seed.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

fn expected(bytes: &[u8]) -> Expected {
    Expected { bytes: Some(bytes.len() as u64), digest: Digest::sha256(&sha256(bytes)) }
}

/// A server with one file at `/file`, a folder, and the settings for them.
struct Bench {
    server: Server,
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
    url: String,
}

impl Bench {
    fn new(length: usize) -> Self {
        let (server, bytes) = (Server::start(), content(length as u64, length));
        let url = server.put("/file", &bytes);
        Self { server, dir: tempfile::tempdir().unwrap(), bytes, url }
    }

    fn settings(&self) -> FetchSettings {
        settings(&self.server, self.dir.path())
    }

    fn dest(&self) -> std::path::PathBuf {
        self.dir.path().join("into/file")
    }

    fn fetch(&self, expected: &Expected) -> Result<Fetched> {
        fetcher(self.settings()).file(&self.url, &self.dest(), expected)
    }

    /// Nothing but the file is left in its folder.
    fn assert_clean(&self, names: &[&str]) {
        let mut found: Vec<_> = fs_err::read_dir(self.dir.path().join("into"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, names);
    }

    fn assert_fetched(&self, bytes: &[u8]) {
        assert!(fs_err::read(self.dest()).unwrap() == bytes, "the file differs");
        self.assert_clean(&["file"]);
    }
}

/// Keeps what it is told, and sets `stop` once so many bytes are there.
#[derive(Debug, Default)]
struct Witness {
    stop: Arc<AtomicBool>,
    stop_at: Option<u64>,
    notices: Arc<Mutex<Vec<String>>>,
}

impl Witness {
    fn notices(&self) -> String {
        self.notices.lock().unwrap().join("\n")
    }

    /// A fetcher that tells this witness.
    fn fetcher(self: &Arc<Self>, settings: FetchSettings) -> Fetcher {
        Fetcher::new(settings, self.stop.clone()).watched(self.clone())
    }
}

impl Watch for Witness {
    fn begin(&self, _name: &str) -> Arc<dyn Meter> {
        Arc::new(Self { stop: self.stop.clone(), stop_at: self.stop_at, notices: self.notices.clone() })
    }
    fn notice(&self, text: &str) {
        self.notices.lock().unwrap().push(text.to_owned());
    }
}

impl Meter for Witness {
    fn total(&self, _bytes: u64) {}
    fn at(&self, bytes: u64) {
        if self.stop_at.is_some_and(|stop_at| bytes >= stop_at) {
            self.stop.store(true, Ordering::SeqCst);
        }
    }
}

/// The error's whole chain in one line.
fn chain(error: Error) -> String {
    format!("{:#}", anyhow::Error::from(error))
}
