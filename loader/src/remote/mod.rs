//! Data sets that lie in object stores: `s3://`, `https://`, `hf://`. Their indices come when a loader is opened, their
//! samples while it reads, ahead of the order, into tars full of holes in a bounded cache; from there on they are data
//! sets like any other. Users see no async code; a runtime lives inside. Left out: writing to a store, ever.
//!
//! ```text
//! location   a URL taken apart           objects   requests, tried again
//! lane       the locked cache folder     held      which samples it has, room, eviction
//! journal    the same on disk            disk      free room, holes
//! uses       when each is needed next    planner   the fetching thread, with runs and room
//! fetch      one request, checked        session   what workers wait for
//! ```

#[cfg(not(unix))]
compile_error!(
    "the feature `remote` needs a Unix: files with holes, and reads and writes at a place in them"
);

mod counts;
mod disk;
mod fetch;
mod held;
mod journal;
mod lane;
mod location;
mod objects;
mod planner;
mod room;
mod runs;
mod session;
mod uses;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use shard::Dataset;

pub(crate) use self::session::{Hold, Session};
use self::{
    held::SplitPlace,
    lane::Lane,
    location::Location,
    planner::{PartPlace, Planner},
    session::Shared,
};
use crate::{
    cache::{CacheConfig, RemoteStats, is_url},
    collate::Source,
    config::LoaderConfig,
    error::Result,
    order::Order,
    parts::Part,
    select::Selected,
    sequence::EpochSamples,
    store::Store,
};

/// The data sets of a loader that lie in object stores.
#[derive(Debug)]
pub(crate) struct Remote {
    /// Each once.
    lanes: Vec<Arc<Lane>>,
    /// One for each part: the number of its lane, and its split.
    parts: Vec<Option<(usize, Arc<SplitPlace>)>>,
}

/// Opens what lies in object stores; gives the folders of all parts, and the way to the bytes where there is one.
///
/// # Errors
/// [`Error::Remote`](crate::Error::Remote), [`Error::Cache`](crate::Error::Cache),
/// [`Error::Shard`](crate::Error::Shard).
pub(crate) fn open(parts: &[Part], config: &LoaderConfig) -> Result<(Vec<PathBuf>, Option<Remote>)> {
    let (mut dirs, mut remote) = (Vec::new(), Remote { lanes: Vec::new(), parts: Vec::new() });
    for part in parts {
        if !is_url(&part.dir) {
            dirs.push(part.dir.clone());
            remote.parts.push(None);
            continue;
        }
        let location = Location::parse(&part.dir.to_string_lossy(), &config.cache)?;
        let lane = Lane::open(&location, &config.cache)?;
        let split = lane.split(Dataset::open(&lane.dir)?.manifest(), &part.split, &config.cache)?;
        dirs.push(lane.dir.clone());
        let known = remote.lanes.iter().position(|known| Arc::ptr_eq(known, &lane));
        let number = known.unwrap_or(remote.lanes.len());
        if known.is_none() {
            remote.lanes.push(lane);
        }
        remote.parts.push(Some((number, split)));
    }
    let remote = Some(remote).filter(|remote| !remote.lanes.is_empty());
    Ok((dirs, remote))
}

/// A data set wherever it lies; of one in an object store, the manifest alone.
///
/// # Errors
/// As [`open`].
pub(crate) fn dataset(dir: &Path, config: &CacheConfig) -> Result<Dataset> {
    if !is_url(dir) {
        return Ok(Dataset::open(dir)?);
    }
    let lane = Lane::open(&Location::parse(&dir.to_string_lossy(), config)?, config)?;
    Ok(Dataset::open(&lane.dir)?)
}

impl Remote {
    /// The order that suits: blocks, unless all that takes part is here already.
    pub(crate) fn order(&self, store: &Store, selected: &[Selected]) -> Option<Order> {
        for ((place, stored), selected) in self.parts.iter().zip(&store.parts).zip(selected) {
            let Some((lane, split)) = place else { continue };
            let held = self.lanes[*lane].held();
            let slot = |place| split.starts[0] + (selected.sample(place) - stored.first) as usize;
            if !(0..selected.len()).all(|place| held.present(slot(place)).is_some()) {
                return Some(Order::BLOCK);
            }
        }
        None
    }

    /// The address of a part, as it may be shown.
    pub(crate) fn address(&self, part: usize) -> Option<PathBuf> {
        let (lane, _) = self.parts.get(part)?.as_ref()?;
        Some(PathBuf::from(&self.lanes[*lane].objects.shown))
    }

    pub(crate) fn stats(&self) -> RemoteStats {
        let mut stats = RemoteStats::default();
        self.lanes.iter().for_each(|lane| lane.add_to(&mut stats));
        stats
    }

    /// Starts to fetch for the batches of `epoch` from number `first` on.
    ///
    /// # Errors
    /// [`Error::Spawn`](crate::Error::Spawn).
    pub(crate) fn session(
        &self,
        source: &Arc<Source>,
        samples: &Arc<EpochSamples>,
        epoch: u64,
        first: u64,
    ) -> Result<Session> {
        let places = self.parts.iter().zip(&source.store.parts);
        let places = places.map(|(place, stored)| {
            let (lane, split) = place.as_ref()?;
            Some(PartPlace { lane: *lane, split: Arc::clone(split), first: stored.first })
        });
        let shared = Arc::new(Shared::default());
        let (source, samples) = (Arc::clone(source), Arc::clone(samples));
        let planner =
            Planner::new(source, samples, (epoch, first), &self.lanes, places.collect(), Arc::clone(&shared));
        Session::start(planner, shared)
    }
}
