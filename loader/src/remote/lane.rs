//! A data set's folder in the cache, for one process at a time: `CACHE/ADDRESS/FINGERPRINT/lane-N`, with the manifest, the
//! indices, and tars that are long and empty until samples come. A second process takes the next lane; loaders of
//! one process share one. Left out: which samples come when (`session`).

use std::{
    fs::TryLockError,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering::Relaxed},
};

use shard::{Corruption, Manifest, ShardEntry, ShardReader, manifest::MANIFEST_NAME};
use tokio::{runtime::Runtime, task::JoinSet};

use super::{
    counts::Counts,
    disk,
    held::{Held, SplitPlace},
    journal::Journal,
    location::Location,
    objects::Objects,
};
use crate::{
    cache::CacheConfig,
    error::{Error, Result},
};

/// Largest manifest that is fetched.
const MANIFEST_BYTES_MAX: u64 = 512 << 20;

/// Most processes that read one data set through one cache.
const LANES_MAX: u32 = 1024;

/// The lanes that this process holds.
static LANES: Mutex<Vec<Weak<Lane>>> = Mutex::new(Vec::new());

/// A locked folder of the cache, and the way to what it lacks.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) dir: PathBuf,
    /// The folder that lanes of the same data set share.
    home: PathBuf,
    pub(super) objects: Arc<Objects>,
    pub(super) driver: Arc<Driver>,
    held: Mutex<Held>,
    opening: Mutex<()>,
    /// Released by the system, whatever becomes of this process.
    _lock: fs_err::File,
}

/// A runtime that may be used and dropped anywhere, in another runtime too.
#[derive(Debug)]
pub(super) struct Driver(Option<Runtime>);

/// The one that all lanes share: connections are kept by the runtime that opened them.
static DRIVER: Mutex<Weak<Driver>> = Mutex::new(Weak::new());

impl Driver {
    fn shared() -> std::io::Result<Arc<Driver>> {
        let mut shared = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = shared.upgrade() {
            return Ok(driver);
        }
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let builder = builder.enable_all().thread_keep_alive(std::time::Duration::from_millis(200));
        let driver = Arc::new(Driver(Some(builder.build()?)));
        *shared = Arc::downgrade(&driver);
        Ok(driver)
    }

    /// Runs a future to its end on this thread, which must not be one of another runtime.
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.as_ref().expect("it is taken on drop alone").block_on(future)
    }

    /// The same on a thread of its own.
    fn run<T: Send>(&self, future: impl Future<Output = T> + Send) -> std::thread::Result<T> {
        std::thread::scope(|scope| scope.spawn(|| self.block_on(future)).join())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Lane {
    /// Opens the data set at `location`: asks for its manifest, and takes the lane of this process or the first free one.
    ///
    /// # Errors
    /// [`Error::Remote`], [`Error::Shard`] where the manifest is damaged, [`Error::Cache`].
    pub(super) fn open(location: &Location, config: &CacheConfig) -> Result<Arc<Lane>> {
        let root = cache_dir(config)?;
        let objects = Arc::new(Objects::open(location, config, Arc::new(Counts::default()))?);
        let driver = Driver::shared().map_err(Error::Spawn)?;
        let url = PathBuf::from(objects.url(MANIFEST_NAME));
        let asked =
            driver.run(objects.whole(MANIFEST_NAME, MANIFEST_BYTES_MAX, |bytes| {
                Ok(Manifest::parse(bytes, &url).map(|_| ())?)
            }));
        let bytes = joined(asked)?;
        let manifest = Manifest::parse(&bytes, &url)?;
        let address = blake3::hash(location.shown.as_bytes()).to_hex();
        let home = root.join(&address[..16]).join(&manifest.fingerprint[..16]);
        let mut lanes = LANES.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|lane| lane.strong_count() > 0);
        let shared = lanes.iter().filter_map(Weak::upgrade).find(|lane| lane.home == home);
        let lane = match shared {
            Some(lane) => lane,
            None => {
                let (dir, lock) = take(&home)?;
                // For people who look into the folder.
                let note = home.join("address");
                fs_err::write(&note, format!("{}\n", location.shown))
                    .map_err(Error::cache("write", &note))?;
                let (held, opening) = (Mutex::default(), Mutex::default());
                let lane = Arc::new(Lane { dir, home, objects, driver, held, opening, _lock: lock });
                lanes.push(Arc::downgrade(&lane));
                lane
            }
        };
        drop(lanes);
        let opening = lane.opening();
        lane.place(MANIFEST_NAME, &bytes)?;
        drop(opening);
        Ok(lane)
    }

    /// Brings what a split needs to be opened: every index; and tars to be filled. Then samples may take as many bytes as
    /// `config` says.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn split(
        &self,
        manifest: &Manifest,
        name: &str,
        config: &CacheConfig,
    ) -> Result<Arc<SplitPlace>> {
        // One loader at a time: the second finds what the first has brought.
        let _opening = self.opening();
        let folder = self.dir.join(name);
        let Some(entry) = manifest.splits.iter().find(|split| split.name == name) else {
            let known = manifest.splits.iter().map(|split| split.name.clone()).collect();
            let path = PathBuf::from(&self.objects.shown);
            return Err(shard::Error::NoSuchSplit { path, name: name.to_owned(), known }.into());
        };
        let mut held = self.held();
        if let Some(split) = held.split(name) {
            let limit = self.limit(&held, config)?;
            held.allow(limit);
            return Ok(split);
        }
        let first = held.slots();
        drop(held);
        fs_err::create_dir_all(&folder).map_err(Error::cache("create", &folder))?;
        self.bring_indices(name, &entry.shards, config.requests)?;
        let (mut readers, mut starts) = (Vec::new(), vec![first]);
        let journal = folder.join("journal");
        for shard in &entry.shards {
            let tar = folder.join(shard.tar_name());
            // A tar that was not there has nothing of what the journal tells; checksums would find that out too.
            if disk::sparse(&tar, shard.tar_bytes).map_err(Error::cache("create", &tar))? && starts.len() == 1
            {
                let _ = fs_err::remove_file(&journal);
            }
            let reader = ShardReader::open(&folder, shard, &manifest.image)?;
            starts.push(starts[starts.len() - 1] + reader.len());
            readers.push(reader);
        }
        let mut held = self.held();
        let (journal, records) = Journal::open(&journal).map_err(Error::cache("open", &journal))?;
        let tar_bytes = entry.shards.iter().map(|shard| shard.tar_bytes).collect();
        let split = Arc::new(SplitPlace { name: name.to_owned(), readers, tar_bytes, starts });
        held.add(Arc::clone(&split), journal, &records);
        held.tidy(&split, &self.dir)?;
        let limit = self.limit(&held, config)?;
        held.allow(limit);
        Ok(split)
    }

    fn limit(&self, held: &Held, config: &CacheConfig) -> Result<u64> {
        match config.bytes {
            Some(bytes) => Ok(bytes),
            None => {
                let free =
                    disk::free_bytes(&self.dir).map_err(Error::cache("look at the disk of", &self.dir))?;
                Ok((free + held.used_bytes()) / 2)
            }
        }
    }

    fn bring_indices(&self, split: &str, shards: &[ShardEntry], requests: usize) -> Result<()> {
        let missing = shards.iter().filter(|shard| {
            let path = self.dir.join(split).join(shard.index_name());
            let there = fs_err::metadata(&path).is_ok_and(|metadata| metadata.len() == shard.index_bytes);
            !(there
                && fs_err::read(&path)
                    .is_ok_and(|bytes| shard::checksum::blake3_hex(&bytes) == shard.index_blake3))
        });
        let mut missing = missing.cloned().peekable();
        if missing.peek().is_none() {
            return Ok(());
        }
        joined(self.driver.run(async {
            let mut tasks = JoinSet::new();
            loop {
                while tasks.len() < requests
                    && let Some(shard) = missing.next()
                {
                    let (objects, name) =
                        (Arc::clone(&self.objects), format!("{split}/{}", shard.index_name()));
                    tasks.spawn(async move {
                        let fits = |bytes: &[u8]| fits(&objects.url(&name), bytes, &shard);
                        let bytes = objects.whole(&name, shard.index_bytes, fits).await;
                        bytes.map(|bytes| (name, bytes))
                    });
                }
                let Some(done) = tasks.join_next().await else { return Ok(()) };
                let (name, bytes) = joined(done)?;
                self.place(&name, &bytes)?;
            }
        }))
    }

    /// Puts a file in its place in the lane, whole or not at all. `name` is one that the manifest was allowed.
    fn place(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        if fs_err::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        Ok(shard::replace_file(&path, |file| std::io::Write::write_all(file, bytes))?)
    }

    /// Files of the lane are put in place by one thread at a time.
    fn opening(&self) -> MutexGuard<'_, ()> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        // Counts may be off by what a panic left undone; checksums guard the bytes.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_to(&self, stats: &mut crate::cache::RemoteStats) {
        let Counts { requests, fetched_bytes, payload_bytes, refetched, evicted_bytes, hits, misses } =
            &*self.objects.counts;
        stats.requests += requests.load(Relaxed);
        stats.fetched_bytes += fetched_bytes.load(Relaxed);
        stats.payload_bytes += payload_bytes.load(Relaxed);
        stats.refetched += refetched.load(Relaxed);
        stats.evicted_bytes += evicted_bytes.load(Relaxed);
        stats.hits += hits.load(Relaxed);
        stats.misses += misses.load(Relaxed);
        let held = self.held();
        stats.cached_bytes += held.used_bytes();
        stats.limit_bytes += held.limit_pages() * super::held::PAGE_BYTES;
        stats.dirs.push(self.dir.clone());
    }
}

/// The first lane that no process holds.
fn take(home: &Path) -> Result<(PathBuf, fs_err::File)> {
    for number in 0..LANES_MAX {
        let dir = home.join(format!("lane-{number}"));
        fs_err::create_dir_all(&dir).map_err(Error::cache("create", &dir))?;
        let path = dir.join("lock");
        let mut options = fs_err::OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(Error::cache("open", &path))?;
        match lock.file().try_lock() {
            Ok(()) => return Ok((dir, lock)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(Error::cache("lock", &path)(source)),
        }
    }
    Err(Error::config(format!("{LANES_MAX} processes read this data set through {} already", home.display())))
}

fn fits(url: &str, bytes: &[u8], shard: &ShardEntry) -> Result<()> {
    let digest = shard::checksum::blake3_hex(bytes);
    let (problem, expected, found) = if bytes.len() as u64 != shard.index_bytes {
        ("length of the object", shard.index_bytes.to_string(), bytes.len().to_string())
    } else if digest != shard.index_blake3 {
        ("BLAKE3 of the object", shard.index_blake3.clone(), digest)
    } else {
        return Ok(());
    };
    let (path, problem) = (PathBuf::from(url), problem.to_owned());
    let corruption = Corruption { path, key: None, offset: 0, problem, expected, found };
    Err(shard::Error::Corrupt(Box::new(corruption)).into())
}

/// What a thread or a task gave; its panic goes on here.
fn joined<T, E>(outcome: std::result::Result<Result<T>, E>) -> Result<T> {
    outcome.unwrap_or_else(|_| Err(Error::config("a request for an object panicked")))
}

/// The folder of all caches.
fn cache_dir(config: &CacheConfig) -> Result<PathBuf> {
    if let Some(dir) = &config.dir {
        return Ok(dir.clone());
    }
    // The specification of base folders: a relative one is not heeded.
    let absolute = |name: &str| config.variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let base = base.ok_or_else(|| Error::config("no home folder is known: name a folder for the cache"))?;
    Ok(base.join("shards"))
}
