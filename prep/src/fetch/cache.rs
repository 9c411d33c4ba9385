//! The folders that the Hub's clients share, by hf-hub's names: `datasets--OWNER--NAME/` with `blobs/DIGEST`,
//! `snapshots/COMMIT/PATH` pointing to them, and `refs/REVISION` holding a commit. One thing is ours alone:
//! `.prep/COMMIT.json` keeps a commit's list of files, which other clients ask for anew each time, so that a run
//! without network knows what it does not have. Pure file work: no network here.

use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};
use serde::{Deserialize, Serialize};

use super::{Digest, hub::HubFile};
use crate::{Error, Result};

/// One repository's folder.
#[derive(Clone, Debug)]
pub(super) struct RepoCache {
    cache: Cache,
    repo: Repo,
    root: PathBuf,
}

/// A kept list of files.
#[derive(Serialize, Deserialize)]
struct Listing {
    version: u32,
    commit: String,
    files: Vec<ListedFile>,
}

#[derive(Serialize, Deserialize)]
struct ListedFile {
    path: String,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    git: Option<String>,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, repo_id: &str, revision: &str) -> Self {
        let repo = Repo::with_revision(repo_id.to_owned(), RepoType::Dataset, revision.to_owned());
        let cache = Cache::new(cache.to_path_buf());
        let root = cache.path().join(repo.folder_name());
        Self { cache, repo, root }
    }

    /// Where a file's bytes are.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.as_str())
    }

    /// The folder of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).pointer_path(commit)
    }

    /// Where the commit of this repository's revision is kept.
    pub(super) fn ref_path(&self) -> PathBuf {
        self.root.join("refs").join(self.repo.revision())
    }

    /// The commit that the revision had when it was last asked for.
    pub(super) fn commit(&self) -> Option<String> {
        let text = fs_err::read_to_string(self.ref_path()).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Keeps the commit of the revision.
    pub(super) fn keep_commit(&self, commit: &str) -> Result<()> {
        if is_commit(self.repo.revision()) || self.commit().as_deref() == Some(commit) {
            return Ok(());
        }
        replace(&self.ref_path(), commit.as_bytes())
    }

    fn listing_path(&self, commit: &str) -> PathBuf {
        self.root.join(".prep").join(format!("{commit}.json"))
    }

    /// A commit's list of files, where it has been kept whole.
    pub(super) fn listing(&self, commit: &str) -> Option<Vec<HubFile>> {
        let text = fs_err::read(self.listing_path(commit)).ok()?;
        let listing: Listing = serde_json::from_slice(&text).ok()?;
        if listing.version != 1 || listing.commit != commit {
            return None;
        }
        let files = listing.files.into_iter().map(|file| {
            let digest = match (&file.sha256, &file.git) {
                (Some(digits), _) => Some(Digest::sha256(digits)?),
                (None, Some(digits)) => Some(Digest::git_blob(digits)?),
                (None, None) => None,
            };
            is_safe(&file.path).then_some(HubFile { path: file.path, bytes: file.bytes, digest })
        });
        files.collect()
    }

    /// Keeps a commit's list of files.
    pub(super) fn keep_listing(&self, commit: &str, files: &[HubFile]) -> Result<()> {
        let files = files.iter().map(|file| ListedFile {
            path: file.path.clone(),
            bytes: file.bytes,
            sha256: file
                .digest
                .as_ref()
                .filter(|d| matches!(d, Digest::Sha256(_)))
                .map(|d| d.as_str().to_owned()),
            git: file
                .digest
                .as_ref()
                .filter(|d| matches!(d, Digest::GitBlob(_)))
                .map(|d| d.as_str().to_owned()),
        });
        let listing = Listing { version: 1, commit: commit.to_owned(), files: files.collect() };
        let path = self.listing_path(commit);
        let text = serde_json::to_vec(&listing).map_err(|error| Error::io("write", &path)(error.into()))?;
        replace(&path, &text)
    }

    /// The files of a commit that are here, by name; none where the commit is not here at all.
    pub(super) fn walk(&self, commit: &str) -> Result<Option<Vec<HubFile>>> {
        let snapshot = self.snapshot(commit);
        if !snapshot.is_dir() {
            return Ok(None);
        }
        let mut files = Vec::new();
        each_file(&snapshot, &mut |path| {
            // A pointer without its bytes is as good as none.
            let (Ok(metadata), Ok(name)) = (fs_err::metadata(path), path.strip_prefix(&snapshot)) else {
                return;
            };
            let parts: Option<Vec<&str>> = name.iter().map(|part| part.to_str()).collect();
            let digest = fs_err::read_link(path).ok().and_then(|target| {
                let name = target.file_name()?.to_str()?.to_owned();
                Digest::sha256(&name).or_else(|| Digest::git_blob(&name))
            });
            files.extend(parts.map(|parts| HubFile { path: parts.join("/"), bytes: metadata.len(), digest }));
        })?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Some(files))
    }

    /// Makes `path` of a commit lead to a blob, in place of whatever stood there.
    pub(super) fn point(&self, commit: &str, path: &str, digest: &Digest) -> Result<PathBuf> {
        let pointer = self.snapshot(commit).join(path);
        let dir = pointer.parent().unwrap_or(&self.root);
        fs_err::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let name = pointer.file_name().unwrap_or_default().to_string_lossy();
        let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
        let _ = fs_err::remove_file(&temporary); // of a process that had our number and was killed
        let ups = "../".repeat(path.split('/').count() + 1);
        let target = PathBuf::from(format!("{ups}blobs/{}", digest.as_str()));
        let blob = self.blob(digest);
        let made = symlink(&target, &temporary)
            .or_else(|_| fs_err::hard_link(&blob, &temporary))
            .or_else(|_| fs_err::copy(&blob, &temporary).map(drop));
        made.map_err(Error::io("write", &temporary))?;
        fs_err::rename(&temporary, &pointer).map_err(Error::io("write", &pointer))?;
        Ok(pointer)
    }

    /// Removes a pointer, and its blob where no other pointer of any commit leads there.
    pub(super) fn remove(&self, commit: &str, path: &str, digest: &Digest) -> Result<()> {
        let gone = |path: &Path| match fs_err::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", path)(error))
            }
            _ => Ok(()),
        };
        gone(&self.snapshot(commit).join(path))?;
        let mut used = false;
        each_file(&self.root.join("snapshots"), &mut |path| {
            let target = fs_err::read_link(path).ok();
            used |= target.is_some_and(|target| target.file_name() == Some(digest.as_str().as_ref()));
        })?;
        if used { Ok(()) } else { gone(&self.blob(digest)) }
    }
}

/// Whether a text is the name of a commit: 40 hexadecimal digits.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
}

/// Whether a path of a repository, or a revision, stays below the folder that it is put in.
pub(super) fn is_safe(path: &str) -> bool {
    !path.is_empty()
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.chars().any(|c| c == '\\' || c.is_control())
        && (cfg!(unix) || !path.contains(':'))
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    if let Some(dir) = path.parent() {
        fs_err::create_dir_all(dir).map_err(Error::io("create", dir))?;
    }
    Ok(shard::replace_file(path, |file| file.write_all(bytes))?)
}

/// Calls `visit` for every file and link below `dir`, which may not be there.
fn each_file(dir: &Path, visit: &mut impl FnMut(&Path)) -> Result<()> {
    let entries = match fs_err::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io("list", dir))?,
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("list", dir))?;
        let path = entry.path();
        if entry.file_type().map_err(Error::io("list", dir))?.is_dir() {
            each_file(&path, visit)?;
        } else {
            visit(&path);
        }
    }
    Ok(())
}

#[cfg(unix)]
fn symlink(target: &Path, at: &Path) -> std::io::Result<()> {
    fs_err::os::unix::fs::symlink(target, at)
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _at: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_folder_are_not_safe() {
        for safe in ["a.tar", "data/a b/ü.tar", "refs/pr/1", "..a", "a..", ".gitattributes"] {
            assert!(is_safe(safe), "{safe}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\\b", "a\0b", "a\nb"] {
            assert!(!is_safe(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_kept_listing_is_read_back_and_a_foreign_or_damaged_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(dir.path(), "o/n", "main");
        let commit = "0123456789012345678901234567890123456789";
        let digests = [Digest::sha256(&"a".repeat(64)), Digest::git_blob(&"b".repeat(40)), None];
        let files: Vec<HubFile> = digests
            .into_iter()
            .enumerate()
            .map(|(i, digest)| HubFile { path: format!("d/{i}"), bytes: i as u64, digest })
            .collect();
        cache.keep_listing(commit, &files).unwrap();
        assert_eq!(cache.listing(commit), Some(files));
        let path = cache.listing_path(commit);
        let good = fs_err::read_to_string(&path).unwrap();
        let from_to = [("d/0", "../0"), ("\"version\":1", "\"version\":2"), ("aaaa", "zzzz"), ("}", "")];
        for (from, to) in from_to {
            fs_err::write(&path, good.replace(from, to)).unwrap();
            assert_eq!(cache.listing(commit), None, "{from} → {to}");
        }
    }
}
