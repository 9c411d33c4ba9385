//! Data sets on the Hub: a revision becomes a commit, a commit a list of files with digests, a file a path in the
//! shared cache. It leaves out how bytes come (`job`) and where they lie (`cache`).

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
    time::Instant,
};

use serde::Deserialize;
use ureq::http::HeaderMap;

use super::{
    Digest, Expected, Fetcher,
    cache::{RepoCache, is_commit, is_safe},
    job::Job,
    retry::{Patience, Trouble, sleep_until},
    url::{Url, encoded},
};
use crate::{Error, Result};

/// More pages of a tree than this (of 1,000 files each) are a loop.
const PAGES_MAX: usize = 10_000;

/// A file of a repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// Path in the repository, with slashes; it stays below the folder that it is put in.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// SHA-256 for what is kept apart from git, else git's name; none where only the file itself is known.
    pub digest: Option<Digest>,
}

/// A data set at one commit.
#[derive(Debug)]
pub struct HubRepo {
    fetcher: Fetcher,
    repo: String,
    revision: String,
    commit: String,
    files: Vec<HubFile>,
    complete: bool,
    cache: RepoCache,
    /// Paths whose bytes this value brought.
    brought: Mutex<HashSet<String>>,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Fetcher {
    /// Opens the data set `OWNER/NAME` on the Hub at `revision`: a branch, a tag, a commit; `main` by default.
    /// Offline, it is opened as it was last seen.
    ///
    /// # Errors
    /// `Config` for names that cannot be; `Download` where the Hub refuses, says nonsense or does not answer; `Offline`
    /// where the cache does not know the revision; `Io`, `Interrupted`.
    pub fn dataset_repo(&self, repo: &str, revision: Option<&str>) -> Result<HubRepo> {
        let revision = revision.unwrap_or("main");
        if !is_repo(repo) {
            return Err(Error::Config(format!("{repo:?} is no data set of the Hub: expected OWNER/NAME")));
        }
        if !is_safe(revision) {
            return Err(Error::Config(format!("{revision:?} cannot be a revision")));
        }
        let cache = RepoCache::new(&self.settings().cache, repo, revision);
        let (commit, files, complete) = if self.settings().offline {
            self.repo_offline(&cache, repo, revision)?
        } else {
            let (commit, files) = self.repo_online(&cache, repo, revision)?;
            (commit, files, true)
        };
        Ok(HubRepo {
            fetcher: self.clone(),
            repo: repo.to_owned(),
            revision: revision.to_owned(),
            commit,
            files,
            complete,
            cache,
            brought: Mutex::default(),
        })
    }

    fn repo_online(&self, cache: &RepoCache, repo: &str, revision: &str) -> Result<(String, Vec<HubFile>)> {
        if is_commit(revision)
            && let Some(files) = cache.listing(revision)
        {
            return Ok((revision.to_owned(), files)); // a commit never changes
        }
        let api = format!("{}/api/datasets/{repo}", self.settings().endpoint);
        let url = parsed(&format!("{api}/revision/{}", encoded(revision, false)))?;
        let answer: Revision = json(&url, &self.asked(&url)?.0)?;
        if !is_commit(&answer.sha) {
            return Err(nonsense(&url, "a commit that is none"));
        }
        cache.keep_commit(&answer.sha)?;
        let files = match cache.listing(&answer.sha) {
            Some(files) => files,
            None => {
                let files = self.tree(&parsed(&format!("{api}/tree/{}?recursive=true", answer.sha))?)?;
                cache.keep_listing(&answer.sha, &files)?;
                files
            }
        };
        Ok((answer.sha, files))
    }

    fn repo_offline(
        &self,
        cache: &RepoCache,
        repo: &str,
        revision: &str,
    ) -> Result<(String, Vec<HubFile>, bool)> {
        let commit =
            Some(revision.to_owned()).filter(|revision| is_commit(revision)).or_else(|| cache.commit());
        let Some(commit) = commit else {
            let what = format!("the commit of {repo} at revision {revision}");
            return Err(Error::Offline { what, path: cache.ref_path() });
        };
        if let Some(files) = cache.listing(&commit) {
            return Ok((commit, files, true));
        }
        match cache.walk(&commit)? {
            Some(files) => Ok((commit, files, false)),
            None => {
                let path = cache.snapshot(&commit);
                Err(Error::Offline { what: format!("the list of files of {repo} at commit {commit}"), path })
            }
        }
    }

    /// All pages of a tree.
    fn tree(&self, first: &Url) -> Result<Vec<HubFile>> {
        let (mut files, mut url) = (Vec::new(), first.clone());
        for _ in 0..PAGES_MAX {
            let (text, headers) = self.asked(&url)?;
            for entry in json::<Vec<Entry>>(&url, &text)? {
                if entry.kind == "file" {
                    files.push(listed(&url, entry)?);
                }
            }
            let Some(next) = next_page(&headers) else {
                files.sort_by(|a, b| a.path.cmp(&b.path));
                return Ok(files);
            };
            url = url
                .join(&next)
                .map_err(|problem| nonsense(&url, &format!("a next page that is none: {problem}")))?;
        }
        Err(nonsense(first, "a list without an end"))
    }

    /// An answer of the Hub's programming interface, in as many attempts as the settings grant.
    fn asked(&self, url: &Url) -> Result<(Vec<u8>, HeaderMap)> {
        let mut patience = Patience::new(&self.http.settings, &self.http.stop, url.to_string());
        loop {
            let wait = match self.http.text(url).map_err(|trouble| patience.wait_after(trouble)) {
                Ok(answer) => return Ok(answer),
                Err(Ok(wait)) => wait,
                Err(Err(Trouble::Final(error) | Trouble::Wrong(error))) => return Err(error),
                Err(Err(Trouble::Passing { problem, cause, .. })) => {
                    return Err(Error::Download { url: url.to_string(), problem, source: cause });
                }
            };
            sleep_until(Instant::now() + wait, &self.http.stop, &AtomicBool::new(false))?;
        }
    }
}

impl HubRepo {
    /// `OWNER/NAME`.
    pub fn name(&self) -> &str {
        &self.repo
    }

    /// The revision asked for.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The commit that it stands for: 40 hexadecimal digits.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The files, in order of their paths.
    pub fn files(&self) -> &[HubFile] {
        &self.files
    }

    /// Whether [`files`](Self::files) are all files of the commit. Offline, and where only other programs have used the
    /// cache, they are those that are on this machine, and nobody knows how many are missing.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The file's path on this machine, where it is here whole.
    pub fn cached(&self, path: &str) -> Option<PathBuf> {
        let file = self.find(path)?;
        let pointer = self.cache.snapshot(&self.commit).join(path);
        let metadata = fs_err::metadata(&pointer).ok()?;
        (metadata.is_file() && metadata.len() == file.bytes).then_some(pointer)
    }

    /// Brings a file here, where it is not yet, and gives its path: `snapshots/COMMIT/PATH` of the cache.
    ///
    /// # Errors
    /// As [`Fetcher::file`]; `Offline` names the file and the place where it was looked for.
    pub fn fetch(&self, path: &str) -> Result<PathBuf> {
        let Some(file) = self.find(path) else {
            let problem = format!("{} has no such file at commit {}", self.repo, self.commit);
            return Err(Error::Download { url: self.url(path), problem, source: None });
        };
        if let Some(pointer) = self.cached(path) {
            return Ok(pointer);
        }
        let missing = || Error::Offline {
            what: format!("{path} of {}", self.repo),
            path: self.cache.snapshot(&self.commit).join(path),
        };
        let digest = file.digest.as_ref().ok_or_else(missing)?;
        let expected = Expected { bytes: Some(file.bytes), digest: Some(digest.clone()) };
        let (url, dest) = (parsed(&self.url(path))?, self.cache.blob(digest));
        let fetcher = &self.fetcher;
        let job = Job {
            http: &fetcher.http,
            watch: &*fetcher.watch,
            url: &url,
            dest: &dest,
            expected: &expected,
            name: path,
        };
        let fetched = match job.run() {
            Err(Error::Offline { .. }) => return Err(missing()),
            fetched => fetched?,
        };
        let pointer = self.cache.point(&self.commit, path, digest)?;
        if fetched.downloaded {
            self.brought.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        }
        Ok(pointer)
    }

    /// Takes a file that [`fetch`](Self::fetch) of this value downloaded, or that was adopted, off the disk again; whether it did. Files that
    /// were here before, whoever brought them, stay.
    ///
    /// # Errors
    /// `Io`.
    pub fn discard(&self, path: &str) -> Result<bool> {
        let ours = self.brought.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        let digest = self.find(path).and_then(|file| file.digest.as_ref());
        match digest.filter(|_| ours) {
            Some(digest) => self.cache.remove(&self.commit, path, digest).map(|()| true),
            None => Ok(false),
        }
    }

    /// Says that an earlier run of the caller brought this file, as its own records tell, so that
    /// [`discard`](Self::discard) may take it away after an interruption too.
    pub fn adopt(&self, path: &str) {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    }

    /// The address of a file at this commit.
    pub fn url(&self, path: &str) -> String {
        let endpoint = &self.fetcher.settings().endpoint;
        format!("{endpoint}/datasets/{}/resolve/{}/{}", self.repo, self.commit, encoded(path, true))
    }

    fn find(&self, path: &str) -> Option<&HubFile> {
        let found = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(found)
    }
}

/// `OWNER/NAME` in the Hub's letters.
fn is_repo(text: &str) -> bool {
    let fits = |part: &str| {
        (1..=96).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            && !part.starts_with(['.', '-'])
            && !part.contains("..")
            && !part.contains("--")
    };
    text.split_once('/').is_some_and(|(owner, name)| fits(owner) && fits(name))
}

fn listed(url: &Url, entry: Entry) -> Result<HubFile> {
    if !is_safe(&entry.path) {
        return Err(nonsense(url, &format!("a file with the name {:?}, which is refused", entry.path)));
    }
    let (digest, bytes) = match &entry.lfs {
        Some(lfs) => (Digest::sha256(&lfs.oid), lfs.size),
        None => (Digest::git_blob(&entry.oid), entry.size),
    };
    if digest.is_none() {
        return Err(nonsense(url, &format!("{} without a digest", entry.path)));
    }
    Ok(HubFile { path: entry.path, bytes, digest })
}

/// The target of `Link: <TARGET>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all("link").iter().filter_map(|value| value.to_str().ok());
    links.flat_map(|value| value.split(',')).find_map(|link| {
        let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = rest.split(';').any(|word| matches!(word.trim(), "rel=\"next\"" | "rel=next"));
        next.then(|| target.to_owned())
    })
}

fn parsed(text: &str) -> Result<Url> {
    Url::parse(text).map_err(|problem| Error::Config(format!("the Hub's address cannot be used: {problem}")))
}

fn json<'a, T: Deserialize<'a>>(url: &Url, text: &'a [u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|source| Error::Download {
        url: url.to_string(),
        problem: "the answer is not in the Hub's form".to_owned(),
        source: Some(Box::new(source)),
    })
}

fn nonsense(url: &Url, what: &str) -> Error {
    Error::Download { url: url.to_string(), problem: format!("the Hub names {what}"), source: None }
}

#[cfg(test)]
mod tests {
    use ureq::http::HeaderValue;

    use super::*;

    #[test]
    fn repositories_have_an_owner_and_a_name() {
        for good in ["jackyhate/text-to-image-2M", "a/b", "A_b.c/1-2"] {
            assert!(is_repo(good), "{good}");
        }
        for bad in
            ["", "squad", "a/b/c", "../x", "a/..", "a/", "/b", "a/b c", "a/b?x", "a/-b", "a--b/c", "a/ü"]
        {
            assert!(!is_repo(bad), "{bad}");
        }
    }

    #[test]
    fn the_next_page_is_found_among_links() {
        let next = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("link", HeaderValue::from_static(value));
            }
            next_page(&headers)
        };
        assert_eq!(next(&["<https://h/x?cursor=a>; rel=\"next\""]).as_deref(), Some("https://h/x?cursor=a"));
        let several = ["<p>; rel=\"prev\", <n>; title=\"t\"; rel=next"];
        assert_eq!(next(&several).as_deref(), Some("n"));
        assert_eq!(next(&["<p>; rel=\"prev\""]), None);
        assert_eq!(next(&["nonsense"]), None);
        assert_eq!(next(&[]), None);
    }
}
