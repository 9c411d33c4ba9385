//! One file from first request to its place: what is there is looked at, what is missing brought, the whole checked,
//! and all of it done again where that may help. It leaves out how ranges are shared (`ranges`).

use std::{
    io::{Read as _, Write as _},
    ops::Range,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use super::{
    Expected, Fetched,
    http::{Http, Reply, unread},
    part::{Part, Record},
    ranges::{PIECE_BYTES, Transfer, begins, changed, content_range, range_headers},
    retry::{Patience, Trouble, sleep_until},
    space,
    spans::Spans,
    url::Url,
    watch::{Meter, Watch},
};
use crate::{Error, Result};

/// A file to bring.
pub(super) struct Job<'a> {
    pub(super) http: &'a Http,
    pub(super) watch: &'a dyn Watch,
    pub(super) url: &'a Url,
    pub(super) dest: &'a Path,
    pub(super) expected: &'a Expected,
    /// For people.
    pub(super) name: &'a str,
}

impl Job<'_> {
    pub(super) fn run(&self) -> Result<Fetched> {
        if let Some(there) = self.there()? {
            return Ok(there);
        }
        if self.http.settings.offline {
            return Err(Error::Offline { what: self.url.to_string(), path: self.dest.to_path_buf() });
        }
        let part = Part::open(self.dest, &self.http.stop, || {
            self.watch
                .notice(&format!("waiting for another process, which downloads {}", self.dest.display()));
        })?;
        // Another process may have brought it in the meantime.
        if let Some(there) = self.there()? {
            part.remove();
            return Ok(there);
        }
        let meter = self.watch.begin(self.name);
        let etag = match self.persist(&part, &meter) {
            Err(error @ Error::Mismatch { .. }) => {
                part.remove();
                return Err(error);
            }
            etag => etag?,
        };
        part.finish()?;
        let bytes = fs_err::metadata(self.dest).map_err(Error::io("read", self.dest))?.len();
        Ok(Fetched { path: self.dest.to_path_buf(), bytes, etag, downloaded: true })
    }

    /// The file, where it is there with the expected length.
    fn there(&self) -> Result<Option<Fetched>> {
        let metadata = match fs_err::metadata(self.dest) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", self.dest)(error)),
        };
        if !metadata.is_file() {
            let problem = "something that is no file stands where a download belongs".to_owned();
            return Err(Error::Output { path: self.dest.to_path_buf(), problem });
        }
        let bytes = metadata.len();
        if self.expected.bytes.is_some_and(|expected| expected != bytes) {
            self.watch.notice(&format!(
                "{} has {bytes} bytes and not the {} expected: it is downloaded again",
                self.dest.display(),
                self.expected.bytes.unwrap_or_default()
            ));
            return Ok(None);
        }
        Ok(Some(Fetched { path: self.dest.to_path_buf(), bytes, etag: None, downloaded: false }))
    }

    /// Tries until the part is whole and right.
    fn persist(&self, part: &Part, meter: &Arc<dyn Meter>) -> Result<Option<String>> {
        let mut patience = Patience::new(&self.http.settings, &self.http.stop, self.url.to_string());
        let mut restarts = 0;
        loop {
            let trouble = match self.once(part, &**meter).and_then(|etag| self.check(part).map(|()| etag)) {
                Ok(etag) => return Ok(etag),
                Err(_) if self.http.stopped() => return Err(Error::Interrupted),
                Err(Trouble::Wrong(error)) => {
                    part.reset(0)?;
                    meter.at(0);
                    restarts += 1;
                    if restarts > self.http.settings.restarts {
                        return Err(error);
                    }
                    self.watch.notice(&format!("{error}; starting over"));
                    Trouble::passing("the file is wrong")
                }
                Err(trouble) => trouble,
            };
            let wait = match patience.wait_after(trouble) {
                Ok(wait) => wait,
                Err(Trouble::Final(error) | Trouble::Wrong(error)) => return Err(error),
                Err(Trouble::Passing { problem, cause, .. }) => {
                    return Err(Error::Download { url: self.url.to_string(), problem, source: cause });
                }
            };
            sleep_until(Instant::now() + wait, &self.http.stop, &AtomicBool::new(false))?;
        }
    }

    /// Brings everything that is missing, once. Gives the etag.
    fn once(&self, part: &Part, meter: &dyn Meter) -> Result<Option<String>, Trouble> {
        let kept = part.record().filter(|(record, _)| self.can_continue(record));
        let range_bytes = self.http.settings.range_bytes.max(1);
        let range = match &kept {
            None => 0..range_bytes.min(self.expected.bytes.unwrap_or(u64::MAX)).max(1),
            Some((record, spans)) => match spans.first_gap(record.bytes, range_bytes) {
                Some(gap) => gap,
                None => return Ok(record.validator.clone()),
            },
        };
        let record = kept.as_ref().map(|(record, _)| record);
        let validator =
            record.filter(|record| record.digest.is_none()).and_then(|record| record.validator.clone());
        let reply = self.http.get(self.url, &range_headers(&range, validator.as_deref()))?;
        let theirs = reply.validator();
        if let (Some(ours), Some(theirs)) = (&validator, &theirs)
            && ours != theirs
        {
            return Err(changed(self.url));
        }
        let etag = reply.linked_etag.clone().or_else(|| theirs.clone());
        match reply.status {
            206 => self.in_ranges(part, meter, kept, range, reply)?,
            416 => self.beyond(part, kept.is_some(), &reply)?,
            _ => self.in_one_stream(part, meter, reply)?,
        }
        Ok(etag)
    }

    /// Whether an earlier run's part can be the beginning of this file: the same digest, or at least the same source
    /// with something to tell its versions apart.
    fn can_continue(&self, record: &Record) -> bool {
        let digest = self.expected.digest.as_ref().map(ToString::to_string);
        let same = match &digest {
            Some(_) => record.digest == digest,
            None => {
                record.digest.is_none() && record.validator.is_some() && record.url == self.url.to_string()
            }
        };
        same && self.expected.bytes.is_none_or(|bytes| bytes == record.bytes)
    }

    fn in_ranges(
        &self,
        part: &Part,
        meter: &dyn Meter,
        kept: Option<(Record, Spans)>,
        asked: Range<u64>,
        reply: Reply,
    ) -> Result<(), Trouble> {
        let Some((range, total)) = reply.header("content-range").and_then(content_range) else {
            return Err(Trouble::passing("a part without a readable Content-Range"));
        };
        if !begins(&range, &asked) {
            return Err(Trouble::passing(format!(
                "asked for bytes {}-{}, the server sent {}-{}",
                asked.start,
                asked.end - 1,
                range.start,
                range.end - 1
            )));
        }
        match &kept {
            Some((record, _)) if record.bytes != total => return Err(changed(self.url)),
            Some((_, spans)) => self.require_space(total - spans.bytes())?,
            None => {
                self.right_length(total)?;
                self.require_space(total)?;
                part.reset(total)?;
            }
        }
        let kept = kept.unwrap_or_else(|| {
            let digest = self.expected.digest.as_ref().map(ToString::to_string);
            (Record::new(self.url.to_string(), total, reply.validator(), digest), Spans::default())
        });
        Transfer::new(self.http, self.url, part, meter, kept).run(range, reply)
    }

    /// 416: the file is empty, or shorter than it was.
    fn beyond(&self, part: &Part, kept: bool, reply: &Reply) -> Result<(), Trouble> {
        if kept {
            return Err(changed(self.url));
        }
        if reply.header("content-range").map(str::trim) != Some("bytes */0") {
            return Err(Trouble::passing("status 416 for a range that every file has"));
        }
        self.right_length(0)?;
        Ok(part.reset(0)?)
    }

    /// The whole body from a server without ranges.
    fn in_one_stream(&self, part: &Part, meter: &dyn Meter, mut reply: Reply) -> Result<(), Trouble> {
        let total = reply.length();
        if let Some(total) = total {
            self.right_length(total)?;
            meter.total(total);
        }
        meter.at(0);
        part.reset(0)?;
        self.require_space(total.or(self.expected.bytes).unwrap_or(0))?;
        let mut file = part.writer(0)?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        loop {
            if self.http.stopped() {
                return Err(Trouble::Final(Error::Interrupted));
            }
            let bytes = match reply.body.read(&mut piece) {
                Ok(0) => break,
                Ok(bytes) => bytes,
                Err(error) => return Err(unread(error)),
            };
            file.write_all(&piece[..bytes]).map_err(Error::io("write", part.path()))?;
            at += bytes as u64;
            meter.at(at);
        }
        match total {
            Some(total) if total != at => Err(Trouble::passing("the body ended too early")),
            _ => Ok(()),
        }
    }

    fn require_space(&self, bytes: u64) -> Result<(), Trouble> {
        let dir = self.dest.parent().unwrap_or(Path::new("."));
        Ok(space::require(dir, bytes, &self.url.to_string())?)
    }

    fn right_length(&self, found: u64) -> Result<(), Trouble> {
        match self.expected.bytes {
            Some(expected) if expected != found => {
                Err(Trouble::Wrong(self.mismatch(format!("{expected} bytes"), format!("{found} bytes"))))
            }
            _ => Ok(()),
        }
    }

    /// The whole part against what was expected of it.
    fn check(&self, part: &Part) -> Result<(), Trouble> {
        let path = part.path();
        self.right_length(fs_err::metadata(path).map_err(Error::io("read", path))?.len())?;
        let Some(expected) = &self.expected.digest else { return Ok(()) };
        let found = expected.of_file(path, &self.http.stop)?;
        if found != *expected {
            return Err(Trouble::Wrong(self.mismatch(expected.to_string(), found.to_string())));
        }
        Ok(())
    }

    fn mismatch(&self, expected: String, found: String) -> Error {
        Error::Mismatch { url: self.url.to_string(), path: self.dest.to_path_buf(), expected, found }
    }
}
