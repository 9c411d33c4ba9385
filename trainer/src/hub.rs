//! Files from a model hub, through hf-hub; the only module that reaches a network.
//!
//! `HF_ENDPOINT` and `HF_HOME` are honoured. The access token is read by hf-hub, sent to the hub and
//! never printed. Leaves out what the files mean.

use crate::error::{Error, Result};
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};
use std::path::PathBuf;

/// The address that is asked when `HF_ENDPOINT` is not set.
const ENDPOINT: &str = "https://huggingface.co";

/// Where files come from and where they are kept.
#[derive(Debug, Clone)]
pub struct Hub {
    endpoint: String,
    cache: Cache,
}

impl Hub {
    /// The hub and the cache that the environment names.
    pub fn from_env() -> Self {
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|e| !e.trim().is_empty());
        Self { endpoint: endpoint.unwrap_or_else(|| ENDPOINT.into()), cache: Cache::from_env() }
    }

    /// A given hub and cache folder.
    pub fn new(endpoint: impl Into<String>, cache: PathBuf) -> Self {
        Self { endpoint: endpoint.into(), cache: Cache::new(cache) }
    }

    /// The path of a file of a model repository (`owner/name` or `owner/name@revision`), fetched when
    /// the cache does not have it.
    ///
    /// # Errors
    /// [`Error::Hub`] with the hub's answer.
    pub fn fetch(&self, repository: &str, file: &str) -> Result<PathBuf> {
        let (id, revision) = repository.split_once('@').unwrap_or((repository, "main"));
        let fail = |source: hf_hub::api::sync::ApiError| Error::Hub {
            repository: repository.to_owned(),
            file: file.to_owned(),
            endpoint: without_credentials(&self.endpoint),
            source: Box::new(source),
        };
        let api = ApiBuilder::from_cache(self.cache.clone())
            .with_endpoint(self.endpoint.trim_end_matches('/').to_owned())
            .with_progress(false)
            .with_retries(3)
            .build()
            .map_err(fail)?;
        let repo = Repo::with_revision(id.to_owned(), RepoType::Model, revision.to_owned());
        api.repo(repo).get(file).map_err(fail)
    }
}

/// An address without the part before `@` in its host.
fn without_credentials(endpoint: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            format!("{scheme}://{host}")
        }
        None => endpoint.to_owned(),
    }
}

/// Whether a string has the form of a hub id: `name` or `owner/name`, with an optional `@revision`.
pub fn is_repository_id(text: &str) -> bool {
    let id = text.split_once('@').map_or(text, |(id, _)| id);
    let part = |p: &str| {
        !p.is_empty()
            && !p.starts_with('.')
            && p.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let mut parts = id.split('/');
    let named = parts.by_ref().take(2).all(part);
    named && parts.next().is_none() && !id.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        for id in ["gpt2", "openai/clip-vit-base-patch32", "a/b@main", "a/b.c"] {
            assert!(is_repository_id(id), "{id}");
        }
        for path in ["", "/", "/a", "a/b/c", "./a", "../a/b", "a b/c", "a/"] {
            assert!(!is_repository_id(path), "{path}");
        }
    }

    #[test]
    fn credentials_in_an_address_are_not_shown() {
        assert_eq!(without_credentials("http://user:secret@host:1/x"), "http://host:1/x");
        assert_eq!(without_credentials("https://host"), "https://host");
    }
}
