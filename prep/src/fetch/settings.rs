//! What a download may do and as whom: endpoint, token, cache folder, patience. The environment comes in as a
//! function, so that a test need not change the process's own. It leaves out what is downloaded.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Error, Result};

/// An access token of the Hub. It is never shown: not by `Debug`, not in an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token, or none where the text is blank or cannot stand in a header.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// The value of the header `Authorization`.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How downloads are made.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// The Hub, without a slash at the end. `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: String,
    /// Shown to the endpoint's own host alone. `HF_TOKEN`, else the file `HF_HOME/token`, which
    /// `hf auth login` writes.
    pub token: Option<Token>,
    /// Where repositories are kept. `HF_HUB_CACHE`, else `HF_HOME/hub`; by default `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// Nothing is asked of the network. `--offline` or `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` of the process are heeded.
    pub proxy: bool,
    /// Connections that share a file. Default 4.
    pub connections: usize,
    /// Bytes asked for at a time; what a kill can cost, for each connection. Default 16 MiB.
    pub range_bytes: u64,
    /// How long a connection may take to open. Default 15 s.
    pub connect_timeout: Duration,
    /// A connection that brings no byte for so long is given up. Default 30 s.
    pub stall_timeout: Duration,
    /// Failures in a row, with no new byte between them, before a file is given up. Default 8.
    pub attempts: u32,
    /// The first wait after a failure; each next one is twice as long. Default 0.5 s.
    pub backoff: Duration,
    /// No wait is longer, whatever a server asks for. Default 5 minutes.
    pub wait_max: Duration,
    /// Times that a file may arrive with the wrong length or digest, or change underway. Default 3.
    pub restarts: u32,
}

impl FetchSettings {
    /// The settings that the environment asks for; `env` looks a variable up.
    ///
    /// # Errors
    /// `Config` where the endpoint is no `http` or `https` URL, where a variable has another use than is known here, or
    /// where no folder can be found for the cache.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let env = |name: &str| env(name).filter(|value| !value.trim().is_empty());
        let home = env("HOME").or_else(|| env("USERPROFILE")).map(PathBuf::from);
        let folder = |name: &str| env(name).map(|text| expanded(&text, home.as_deref()));
        let hf_home = folder("HF_HOME")
            .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| home.as_ref().map(|home| home.join(".cache/huggingface")));
        let cache = folder("HF_HUB_CACHE").or_else(|| hf_home.as_ref().map(|home| home.join("hub")));
        let Some(cache) = cache else {
            return Err(Error::Config(
                "no home folder is known: set HF_HOME to a folder for downloads".into(),
            ));
        };
        let token_file = folder("HF_TOKEN_PATH").or_else(|| hf_home.map(|home| home.join("token")));
        let token = match env("HF_TOKEN") {
            Some(text) => match Token::new(&text) {
                Some(token) => Some(token),
                None => return Err(Error::Config("HF_TOKEN has characters that no token has".into())),
            },
            None => token_file.and_then(|path| Token::new(&fs_err::read_to_string(path).ok()?)),
        };
        let endpoint = env("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Ok(Self {
            endpoint: checked_endpoint(&endpoint)?,
            token,
            cache,
            offline: env("HF_HUB_OFFLINE").is_some_and(|text| is_yes(&text)),
            proxy: true,
            ..Self::new("", PathBuf::new())
        })
    }

    /// The defaults, for an endpoint and a cache folder, without a token or a proxy.
    pub fn new(endpoint: &str, cache: PathBuf) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: None,
            cache,
            offline: false,
            proxy: false,
            connections: 4,
            range_bytes: 16 << 20,
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            attempts: 8,
            backoff: Duration::from_millis(500),
            wait_max: Duration::from_secs(300),
            restarts: 3,
        }
    }
}

fn checked_endpoint(text: &str) -> Result<String> {
    let text = text.trim().trim_end_matches('/');
    match super::url::Url::parse(text) {
        Ok(url) if url.to_string() == text => Ok(text.to_owned()),
        Ok(_) => Err(Error::Config("HF_ENDPOINT has a user or a query, which no endpoint has".into())),
        Err(problem) => Err(Error::Config(format!("HF_ENDPOINT: {problem}"))),
    }
}

fn is_yes(text: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&text.trim().to_ascii_lowercase().as_str())
}

fn expanded(text: &str, home: Option<&Path>) -> PathBuf {
    match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<FetchSettings> {
        FetchSettings::from_env(|name| {
            pairs.iter().find(|(have, _)| *have == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn folders_are_found_as_the_hub_client_of_python_finds_them() {
        let cache = |pairs: &[(&str, &str)]| settings(pairs).unwrap().cache;
        let home = ("HOME", "/h");
        assert_eq!(cache(&[home]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[home, ("HF_HOME", "~/f")]), Path::new("/h/f/hub"));
        assert_eq!(cache(&[home, ("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(cache(&[home, ("HF_HOME", " ")]), Path::new("/h/.cache/huggingface/hub"));
        assert!(matches!(settings(&[]), Err(Error::Config(_))));
    }

    #[test]
    fn the_token_comes_from_the_variable_before_the_file_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("token"), "hf_file\n").unwrap();
        let home = ("HF_HOME", dir.path().to_str().unwrap());
        let from_file = settings(&[home]).unwrap();
        assert_eq!(from_file.token, Token::new("hf_file"));
        let from_variable = settings(&[home, ("HF_TOKEN", "hf_variable")]).unwrap();
        assert_eq!(from_variable.token, Token::new("hf_variable"));
        assert!(!format!("{from_file:?}{from_variable:?}").contains("hf_"));
        let bad = settings(&[home, ("HF_TOKEN", "hf_\u{e9}vil")]).unwrap_err();
        assert!(!format!("{bad} {bad:?}").contains("vil"));
        fs_err::write(dir.path().join("token"), "\n").unwrap();
        assert_eq!(settings(&[home]).unwrap().token, None);
    }

    #[test]
    fn endpoints_and_switches_are_read_with_care() {
        let home = ("HOME", "/h");
        assert_eq!(settings(&[home]).unwrap().endpoint, "https://huggingface.co");
        let mirror = settings(&[home, ("HF_ENDPOINT", "http://mirror:8080/hub/")]).unwrap();
        assert_eq!(mirror.endpoint, "http://mirror:8080/hub");
        for bad in ["ftp://x", "huggingface.co", "https://", "http://a/?b", "http://me:pass@a"] {
            assert!(settings(&[home, ("HF_ENDPOINT", bad)]).is_err(), "{bad}");
        }
        for (text, offline) in [("1", true), ("True", true), ("yes", true), ("0", false), ("", false)] {
            assert_eq!(settings(&[home, ("HF_HUB_OFFLINE", text)]).unwrap().offline, offline, "{text}");
        }
    }
}
