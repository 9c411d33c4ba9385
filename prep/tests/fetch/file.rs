//! Plain files from a server that behaves.

use prep::Error;

use super::*;

#[test]
fn files_of_any_size_arrive_whole_in_ranges_that_do_not_overlap() {
    for length in [0, 1, 999, 1000, 1001, 4000, 10_123] {
        let bench = Bench::new(length);
        let fetched = bench.fetch(&expected(&bench.bytes)).unwrap();
        assert_eq!((fetched.bytes, fetched.downloaded), (length as u64, true));
        bench.assert_fetched(&bench.bytes);
        let mut ranges: Vec<_> =
            bench.server.requests().iter().map(|request| request.range().unwrap().0).collect();
        ranges.sort_unstable();
        let starts: Vec<u64> = (0..(length as u64).max(1)).step_by(1000).collect();
        assert_eq!(ranges, starts, "{length} bytes");
    }
}

#[test]
fn a_file_without_a_known_digest_has_its_etag_and_is_guarded_by_it() {
    let bench = Bench::new(5000);
    let fetched = bench.fetch(&Expected::default()).unwrap();
    bench.assert_fetched(&bench.bytes);
    let etag = format!("\"{}\"", testkit::server::git_oid(&bench.bytes));
    assert_eq!(fetched.etag.as_deref(), Some(&*etag));
    let guarded = bench.server.requests().iter().filter(|r| r.header("if-range") == Some(&etag)).count();
    assert_eq!(guarded, 4, "all but the first request, which learns the etag");
}

#[test]
fn a_file_that_is_there_is_not_asked_for_again() {
    let bench = Bench::new(3000);
    bench.fetch(&expected(&bench.bytes)).unwrap();
    bench.server.forget();
    let again = bench.fetch(&expected(&bench.bytes)).unwrap();
    assert!(!again.downloaded && bench.server.requests().is_empty());
    fs_err::write(bench.dest(), b"cut short").unwrap();
    assert!(bench.fetch(&expected(&bench.bytes)).unwrap().downloaded, "another length than expected");
    bench.assert_fetched(&bench.bytes);
}

#[test]
fn offline_asks_nobody_and_says_what_is_missing() {
    let bench = Bench::new(3000);
    let settings = FetchSettings { offline: true, ..bench.settings() };
    let error = fetcher(settings.clone()).file(&bench.url, &bench.dest(), &Expected::default()).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error}");
    assert!(error.to_string().contains("/file"), "{error}");
    bench.fetch(&Expected::default()).unwrap();
    bench.server.forget();
    fetcher(settings).file(&bench.url, &bench.dest(), &Expected::default()).unwrap();
    assert!(bench.server.requests().is_empty());
}

#[test]
fn two_at_once_download_a_file_once() {
    let bench = Bench::new(50_000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| bench.fetch(&expected(&bench.bytes)).unwrap());
        }
    });
    bench.assert_fetched(&bench.bytes);
    assert_eq!(bench.server.requests().len(), 50);
}

#[test]
fn addresses_that_are_none_are_refused_before_anything_is_done() {
    let bench = Bench::new(1);
    for url in ["", "file:///etc/passwd", "ftp://127.0.0.1/x", "http:///x"] {
        let error = fetcher(bench.settings()).file(url, &bench.dest(), &Expected::default()).unwrap_err();
        assert!(matches!(error, Error::Config(_)), "{url}: {error}");
    }
}

#[test]
fn something_else_in_the_way_is_told() {
    let bench = Bench::new(1);
    fs_err::create_dir_all(bench.dest()).unwrap();
    let error = bench.fetch(&Expected::default()).unwrap_err();
    assert!(matches!(error, Error::Output { .. }), "{error}");
}
