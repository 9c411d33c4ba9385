//! What a loader is told, and tells, of data sets that lie in object stores: the settings of the cache in which their
//! bytes are kept, and counts of what was fetched. Left out: the fetching itself, which the feature `remote` brings.

use std::{collections::BTreeMap, path::Path, path::PathBuf, time::Duration};

use serde::Serialize;

use crate::error::{Error, Result};

/// How data sets in object stores are read. Nothing of it matters to local ones.
///
/// Credentials come from the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
/// `AWS_ENDPOINT_URL` and the like for `s3://`, `HF_TOKEN` and `HF_ENDPOINT` for `hf://`. `HTTPS_PROXY` and its kind are
/// heeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// The cache's folder; default `$XDG_CACHE_HOME/shards`, else `~/.cache/shards`.
    pub dir: Option<PathBuf>,
    /// Most bytes of samples that are kept for a data set; default half of what the disk has free.
    pub bytes: Option<u64>,
    /// Most bytes that are fetched ahead of the batches in the making, and that the order cannot evict; at least one
    /// batch, at most half the cache. Default 256 MiB.
    pub ahead_bytes: u64,
    /// Requests at a time; default 16.
    pub requests: usize,
    /// How often a request is tried, and a damaged payload fetched, before it is an error; default 6, with waits of
    /// 0.1 s, 0.2 s and so on between.
    pub attempts: u32,
    /// How long an answer may take to begin, and then each 8 MiB of it; default a minute.
    pub timeout: Duration,
    /// Environment variables that are seen in place of the process's own: credentials, endpoints.
    pub variables: BTreeMap<String, String>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        CacheConfig {
            dir: None,
            bytes: None,
            ahead_bytes: 256 << 20,
            requests: 16,
            attempts: 6,
            timeout: Duration::from_secs(60),
            variables: BTreeMap::new(),
        }
    }
}

impl CacheConfig {
    /// A variable, of those given or of the process.
    #[cfg(feature = "remote")]
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let own = self.variables.get(name).cloned();
        own.or_else(|| std::env::var(name).ok()).filter(|value| !value.trim().is_empty())
    }

    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.requests == 0 || self.attempts == 0 {
            return Some("requests and attempts of the cache must be at least 1");
        }
        (self.bytes == Some(0)).then_some("the cache must have room for some bytes")
    }
}

/// Reads a size such as `20GB`, `500MB`, `1.5 TiB` or `1048576`: powers of 1000, or with an `i` of 1024.
///
/// # Errors
/// [`Error::Config`] where it is none.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let wrong =
        || Error::config(format!("{text:?} is no size: a number with kB, MB, GB, TB, KiB, MiB, GiB or TiB"));
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = (text[..split].parse::<f64>().map_err(|_| wrong())?, text[split..].trim());
    let unit = unit.strip_suffix(['B', 'b']).unwrap_or(unit).to_ascii_lowercase();
    let scale: f64 = match unit.as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "ki" => 1024.0,
        "mi" => 1024.0 * 1024.0,
        "gi" => 1024.0 * 1024.0 * 1024.0,
        "ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let bytes = number * scale;
    if (1.0..=1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// What was fetched for a loader's data sets in object stores, by all that share their caches in this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RemoteStats {
    /// Requests that were answered or that failed, of all kinds.
    pub requests: u64,
    /// Bytes of answers, manifest and index included.
    pub fetched_bytes: u64,
    /// Bytes of payloads alone among them.
    pub payload_bytes: u64,
    /// Payloads that were fetched again: damaged on the way, or found damaged in the cache.
    pub refetched: u64,
    /// Bytes that had to go to make room.
    pub evicted_bytes: u64,
    /// Samples that were in the cache when their turn came.
    pub hits: u64,
    /// Samples that were not.
    pub misses: u64,
    /// Bytes on disk now, in whole pages.
    pub cached_bytes: u64,
    /// Most that there may be.
    pub limit_bytes: u64,
    /// The folders, one for each data set.
    pub dirs: Vec<PathBuf>,
}

/// Whether this names a data set in an object store: `SCHEME://…`.
pub(crate) fn is_url(dir: &Path) -> bool {
    let scheme = dir.to_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
    })
}

/// `text` without what may be secret in URLs: users, passwords, queries.
pub(crate) fn redact(text: &str) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "\"'<>)".contains(c)).unwrap_or(after.len());
        let (url, after) = after.split_at(end);
        let authority = url.find(['/', '?', '#']).unwrap_or(url.len());
        let (authority, path) = url.split_at(authority);
        shown.push_str(authority.rsplit_once('@').map_or(authority, |(_, host)| host));
        shown.push_str(path.find(['?', '#']).map_or(path, |query| &path[..query]));
        rest = after;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("20GB", 20_000_000_000),
            ("500MB", 500_000_000),
            ("500 mb", 500_000_000),
            ("1.5 TiB", 1_649_267_441_664),
            ("64KiB", 65_536),
            ("1048576", 1_048_576),
            ("7B", 7),
        ] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "GB", "12 parsecs", "-3GB", "0", "1e9", "9999999999TB", "1.2.3kB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_secret_in_a_url_is_not_shown() {
        for (text, shown) in [
            ("https://user:pass@host:80/a/b?X-Amz-Signature=5#c", "https://host:80/a/b"),
            (
                "GET http://h/x?sig=1 in 3ms, then (s3://k:s@b/p?q) and https://h?tok=a",
                "GET http://h/x in 3ms, then (s3://b/p) and https://h",
            ),
            ("no address? none", "no address? none"),
            ("https://a@b@c/d", "https://c/d"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn addresses_are_told_from_folders() {
        for url in ["s3://bucket/prefix", "https://host", "hf://datasets/o/n", "gs://b"] {
            assert!(is_url(Path::new(url)), "{url}");
        }
        for dir in ["data/coco", "/a://b", "c:/data", "://", "./s3:/x"] {
            assert!(!is_url(Path::new(dir)), "{dir}");
        }
    }
}
