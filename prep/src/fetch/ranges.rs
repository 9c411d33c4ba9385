//! A file in byte ranges over several connections: each takes the next missing range, and goes on where a broken body
//! stopped. It leaves out the first request, which says how long the file is, and the check of the whole.

use std::{
    io::{Read as _, Write as _},
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{
    http::{Http, Reply, unread},
    part::{Part, Record},
    retry::{Patience, Trouble, sleep_until},
    spans::Spans,
    url::Url,
    watch::Meter,
};
use crate::{Error, Result};

/// Bytes read and written at once.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// One download in ranges, shared by its connections.
pub(super) struct Transfer<'a> {
    http: &'a Http,
    url: &'a Url,
    part: &'a Part,
    record: Record,
    meter: &'a dyn Meter,
    plan: Mutex<Plan>,
    /// Where the last redirect led: most of them need not be followed again.
    location: Mutex<Option<Url>>,
    /// Nobody asks before: what one connection is told to wait holds for all.
    calm_until: Mutex<Instant>,
    /// One connection failed for good: the others stop too.
    halt: AtomicBool,
    present_bytes: AtomicU64,
}

/// Which ranges are on disk, and which are taken: on disk or being worked on.
struct Plan {
    done: Spans,
    taken: Spans,
}

/// `Content-Range: bytes FIRST-LAST/TOTAL` as a range, and the total.
pub(super) fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then(|| (first..last + 1, total))
}

/// Whether a range is the beginning of the one asked for.
pub(super) fn begins(said: &Range<u64>, asked: &Range<u64>) -> bool {
    said.start == asked.start && said.end <= asked.end
}

/// What to send to get a range, of the version that `validator` names.
pub(super) fn range_headers(range: &Range<u64>, validator: Option<&str>) -> Vec<(&'static str, String)> {
    let mut headers = vec![("Range", format!("bytes={}-{}", range.start, range.end - 1))];
    headers.extend(validator.map(|validator| ("If-Range", validator.to_owned())));
    headers
}

/// The file on the server is not the one whose beginning is here.
pub(super) fn changed(url: &Url) -> Trouble {
    let problem = "the file changed on the server while it was downloaded".to_owned();
    Trouble::Wrong(Error::Download { url: url.to_string(), problem, source: None })
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        http: &'a Http,
        url: &'a Url,
        part: &'a Part,
        meter: &'a dyn Meter,
        (record, done): (Record, Spans),
    ) -> Self {
        let present_bytes = AtomicU64::new(done.bytes());
        meter.total(record.bytes);
        meter.at(done.bytes());
        Self {
            http,
            url,
            part,
            record,
            meter,
            plan: Mutex::new(Plan { taken: done.clone(), done }),
            location: Mutex::new(None),
            calm_until: Mutex::new(Instant::now()),
            halt: AtomicBool::new(false),
            present_bytes,
        }
    }

    /// Downloads all that is missing. `reply` answers the first request, which was for `range`.
    pub(super) fn run(&self, range: Range<u64>, reply: Reply) -> Result<(), Trouble> {
        self.remember(&reply);
        self.plan().taken.insert(range.clone());
        let missing_bytes = self.record.bytes - self.present_bytes.load(Ordering::Relaxed);
        let useful = missing_bytes.div_ceil(self.http.settings.range_bytes.max(1)).max(1);
        let connections = (self.http.settings.connections.max(1) as u64).min(useful);
        std::thread::scope(|scope| {
            let others: Vec<_> =
                (1..connections).map(|_| scope.spawn(|| self.halting(self.work(None)))).collect();
            let first = self.halting(self.work(Some((range, reply))));
            let mut outcome = first;
            for other in others {
                let theirs = other.join().unwrap_or_else(|panic| {
                    let place = self.url.to_string();
                    Err(Trouble::Final(Error::Worker { place, message: crate::contain::message(&*panic) }))
                });
                outcome = outcome.and(theirs);
            }
            outcome
        })
    }

    fn halting(&self, outcome: Result<(), Trouble>) -> Result<(), Trouble> {
        if outcome.is_err() {
            self.halt.store(true, Ordering::Relaxed);
        }
        outcome
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, reply: &Reply) {
        let redirected = (reply.location != *self.url).then(|| reply.location.clone());
        *self.location.lock().unwrap_or_else(PoisonError::into_inner) = redirected;
    }

    /// One connection: takes range after range until none is left.
    fn work(&self, mut first: Option<(Range<u64>, Reply)>) -> Result<(), Trouble> {
        loop {
            let (range, reply) = match first.take() {
                Some((range, reply)) => (range, Some(reply)),
                None => {
                    let mut plan = self.plan();
                    let gap = plan.taken.first_gap(self.record.bytes, self.http.settings.range_bytes.max(1));
                    let Some(range) = gap else { return Ok(()) };
                    plan.taken.insert(range.clone());
                    (range, None)
                }
            };
            let mut file = self.part.writer(range.start)?;
            let mut at = range.start;
            let outcome = self.bring(&mut file, &mut at, range.end, reply);
            // What has arrived counts, whatever came after it.
            self.commit(&file, range.start..at)?;
            outcome?;
            if at < range.end {
                return Ok(()); // another connection failed
            }
        }
    }

    /// Brings the bytes from `at` to `end`, in as many requests as it takes.
    fn bring(
        &self,
        file: &mut fs_err::File,
        at: &mut u64,
        end: u64,
        mut reply: Option<Reply>,
    ) -> Result<(), Trouble> {
        let mut patience = Patience::new(&self.http.settings, &self.http.stop, self.url.to_string());
        while *at < end && !self.halt.load(Ordering::Relaxed) {
            let before = *at;
            let asked = match reply.take() {
                Some(reply) => Ok((reply, end)),
                None => self.ask(*at..end),
            };
            let trouble = match asked.and_then(|(reply, end)| self.copy(reply, file, at, end)) {
                Ok(()) => continue,
                Err(_) if self.http.stopped() => return Err(Trouble::Final(Error::Interrupted)),
                Err(trouble) => trouble,
            };
            if *at > before {
                patience.progress();
            }
            let told = matches!(trouble, Trouble::Passing { after: Some(_), .. });
            let until = Instant::now() + patience.wait_after(trouble)?;
            if told {
                let mut calm_until = self.calm_until.lock().unwrap_or_else(PoisonError::into_inner);
                *calm_until = until.max(*calm_until);
            }
            sleep_until(until, &self.http.stop, &self.halt)?;
        }
        Ok(())
    }

    /// Asks for a range; the answer is the beginning of it, up to the place that is given, of the right version.
    fn ask(&self, range: Range<u64>) -> Result<(Reply, u64), Trouble> {
        let until = *self.calm_until.lock().unwrap_or_else(PoisonError::into_inner);
        sleep_until(until, &self.http.stop, &self.halt)?;
        let headers = range_headers(&range, self.validator());
        let known = self.location.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reply = match known.map(|known| self.http.get(&known, &headers)) {
            // A signed URL ends some day: the redirect gives a new one.
            None | Some(Err(Trouble::Final(Error::Download { .. }))) => {
                let reply = self.http.get(self.url, &headers)?;
                self.remember(&reply);
                reply
            }
            Some(reply) => reply?,
        };
        let end = self.accept(&range, &reply)?;
        Ok((reply, end))
    }

    /// The version that all ranges must be of; none where a digest decides in the end.
    fn validator(&self) -> Option<&str> {
        self.record.validator.as_deref().filter(|_| self.record.digest.is_none())
    }

    fn accept(&self, range: &Range<u64>, reply: &Reply) -> Result<u64, Trouble> {
        if let (Some(ours), Some(theirs)) = (self.validator(), reply.validator())
            && ours != theirs
        {
            return Err(changed(self.url));
        }
        let said = reply.header("content-range").and_then(content_range);
        match (reply.status, said) {
            (206, Some((_, total))) if total != self.record.bytes => Err(changed(self.url)),
            // A server may send less than was asked for (RFC 9110, 15.3.7); the rest is asked for next.
            (206, Some((said, _))) if begins(&said, range) => Ok(said.end),
            (206, said) => Err(Trouble::passing(format!(
                "asked for bytes {}-{}, the server sent {}",
                range.start,
                range.end - 1,
                said.map_or("others".to_owned(), |(said, _)| format!("{}-{}", said.start, said.end - 1))
            ))),
            (416, _) => Err(changed(self.url)),
            _ => Err(Trouble::passing("the server no longer heeds byte ranges")),
        }
    }

    /// Writes a body to its place, up to `end`.
    fn copy(&self, mut reply: Reply, file: &mut fs_err::File, at: &mut u64, end: u64) -> Result<(), Trouble> {
        let whole = reply.length() == Some(end - *at);
        let mut piece = vec![0; PIECE_BYTES];
        while *at < end {
            if self.http.stopped() || self.halt.load(Ordering::Relaxed) {
                return Ok(());
            }
            let wanted = (end - *at).min(PIECE_BYTES as u64) as usize;
            let bytes = match reply.body.read(&mut piece[..wanted]) {
                Ok(0) => return Err(Trouble::passing("the body ended too early")),
                Ok(bytes) => bytes,
                Err(error) => return Err(unread(error)),
            };
            file.write_all(&piece[..bytes]).map_err(Error::io("write", self.part.path()))?;
            *at += bytes as u64;
            let before = self.present_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            self.meter.at(before + bytes as u64);
        }
        if whole {
            let _ = reply.body.read(&mut piece[..1]); // the end, seen: the connection can be used again
        }
        Ok(())
    }

    /// Syncs a range, then records it.
    fn commit(&self, file: &fs_err::File, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        file.sync_data().map_err(Error::io("sync", self.part.path()))?;
        let mut plan = self.plan();
        plan.done.insert(range);
        if plan.done.bytes() == self.record.bytes {
            return Ok(()); // next it takes its place, and the record goes
        }
        self.part.save(&self.record.with(&plan.done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_header_is_a_range_or_none(text in "bytes [0-9]{0,21}-[0-9]{0,21}/[0-9]{0,21}|\\PC*") {
            if let Some((range, total)) = content_range(&text) {
                proptest::prop_assert!(range.start < range.end && range.end <= total);
            }
        }
    }

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(content_range("bytes 0-9/100"), Some((0..10, 100)));
        assert_eq!(content_range("bytes 99-99/100"), Some((99..100, 100)));
        for bad in [
            "bytes 0-9/*",
            "bytes 9-0/100",
            "bytes 0-100/100",
            "bytes */100",
            "0-9/100",
            "bytes 0-18446744073709551615/100",
            "",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
