//! When to try again: what a failure calls for, how long to wait, and what servers say about it. It leaves out what
//! counts as a failure of which kind (`http`, `ranges`).

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::FetchSettings;
use crate::{Error, Result};

/// The error below ours.
pub(super) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a request or a body did not do.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better next time, not before `after`.
    Passing { problem: String, cause: Option<Cause>, after: Option<Duration> },
    /// What arrived is not what was expected, or no longer what it was: the file starts over. The error is for when
    /// that has happened too often.
    Wrong(Error),
    /// Trying again does not help.
    Final(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Trouble {
    /// A passing trouble that has no other cause.
    pub(super) fn passing(problem: impl Into<String>) -> Self {
        Self::Passing { problem: problem.into(), cause: None, after: None }
    }
}

/// Counts failures in a row, and waits between them.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    settings: &'a FetchSettings,
    stop: &'a AtomicBool,
    /// Shown in errors; decides the jitter.
    url: String,
    failures: u32,
}

impl<'a> Patience<'a> {
    pub(super) fn new(settings: &'a FetchSettings, stop: &'a AtomicBool, url: String) -> Self {
        Self { settings, stop, url, failures: 0 }
    }

    /// Something new arrived: the next failure is the first again.
    pub(super) fn progress(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after this trouble before trying again.
    ///
    /// # Errors
    /// The trouble itself, where it is not passing or patience is at its end.
    pub(super) fn wait_after(&mut self, trouble: Trouble) -> Result<Duration, Trouble> {
        let Trouble::Passing { problem, cause, after } = trouble else { return Err(trouble) };
        self.failures += 1;
        if self.stop.load(Ordering::Relaxed) {
            return Err(Trouble::Final(Error::Interrupted));
        }
        if self.failures >= self.settings.attempts {
            let problem = format!(
                "{problem}; given up after {} failures in a row (what has arrived is kept: run the same command again)",
                self.failures
            );
            return Err(Trouble::Final(Error::Download { url: self.url.clone(), problem, source: cause }));
        }
        let doubled = self.settings.backoff.saturating_mul(1 << (self.failures - 1).min(16));
        let doubled = doubled.min(self.settings.wait_max);
        let wait = doubled.mul_f64(jitter(&self.url, self.failures));
        Ok(wait.max(after.unwrap_or_default()).min(self.settings.wait_max))
    }
}

/// Between 1/2 and 1, the same for the same URL and failure: many clients do not come back at once.
fn jitter(url: &str, failure: u32) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(url.as_bytes()).update(&failure.to_le_bytes());
    0.5 + f64::from(hasher.finalize().as_bytes()[0]) / 510.0
}

/// Sleeps until `until`, in short steps; `stop` ends it with `Interrupted`, `halt` without an error.
pub(super) fn sleep_until(until: Instant, stop: &AtomicBool, halt: &AtomicBool) -> Result<()> {
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || halt.load(Ordering::Relaxed) {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}

/// Reads `Retry-After`: seconds, or a date. None where it is neither.
pub(super) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let then = UNIX_EPOCH + Duration::from_secs(http_date(text)?);
    Some(then.duration_since(now).unwrap_or_default())
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7; its two obsolete forms are not read).
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let clock: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hour, minute, second] = clock[..] else { return None };
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let month = MONTHS.iter().position(|name| *name == month)? as u64;
    let fits =
        (1970..10_000).contains(&year) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !fits {
        return None;
    }
    // Days of a year that begins in March, so that the leap day is its last (Hinnant, days_from_civil).
    let (shifted_year, shifted_month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let leap_days = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = (shifted_year * 365 + leap_days + day_of_year).checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn dates_of_http_are_read_to_the_second() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        assert_eq!(http_date("Sat, 21 Nov 2026 00:00:00 GMT"), Some(1_795_219_200));
        for bad in
            ["", "soon", "Sun, 06 Nov 1994 08:49:37", "Sun, 99 Nov 1994 08:49:37 GMT", "a, 1 b 2 3 GMT"]
        {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_a_wait_or_none(text in "[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,20} [0-9:]{0,12} GMT|\\PC*") {
            let _ = retry_after(&text, UNIX_EPOCH);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:30 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("-1", now), None);
        assert_eq!(retry_after("99999999999999999999999", now), None);
    }

    #[test]
    fn waits_double_within_bounds_and_begin_again_after_progress() {
        let stop = AtomicBool::new(false);
        let settings = FetchSettings {
            attempts: 5,
            backoff: Duration::from_secs(1),
            wait_max: Duration::from_secs(6),
            ..FetchSettings::new("http://x", PathBuf::new())
        };
        let mut patience = Patience::new(&settings, &stop, "http://x/y".into());
        let mut wait = |after| {
            let trouble = Trouble::Passing { problem: "p".into(), cause: None, after };
            patience.wait_after(trouble).map(|wait| wait.as_secs_f64())
        };
        for bound in [1.0, 2.0, 4.0, 6.0] {
            let wait = wait(None).unwrap();
            assert!((bound / 2.0..=bound).contains(&wait), "{wait} for {bound}");
        }
        let Err(Trouble::Final(Error::Download { problem, .. })) = wait(None) else {
            panic!("still waiting")
        };
        assert!(problem.contains("after 5 failures"), "{problem}");
        patience.progress();
        let trouble =
            Trouble::Passing { problem: "p".into(), cause: None, after: Some(Duration::from_secs(3)) };
        assert_eq!(patience.wait_after(trouble).unwrap(), Duration::from_secs(3));
        let trouble =
            Trouble::Passing { problem: "p".into(), cause: None, after: Some(Duration::from_secs(99)) };
        assert_eq!(patience.wait_after(trouble).unwrap(), Duration::from_secs(6), "bounded");
        stop.store(true, Ordering::Relaxed);
        let stopped = patience.wait_after(Trouble::passing("p"));
        assert!(matches!(stopped, Err(Trouble::Final(Error::Interrupted))));
    }
}
