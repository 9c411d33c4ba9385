//! A loopback server for the tests of downloads: plain files with byte ranges, the Hub's protocol for data sets, and
//! every misbehaviour that a script asks for.
//!
//! Two hosts (ports) answer: files of the Hub that are kept apart from git are redirected from the first to the
//! second, as the Hub does with its own stores. Every request is recorded with its headers, so that a test can say what
//! was asked for and who was shown a token. One thread a connection; left out: TLS, HTTP/2, requests with a body.

mod answer;
mod fault;
mod hub;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

pub use fault::Fault;
pub use hub::{git_oid, sha256};

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether the second host was asked.
    pub second: bool,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The path, as sent, without the query.
    pub path: String,
    /// What follows `?`; empty without one.
    pub query: String,
    /// Headers in order, names in small letters.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The first header of this name, which is given in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// First and last byte asked for by `Range: bytes=first-last`.
    pub fn range(&self) -> Option<(u64, Option<u64>)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()))
    }
}

/// A file that is served.
#[derive(Clone, Debug)]
struct Stored {
    bytes: Arc<Vec<u8>>,
    etag: String,
}

/// What all threads share.
#[derive(Debug)]
struct Shared {
    hosts: [SocketAddr; 2],
    stop: AtomicBool,
    released: Mutex<bool>,
    release: Condvar,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Stored>,
    datasets: BTreeMap<String, hub::Dataset>,
    scripts: HashMap<String, VecDeque<Fault>>,
    always: HashMap<String, Fault>,
    rangeless: BTreeSet<String>,
    requests: Vec<Request>,
    page: Option<usize>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, second: bool) -> String {
        format!("http://{}", self.hosts[usize::from(second)])
    }

    /// Waits until the test lets stalled answers go, or the server ends.
    fn stall(&self) {
        let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        while !*released && !self.stop.load(Ordering::SeqCst) {
            released = self.release.wait(released).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A server on two free ports of this machine; it ends when dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    accepting: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts one with nothing on it.
    #[expect(clippy::expect_used, reason = "a test without its server has nothing to test")]
    pub fn start() -> Self {
        let listeners = [0, 1].map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
        let hosts = [0, 1].map(|host: usize| listeners[host].local_addr().expect("a bound port"));
        let shared = Arc::new(Shared {
            hosts,
            stop: AtomicBool::new(false),
            released: Mutex::new(false),
            release: Condvar::new(),
            state: Mutex::default(),
        });
        let accepting = listeners.into_iter().zip([false, true]).map(|(listener, second)| {
            let shared = shared.clone();
            std::thread::spawn(move || accept(&listener, second, &shared))
        });
        Self { accepting: accepting.collect(), shared }
    }

    /// The first host, without a slash at the end: `HF_ENDPOINT`, and where plain files are.
    pub fn url(&self) -> String {
        self.shared.url(false)
    }

    /// The second host; it serves the same paths.
    pub fn second_url(&self) -> String {
        self.shared.url(true)
    }

    /// Serves `bytes` at `path`, which begins with a slash, in place of what was there. Gives its URL.
    pub fn put(&self, path: &str, bytes: &[u8]) -> String {
        self.shared.state().put(path, bytes);
        format!("{}{path}", self.url())
    }

    /// What befalls the next requests of `path`, one fault a request; after the last all is well again.
    pub fn script(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state().scripts.entry(path.to_owned()).or_default().extend(faults);
    }

    /// What befalls every request of `path` for which the script has nothing.
    pub fn always(&self, path: &str, fault: Fault) {
        self.shared.state().always.insert(path.to_owned(), fault);
    }

    /// Never heeds `Range` for `path`, whatever befalls its requests besides.
    pub fn without_ranges(&self, path: &str) {
        self.shared.state().rangeless.insert(path.to_owned());
    }

    /// Every request so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.state().requests.clear();
    }

    /// Lets every answer go on that a [`Fault::Stall`] holds, now and later.
    pub fn release(&self) {
        *self.shared.released.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.release.notify_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.release();
        for host in self.shared.hosts {
            let _ = TcpStream::connect(host); // wakes the thread that accepts
        }
        for thread in self.accepting.drain(..) {
            let _ = thread.join();
        }
    }
}

impl State {
    fn put(&mut self, path: &str, bytes: &[u8]) {
        let stored = Stored { bytes: Arc::new(bytes.to_vec()), etag: format!("\"{}\"", git_oid(bytes)) };
        self.files.insert(path.to_owned(), stored);
    }

    fn fault(&mut self, path: &str) -> Fault {
        let scripted = self.scripts.get_mut(path).and_then(VecDeque::pop_front);
        scripted.or_else(|| self.always.get(path).cloned()).unwrap_or(Fault::Pass)
    }
}

fn accept(listener: &TcpListener, second: bool, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = shared.clone();
        // The thread ends with its connection; a client that went away shows as an error, which is nobody's business.
        std::thread::spawn(move || converse(&stream, second, &shared));
    }
}

/// Answers the requests of one connection until either side closes it.
fn converse(stream: &TcpStream, second: bool, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader, second)? {
        let fault = {
            let mut state = shared.state();
            state.requests.push(request.clone());
            state.fault(&request.path)
        };
        if !answer::answer(stream, &request, fault, shared)? {
            break;
        }
    }
    stream.shutdown(std::net::Shutdown::Both)
}

fn read(reader: &mut BufReader<&TcpStream>, second: bool) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
    let mut headers = Vec::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(Request { second, method, path, query, headers }))
}
