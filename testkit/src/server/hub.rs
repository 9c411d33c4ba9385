//! The Hub's protocol for data sets: revisions, trees in pages, files with redirects, gates and errors.

use std::collections::BTreeMap;

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{Request, Server, Shared, Stored, answer, answer::Answer};
use crate::server::Fault;

/// A data set on the Hub.
#[derive(Debug, Default)]
pub(super) struct Dataset {
    /// Branches and tags, to commits.
    refs: BTreeMap<String, String>,
    /// Commits, to files by path.
    commits: BTreeMap<String, BTreeMap<String, Stored>>,
    /// The token that opens it; none where it is open to all.
    token: Option<String>,
}

/// The name that git gives to a file's bytes, in hexadecimal digits.
pub fn git_oid(bytes: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex(&hash.finalize())
}

/// The SHA-256 of `bytes`, in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the Hub would keep this file apart from git: all but small texts.
fn is_lfs(path: &str) -> bool {
    ![".md", ".json", ".txt", ".csv", ".jsonl", ".gitattributes"].iter().any(|end| path.ends_with(end))
}

impl Server {
    /// A data set `OWNER/NAME` with these files, as the newest commit of `main`. Gives the commit.
    /// Called again, it adds a commit; the older ones can still be asked for.
    pub fn hub_dataset(&self, repo: &str, files: &[(&str, &[u8])]) -> String {
        let mut names = Sha1::new();
        let mut tree = BTreeMap::new();
        for (path, bytes) in files {
            let oid = if is_lfs(path) { sha256(bytes) } else { git_oid(bytes) };
            names.update(format!("{path}\n{oid}\n"));
            if is_lfs(path) {
                self.put(&format!("/blobs/{oid}"), bytes);
            }
            let stored = Stored { bytes: std::sync::Arc::new(bytes.to_vec()), etag: format!("\"{oid}\"") };
            tree.insert((*path).to_owned(), stored);
        }
        let commit = hex(&names.finalize());
        let mut state = self.shared.state();
        let dataset = state.datasets.entry(repo.to_owned()).or_default();
        dataset.commits.insert(commit.clone(), tree);
        dataset.refs.insert("main".to_owned(), commit.clone());
        commit
    }

    /// Gives a commit of a data set another name, such as a tag.
    pub fn hub_tag(&self, repo: &str, tag: &str, commit: &str) {
        let mut state = self.shared.state();
        let dataset = state.datasets.entry(repo.to_owned()).or_default();
        dataset.refs.insert(tag.to_owned(), commit.to_owned());
    }

    /// Closes a data set to all who do not show `token`.
    pub fn hub_gate(&self, repo: &str, token: &str) {
        self.shared.state().datasets.entry(repo.to_owned()).or_default().token = Some(token.to_owned());
    }

    /// How many files a page of a tree has; all by default.
    pub fn hub_page(&self, files: usize) {
        self.shared.state().page = Some(files.max(1));
    }

    /// The path on the first host under which a file of a commit is asked for: to be scripted.
    pub fn hub_resolve(repo: &str, commit: &str, path: &str) -> String {
        format!("/datasets/{repo}/resolve/{commit}/{path}")
    }

    /// The path on the second host to which files with these bytes are redirected: to be scripted.
    pub fn hub_blob(bytes: &[u8]) -> String {
        format!("/blobs/{}", sha256(bytes))
    }
}

/// An error as the Hub words it.
pub(super) fn error(status: u16, code: &str) -> Answer {
    let text = json!({ "error": format!("{code} (from the test)") }).to_string();
    Answer::whole(status, text.into_bytes()).with("X-Error-Code", code)
}

/// Answers a request in the Hub's protocol; none where it is none.
pub(super) fn answer(request: &Request, shared: &Shared) -> Option<Answer> {
    if request.second {
        return None; // no API there
    }
    if let Some(rest) = request.path.strip_prefix("/api/datasets/") {
        let words: Vec<&str> = rest.splitn(4, '/').collect();
        let (repo, verb) = (format!("{}/{}", words.first()?, words.get(1)?), words.get(2)?);
        let revision = words.get(3)?.replace("%2F", "/");
        return Some(match *verb {
            "revision" => on_commit(request, shared, &repo, &revision, |commit, files| {
                let siblings: Vec<_> = files.keys().map(|path| json!({ "rfilename": path })).collect();
                let text = json!({ "id": repo, "sha": commit, "siblings": siblings, "gated": false });
                Answer::whole(200, text.to_string().into_bytes())
            }),
            "tree" => {
                let page = shared.state().page;
                on_commit(request, shared, &repo, &revision, |_, files| tree(request, shared, files, page))
            }
            _ => return None,
        });
    }
    let words: Vec<&str> = request.path.strip_prefix("/datasets/")?.splitn(5, '/').collect();
    let [owner, name, "resolve", revision, path] = words[..] else { return None };
    let path = path.replace("%20", " ");
    Some(on_commit(request, shared, &format!("{owner}/{name}"), revision, |commit, files| {
        resolve(request, shared, commit, &path, files.get(&path))
    }))
}

/// Finds a commit for one who may see it.
fn on_commit(
    request: &Request,
    shared: &Shared,
    repo: &str,
    revision: &str,
    then: impl FnOnce(&str, &BTreeMap<String, Stored>) -> Answer,
) -> Answer {
    let state = shared.state();
    let Some(dataset) = state.datasets.get(repo) else {
        // The Hub does not tell strangers which private repositories there are.
        let status = if request.header("authorization").is_some() { 404 } else { 401 };
        return error(status, "RepoNotFound");
    };
    if let Some(token) = &dataset.token
        && request.header("authorization") != Some(&format!("Bearer {token}"))
    {
        return error(if request.header("authorization").is_some() { 403 } else { 401 }, "GatedRepo");
    }
    let commit = dataset.refs.get(revision).map_or(revision, String::as_str).to_owned();
    let Some(files) = dataset.commits.get(&commit).cloned() else { return error(404, "RevisionNotFound") };
    drop(state);
    then(&commit, &files)
}

fn tree(request: &Request, shared: &Shared, files: &BTreeMap<String, Stored>, page: Option<usize>) -> Answer {
    let mut entries = Vec::new();
    for (path, stored) in files {
        if let Some((folder, _)) = path.rsplit_once('/') {
            entries.push(
                json!({ "type": "directory", "oid": git_oid(folder.as_bytes()), "size": 0, "path": folder }),
            );
        }
        let mut entry = json!({
            "type": "file", "oid": git_oid(&stored.bytes), "size": stored.bytes.len(), "path": path,
        });
        if is_lfs(path) {
            let oid = sha256(&stored.bytes);
            entry["lfs"] = json!({ "oid": oid, "size": stored.bytes.len(), "pointerSize": 134 });
        }
        entries.push(entry);
    }
    let from: usize = request
        .query
        .split('&')
        .find_map(|pair| pair.strip_prefix("cursor="))
        .and_then(|cursor| cursor.parse().ok())
        .unwrap_or(0);
    let to = page.map_or(entries.len(), |page| (from + page).min(entries.len()));
    let text = serde_json::Value::from(entries.get(from..to).unwrap_or_default().to_vec()).to_string();
    let answer = Answer::whole(200, text.into_bytes());
    if to == entries.len() {
        return answer;
    }
    let next = format!("{}{}?recursive=true&cursor={to}", shared.url(false), request.path);
    answer.with("Link", format!("<{next}>; rel=\"next\""))
}

fn resolve(request: &Request, shared: &Shared, commit: &str, path: &str, stored: Option<&Stored>) -> Answer {
    let Some(stored) = stored else { return error(404, "EntryNotFound") };
    if !is_lfs(path) {
        return answer::file(request, stored, &Fault::Pass).with("X-Repo-Commit", commit);
    }
    let url = format!("{}/blobs/{}?Signature=secret", shared.url(true), stored.etag.trim_matches('"'));
    Answer::status(302)
        .with("Location", url)
        .with("X-Repo-Commit", commit)
        .with("X-Linked-Etag", stored.etag.as_str())
        .with("X-Linked-Size", stored.bytes.len().to_string())
}
