//! Plain files from a server that misbehaves.

use std::time::Instant;

use prep::Error;
use testkit::server::Fault;

use super::*;

/// The file arrives in spite of these faults, with this many requests.
fn survives(length: usize, faults: Vec<Fault>, requests: usize) {
    let label = format!("{faults:?}");
    let bench = Bench::new(length);
    bench.server.script("/file", faults);
    for expected in [expected(&bench.bytes), Expected::default()] {
        if let Err(error) = bench.fetch(&expected) {
            panic!("{label}: {}", chain(error));
        }
        bench.assert_fetched(&bench.bytes);
        fs_err::remove_file(bench.dest()).unwrap();
        if expected.digest.is_some() {
            assert_eq!(bench.server.requests().len(), requests, "{label}");
        }
    }
}

#[test]
fn what_passes_is_tried_again() {
    survives(
        5000,
        vec![Fault::Status(503, None), Fault::Status(429, None), Fault::Status(500, Some("soon"))],
        8,
    );
    survives(5000, vec![Fault::Pass, Fault::Status(503, Some("0")), Fault::Status(502, None)], 7);
    survives(5000, vec![Fault::Hangup, Fault::Pass, Fault::Hangup], 7);
    survives(5000, vec![Fault::Pass, Fault::WrongRange(7)], 6);
    survives(5000, vec![Fault::WrongRange(7)], 6);
    survives(5000, vec![Fault::LessRange(10), Fault::Pass, Fault::LessRange(999)], 7);
    survives(5000, vec![Fault::NotSatisfiable(5000)], 6);
    survives(5000, vec![Fault::NoLength; 5], 5);
    survives(5000, vec![Fault::NoEtag; 5], 5);
    survives(5000, vec![Fault::Pass, Fault::NoRanges], 6);
}

#[test]
fn a_cut_body_goes_on_where_it_was_cut() {
    let bench = Bench::new(900);
    bench.server.script("/file", [Fault::Cut(100), Fault::Cut(0), Fault::Cut(250)]);
    bench.fetch(&expected(&bench.bytes)).unwrap();
    bench.assert_fetched(&bench.bytes);
    let starts: Vec<u64> = bench.server.requests().iter().map(|request| request.range().unwrap().0).collect();
    assert_eq!(starts, [0, 100, 100, 350]);
}

#[test]
fn patience_ends_only_where_nothing_new_arrives() {
    let bench = Bench::new(900);
    bench.server.script("/file", vec![Fault::Cut(50); 17]);
    bench.fetch(&expected(&bench.bytes)).unwrap();
    bench.assert_fetched(&bench.bytes);
    fs_err::remove_file(bench.dest()).unwrap();
    bench.server.forget();
    bench.server.always("/file", Fault::Cut(0));
    let error = chain(bench.fetch(&expected(&bench.bytes)).unwrap_err());
    assert!(error.contains("after 4 failures") && error.contains("/file"), "{error}");
    assert_eq!(bench.server.requests().len(), 4);
}

#[test]
fn retry_after_is_waited_for() {
    let bench = Bench::new(900);
    bench.server.script("/file", [Fault::Status(429, Some("1"))]);
    let settings = FetchSettings { wait_max: Duration::from_secs(5), ..bench.settings() };
    let begin = Instant::now();
    fetcher(settings).file(&bench.url, &bench.dest(), &Expected::default()).unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    bench.assert_fetched(&bench.bytes);
}

#[test]
fn a_server_without_ranges_is_read_in_one_stream_that_starts_over() {
    let bench = Bench::new(5000);
    bench.server.without_ranges("/file");
    bench.fetch(&expected(&bench.bytes)).unwrap();
    assert_eq!(bench.server.requests().len(), 1);
    bench.assert_fetched(&bench.bytes);

    for (faults, expected) in [
        (vec![Fault::Cut(4999), Fault::Cut(0), Fault::Status(503, None)], Expected::default()),
        (vec![Fault::Corrupt, Fault::Hangup], expected(&bench.bytes)),
        (vec![Fault::NoLength], Expected::default()),
    ] {
        fs_err::remove_file(bench.dest()).unwrap();
        bench.server.forget();
        let requests = faults.len() + usize::from(!matches!(faults[0], Fault::NoLength));
        bench.server.script("/file", faults);
        bench.fetch(&expected).unwrap();
        bench.assert_fetched(&bench.bytes);
        assert_eq!(bench.server.requests().len(), requests);
    }
}

#[test]
fn ranges_that_a_server_stops_to_heed_do_not_lose_the_file() {
    let bench = Bench::new(20_000);
    let witness = Arc::new(Witness { stop_at: Some(5000), ..Witness::default() });
    witness.fetcher(bench.settings()).file(&bench.url, &bench.dest(), &Expected::default()).unwrap_err();
    bench.server.without_ranges("/file");
    bench.fetch(&Expected::default()).unwrap();
    bench.assert_fetched(&bench.bytes);
}

#[test]
fn wrong_bytes_of_the_right_length_start_over_and_then_are_refused() {
    let bench = Bench::new(5000);
    bench.server.script("/file", [Fault::Pass, Fault::Corrupt]);
    let witness = Arc::new(Witness::default());
    witness.fetcher(bench.settings()).file(&bench.url, &bench.dest(), &expected(&bench.bytes)).unwrap();
    bench.assert_fetched(&bench.bytes);
    assert!(witness.notices().contains("starting over"), "{}", witness.notices());

    fs_err::remove_file(bench.dest()).unwrap();
    bench.server.always("/file", Fault::Corrupt);
    let error = bench.fetch(&expected(&bench.bytes)).unwrap_err();
    let Error::Mismatch { url, path, expected, found } = &error else { panic!("{error:?}") };
    assert_eq!((url, path), (&bench.url, &bench.dest()));
    assert_eq!(*expected, format!("sha256 {}", sha256(&bench.bytes)));
    assert!(found.starts_with("sha256 ") && found != expected);
    assert!(!bench.dest().exists());
    bench.assert_clean(&[]);
}

#[test]
fn another_length_than_published_is_refused() {
    let bench = Bench::new(5000);
    let wrong = Expected { bytes: Some(4999), digest: None };
    let error = chain(bench.fetch(&wrong).unwrap_err());
    assert!(error.contains("expected 4999 bytes, found 5000 bytes"), "{error}");
    bench.server.always("/file", Fault::NoLength);
    let error = chain(bench.fetch(&wrong).unwrap_err());
    assert!(error.contains("expected 4999 bytes, found 5000 bytes"), "{error}");
}

#[test]
fn a_file_for_which_the_disk_has_no_room_is_refused_before_it_begins() {
    let bench = Bench::new(5000);
    bench.server.always("/file", Fault::WrongTotal(u64::MAX / 2));
    let error = bench.fetch(&Expected::default()).unwrap_err();
    let Error::Space { needed_bytes, dir, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*needed_bytes, &**dir), (u64::MAX / 2, bench.dest().parent().unwrap()));
    assert!(error.to_string().contains(&bench.url), "{error}");
    assert_eq!(bench.server.requests().len(), 1);
    assert_eq!(fs_err::metadata(bench.dest().with_file_name(".file.part")).unwrap().len(), 0);
}

#[test]
fn a_stall_is_given_up_and_the_rest_asked_for_again() {
    let bench = Bench::new(5000);
    bench.server.script("/file", [Fault::Stall(100), Fault::Pass, Fault::Stall(0)]);
    let settings = FetchSettings { stall_timeout: Duration::from_millis(200), ..bench.settings() };
    fetcher(settings).file(&bench.url, &bench.dest(), &expected(&bench.bytes)).unwrap();
    bench.assert_fetched(&bench.bytes);
    let starts: Vec<u64> = bench.server.requests().iter().map(|request| request.range().unwrap().0).collect();
    assert!(starts.contains(&100), "{starts:?}");
}

#[test]
fn a_file_that_changes_underway_starts_over() {
    let bench = Bench::new(5000);
    let other = content(77, 5000);
    bench.server.script("/file", [Fault::Pass, Fault::Pass, Fault::Replace(other.clone())]);
    let witness = Arc::new(Witness::default());
    let fetched =
        witness.fetcher(bench.settings()).file(&bench.url, &bench.dest(), &Expected::default()).unwrap();
    bench.assert_fetched(&other);
    assert_eq!(fetched.etag.unwrap(), format!("\"{}\"", testkit::server::git_oid(&other)));
    assert!(witness.notices().contains("changed on the server"), "{}", witness.notices());

    // One that never stands still is given up.
    fs_err::remove_file(bench.dest()).unwrap();
    let ever: Vec<_> = (0..100).map(|seed| Fault::Replace(content(seed, 5000))).collect();
    bench.server.script("/file", ever);
    let error = chain(bench.fetch(&Expected::default()).unwrap_err());
    assert!(error.contains("changed on the server"), "{error}");
}

#[test]
fn refusals_are_final_and_explained() {
    for (status, words) in
        [(404, "no such file"), (403, "access is refused"), (401, "HF_TOKEN"), (400, "refuses")]
    {
        let bench = Bench::new(5000);
        bench.server.always("/file", Fault::Status(status, None));
        let error = chain(bench.fetch(&Expected::default()).unwrap_err());
        assert!(error.contains(words) && error.contains(&status.to_string()), "{error}");
        assert_eq!(bench.server.requests().len(), 1, "{status} is not asked twice");
    }
}

#[test]
fn nobody_there_is_told_after_all_attempts() {
    let bench = Bench::new(1);
    let settings = bench.settings();
    let (url, dest) = (bench.url.clone(), bench.dest());
    drop(bench.server);
    let error = chain(fetcher(settings).file(&url, &dest, &Expected::default()).unwrap_err());
    assert!(error.contains("after 4 failures") && error.contains(&url), "{error}");
}

#[test]
fn a_server_that_does_not_speak_tls_is_told() {
    let bench = Bench::new(1);
    let url = bench.url.replace("http://", "https://");
    let error = fetcher(bench.settings()).file(&url, &bench.dest(), &Expected::default()).unwrap_err();
    assert!(matches!(error, Error::Download { .. }), "{error:?}");
    assert!(chain(error).contains(&url));
}

#[test]
fn the_token_stays_at_its_own_host() {
    let bench = Bench::new(5000);
    bench.server.put("/elsewhere", &bench.bytes);
    let token = prep::fetch::Token::new("hf_secret");
    let far = format!("{}/elsewhere?Signature=hidden", bench.server.second_url());
    bench.server.always("/file", Fault::Redirect(far));
    let settings = FetchSettings { token, ..bench.settings() };
    let fetcher = fetcher(settings);
    fetcher.file(&bench.url, &bench.dest(), &expected(&bench.bytes)).unwrap();
    bench.assert_fetched(&bench.bytes);
    for request in bench.server.requests() {
        let shown = request.header("authorization");
        assert_eq!(shown, (!request.second).then_some("Bearer hf_secret"), "{request:?}");
    }
    assert_eq!(bench.server.requests().iter().filter(|request| !request.second).count(), 1, "followed once");

    // A host that is not the endpoint is shown nothing in the first place; errors show no signature.
    bench.server.forget();
    bench.server.always("/elsewhere", Fault::Status(403, None));
    let url = format!("{}/elsewhere?Signature=hidden", bench.server.second_url());
    let error = fetcher.file(&url, &bench.dir.path().join("other"), &Expected::default()).unwrap_err();
    assert!(!format!("{error:?} {error} {fetcher:?}").contains("hidden"), "{error:?}");
    assert!(!format!("{fetcher:?}").contains("hf_secret"));
    assert!(bench.server.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn a_redirect_that_expired_is_asked_for_anew() {
    let bench = Bench::new(5000);
    bench.server.put("/elsewhere", &bench.bytes);
    bench.server.always("/file", Fault::Redirect(format!("{}/elsewhere", bench.server.second_url())));
    bench.server.script("/elsewhere", [Fault::Pass, Fault::Pass, Fault::Status(403, None)]);
    bench.fetch(&expected(&bench.bytes)).unwrap();
    bench.assert_fetched(&bench.bytes);
    assert!(bench.server.requests().iter().filter(|request| request.path == "/file").count() >= 2);
}

#[test]
fn redirects_lead_nowhere_else() {
    for (target, words) in [
        ("/file", "redirects"),
        ("file:///etc/passwd", "refused"),
        ("ftp://127.0.0.1/file", "refused"),
        ("http://", "refused"),
    ] {
        let bench = Bench::new(10);
        bench.server.always("/file", Fault::Redirect(target.to_owned()));
        let error = chain(bench.fetch(&Expected::default()).unwrap_err());
        assert!(error.contains(words), "{target}: {error}");
        assert!(bench.server.requests().len() <= 11);
    }
}
