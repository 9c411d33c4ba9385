//! Files of format version 1, kept as they were first written: every later version must write the same bytes and
//! read the old ones. `UPDATE_GOLDEN=1 cargo test -p shard --test golden` writes them anew, which only a new
//! format version may need.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test may unwrap, and its panic names the place"
)]

mod common;

use std::path::PathBuf;

use shard::{ImageSettings, SampleOrder, verify};

fn sets() -> [(&'static str, ImageSettings, SampleOrder); 3] {
    [
        ("tensor", ImageSettings::tensor(common::SIZE), SampleOrder::Shuffled),
        ("tensor-shortest-side", common::images()[2].clone(), SampleOrder::Shuffled),
        ("jpeg-source-order", ImageSettings::jpeg(common::SIZE, 90), SampleOrder::Source),
    ]
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name)
}

#[test]
fn version_1_is_still_written_to_the_byte() {
    for (name, image, order) in sets() {
        let dir = tempfile::tempdir().unwrap();
        common::write(dir.path(), &image, order, 12);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let _ = std::fs::remove_dir_all(golden(name));
            common::copy(dir.path(), &golden(name));
        }
        let files = common::files(dir.path());
        assert_eq!(files, common::files(&golden(name)));
        for file in files {
            let (now, then) =
                (std::fs::read(dir.path().join(&file)), std::fs::read(golden(name).join(&file)));
            assert!(now.unwrap() == then.unwrap(), "{name}/{file} is no longer written as version 1 was");
        }
    }
}

#[test]
fn version_1_is_still_read() {
    for (name, ..) in sets() {
        let report = verify::dataset(golden(name)).unwrap();
        assert!(report.is_sound(), "{:#?}", report.damages);
        assert_eq!(report.samples, 17);
    }
}
