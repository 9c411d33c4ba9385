//! Requests for objects: one at a time with its own time limit, or again and again with waits between. Left out: what the
//! bytes mean, and where they go.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use object_store::{
    ClientOptions, GetOptions, GetRange, HeaderMap, HeaderValue, ObjectStore, ObjectStoreExt as _,
    RetryConfig,
    aws::AmazonS3Builder,
    client::{HttpClient, HttpConnector},
    http::HttpBuilder,
    path::Path,
};

use super::{
    counts::Counts,
    location::{Location, StoreAt},
};
use crate::{
    cache::{CacheConfig, redact},
    error::{Error, Result},
};

/// The first wait after a failure; each next one is twice as long.
const BACKOFF: Duration = Duration::from_millis(100);
/// So many bytes must come within the time for one request; longer answers have as many times that.
const BYTES_IN_TIME: u64 = 8 << 20;
/// No wait is longer.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A data set's objects.
#[derive(Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The data set's address as it may be shown.
    pub(super) shown: String,
    pub(super) attempts: u32,
    timeout: Duration,
    pub(super) counts: Arc<Counts>,
    /// What the store called each object when it was first asked for it.
    etags: Mutex<HashMap<String, String>>,
}

/// An object, or a part of one.
pub(super) struct Got {
    pub(super) bytes: Vec<u8>,
    /// Length of the whole object.
    pub(super) object_bytes: u64,
    /// What the store calls this state of the object.
    pub(super) etag: Option<String>,
}

/// Why a request brought nothing, in words that may be shown.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// Asking again may help.
    Passing(String),
    /// It will not.
    Final(String),
}

impl Refusal {
    pub(super) fn reason(self) -> String {
        match self {
            Self::Passing(reason) | Self::Final(reason) => reason,
        }
    }
}

impl Objects {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// [`Error::Remote`] where the settings of the store make no sense.
    pub(super) fn open(location: &Location, config: &CacheConfig, counts: Arc<Counts>) -> Result<Objects> {
        let wrong = |reason: String| Error::Remote { url: location.shown.clone(), reason: redact(&reason) };
        let connector = Connector(client(location, config).map_err(wrong)?);
        // Tries are counted here, where a payload's checksum counts too.
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let (store, prefix): (Arc<dyn ObjectStore>, _) = match &location.store {
            StoreAt::S3 { bucket, prefix } => {
                let mut builder = AmazonS3Builder::new().with_http_connector(connector).with_retry(retry);
                let own = config.variables.iter().map(|(name, value)| (name.clone(), value.clone()));
                for (name, value) in std::env::vars_os()
                    .filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()))
                    .chain(own)
                {
                    if let (true, Ok(key)) = (name.starts_with("AWS_"), name.to_ascii_lowercase().parse()) {
                        builder = builder.with_config(key, value);
                    }
                }
                let builder = builder.with_bucket_name(bucket);
                let prefix = Path::from_url_path(prefix).map_err(|error| wrong(error.to_string()))?;
                (Arc::new(builder.build().map_err(|error| wrong(error.to_string()))?), prefix)
            }
            StoreAt::Http { url, .. } => {
                let builder = HttpBuilder::new().with_url(url.as_str()).with_http_connector(connector);
                let built = builder.with_retry(retry).build().map_err(|error| wrong(error.to_string()))?;
                (Arc::new(built), Path::default())
            }
        };
        let (shown, attempts, timeout) = (location.shown.clone(), config.attempts.max(1), config.timeout);
        let etags = Mutex::default();
        Ok(Objects { store, prefix, shown, attempts, timeout, counts, etags })
    }

    /// The address of an object, as it may be shown.
    pub(super) fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.shown)
    }

    /// Asks once for an object of at most `most` bytes, or for a range of one.
    pub(super) async fn get(&self, name: &str, range: Option<Range<u64>>, most: u64) -> Result<Got, Refusal> {
        self.counts.requests.fetch_add(1, Relaxed);
        let path = self.path(name);
        let options = GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
        let late = |_| Refusal::Passing(format!("no answer within {:?}", self.timeout));
        let asked = tokio::time::timeout(self.timeout, self.store.get_opts(&path, options));
        let result = asked.await.map_err(late)?.map_err(|error| refusal(&error))?;
        let (object_bytes, etag) = (result.meta.size, result.meta.e_tag.clone());
        if object_bytes > most {
            return Err(Refusal::Final(format!("the object has {object_bytes} bytes, and {most} are due")));
        }
        let pieces =
            u32::try_from((result.range.end - result.range.start) / BYTES_IN_TIME).unwrap_or(u32::MAX);
        let body =
            tokio::time::timeout(self.timeout.saturating_mul(pieces.saturating_add(1)), result.bytes());
        let bytes = body.await.map_err(late)?.map_err(|error| refusal(&error))?;
        self.counts.fetched_bytes.fetch_add(bytes.len() as u64, Relaxed);
        let due = range.map_or(object_bytes, |range| range.end - range.start);
        if bytes.len() as u64 != due {
            return Err(Refusal::Passing(format!("{} bytes came of {due}", bytes.len())));
        }
        Ok(Got { bytes: bytes.into(), object_bytes, etag })
    }

    /// How long an object is, if the store says.
    pub(super) async fn length(&self, name: &str) -> Option<u64> {
        self.counts.requests.fetch_add(1, Relaxed);
        let asked = tokio::time::timeout(self.timeout, self.store.head(&self.path(name))).await;
        Some(asked.ok()?.ok()?.size)
    }

    /// Whether the object is called otherwise than when it was first asked for.
    pub(super) fn was_replaced(&self, name: &str, etag: Option<&str>) -> bool {
        let Some(etag) = etag else { return false };
        let mut etags = self.etags.lock().unwrap_or_else(PoisonError::into_inner);
        etags.entry(name.to_owned()).or_insert_with(|| etag.to_owned()) != etag
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Asks for a whole object of at most `most` bytes, again where that may help and where `fits` does not say that it is right.
    ///
    /// # Errors
    /// [`Error::Remote`], or what `fits` said last.
    pub(super) async fn whole(
        &self,
        name: &str,
        most: u64,
        fits: impl Fn(&[u8]) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let mut attempt = 1;
        loop {
            let (error, is_final) = match self.get(name, None, most).await {
                Ok(got) => match fits(&got.bytes) {
                    Ok(()) => return Ok(got.bytes),
                    Err(error) => {
                        let is_final = !error.is_corrupt();
                        (error, is_final)
                    }
                },
                Err(refusal) => {
                    let is_final = matches!(refusal, Refusal::Final(_));
                    (Error::Remote { url: self.url(name), reason: refusal.reason() }, is_final)
                }
            };
            if is_final || attempt >= self.attempts {
                return Err(error);
            }
            wait(attempt).await;
            attempt += 1;
        }
    }
}

/// The client of one data set: its authorization goes to no other host, a redirect's included, and no address, with its
/// signature, is told to where a redirect leads.
fn client(location: &Location, config: &CacheConfig) -> Result<reqwest::Client, String> {
    // One for the whole process; where a program has chosen its own, that one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .referer(false)
        .connect_timeout(config.timeout.min(Duration::from_secs(15)))
        .pool_idle_timeout(Duration::from_secs(20))
        .user_agent(concat!("loader/", env!("CARGO_PKG_VERSION")));
    if config.variable("NO_PROXY").as_deref() == Some("*") {
        builder = builder.no_proxy();
    }
    if let StoreAt::Http { authorization: Some(authorization), .. } = &location.store {
        let mut value = HeaderValue::from_str(authorization)
            .map_err(|_| "HF_TOKEN has characters that no token has".to_owned())?;
        value.set_sensitive(true);
        builder = builder.default_headers(HeaderMap::from_iter([(reqwest::header::AUTHORIZATION, value)]));
    }
    builder.build().map_err(|error| error.to_string())
}

#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// The wait after a failed attempt, counted from 1.
pub(super) async fn wait(attempt: u32) {
    let wait = BACKOFF.saturating_mul(1 << (attempt - 1).min(10));
    tokio::time::sleep(wait.min(BACKOFF_MAX)).await;
}

fn refusal(error: &object_store::Error) -> Refusal {
    use object_store::Error as E;
    // The words of the innermost causes tell more than those around them, and name no address twice.
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = inner.source();
    }
    // What comes before names the request, which is told anyway, and the microseconds that it took.
    let words = redact(words.split_once(" - ").map_or(words.as_str(), |(_, words)| words));
    match error {
        E::NotFound { .. } => Refusal::Final("there is no such object (404)".to_owned()),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            Refusal::Final(format!("access is refused: check the credentials: {words}"))
        }
        E::InvalidPath { .. } | E::NotSupported { .. } | E::NotImplemented { .. } => Refusal::Final(words),
        _ => Refusal::Passing(words),
    }
}
