//! Requests for objects: one at a time with its own time limit, or again and again with waits between. Left out: what the
//! bytes mean, and where they go.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use object_store::{
    ClientOptions, GetOptions, GetRange, HeaderMap, HeaderValue, ObjectStore, ObjectStoreExt as _,
    RetryConfig, aws::AmazonS3Builder, http::HttpBuilder, path::Path,
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
}

/// An object, or a part of one.
pub(super) struct Got {
    pub(super) bytes: Vec<u8>,
    /// Length of the whole object.
    pub(super) object_bytes: u64,
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
        // One for the whole process; where a program has chosen its own, that one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(config.timeout.min(Duration::from_secs(15)))
            .with_pool_idle_timeout(Duration::from_secs(20))
            .with_user_agent(HeaderValue::from_static(concat!("loader/", env!("CARGO_PKG_VERSION"))));
        // Tries are counted here, where a payload's checksum counts too.
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let (store, prefix): (Arc<dyn ObjectStore>, _) = match &location.store {
            StoreAt::S3 { bucket, prefix } => {
                let endpoint =
                    config.variable("AWS_ENDPOINT_URL").or_else(|| config.variable("AWS_ENDPOINT"));
                // Who names a plain endpoint wants a plain endpoint.
                let plain = endpoint.is_some_and(|url| url.starts_with("http://"));
                let mut builder = AmazonS3Builder::new()
                    .with_client_options(options.with_allow_http(plain))
                    .with_retry(retry);
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
            StoreAt::Http { url, authorization } => {
                let mut options = options.with_allow_http(true);
                if let Some(authorization) = authorization {
                    let mut value = HeaderValue::from_str(authorization)
                        .map_err(|_| wrong("HF_TOKEN has characters that no token has".to_owned()))?;
                    value.set_sensitive(true);
                    let mut headers = HeaderMap::new();
                    headers.insert("authorization", value);
                    options = options.with_default_headers(headers);
                }
                let builder = HttpBuilder::new().with_url(url.as_str()).with_client_options(options);
                let built = builder.with_retry(retry).build().map_err(|error| wrong(error.to_string()))?;
                (Arc::new(built), Path::default())
            }
        };
        let (shown, attempts, timeout) = (location.shown.clone(), config.attempts.max(1), config.timeout);
        Ok(Objects { store, prefix, shown, attempts, timeout, counts })
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
        let request = async {
            let result = self.store.get_opts(&path, options).await.map_err(|error| refusal(&error))?;
            let object_bytes = result.meta.size;
            if object_bytes > most {
                return Err(Refusal::Final(format!(
                    "the object has {object_bytes} bytes, and {most} are due"
                )));
            }
            Ok((result.bytes().await.map_err(|error| refusal(&error))?, object_bytes))
        };
        let answer = tokio::time::timeout(self.timeout, request).await;
        let (bytes, object_bytes) = match answer {
            Ok(answer) => answer?,
            Err(_) => return Err(Refusal::Passing(format!("no answer within {:?}", self.timeout))),
        };
        self.counts.fetched_bytes.fetch_add(bytes.len() as u64, Relaxed);
        let due = range.map_or(object_bytes, |range| range.end - range.start);
        if bytes.len() as u64 != due {
            return Err(Refusal::Passing(format!("{} bytes came of {due}", bytes.len())));
        }
        Ok(Got { bytes: bytes.into(), object_bytes })
    }

    /// How long an object is, if the store says.
    pub(super) async fn length(&self, name: &str) -> Option<u64> {
        self.counts.requests.fetch_add(1, Relaxed);
        let asked = tokio::time::timeout(self.timeout, self.store.head(&self.path(name))).await;
        Some(asked.ok()?.ok()?.size)
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
                    Err(error) => (error, false),
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
    let words = redact(&words);
    match error {
        E::NotFound { .. } => Refusal::Final("there is no such object (404)".to_owned()),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            Refusal::Final(format!("access is refused: check the credentials: {words}"))
        }
        E::InvalidPath { .. } | E::NotSupported { .. } | E::NotImplemented { .. } => Refusal::Final(words),
        _ => Refusal::Passing(words),
    }
}
