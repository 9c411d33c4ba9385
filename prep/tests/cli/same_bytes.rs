//! The same source, seed and options give the same bytes, whatever the number of threads.

use std::path::Path;

use testkit::files::{Snapshot, difference, snapshot};

use crate::prep;

/// What `--out out` holds after these arguments.
fn packed(arguments: &[&str], threads: &str, dir: &Path) -> Snapshot {
    let arguments = [&["--threads", threads, "--out", "out", "--shards", "3"], arguments].concat();
    prep(&arguments, dir).expect(0);
    let files = snapshot(&dir.join("out")).unwrap();
    fs_err::remove_dir_all(dir.join("out")).unwrap();
    files
}

fn check(arguments: &[&str], dir: &Path) -> Snapshot {
    let one = packed(arguments, "1", dir);
    assert!(one.contains_key(Path::new("dataset.json")) && one.len() >= 9, "{:?}", one.keys());
    for threads in ["2", "7"] {
        let many = packed(arguments, threads, dir);
        assert_eq!(difference(&one, &many), None, "{arguments:?} on {threads} threads");
    }
    one
}

#[test]
fn for_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (name, make) in [
        ("folder", testkit::source::folder as fn(&Path, usize) -> std::io::Result<()>),
        ("coco", |dir, count| testkit::source::coco(dir, count - 5, 5)),
        ("text-to-image-2m", |dir, count| testkit::source::text_to_image_2m(dir, 3, count / 3)),
    ] {
        let source = dir.join(name);
        fs_err::create_dir(&source).unwrap();
        make(&source, 45).unwrap();
        let tensors = check(&["--dataset", name, "--from", name, "--size", "32"], dir);
        let jpegs = check(&["--dataset", name, "--from", name, "--size", "32", "--store", "jpeg"], dir);
        assert_ne!(difference(&tensors, &jpegs), None);
        let listed = check(&["--dataset", name, "--from", name, "--size", "32", "--order", "source"], dir);
        assert_ne!(difference(&tensors, &listed), None);
    }
    let scenes = check(&["--limit", "30", "--val", "6", "--size", "32"], dir);
    let other = check(&["--limit", "30", "--val", "6", "--size", "32", "--seed", "1"], dir);
    assert_ne!(difference(&scenes, &other), None);
}
