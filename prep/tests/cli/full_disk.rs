//! A disk that fills up, and a folder that may not be written: an error that says so, and a rerun that goes on.

use std::{io::Write as _, os::unix::fs::PermissionsExt as _, process::Command};

use testkit::files::{difference, snapshot};

use crate::{command, prep};

const JOB: [&str; 10] =
    ["--dataset", "folder", "--from", "source", "--out", "disk/out", "--size", "96", "--shards", "6"];

/// Says aloud that a test was skipped.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

#[test]
fn a_full_disk_is_named_and_the_rerun_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    testkit::source::folder(&dir.join("source"), 250).unwrap();
    fs_err::create_dir(dir.join("disk")).unwrap();
    // In a mount namespace of its own: a disk of 3 MB, a run, more room, the run again.
    let script = "mount -t tmpfs -o size=3m tmpfs disk || exit 77; \"$@\" 2>full.txt; echo $? >code.txt; \
                  ls disk/out disk/out/train >listed.txt; \
                  mount -o remount,size=200m disk; \"$@\" && \"$1\" verify disk/out && cp -r disk/out copied";
    let prep_run = command(&JOB, dir);
    let mut shell = Command::new("unshare");
    shell
        .args(["--mount", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(prep_run.get_program())
        .args(JOB);
    let Ok(output) = shell.current_dir(dir).output() else {
        return skipped("a full disk: there is no program unshare");
    };
    let err = String::from_utf8_lossy(&output.stderr);
    if !dir.join("code.txt").exists() {
        return skipped(&format!("a full disk: no file system can be mounted here: {}", err.trim()));
    }
    assert_eq!(output.status.code(), Some(0), "{err}");
    let full = fs_err::read_to_string(dir.join("full.txt")).unwrap();
    assert_eq!(fs_err::read_to_string(dir.join("code.txt")).unwrap().trim(), "2", "{full}");
    assert!(full.contains("No space left on device") && full.contains("disk/out/"), "{full}");
    assert!(full.contains("the same command goes on where this stopped"), "{full}");
    let listed = fs_err::read_to_string(dir.join("listed.txt")).unwrap();
    assert!(!listed.contains("dataset.json") && !listed.contains(".tmp"), "{listed}");
    prep(&[&JOB[..4], &["--out", "plain"], &JOB[6..]].concat(), dir).expect(0);
    let of = |out: &str| snapshot(&dir.join(out)).unwrap();
    assert_eq!(difference(&of("plain"), &of("copied")), None);
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    testkit::source::folder(&dir.join("source"), 20).unwrap();
    fs_err::create_dir(dir.join("disk")).unwrap();
    fs_err::set_permissions(dir.join("disk"), std::fs::Permissions::from_mode(0o555)).unwrap();
    if fs_err::write(dir.join("disk/probe"), "").is_ok() {
        // Root may write anywhere but on a file system that is mounted so.
        let script = "mount -t tmpfs tmpfs disk && mount -o remount,ro disk || exit 77; \"$@\"";
        let mut shell = Command::new("unshare");
        shell
            .args(["--mount", "--map-root-user", "sh", "-c", script, "sh"])
            .arg(command(&JOB, dir).get_program());
        let output = shell.args(JOB).current_dir(dir).output();
        return match output {
            Ok(output) if output.status.code() != Some(77) => {
                let err = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(2), "{err}");
                assert!(err.contains("disk/out") && err.contains("Read-only file system"), "{err}");
            }
            _ => skipped("a read-only folder: root writes anywhere, and nothing can be mounted here"),
        };
    }
    let complaint = prep(&JOB, dir).complaint();
    assert!(complaint.contains("disk/out") && complaint.contains("Permission denied"), "{complaint}");
}
