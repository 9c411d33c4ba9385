//! Sources as they are downloaded, from a server on this machine that speaks the Hub's protocol and COCO's: the same
//! shards as from files at hand, whatever goes wrong on the way.

use std::{path::Path, process::Command, time::Duration};

use testkit::{
    files::{Snapshot, difference, snapshot},
    server::{Fault, Server},
};

use crate::{
    Finished,
    sources::{coco_zips, parquet, shards},
};

/// prep with this server for the Hub and COCO, and a cache of its own in `dir`.
pub(crate) fn command(arguments: &[&str], dir: &Path, server: &Server) -> Command {
    let mut command = crate::command(arguments, dir);
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(proxy);
    }
    command.env("HF_ENDPOINT", server.url()).env("COCO_ENDPOINT", server.url());
    command.env("HF_HOME", dir.join("hf")).env_remove("HF_TOKEN").env_remove("HF_HUB_CACHE");
    command.env_remove("HF_HUB_OFFLINE");
    command
}

fn prep(arguments: &[&str], dir: &Path, server: &Server) -> Finished {
    let output = command(arguments, dir, server).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// text-to-image-2M with `tars` tars, on the server; the same below `dir/local`. Gives the commit.
pub(crate) fn serve_text_to_image_2m(dir: &Path, server: &Server, tars: usize, per_tar: usize) -> String {
    testkit::source::text_to_image_2m(&dir.join("local"), tars, per_tar).unwrap();
    let files = snapshot(&dir.join("local")).unwrap();
    let mut files: Vec<(&str, &[u8])> =
        files.iter().map(|(path, bytes)| (path.to_str().unwrap(), bytes.as_slice())).collect();
    files.push(("README.md", b"# a card"));
    files.push(("data_1024_10K/data_000000.tar", b"another part, which is not asked for"));
    server.hub_dataset("jackyhate/text-to-image-2M", &files)
}

const T2I: [&str; 6] = ["--dataset", "text-to-image-2m", "--size", "32", "--shards", "4"];

fn from_local(dir: &Path, more: &[&str]) -> Snapshot {
    let job = [&T2I[..], &["--from", "local", "--out", "expected"], more].concat();
    crate::prep(&job, dir).expect(0);
    shards(&dir.join("expected"))
}

/// Files of the cache that hold data.
fn blobs(dir: &Path) -> usize {
    let blobs = dir.join("hf/hub/datasets--jackyhate--text-to-image-2M/blobs");
    fs_err::read_dir(blobs).map_or(0, Iterator::count)
}

#[test]
fn coco_is_downloaded_whatever_goes_wrong_and_kept() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let dir = folder.path();
    testkit::source::coco(&dir.join("coco"), 30, 8).unwrap();
    let job = ["--dataset", "coco", "--size", "32", "--shards", "3", "--out"];
    crate::prep(&[&job[..], &["expected", "--from", "coco"]].concat(), dir).expect(0);
    for (name, bytes) in coco_zips(&dir.join("coco")) {
        let below = if name.starts_with("annotations") { "annotations" } else { "zips" };
        server.put(&format!("/{below}/{name}"), &bytes);
    }
    server.script("/zips/train2017.zip", [Fault::Pass, Fault::Cut(5_000), Fault::Status(503, Some("0"))]);
    server.script("/zips/val2017.zip", [Fault::Hangup, Fault::Cut(100)]);
    prep(&[&job[..], &["data/coco"]].concat(), dir, &server).expect(0);
    let of = |out: &str| snapshot(&dir.join(out)).unwrap();
    assert_eq!(difference(&of("expected"), &of("data/coco")), None);

    server.forget();
    prep(&[&job[..], &["data/again", "--offline"]].concat(), dir, &server).expect(0);
    assert!(server.requests().is_empty(), "{:?}", server.requests());
    assert_eq!(difference(&of("expected"), &of("data/again")), None);
    let elsewhere = [&job[..], &["x/y", "--offline"]].concat();
    let complaint = prep(&elsewhere, dir, &server).complaint();
    assert!(complaint.contains("annotations_trainval2017.zip"), "{complaint}");
}

#[test]
fn text_to_image_2m_goes_tar_by_tar_and_leaves_no_download() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let dir = folder.path();
    let commit = serve_text_to_image_2m(dir, &server, 5, 12);
    let expected = from_local(dir, &[]);
    prep(&[&T2I[..], &["--out", "out"]].concat(), dir, &server).expect(0);
    assert_eq!(difference(&expected, &shards(&dir.join("out"))), None);
    assert_eq!(blobs(dir), 0, "each tar went when its samples were kept");
    let manifest = shard::Manifest::read(&dir.join("out")).unwrap();
    let revision = format!("jackyhate/text-to-image-2M@{commit} 512_2M");
    assert_eq!((manifest.source.name.as_str(), &manifest.source.revision), ("text-to-image-2m", &revision));

    // Kept on demand: then it is read where it lies, without a network too.
    prep(&[&T2I[..], &["--out", "kept", "--keep-downloads"]].concat(), dir, &server).expect(0);
    assert_eq!(blobs(dir), 5);
    server.forget();
    prep(&[&T2I[..], &["--out", "offline", "--offline"]].concat(), dir, &server).expect(0);
    assert!(server.requests().is_empty());
    let of = |out: &str| snapshot(&dir.join(out)).unwrap();
    assert_eq!(difference(&of("kept"), &of("out")), None);
    assert_eq!(difference(&of("kept"), &of("offline")), None);
    // What was in the cache before stays there.
    prep(&[&T2I[..], &["--out", "again", "--seed", "3"]].concat(), dir, &server).expect(0);
    assert_eq!(blobs(dir), 5);
}

#[test]
fn a_limit_takes_as_few_tars_as_it_needs() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let dir = folder.path();
    let commit = serve_text_to_image_2m(dir, &server, 5, 12);
    let limit = ["--limit", "20", "--val", "2"];
    let expected = from_local(dir, &limit);
    prep(&[&T2I[..], &["--out", "out"], &limit].concat(), dir, &server).expect(0);
    assert_eq!(difference(&expected, &shards(&dir.join("out"))), None);
    let asked = |number: usize| {
        let path = format!("data_512_2M/data_{number:06}.tar");
        let path = Server::hub_resolve("jackyhate/text-to-image-2M", &commit, &path);
        server.requests().iter().any(|request| request.path == path)
    };
    assert_eq!((0..5).map(asked).collect::<Vec<_>>(), [true, true, false, false, false]);
}

#[test]
fn a_run_killed_between_inputs_asks_for_none_of_them_again() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let dir = folder.path();
    let commit = serve_text_to_image_2m(dir, &server, 4, 12);
    let expected = from_local(dir, &[]);
    let path = |number: usize| {
        let path = format!("data_512_2M/data_{number:06}.tar");
        Server::hub_resolve("jackyhate/text-to-image-2M", &commit, &path)
    };
    let third = fs_err::read(dir.join("local/data_512_2M/data_000002.tar")).unwrap();
    server.always(&Server::hub_blob(&third), Fault::Stall(2_000));
    let job = [&T2I[..], &["--out", "out"]].concat();
    let mut child = command(&job, dir, &server).stderr(std::process::Stdio::null()).spawn().unwrap();
    let recorded = |count: usize| {
        let rows = fs_err::read_to_string(dir.join("out/prep-spill/rows.jsonl")).unwrap_or_default();
        rows.matches("\"spill_bytes\"").count() >= count
    };
    while !recorded(2) {
        assert!(child.try_wait().unwrap().is_none(), "it cannot end without its third tar");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    server.always(&Server::hub_blob(&third), Fault::Pass);
    server.release();
    server.forget();
    prep(&job, dir, &server).expect(0);
    assert_eq!(difference(&expected, &shards(&dir.join("out"))), None);
    let asked = |number: usize| server.requests().iter().any(|request| request.path == path(number));
    assert_eq!((0..4).map(asked).collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!(blobs(dir), 0);
}

#[test]
fn any_data_set_of_the_hub_in_tars_or_parquet() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let dir = folder.path();
    let (train, val) = (parquet(0..30, true), parquet(30..36, true));
    let files: [(&str, &[u8]); 3] = [
        ("README.md", b"# card"),
        ("data/train-00000-of-00001.parquet", &train),
        ("data/validation-00000-of-00001.parquet", &val),
    ];
    let first = server.hub_dataset("some/photos", &files);
    let job = ["--dataset", "hf:some/photos", "--size", "32", "--shards", "2"];
    prep(&job, dir, &server).expect(0);
    let manifest = shard::Manifest::read(&dir.join("data/photos")).unwrap();
    assert_eq!(manifest.source.name, "hf:some/photos");
    assert_eq!(manifest.source.revision, format!("some/photos@{first}"));
    assert_eq!(manifest.splits.iter().map(|split| split.samples).collect::<Vec<_>>(), [30, 6]);

    // A newer commit is another data set; the old one can still be had by its name.
    server.hub_dataset("some/photos", &files[..2]);
    let complaint = prep(&job, dir, &server).complaint();
    assert!(complaint.contains("another source"), "{complaint}");
    let again = prep(&[&job[..], &["--revision", &first]].concat(), dir, &server).expect(0);
    assert!(again.out.starts_with("already complete"), "{}", again.out);

    let coco = ["--dataset", "coco", "--repo", "some/photos", "--out", "coco", "--size", "32"];
    prep(&coco, dir, &server).expect(0);
    assert_eq!(shard::Manifest::read(&dir.join("coco")).unwrap().source.name, "coco");
    let none = prep(&["--dataset", "hf:no/such"], dir, &server).complaint();
    assert!(none.contains("no/such"), "{none}");
}
