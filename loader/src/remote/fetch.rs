//! One request's worth of samples: asked for, compared with their checksums, written to their places; what came damaged is
//! asked for again. Left out: which samples, and telling anybody.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    held::{self, SplitPlace, tar_name},
    lane::Lane,
    objects::{self, Refusal},
};
use crate::error::{Error, Place};

/// Samples of one shard, ascending and near one another, and the pages of each.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) lane: Arc<Lane>,
    pub(super) split: Arc<SplitPlace>,
    pub(super) slots: Vec<(usize, u32)>,
}

/// Why a sample is not there. An error that can be told more than once.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The object is not what the index and the manifest say.
    Damaged { place: Box<Place>, what: &'static str, expected: String, found: String },
    /// The object cannot be had.
    Refused { place: Box<Place>, reason: String },
    /// The cache's own disk.
    Cache { action: &'static str, path: PathBuf, kind: std::io::ErrorKind, reason: String },
    /// The cache cannot hold one batch.
    TooSmall { needed_bytes: u64, limit_bytes: u64 },
    /// A bug, relayed.
    Panicked { message: String },
}

impl Failure {
    pub(super) fn error(&self) -> Error {
        match self.clone() {
            Self::Damaged { place, what, expected, found } => Error::Corrupt { place, what, expected, found },
            Self::Refused { place, reason } => Error::Fetch { place, reason },
            Self::Cache { action, path, kind, reason } => {
                Error::Cache { action, path, source: std::io::Error::new(kind, reason) }
            }
            Self::TooSmall { needed_bytes, limit_bytes } => {
                Error::CacheTooSmall { needed_bytes, limit_bytes }
            }
            Self::Panicked { message } => Error::FetchPanic { message },
        }
    }

    /// What a disk's refusal, or another of the loader's own errors, is here.
    pub(super) fn of(error: Error) -> Failure {
        match error {
            Error::Cache { action, path, source } => {
                Self::Cache { action, path, kind: source.kind(), reason: source.to_string() }
            }
            other => Self::Panicked { message: other.to_string() },
        }
    }
}

/// One sample of a run.
struct Piece {
    slot: usize,
    pages: u32,
    place: Box<Place>,
    crc32: u32,
}

impl Piece {
    fn end(&self) -> u64 {
        self.place.offset + self.place.bytes
    }

    fn refused(self, reason: &str) -> (usize, u32, Result<(), Failure>) {
        let failure = Failure::Refused { place: self.place, reason: reason.to_owned() };
        (self.slot, self.pages, Err(failure))
    }

    fn of_another_length(self, expected: u64, found: u64) -> (usize, u32, Result<(), Failure>) {
        let (expected, found) = (expected.to_string(), found.to_string());
        let failure = Failure::Damaged { place: self.place, what: "length of the object", expected, found };
        (self.slot, self.pages, Err(failure))
    }
}

/// What came of each sample of a run.
pub(super) type Outcome = Vec<(usize, u32, Result<(), Failure>)>;

/// Brings a run.
pub(super) async fn fetch(run: Arc<Run>) -> Outcome {
    let Run { lane, split, slots } = &*run;
    let objects = &lane.objects;
    let shard = slots.first().map_or(0, |&(slot, _)| split.locate(slot).0);
    let name = format!("{}/{}", split.name, tar_name(split, shard));
    let (path, tar_bytes) = (lane.dir.join(&name), split.tar_bytes[shard]);
    let mut outcome = Outcome::new();
    let mut due = vec![(pieces(split, slots, &PathBuf::from(objects.url(&name))), 1)];
    while let Some((pieces, attempt)) = due.pop() {
        let first = pieces.iter().map(|piece| piece.place.offset).min();
        let (Some(first), Some(end)) = (first, pieces.iter().map(Piece::end).max()) else { continue };
        let is_last = attempt >= objects.attempts;
        let got = match objects.get(&name, Some(first..end), u64::MAX).await {
            Err(Refusal::Passing(_)) if !is_last => {
                objects::wait(attempt).await;
                due.push((pieces, attempt + 1));
                continue;
            }
            Err(refusal) => Err(refusal),
            Ok(got) => Ok(got),
        };
        // A shorter object has no such range, in words of the store's own.
        let object_bytes = match &got {
            Ok(got) => Some(got.object_bytes),
            Err(Refusal::Passing(_)) => objects.length(&name).await,
            Err(Refusal::Final(_)) => None,
        };
        if let Some(found) = object_bytes.filter(|&found| found != tar_bytes) {
            outcome.extend(pieces.into_iter().map(|piece| piece.of_another_length(tar_bytes, found)));
            continue;
        }
        let (bytes, etag) = match got {
            Ok(got) => (got.bytes, got.etag),
            Err(refusal) => {
                let tried = if attempt > 1 { format!(" ({attempt} attempts)") } else { String::new() };
                let reason = refusal.reason() + &tried;
                outcome.extend(pieces.into_iter().map(|piece| piece.refused(&reason)));
                continue;
            }
        };
        let was_replaced = objects.was_replaced(&name, etag.as_deref());
        let bytes_of = |piece: &Piece| {
            let start = (piece.place.offset - first) as usize;
            &bytes[start..start + piece.place.bytes as usize]
        };
        let sound = |piece: &Piece| shard::checksum::crc32(bytes_of(piece)) == piece.crc32;
        let (sound, damaged): (Vec<Piece>, Vec<Piece>) = pieces.into_iter().partition(sound);
        let parts: Vec<(u64, &[u8])> =
            sound.iter().map(|piece| (piece.place.offset, bytes_of(piece))).collect();
        let written =
            held::write(&path, &parts).map_err(|error| Failure::of(Error::cache("write", &path)(error)));
        for piece in sound {
            objects.counts.payload_bytes.fetch_add(piece.place.bytes, Relaxed);
            outcome.push((piece.slot, piece.pages, written.clone()));
        }
        for piece in damaged {
            if is_last {
                let failure = damage(&piece, bytes_of(&piece), was_replaced);
                outcome.push((piece.slot, piece.pages, Err(failure)));
            } else {
                objects.counts.refetched.fetch_add(1, Relaxed);
                due.push((vec![piece], attempt + 1));
            }
        }
        if attempt > 1 && !due.is_empty() {
            objects::wait(attempt).await;
        }
    }
    outcome
}

/// A run's samples as their rows describe them. A damaged row is told by whoever reads it.
fn pieces(split: &SplitPlace, slots: &[(usize, u32)], url: &Path) -> Vec<Piece> {
    let piece = |&(slot, pages): &(usize, u32)| {
        let row = split.row(slot).ok()?;
        let (offset, bytes) = (row.image.offset, row.image.bytes);
        let place = Box::new(Place { shard: url.to_path_buf(), key: row.key.to_owned(), offset, bytes });
        Some(Piece { slot, pages, place, crc32: row.image.crc32 })
    };
    slots.iter().filter_map(piece).collect()
}

/// The words for a payload that stays damaged however often it is fetched.
fn damage(piece: &Piece, bytes: &[u8], was_replaced: bool) -> Failure {
    let found = shard::checksum::crc32(bytes);
    let byte = shard::checksum::changed_byte(bytes.len(), piece.crc32, found);
    let at = byte.map(|byte| (piece.place.offset + byte.position as u64, bytes[byte.position], byte.xor));
    let (expected, found) = (format!("{:08x}", piece.crc32), format!("{found:08x}"));
    let (expected, found) = match at {
        Some((at, byte, xor)) => (
            format!("{expected} (byte {at} as {:#04x})", byte ^ xor),
            format!("{found} (byte {at} is {byte:#04x})"),
        ),
        None => (expected, found),
    };
    let what = if was_replaced {
        "the object was replaced since it was first read (its ETag is another): CRC-32 of the payload"
    } else {
        "CRC-32 of the payload"
    };
    Failure::Damaged { place: piece.place.clone(), what, expected, found }
}

/// Whether a payload that was found in the cache is what its row says.
pub(super) fn is_sound(split: &SplitPlace, slot: usize) -> bool {
    let (shard, row) = split.locate(slot);
    let reader = &split.readers[shard];
    let read = || {
        let row = reader.row(row)?;
        reader.check(&row, row.image, reader.payload(&row, row.image)?)?;
        reader.check_whole()
    };
    read().is_ok()
}
