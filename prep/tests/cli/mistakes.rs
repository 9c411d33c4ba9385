//! A mistake is one clear error and exit code 2, and leaves nothing behind.

use testkit::files::snapshot;

use crate::prep;

/// A folder with a sound source, a file, and things that look like sources.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    for name in ["photos", "empty", "coco/annotations", "lost/annotations", "cut", "cut-between", "blank"] {
        fs_err::create_dir_all(dir.join(name)).unwrap();
    }
    testkit::source::folder(&dir.join("photos"), 6).unwrap();
    fs_err::write(dir.join("file"), "x").unwrap();
    fs_err::write(dir.join("coco/annotations/captions_train2017.json"), "{\"images\": 7}").unwrap();
    fs_err::create_dir(dir.join("coco/train2017")).unwrap();
    fs_err::write(dir.join("lost/annotations/captions_train2017.json"), "{}").unwrap();
    // Three samples: cut inside of a member, and cut where the second sample ends, without the zeros of an end.
    for (name, cut) in [("cut", 1_000), ("cut-between", 0)] {
        testkit::source::text_to_image_2m(&dir.join(name), 1, 3).unwrap();
        let tar = dir.join(name).join("data_512_2M/data_000000.tar");
        let bytes = fs_err::read(&tar).unwrap();
        let third = bytes.windows(12).position(|window| window == b"00000002.jpg").unwrap();
        fs_err::write(&tar, &bytes[..third + cut]).unwrap();
    }
    fs_err::write(dir.join("blank/captions.jsonl"), "\n\n").unwrap();
    folder
}

#[test]
fn each_is_one_line_that_names_what_is_wrong() {
    let folder = folder();
    let dir = folder.path();
    let before = snapshot(dir).unwrap();
    let photos = ["--dataset", "folder", "--from", "photos", "--size", "32"];
    let of = |more: &[&'static str]| [&photos, more].concat();
    let table: Vec<(Vec<&str>, &str)> = vec![
        (vec!["--dataset", "folder"], "--dataset folder needs --from DIR"),
        (
            vec!["--dataset", "folder", "--from", "nowhere"],
            "nowhere is not a folder source: there is no such folder",
        ),
        (vec!["--dataset", "folder", "--from", "file"], "it is not a folder"),
        (vec!["--dataset", "folder", "--from", "empty"], "captions.jsonl"),
        (vec!["--dataset", "folder", "--from", "blank"], "no usable sample in folder"),
        (vec!["--dataset", "coco", "--from", "empty"], "annotations/captions_train2017.json"),
        (vec!["--dataset", "coco", "--from", "coco"], "not captions as COCO has them"),
        (vec!["--dataset", "coco", "--from", "lost"], "train2017"),
        (vec!["--dataset", "text-to-image-2m", "--from", "empty"], "data_512_2M/data_000000.tar"),
        (vec!["--dataset", "text-to-image-2m", "--from", "cut"], "data_000000.tar: damaged tar"),
        (
            vec!["--dataset", "text-to-image-2m", "--from", "cut-between"],
            "no block of zeros after its last member",
        ),
        (vec!["--from", "photos"], "--from does not go with shapes"),
        (of(&["--out", "file"]), "file"),
        (of(&["--out", "file/below"]), "file/below"),
        (of(&["--shards", "0", "--out", "out"]), "--shards 0"),
        (of(&["--shards", "1000000", "--out", "out"]), "--shards 1000000"),
        (of(&["--threads", "0", "--out", "out"]), "--threads 0"),
        (of(&["--limit", "0", "--out", "out"]), "--limit 0"),
        (of(&["--val", "6", "--out", "out"]), "--val 6"),
        (of(&["--quality", "80", "--out", "out"]), "--quality goes with --store jpeg"),
        (of(&["--subsampling", "4:4:4", "--out", "out"]), "--subsampling goes with --store jpeg"),
        (of(&["--store", "jpeg", "--layout", "chw", "--out", "out"]), "--layout goes with --store tensor"),
        (vec!["--resize", "pad", "--out", "out"], "--resize does not go with shapes"),
        (of(&["--decode", "fast", "--out", "out"]), "--decode fast goes with --engine turbo"),
        (vec!["verify", "nowhere"], "nowhere"),
        (vec!["verify", "photos"], "photos has no dataset.json"),
        (vec!["verify", "file"], "file"),
        (vec!["inspect", "photos"], "photos has no dataset.json"),
    ];
    for (arguments, expected) in table {
        let complaint = prep(&arguments, dir).complaint();
        assert!(complaint.contains(expected), "{arguments:?}: {complaint}");
        assert!(snapshot(dir).unwrap() == before, "{arguments:?} left something behind");
    }
}

#[test]
fn a_word_that_is_none_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let table: [(&[&str], &str); 9] = [
        (&["--datset", "coco"], "--dataset"),
        (&["--dataset", "imagenet"], "text-to-image-2m"),
        (&["--size", "5"], "--size"),
        (&["--resize", "longest-side"], "center-crop, squash, pad, shortest-side"),
        (&["--max-pixels", "0"], "--max-pixels"),
        (&["--val", "1.5"], "a share above 0 and below 1"),
        (&["--val", "many"], "a number of samples"),
        (&["--seed", "-1"], "-1"),
        (&["verify"], "<DIR>"),
    ];
    for (arguments, expected) in table {
        let finished = prep(arguments, folder.path()).expect(2);
        assert!(finished.err.starts_with("error: ") && finished.err.contains(expected), "{}", finished.err);
    }
    assert_eq!(snapshot(folder.path()).unwrap().len(), 0);
}

#[test]
fn inspect_says_which_split_or_picture_cannot_be() {
    let folder = folder();
    let dir = folder.path();
    prep(&["--dataset", "folder", "--from", "photos", "--size", "32", "--shards", "1", "--out", "out"], dir)
        .expect(0);
    let complaint = prep(&["inspect", "out", "--grid", "x.png", "--split", "test"], dir);
    assert!(complaint.err.contains("no split \"test\"; it has train, val"), "{}", complaint.err);
    assert_eq!(complaint.code, Some(2));
    let complaint = prep(&["inspect", "out", "--grid", "file/x.png"], dir);
    assert!(complaint.err.contains("file/x.png"), "{}", complaint.err);
    assert_eq!(complaint.code, Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_printed_are_an_error() {
    let folder = folder();
    let dir = folder.path();
    prep(&["--dataset", "folder", "--from", "photos", "--size", "32", "--out", "data"], dir).expect(0);
    let full = fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap().into_parts().0;
    let done = crate::command(&["verify", "data"], dir).stdout(full).output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{told}");
    assert!(told.contains("standard output"), "{told}");
}
