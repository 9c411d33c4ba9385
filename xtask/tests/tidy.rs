//! The house rules that a machine can hold: crate edges, documented modules, nothing left half done.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "helpers of tests may unwrap as tests do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Which of our crates each may depend on (normal dependencies, default features). `e2e-remote` has tests alone.
const EDGES: [(&str, &[&str]); 13] = [
    ("shard", &[]),
    ("jpeg", &[]),
    ("picture", &[]),
    ("cocoeval", &[]),
    ("prep", &["shard", "jpeg", "picture"]),
    ("loader", &["shard", "jpeg"]),
    ("loader-cli", &["loader", "shard", "picture"]),
    ("trainer", &["loader", "shard", "jpeg", "picture", "cocoeval"]),
    ("testkit", &["shard"]),
    ("e2e", &["shard", "testkit"]),
    ("e2e-remote", &[]),
    ("benches", &["loader", "shard", "jpeg"]),
    ("xtask", &[]),
];

/// What a crate never reaches, whatever lies between.
const NEVER: [(&str, &[&str]); 4] = [
    ("shard", &["candle", "clap", "image", "rayon", "tokio", "ureq"]),
    ("loader", &["candle", "clap", "image", "tokio", "ureq", "object_store", "reqwest", "rustls", "hyper"]),
    ("prep", &["trainer", "loader", "candle"]),
    ("trainer", &["prep", "object_store"]),
];

/// Longest file of code; generated tables would be the exception.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn text_of(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn array(value: &Value) -> Vec<Value> {
    value.as_array().unwrap().clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Optional dependencies of our crate `package`, by name. No default feature turns one on, nor does a crate of ours that
/// depends on another outside its tests: `cargo metadata` resolves the features of all tests at once, so this is read
/// in the manifests.
fn optional(package: &Value, ours: &BTreeSet<String>) -> BTreeSet<String> {
    let name = text(&package["name"]);
    let default = &package["features"]["default"];
    assert!(default.is_null() || array(default).is_empty(), "{name} has default features: {default}");
    let mut optional = BTreeSet::new();
    for dependency in array(&package["dependencies"]).iter().filter(|dependency| dependency["kind"].is_null())
    {
        let of = text(&dependency["name"]);
        if dependency["optional"] == true {
            assert!(!ours.contains(&of), "{name}: an optional edge to {of} is drawn by nobody");
            optional.insert(of);
        } else if ours.contains(&of) {
            let features = &dependency["features"];
            assert!(array(features).is_empty(), "{name} asks {of} for {features} outside its tests");
        }
    }
    optional
}

/// Normal dependencies by package name with the default features of our crates, for this machine's platform, which is
/// all that a build has downloaded.
fn dependencies() -> (BTreeSet<String>, BTreeMap<String, BTreeSet<String>>) {
    let version = text_of(Command::new("rustc").arg("-vV"));
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = text_of(Command::new(cargo).args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        host,
    ]));
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let names: BTreeMap<String, String> = array(&metadata["packages"])
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let ours: BTreeSet<String> =
        array(&metadata["workspace_members"]).iter().map(|id| names[&text(id)].clone()).collect();
    let members = array(&metadata["packages"]);
    let members = members.iter().filter(|package| ours.contains(&text(&package["name"])));
    let optional: BTreeMap<String, BTreeSet<String>> =
        members.map(|package| (text(&package["name"]), optional(package, &ours))).collect();
    assert!(optional["loader"].contains("object_store"), "what reads object stores is optional");
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in array(&metadata["resolve"]["nodes"]) {
        let name = names[&text(&node["id"])].clone();
        let is_off = |dependency: &String| optional.get(&name).is_some_and(|off| off.contains(dependency));
        let from = edges.entry(name.clone()).or_default();
        for dependency in array(&node["deps"]) {
            let of = names[&text(&dependency["pkg"])].clone();
            if array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()) && !is_off(&of) {
                from.insert(of);
            }
        }
    }
    (ours, edges)
}

#[test]
fn our_crates_depend_on_one_another_as_drawn() {
    let (ours, edges) = dependencies();
    let drawn: BTreeSet<String> = EDGES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(ours, drawn, "a crate was added or removed: draw its edges here and in ARCHITECTURE.md");
    for (name, allowed) in EDGES {
        for dependency in edges[name].intersection(&ours) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn no_crate_reaches_what_it_must_not() {
    let (_, edges) = dependencies();
    for (name, never) in NEVER {
        let (mut reached, mut next) = (BTreeMap::new(), vec![(name.to_owned(), name.to_owned())]);
        while let Some((crate_name, path)) = next.pop() {
            for dependency in &edges[&crate_name] {
                if !reached.contains_key(dependency) {
                    let path = format!("{path} -> {dependency}");
                    reached.insert(dependency.clone(), path.clone());
                    next.push((dependency.clone(), path));
                }
            }
        }
        assert!(!reached.is_empty(), "{name} depends on nothing at all: the walk is wrong");
        for (dependency, path) in reached {
            let family = |forbidden: &&&str| {
                dependency == ***forbidden || dependency.starts_with(&format!("{forbidden}-"))
            };
            assert!(never.iter().find(family).is_none(), "{path}");
        }
    }
}

/// Files below `dir` with this extension, build outputs and data left out.
fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "data", "runs"].contains(&name.as_str()) {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root(), "rs", &mut found);
    assert!(found.len() > 50, "only {} source files found", found.len());
    found.sort();
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, text) in sources() {
        if path.components().any(|part| part.as_os_str() == "src") {
            assert!(text.starts_with("//!"), "{} does not begin with //!", path.display());
        }
    }
}

#[test]
fn nothing_is_left_half_done() {
    // Spelled so that this file does not find itself.
    let marks =
        [concat!("todo", "!("), concat!("FIX", "ME"), concat!("unimplemented", "!("), concat!("dbg", "!(")];
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for mark in marks {
                assert!(!line.contains(mark), "{}:{}: {mark}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn files_stay_readable() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines, more than {LINES_MAX}", path.display());
    }
}

#[test]
fn no_file_in_git_names_a_home_of_one_machine() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let listed = match listed {
        Ok(output) if output.status.success() => output.stdout,
        _ => {
            // Written past the test runner, which holds back what the macros print in a test that passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: this is no git checkout, or git is not installed");
            return;
        }
    };
    let homes = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    for name in listed.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let Ok(bytes) = std::fs::read(root().join(&name)) else { continue }; // deleted and not yet committed
        let text = String::from_utf8_lossy(&bytes);
        for home in homes {
            for (at, _) in text.match_indices(home) {
                // In the middle of a longer path it is no absolute one.
                let inside =
                    text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-~".contains(c));
                assert!(inside, "{name} names {home} at byte {at}");
            }
        }
    }
}

#[test]
fn every_promised_file_is_there() {
    let configs = ["demo", "clip_coco_tiny", "clip_coco_small", "clip_coco_medium", "clip_coco_full"];
    let configs = configs.map(|name| format!("configs/{name}.toml"));
    for name in
        configs.iter().map(String::as_str).chain(["deny.toml", "rustfmt.toml", "clippy.toml", ".ci/run"])
    {
        assert!(root().join(name).is_file(), "{name} is missing");
    }
    let run = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    assert!(run.contains("cargo ci"), ".ci/run must run what a person types");
}
