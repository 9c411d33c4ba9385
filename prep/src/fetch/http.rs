//! Requests: redirects followed by hand so that the token stays at its own host, answers sorted into good, passing
//! and final. It leaves out what a body means and when to try again.

use std::{
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, SystemTime},
};

use ureq::{
    Agent, Body, BodyReader,
    http::{HeaderMap, Response, header},
};

use super::{
    FetchSettings,
    retry::{Cause, Trouble, retry_after},
    url::Url,
};
use crate::{Error, Result};

/// More redirects than this in a row are a loop.
const REDIRECTS_MAX: usize = 10;

/// Answers of the Hub's programming interface are no longer than this: a page of a tree has 1,000 names.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// Makes requests. A signal to stop cuts all of them short.
#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
    pub(super) settings: FetchSettings,
    endpoint: Option<Url>,
    pub(super) stop: Arc<AtomicBool>,
    /// Ends the thread that watches `stop`, when dropped.
    _watching: mpsc::Sender<()>,
}

/// A good answer, its body still to be read.
pub(super) struct Reply {
    /// 200, 206 or 416.
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: BodyReader<'static>,
    /// Where it came from, after all redirects.
    pub(super) location: Url,
    /// `X-Linked-Etag` of the Hub's redirect, without quotes.
    pub(super) linked_etag: Option<String>,
}

impl Reply {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What tells this version of a file from another: its strong etag, else its date.
    pub(super) fn validator(&self) -> Option<String> {
        let etag = self.header("etag").filter(|etag| !etag.starts_with("W/"));
        etag.or_else(|| self.header("last-modified")).map(str::to_owned)
    }

    /// `Content-Length`, where there is one.
    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }
}

impl Http {
    pub(super) fn new(settings: FetchSettings, stop: Arc<AtomicBool>) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("prep/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_per_read(Some(settings.stall_timeout))
            .timeout_per_write(Some(settings.stall_timeout))
            .max_idle_connections(64)
            .max_idle_connections_per_host(16);
        if !settings.proxy {
            config = config.proxy(None);
        }
        let agent = Agent::new_with_config(config.build());
        let _watching = watch(agent.clone(), stop.clone());
        Self { agent, endpoint: Url::parse(&settings.endpoint).ok(), settings, stop, _watching }
    }

    /// Whether a signal asked to stop.
    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks for a URL and follows its redirects. `headers` go to every host; the token to the endpoint's alone.
    pub(super) fn get(&self, url: &Url, headers: &[(&str, String)]) -> Result<Reply, Trouble> {
        let mut location = url.clone();
        let mut linked_etag = None;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.once(&location, url, headers)?;
            let header = |name: &str| response.headers().get(name)?.to_str().ok();
            if let Some(etag) = header("x-linked-etag").filter(|_| self.is_endpoint(&location)) {
                linked_etag = Some(unquoted(etag).to_owned());
            }
            let status = response.status().as_u16();
            if let (301 | 302 | 303 | 307 | 308, Some(target)) = (status, header("location")) {
                location = redirected(url, &location, target)?;
                continue;
            }
            if !matches!(status, 200 | 206 | 416) {
                return Err(refused(url, status, response.headers(), self.is_endpoint(&location)));
            }
            let (parts, body) = response.into_parts();
            let body = body.into_reader();
            return Ok(Reply { status, headers: parts.headers, body, location, linked_etag });
        }
        Err(failed(url, format!("more than {REDIRECTS_MAX} redirects")))
    }

    fn is_endpoint(&self, url: &Url) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.same_origin(url))
    }

    fn once(&self, location: &Url, url: &Url, headers: &[(&str, String)]) -> Result<Response<Body>, Trouble> {
        if self.stopped() {
            return Err(Trouble::Final(Error::Interrupted));
        }
        let mut request = self.agent.get(location.as_str());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(token) = self.settings.token.as_ref().filter(|_| self.is_endpoint(location)) {
            request = request.header(header::AUTHORIZATION, token.bearer());
        }
        request.call().map_err(|error| self.unanswered(url, error))
    }

    /// Sorts the failures that come before an answer.
    fn unanswered(&self, url: &Url, error: ureq::Error) -> Trouble {
        use ureq::Error as E;
        match error {
            _ if self.stopped() => Trouble::Final(Error::Interrupted),
            // The texts of these could hold a URL with its secrets.
            E::BadUri(_) | E::Http(_) => failed(url, "a redirect leads to something that is no URL".into()),
            E::Tls(_) | E::Rustls(_) | E::Pem(_) | E::InvalidProxyUrl => Trouble::Final(Error::Download {
                url: url.to_string(),
                problem: "no secure connection".into(),
                source: Some(Box::new(error)),
            }),
            E::Timeout(_) => Trouble::passing(format!("no answer: timed out ({error})")),
            error => Trouble::Passing {
                problem: "no answer".into(),
                cause: Some(Box::new(error) as Cause),
                after: None,
            },
        }
    }

    /// The whole body of an answer of the Hub's programming interface.
    pub(super) fn text(&self, url: &Url) -> Result<(Vec<u8>, HeaderMap), Trouble> {
        let reply = self.get(url, &[])?;
        if reply.status != 200 {
            return Err(Trouble::passing(format!("status {} in place of a list", reply.status)));
        }
        let length = reply.length();
        let mut text = Vec::new();
        let read = reply.body.take(TEXT_BYTES_MAX).read_to_end(&mut text);
        if self.stopped() {
            return Err(Trouble::Final(Error::Interrupted));
        }
        if let Err(error) = read {
            return Err(unread(error));
        }
        if length.is_some_and(|length| length != text.len() as u64) {
            return Err(Trouble::passing("the answer ended too early"));
        }
        Ok((text, reply.headers))
    }
}

/// A body that broke off.
pub(super) fn unread(error: std::io::Error) -> Trouble {
    Trouble::Passing { problem: "the connection broke off".into(), cause: Some(Box::new(error)), after: None }
}

/// A failure that is there to stay.
pub(super) fn failed(url: &Url, problem: String) -> Trouble {
    Trouble::Final(Error::Download { url: url.to_string(), problem, source: None })
}

/// An etag without its quotes and without the mark of a weak one.
pub(super) fn unquoted(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

fn redirected(url: &Url, from: &Url, target: &str) -> Result<Url, Trouble> {
    let to = from.join(target).map_err(|problem| failed(url, format!("a redirect is refused: {problem}")))?;
    if from.is_https() && !to.is_https() {
        return Err(failed(url, format!("a redirect from https to http is refused ({to})")));
    }
    Ok(to)
}

/// Sorts the statuses that bring no file.
fn refused(url: &Url, status: u16, headers: &HeaderMap, endpoint: bool) -> Trouble {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if matches!(status, 408 | 425 | 429 | 500..=599) {
        let after = header("retry-after").and_then(|text| retry_after(text, SystemTime::now()));
        return Trouble::Passing { problem: format!("status {status}"), cause: None, after };
    }
    let code = header("x-error-code").filter(|_| endpoint);
    let advice = match (code, status) {
        (Some("GatedRepo"), _) => {
            "the repository is gated: accept its terms on its page, then set HF_TOKEN to a token of that account"
        }
        (Some("RepoNotFound"), _) => {
            "there is no such repository, or it is private: check OWNER/NAME, or set HF_TOKEN to a token that may read it"
        }
        (Some("RevisionNotFound"), _) => "the repository has no such revision: check --revision",
        (Some("EntryNotFound"), _) => "the repository has no such file at this revision: check --revision",
        (Some("DisabledRepo"), _) => "the repository has been disabled by the Hub",
        (_, 401 | 403) if endpoint => "access is refused: set HF_TOKEN to a token that may read it",
        (_, 401 | 403) => "access is refused",
        (_, 404 | 410) => "there is no such file",
        _ => "the server refuses",
    };
    failed(url, format!("{advice} (status {status})"))
}

/// Shuts the agent's connections when `stop` is set, so that none waits out its time.
fn watch(agent: Agent, stop: Arc<AtomicBool>) -> mpsc::Sender<()> {
    let (watching, done) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        while let Err(mpsc::RecvTimeoutError::Timeout) = done.recv_timeout(Duration::from_millis(20)) {
            if stop.load(Ordering::Relaxed) {
                agent.shutdown();
                return;
            }
        }
    });
    watching
}
