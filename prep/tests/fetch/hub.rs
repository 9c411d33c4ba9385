//! Data sets on a Hub of our own, and the cache that its clients share.

use std::path::PathBuf;

use prep::{
    Error,
    fetch::{HubFile, HubRepo, Token},
};
use testkit::server::{Fault, git_oid};

use super::*;

const REPO: &str = "owner/set";

/// A Hub with one data set, and a cache folder.
struct Hub {
    server: Server,
    dir: tempfile::TempDir,
    tar: Vec<u8>,
    commit: String,
}

impl Hub {
    fn new() -> Self {
        let (server, tar) = (Server::start(), content(5, 7000));
        let files: [(&str, &[u8]); 4] = [
            ("README.md", b"# a set\n"),
            ("data_512/data 0.tar", &tar),
            ("data_512/copy.tar", &tar),
            ("data_1024/deep/data_1.tar", b"another"),
        ];
        let commit = server.hub_dataset(REPO, &files);
        Self { server, dir: tempfile::tempdir().unwrap(), tar, commit }
    }

    fn settings(&self) -> FetchSettings {
        settings(&self.server, self.dir.path())
    }

    fn open(&self, settings: FetchSettings) -> Result<HubRepo> {
        fetcher(settings).dataset_repo(REPO, None)
    }

    fn offline(&self) -> FetchSettings {
        FetchSettings { offline: true, ..self.settings() }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("hub/datasets--owner--set")
    }

    fn resolve(&self, path: &str) -> String {
        Server::hub_resolve(REPO, &self.commit, path)
    }
}

#[test]
fn a_revision_becomes_a_commit_with_files_lengths_and_digests() {
    for page in [1, 2, 100] {
        let hub = Hub::new();
        hub.server.hub_page(page);
        let repo = hub.open(hub.settings()).unwrap();
        assert_eq!((repo.name(), repo.revision(), repo.commit()), (REPO, "main", &*hub.commit));
        let file = |path: &str, bytes: &[u8], lfs: bool| HubFile {
            path: path.to_owned(),
            bytes: bytes.len() as u64,
            digest: if lfs { Digest::sha256(&sha256(bytes)) } else { Digest::git_blob(&git_oid(bytes)) },
        };
        let files = [
            file("README.md", b"# a set\n", false),
            file("data_1024/deep/data_1.tar", b"another", true),
            file("data_512/copy.tar", &hub.tar, true),
            file("data_512/data 0.tar", &hub.tar, true),
        ];
        assert_eq!(repo.files(), files, "pages of {page}");
        assert!(repo.is_complete());
    }
}

#[test]
fn files_lie_in_the_layout_of_the_hubs_own_clients() {
    let hub = Hub::new();
    let repo = hub.open(hub.settings()).unwrap();
    assert_eq!(repo.cached("data_512/data 0.tar"), None);
    let path = repo.fetch("data_512/data 0.tar").unwrap();
    let snapshot = hub.root().join("snapshots").join(&hub.commit);
    assert_eq!(path, snapshot.join("data_512/data 0.tar"));
    assert!(fs_err::read(&path).unwrap() == hub.tar);
    assert_eq!(repo.cached("data_512/data 0.tar"), Some(path.clone()));
    assert_eq!(fs_err::read_to_string(hub.root().join("refs/main")).unwrap(), hub.commit);
    let blob = hub.root().join("blobs").join(sha256(&hub.tar));
    assert!(fs_err::symlink_metadata(&blob).unwrap().is_file());
    #[cfg(unix)]
    assert_eq!(
        fs_err::read_link(&path).unwrap(),
        PathBuf::from(format!("../../../blobs/{}", sha256(&hub.tar)))
    );
    let readme = repo.fetch("README.md").unwrap();
    assert_eq!(fs_err::read(&readme).unwrap(), b"# a set\n");
    #[cfg(unix)]
    assert_eq!(
        fs_err::read_link(&readme).unwrap(),
        PathBuf::from(format!("../../blobs/{}", git_oid(b"# a set\n")))
    );
    // The same bytes under another name are not asked for again.
    hub.server.forget();
    assert!(fs_err::read(repo.fetch("data_512/copy.tar").unwrap()).unwrap() == hub.tar);
    assert!(hub.server.requests().is_empty());
}

#[test]
fn what_another_client_has_brought_is_used() {
    let hub = Hub::new();
    let blob = hub.root().join("blobs").join(sha256(&hub.tar));
    fs_err::create_dir_all(blob.parent().unwrap()).unwrap();
    fs_err::write(&blob, &hub.tar).unwrap();
    let repo = hub.open(hub.settings()).unwrap();
    hub.server.forget();
    repo.fetch("data_512/copy.tar").unwrap();
    assert!(hub.server.requests().is_empty());
    assert!(!repo.discard("data_512/copy.tar").unwrap(), "it is not ours to remove");
    assert!(blob.exists());
    // One that was cut short is brought anew.
    fs_err::write(&blob, &hub.tar[..100]).unwrap();
    assert_eq!(repo.cached("data_512/copy.tar"), None);
    repo.fetch("data_512/copy.tar").unwrap();
    assert!(fs_err::read(&blob).unwrap() == hub.tar);
}

#[test]
fn revisions_are_pinned() {
    let hub = Hub::new();
    hub.server.hub_tag(REPO, "refs/pr/1", &hub.commit);
    let newer = hub.server.hub_dataset(REPO, &[("only.tar", b"newer")]);
    let fetcher = fetcher(hub.settings());
    let at = |revision| fetcher.dataset_repo(REPO, revision).unwrap();
    assert_eq!(at(None).commit(), newer);
    assert_eq!(at(Some("refs/pr/1")).commit(), hub.commit);
    assert_eq!(fs_err::read_to_string(hub.root().join("refs/refs/pr/1")).unwrap(), hub.commit);
    assert_eq!(at(Some(&hub.commit)).files().len(), 4);
    // The list of a commit never changes: it is asked for once.
    hub.server.forget();
    assert_eq!(at(Some(&hub.commit)).files().len(), 4);
    assert!(hub.server.requests().is_empty());
    assert_eq!(at(None).files().len(), 1);
    assert_eq!(hub.server.requests().len(), 1, "the branch may have moved; the list is kept");
}

#[test]
fn faults_on_the_way_do_not_show() {
    let hub = Hub::new();
    let api = format!("/api/datasets/{REPO}");
    hub.server.script(&format!("{api}/revision/main"), [Fault::Status(503, None), Fault::Cut(9)]);
    hub.server.script(&format!("{api}/tree/{}", hub.commit), [Fault::Hangup, Fault::Status(429, Some("0"))]);
    hub.server.script(&hub.resolve("data_512/copy.tar"), [Fault::Status(500, None)]);
    let blob = Server::hub_blob(&hub.tar);
    hub.server.script(
        &blob,
        [Fault::Cut(300), Fault::Status(503, None), Fault::Pass, Fault::Corrupt, Fault::Cut(0)],
    );
    let repo = hub.open(hub.settings()).unwrap();
    let path = repo.fetch("data_512/copy.tar").unwrap();
    assert!(fs_err::read(path).unwrap() == hub.tar);
}

#[test]
fn wrong_bytes_never_reach_the_cache() {
    let hub = Hub::new();
    hub.server.always(&Server::hub_blob(&hub.tar), Fault::Corrupt);
    hub.server.always(&hub.resolve("README.md"), Fault::Corrupt);
    let repo = hub.open(hub.settings()).unwrap();
    for path in ["data_512/copy.tar", "README.md"] {
        let error = repo.fetch(path).unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error}");
        assert_eq!(repo.cached(path), None);
    }
    let blobs = fs_err::read_dir(hub.root().join("blobs")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(blobs.into_iter().all(|name| name.to_string_lossy().starts_with('.')), "a blob was written");
}

#[test]
fn the_token_opens_the_hub_and_is_not_shown_to_its_stores() {
    let hub = Hub::new();
    hub.server.hub_gate(REPO, "hf_secret");
    let error = chain(hub.open(hub.settings()).unwrap_err());
    assert!(error.contains("gated") && error.contains("HF_TOKEN"), "{error}");
    let wrong = FetchSettings { token: Token::new("hf_wrong"), ..hub.settings() };
    assert!(chain(hub.open(wrong).unwrap_err()).contains("gated"));
    hub.server.forget();
    let right = FetchSettings { token: Token::new("hf_secret"), ..hub.settings() };
    let repo = hub.open(right).unwrap();
    repo.fetch("data_512/copy.tar").unwrap();
    repo.fetch("README.md").unwrap();
    for request in hub.server.requests() {
        assert_eq!(request.header("authorization").is_some(), !request.second, "{request:?}");
    }
    assert!(hub.server.requests().iter().any(|request| request.second));
    assert!(!format!("{repo:?}").contains("hf_secret"));
}

#[test]
fn refusals_of_the_hub_say_what_to_do() {
    let hub = Hub::new();
    let open =
        |repo: &str, revision| chain(fetcher(hub.settings()).dataset_repo(repo, revision).unwrap_err());
    let absent = open("owner/none", None);
    assert!(absent.contains("no such repository") && absent.contains("HF_TOKEN"), "{absent}");
    let revision = open(REPO, Some("v9"));
    assert!(revision.contains("--revision"), "{revision}");
    assert_eq!(hub.server.requests().len(), 2, "none is asked twice");
    for (repo, revision) in [("no-owner", None), ("../../etc", None), (REPO, Some("../x")), (REPO, Some(""))]
    {
        open(repo, revision);
    }
    assert_eq!(hub.server.requests().len(), 2, "names that cannot be are not asked for");

    let repo = hub.open(hub.settings()).unwrap();
    let absent = chain(repo.fetch("data_512/none.tar").unwrap_err());
    assert!(absent.contains("no such file") && absent.contains(&hub.commit), "{absent}");
    hub.server.always(&hub.resolve("README.md"), Fault::HubError(404, "EntryNotFound"));
    let vanished = chain(repo.fetch("README.md").unwrap_err());
    assert!(vanished.contains("no such file at this revision"), "{vanished}");
}

#[test]
fn lists_that_lead_out_of_the_cache_are_refused() {
    for path in ["../../../evil", "/etc/evil", "a/../../evil", "a\\b", "a\u{0}b"] {
        let hub = Hub::new();
        hub.server.hub_dataset(REPO, &[(path, b"evil")]);
        let error = chain(hub.open(hub.settings()).unwrap_err());
        assert!(error.contains("refused"), "{error}");
    }
    let hub = Hub::new();
    for (revision, tree) in [("[]", "[]"), ("{\"sha\":\"../../x\"}", "[]"), ("{", "[]")] {
        hub.server.put(&format!("/api/datasets/{REPO}/revision/main"), revision.as_bytes());
        hub.server.put(&format!("/api/datasets/{REPO}/tree/{}", hub.commit), tree.as_bytes());
        let error = chain(hub.open(hub.settings()).unwrap_err());
        assert!(error.contains("Hub"), "{error}");
    }
    let good = format!("{{\"sha\":\"{}\"}}", hub.commit);
    hub.server.put(&format!("/api/datasets/{REPO}/revision/main"), good.as_bytes());
    for tree in ["{}", "[{\"type\":\"file\",\"path\":\"a\"}]", "[{\"type\":\"file\",\"path\":7}]"] {
        hub.server.put(&format!("/api/datasets/{REPO}/tree/{}", hub.commit), tree.as_bytes());
        let error = chain(hub.open(hub.settings()).unwrap_err());
        assert!(error.contains("Hub"), "{error}");
    }
}

#[test]
fn offline_is_what_was_last_seen_and_names_what_is_not_here() {
    let hub = Hub::new();
    let unknown = hub.open(hub.offline()).unwrap_err();
    assert!(matches!(unknown, Error::Offline { .. }) && unknown.to_string().contains("main"), "{unknown}");
    hub.open(hub.settings()).unwrap().fetch("data_512/copy.tar").unwrap();
    hub.server.forget();
    let repo = hub.open(hub.offline()).unwrap();
    assert_eq!((repo.commit(), repo.files().len(), repo.is_complete()), (&*hub.commit, 4, true));
    assert!(fs_err::read(repo.fetch("data_512/copy.tar").unwrap()).unwrap() == hub.tar);
    repo.fetch("data_512/data 0.tar").unwrap(); // the same bytes
    let missing = repo.fetch("README.md").unwrap_err();
    assert!(matches!(missing, Error::Offline { .. }), "{missing}");
    for part in ["README.md", REPO, "network", &hub.commit] {
        assert!(missing.to_string().contains(part), "{missing}");
    }
    assert_eq!(fetcher(hub.offline()).dataset_repo(REPO, Some(&hub.commit)).unwrap().commit(), hub.commit);
    assert!(fetcher(hub.offline()).dataset_repo(REPO, Some("v9")).is_err());
    assert!(hub.server.requests().is_empty());
}

#[test]
fn offline_without_a_kept_list_has_what_is_there_and_says_that_it_may_not_be_all() {
    let hub = Hub::new();
    let repo = hub.open(hub.settings()).unwrap();
    repo.fetch("data_512/copy.tar").unwrap();
    repo.fetch("README.md").unwrap();
    fs_err::remove_dir_all(hub.root().join(".prep")).unwrap(); // as other clients leave the cache
    let repo = hub.open(hub.offline()).unwrap();
    assert!(!repo.is_complete());
    let paths: Vec<&str> = repo.files().iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["README.md", "data_512/copy.tar"]);
    assert_eq!(repo.files()[1].digest, Digest::sha256(&sha256(&hub.tar)));
    assert!(fs_err::read(repo.fetch("data_512/copy.tar").unwrap()).unwrap() == hub.tar);
    fs_err::remove_dir_all(hub.root().join("snapshots")).unwrap();
    let error = hub.open(hub.offline()).unwrap_err().to_string();
    assert!(error.contains("list of files"), "{error}");
}

#[test]
fn a_file_is_discarded_with_its_blob_but_never_one_that_is_still_pointed_to() {
    let hub = Hub::new();
    let repo = hub.open(hub.settings()).unwrap();
    let blob = hub.root().join("blobs").join(sha256(&hub.tar));
    let first = repo.fetch("data_512/data 0.tar").unwrap();
    let second = repo.fetch("data_512/copy.tar").unwrap();
    assert!(!repo.discard("data_512/copy.tar").unwrap(), "it only pointed to bytes that were there");
    assert!(repo.discard("data_512/data 0.tar").unwrap());
    assert!(!first.exists() && second.exists() && blob.exists());
    assert!(!repo.discard("data_512/data 0.tar").unwrap(), "done already");
    fs_err::remove_file(&second).unwrap();
    fs_err::remove_file(&blob).unwrap();
    repo.fetch("data_512/data 0.tar").unwrap();
    assert!(repo.discard("data_512/data 0.tar").unwrap());
    assert!(!blob.exists());
    assert_eq!(repo.cached("data_512/data 0.tar"), None);
    assert!(!repo.discard("never/heard.tar").unwrap());
    // Another value, as after a restart, does not know who brought a file.
    repo.fetch("data_512/copy.tar").unwrap();
    assert!(!hub.open(hub.settings()).unwrap().discard("data_512/copy.tar").unwrap());
    assert!(blob.exists());
    // Its caller may.
    let again = hub.open(hub.settings()).unwrap();
    again.adopt("data_512/copy.tar");
    assert!(again.discard("data_512/copy.tar").unwrap());
    assert!(!blob.exists());
}

#[test]
fn an_interrupted_blob_is_continued_from_another_commit() {
    let hub = Hub::new();
    let witness = Arc::new(Witness { stop_at: Some(3000), ..Witness::default() });
    let repo = witness.fetcher(hub.settings()).dataset_repo(REPO, None).unwrap();
    assert!(matches!(repo.fetch("data_512/copy.tar"), Err(Error::Interrupted)));
    hub.server.hub_dataset(REPO, &[("moved/elsewhere.tar", &hub.tar)]);
    hub.server.forget();
    let repo = hub.open(hub.settings()).unwrap();
    assert!(fs_err::read(repo.fetch("moved/elsewhere.tar").unwrap()).unwrap() == hub.tar);
    let asked = hub.server.requests().iter().filter(|request| request.second).count();
    assert!((1..=4).contains(&asked), "{asked} of 7 ranges asked for: at least 3 were there");
}
