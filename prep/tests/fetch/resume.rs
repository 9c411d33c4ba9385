//! Interruptions: what is there stays, what is missing is asked for, and nothing else.

use std::process::{Command, Stdio};

use prep::Error;
use testkit::server::Fault;

use super::*;

/// The ranges that the record beside a part claims.
fn claimed(bench: &Bench) -> Vec<(u64, u64)> {
    let Ok(text) = fs_err::read(bench.dest().with_file_name(".file.part.json")) else { return Vec::new() };
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let pairs = record["done"].as_array().unwrap().iter();
    pairs.map(|pair| (pair[0].as_u64().unwrap(), pair[1].as_u64().unwrap())).collect()
}

/// What is claimed is on disk, byte for byte.
fn assert_claims_hold(bench: &Bench) -> u64 {
    let part = fs_err::read(bench.dest().with_file_name(".file.part")).unwrap_or_default();
    let claimed = claimed(bench);
    for &(start, end) in &claimed {
        let (start, end) = (start as usize, end as usize);
        assert!(part[start..end] == bench.bytes[start..end], "bytes {start}-{end} are claimed and wrong");
    }
    claimed.iter().map(|(start, end)| end - start).sum()
}

/// Downloads the rest, and checks that no claimed byte is asked for again.
fn resume(bench: &Bench, expected: &Expected) {
    let claimed = claimed(bench);
    bench.server.forget();
    bench.fetch(expected).unwrap();
    bench.assert_fetched(&bench.bytes);
    for request in bench.server.requests() {
        let (first, last) = request.range().unwrap();
        for &(start, end) in &claimed {
            assert!(
                last.unwrap() < start || first >= end,
                "{first}-{last:?} asked again: {start}-{end} is there"
            );
        }
    }
}

#[test]
fn a_stopped_download_goes_on_where_it_was() {
    for connections in [1, 4] {
        for stop_at in [1, 500, 1000, 1001, 7777, 19_000, 19_999] {
            let bench = Bench::new(20_000);
            let witness = Arc::new(Witness { stop_at: Some(stop_at), ..Witness::default() });
            let expected = if stop_at % 2 == 0 { expected(&bench.bytes) } else { Expected::default() };
            let settings = FetchSettings { connections, ..bench.settings() };
            let stopped = witness.fetcher(settings).file(&bench.url, &bench.dest(), &expected);
            if stop_at > 15_000 && stopped.is_ok() {
                bench.assert_fetched(&bench.bytes); // the stop came when all that was left was under way
                continue;
            }
            assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
            assert!(!bench.dest().exists());
            let kept = assert_claims_hold(&bench);
            assert!(kept >= stop_at.min(1000), "{kept} bytes kept of at least {stop_at} that had come");
            resume(&bench, &expected);
        }
    }
}

#[test]
fn a_download_that_gave_up_is_continued_by_the_next_run() {
    let bench = Bench::new(20_000);
    bench.server.script("/file", [Fault::Pass, Fault::Pass, Fault::Pass]);
    bench.server.always("/file", Fault::Status(503, None));
    let error = bench.fetch(&Expected::default()).unwrap_err();
    assert!(chain(error).contains("run the same command again"));
    assert_eq!(assert_claims_hold(&bench), 3000);
    bench.server.always("/file", Fault::Pass);
    resume(&bench, &Expected::default());
}

#[test]
fn a_file_that_changed_between_runs_starts_over_and_says_so() {
    let bench = Bench::new(20_000);
    let witness = Arc::new(Witness { stop_at: Some(5000), ..Witness::default() });
    witness.fetcher(bench.settings()).file(&bench.url, &bench.dest(), &Expected::default()).unwrap_err();
    assert!(assert_claims_hold(&bench) > 0);
    for other in [content(9, 20_000), content(10, 700)] {
        bench.server.put("/file", &other);
        let witness = Arc::new(Witness::default());
        let _ = fs_err::remove_file(bench.dest());
        witness.fetcher(bench.settings()).file(&bench.url, &bench.dest(), &Expected::default()).unwrap();
        bench.assert_fetched(&other);
        if other.len() == 20_000 {
            assert!(witness.notices().contains("changed on the server"), "{}", witness.notices());
        }
    }
}

#[test]
fn a_part_of_which_nothing_tells_the_version_is_not_continued() {
    let bench = Bench::new(20_000);
    bench.server.always("/file", Fault::NoEtag);
    let witness = Arc::new(Witness { stop_at: Some(5000), ..Witness::default() });
    witness.fetcher(bench.settings()).file(&bench.url, &bench.dest(), &Expected::default()).unwrap_err();
    bench.server.forget();
    bench.fetch(&Expected::default()).unwrap();
    bench.assert_fetched(&bench.bytes);
    assert_eq!(bench.server.requests().len(), 20, "all of it is asked for again");
}

#[test]
fn a_part_of_another_file_is_not_continued() {
    let bench = Bench::new(20_000);
    let witness = Arc::new(Witness { stop_at: Some(5000), ..Witness::default() });
    witness.fetcher(bench.settings()).file(&bench.url, &bench.dest(), &Expected::default()).unwrap_err();
    let other = content(3, 20_000);
    let url = bench.server.put("/other", &other);
    fetcher(bench.settings()).file(&url, &bench.dest(), &expected(&other)).unwrap();
    bench.assert_fetched(&other);
}

#[test]
fn a_stalled_connection_does_not_hold_up_a_stop() {
    let bench = Bench::new(20_000);
    bench.server.always("/file", Fault::Stall(10));
    let witness = Arc::new(Witness { stop_at: Some(40), ..Witness::default() });
    // The stall time-out of 30 s would be the test's too, if the stop did not cut the connections.
    let stopped = witness.fetcher(bench.settings()).file(&bench.url, &bench.dest(), &Expected::default());
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    assert_eq!(assert_claims_hold(&bench), 40, "four connections had ten bytes each");
    bench.server.always("/file", Fault::Pass);
    resume(&bench, &Expected::default());
}

#[test]
fn a_wait_does_not_hold_up_a_stop() {
    let bench = Bench::new(20_000);
    bench.server.script("/file", [Fault::Pass, Fault::Pass]);
    bench.server.always("/file", Fault::Status(429, Some("600")));
    let stop = Arc::new(AtomicBool::new(false));
    let settings = FetchSettings { connections: 2, wait_max: Duration::from_secs(600), ..bench.settings() };
    let fetcher = Fetcher::new(settings, stop.clone());
    let stopped = std::thread::scope(|scope| {
        let stopped = scope.spawn(|| fetcher.file(&bench.url, &bench.dest(), &Expected::default()));
        while bench.server.requests().len() < 3 {
            std::thread::sleep(Duration::from_millis(2));
        }
        stop.store(true, Ordering::SeqCst);
        stopped.join().unwrap()
    });
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    bench.server.always("/file", Fault::Pass);
    resume(&bench, &Expected::default());
}

/// The child of the next test: downloads until it is killed.
#[test]
#[ignore = "the child of `a_killed_download_goes_on_where_it_was`"]
fn child_that_is_killed() {
    let var = |name| std::env::var(name).unwrap();
    let (url, dest) = (var("FETCH_TEST_URL"), var("FETCH_TEST_DEST"));
    let settings =
        FetchSettings { range_bytes: 1000, ..FetchSettings::new("http://127.0.0.1:9", "none".into()) };
    fetcher(settings).file(&url, Path::new(&dest), &Expected::default()).unwrap();
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    for kill_after in [1, 3, 7] {
        let bench = Bench::new(20_000);
        // After so many good answers all others stall: the child cannot finish, however late the kill comes.
        bench.server.script("/file", vec![Fault::Pass; kill_after]);
        bench.server.always("/file", Fault::Stall(500));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "resume::child_that_is_killed", "--ignored"])
            .env("FETCH_TEST_URL", &bench.url)
            .env("FETCH_TEST_DEST", bench.dest())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while bench.server.requests().len() < kill_after + 2 {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!bench.dest().exists());
        assert_claims_hold(&bench);
        bench.server.always("/file", Fault::Pass);
        resume(&bench, &Expected::default());
    }
}
