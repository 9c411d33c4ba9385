//! Plain HTTP and the Hub: ranges, redirects, and who is shown a token.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

mod common;

use std::path::Path;

use common::{builder, epoch};
use loader::CacheConfig;
use testkit::{
    Spec,
    server::{Fault, Server},
};

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let snapshot = testkit::files::snapshot(dir).unwrap();
    snapshot.into_iter().map(|(path, bytes)| (path.to_str().unwrap().to_owned(), bytes)).collect()
}

fn cache(dir: &Path, variables: &[(&str, &str)]) -> CacheConfig {
    let variables = variables
        .iter()
        .chain(&[("NO_PROXY", "*")])
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    CacheConfig { dir: Some(dir.to_path_buf()), attempts: 2, variables, ..CacheConfig::default() }
}

#[test]
fn a_folder_behind_a_web_server_is_a_data_set() {
    let data = Spec::train(40).size(16).temporary();
    let server = Server::start();
    for (path, bytes) in files(data.path()) {
        server.put(&format!("/some/data/{path}"), &bytes);
    }
    let room = tempfile::tempdir().unwrap();
    let config = cache(room.path(), &[]);
    let local = builder(data.path(), &config).build().unwrap();
    let host = server.url().replace("http://", "");
    let url = format!("http://me:hush@{host}/some/data/?signature=hush");
    let remote = builder(&url, &config).build().unwrap();
    assert_eq!(epoch(&remote, 0), epoch(&local, 0));
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.query == "signature=hush"));
    assert!(
        requests
            .iter()
            .all(|request| request.header("authorization").is_some_and(|it| it.starts_with("Basic ")))
    );
    assert!(requests.iter().all(|request| request.header("referer").is_none()));
    let tars: Vec<_> = requests.iter().filter(|request| request.path.ends_with(".tar")).collect();
    assert!(!tars.is_empty() && tars.iter().all(|request| request.range().is_some()));
    drop(remote);

    // Neither errors nor the cache tell the secret.
    for (shard, fault) in [("shard-000000", Fault::Status(500, None)), ("shard-000001", Fault::Hangup)] {
        server.always(&format!("/some/data/train/{shard}.tar"), fault);
        let fresh = tempfile::tempdir().unwrap();
        let remote = builder(&url, &cache(fresh.path(), &[])).build().unwrap();
        let (_, error) = common::failing(&remote, 0);
        let text = format!("{error} {error:?} {:?}", remote.remote_stats());
        assert!(text.contains(&format!("http://{host}/some/data/train/shard-")), "{text}");
        assert!(!text.contains("hush") && !text.contains("aHVzaA"), "{text}");
    }
    for (path, bytes) in files(room.path()) {
        let is_secret = String::from_utf8_lossy(&bytes).contains("hush");
        assert!(!is_secret && !path.contains("hush"), "{path}");
    }
}

#[test]
fn a_server_without_ranges_is_an_error_that_says_so() {
    let data = Spec::train(40).size(16).temporary();
    let server = Server::start();
    for (path, bytes) in files(data.path()) {
        let path = format!("/data/{path}");
        server.put(&path, &bytes);
        if path.ends_with(".tar") {
            server.without_ranges(&path);
        }
    }
    let room = tempfile::tempdir().unwrap();
    let remote = builder(format!("{}/data", server.url()), &cache(room.path(), &[])).build().unwrap();
    let (_, error) = common::failing(&remote, 0);
    assert!(error.to_string().contains("Range request not supported by train/shard-"), "{error}");
}

#[test]
fn the_hub_sees_the_token_and_nobody_else_does() {
    let data = Spec::train(40).size(16).temporary();
    let all = files(data.path());
    let server = Server::start();
    let names: Vec<(String, &[u8])> =
        all.iter().map(|(path, bytes)| (format!("v1/{path}"), &bytes[..])).collect();
    let names: Vec<(&str, &[u8])> = names.iter().map(|(path, bytes)| (path.as_str(), *bytes)).collect();
    let commit = server.hub_dataset("o/pairs", &names);
    server.hub_gate("o/pairs", "hf_hush");
    let endpoint = server.url();
    for url in ["hf://datasets/o/pairs/v1".to_owned(), format!("hf://datasets/o/pairs@{commit}/v1/")] {
        server.forget();
        let room = tempfile::tempdir().unwrap();
        let config = cache(room.path(), &[("HF_ENDPOINT", &endpoint), ("HF_TOKEN", "hf_hush")]);
        let local = builder(data.path(), &config).build().unwrap();
        let remote = builder(&url, &config).build().unwrap();
        assert_eq!(epoch(&remote, 1), epoch(&local, 1));
        let (second, first): (Vec<_>, Vec<_>) =
            server.requests().into_iter().partition(|request| request.second);
        assert!(first.iter().all(|request| request.header("authorization") == Some("Bearer hf_hush")));
        assert!(first.iter().all(|request| request.path.contains("/resolve/")));
        assert!(second.iter().all(|request| request.header("referer").is_none()));
        // The tars are elsewhere, on another port.
        assert!(
            second.len() >= 40 / 8 && second.iter().all(|request| request.header("authorization").is_none())
        );
        assert!(second.iter().any(|request| request.range().is_some()));
    }
    let room = tempfile::tempdir().unwrap();
    let config = cache(room.path(), &[("HF_ENDPOINT", &endpoint), ("HF_TOKEN", "hf_other_hush")]);
    let error = builder("hf://datasets/o/pairs/v1", &config).build().unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("hf://datasets/o/pairs/v1/dataset.json: access is refused"), "{text}");
    assert!(!text.contains("hush"), "{text}");
}
