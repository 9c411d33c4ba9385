//! An S3-compatible server on loopback that counts what is asked for and misbehaves as told, and ways to compare what loaders
//! deliver.
#![allow(dead_code, reason = "each test file takes what it needs")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    thread::JoinHandle,
    time::Duration,
};

use http_body_util::BodyExt as _;
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use loader::{CacheConfig, Loader, LoaderBuilder, Remainder};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::{net::TcpListener, sync::oneshot};

pub(crate) const ACCESS: &str = "AKEXAMPLE";
pub(crate) const SECRET: &str = "SKEXAMPLE-not-to-be-shown";
pub(crate) const BUCKET: &str = "sets";

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The path, bucket first.
    pub(crate) path: String,
    /// First and last byte, where a range was asked for.
    pub(crate) range: Option<(u64, u64)>,
}

impl Asked {
    pub(crate) fn is_tar(&self) -> bool {
        self.path.ends_with(".tar")
    }
}

/// What befalls an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Pass,
    Status(u16),
    /// The body ends after so many bytes of those announced.
    Cut(usize),
    /// This byte of the object is another one, where the range has it.
    Flip(u64),
    Slow(Duration),
}

type Faults = Box<dyn FnMut(&Asked) -> Fault + Send>;

struct Shared {
    asked: Mutex<Vec<Asked>>,
    faults: Mutex<Faults>,
}

/// A server over `ROOT/BUCKET`; it ends when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    root: tempfile::TempDir,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one whose bucket has a copy of the data set in `data` below each of `prefixes`.
    pub(crate) fn start(data: &Path, prefixes: &[&str]) -> Server {
        let root = tempfile::tempdir().unwrap();
        let copy = testkit::files::snapshot(data).unwrap();
        for prefix in prefixes {
            testkit::files::restore(&copy, &root.path().join(BUCKET).join(prefix)).unwrap();
        }
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(s3s::auth::SimpleAuth::from_single(ACCESS, SECRET));
        let service = builder.build();
        let faults: Faults = Box::new(|_: &Asked| Fault::Pass);
        let shared = Arc::new(Shared { asked: Mutex::default(), faults: Mutex::new(faults) });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let serving = tokio::spawn(serve(TcpListener::from_std(listener).unwrap(), service, theirs));
                let _ = stopped.await;
                serving.abort();
            });
        });
        Server { port, root, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// The folder behind a prefix.
    pub(crate) fn folder(&self, prefix: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(prefix)
    }

    /// The variables by which a client finds it.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", ACCESS),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "us-east-1"),
            ("NO_PROXY", "*"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    pub(crate) fn cache(&self, dir: &Path) -> CacheConfig {
        let variables = self.variables().into_iter().collect();
        CacheConfig { dir: Some(dir.to_path_buf()), variables, ..CacheConfig::default() }
    }

    /// What befalls each answer from here on.
    pub(crate) fn faults(&self, faults: impl FnMut(&Asked) -> Fault + Send + 'static) {
        *self.shared.faults.lock().unwrap() = Box::new(faults);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The ranges of tars that were asked for, and forgets all requests so far.
    pub(crate) fn take_ranges(&self) -> Vec<Asked> {
        let mut asked = std::mem::take(&mut *self.shared.asked.lock().unwrap());
        asked.retain(Asked::is_tar);
        asked
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

/// A body, which may end before its end: then the connection closes.
struct Answer {
    bytes: Option<Bytes>,
    is_cut: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(match self.bytes.take() {
            Some(bytes) => Some(Ok(Frame::data(bytes))),
            None if self.is_cut => Some(Err(std::io::Error::other("cut"))),
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.bytes {
            Some(bytes) if !self.is_cut => SizeHint::with_exact(bytes.len() as u64),
            _ => SizeHint::default(),
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (service, shared) = (service.clone(), Arc::clone(&shared));
        let answer = move |request| answer(request, service.clone(), Arc::clone(&shared));
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        // A client that went away is nobody's business.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn answer(
    request: Request<Incoming>,
    service: S3Service,
    shared: Arc<Shared>,
) -> Result<Response<Answer>, Infallible> {
    let range = request.headers().get("range").and_then(|range| {
        let (first, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    let asked = Asked { path: request.uri().path().to_owned(), range };
    shared.asked.lock().unwrap().push(asked.clone());
    let fault = (shared.faults.lock().unwrap())(&asked);
    if let Fault::Slow(pause) = fault {
        tokio::time::sleep(pause).await;
    }
    if let Fault::Status(status) = fault {
        let body = Answer { bytes: Some(Bytes::from_static(b"not now")), is_cut: false };
        let mut answer = Response::new(body);
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        return Ok(answer);
    }
    let answer = hyper::service::Service::call(&service, request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let mut body = body.collect().await.unwrap().to_bytes().to_vec();
    let first = range.map_or(0, |(first, _)| first);
    match fault {
        Fault::Flip(at) => {
            if let Some(byte) = at.checked_sub(first).and_then(|at| body.get_mut(at as usize)) {
                *byte ^= 0x40;
            }
        }
        Fault::Cut(bytes) => body.truncate(bytes),
        _ => {}
    }
    let is_cut = matches!(fault, Fault::Cut(_));
    Ok(Response::from_parts(parts, Answer { bytes: Some(body.into()), is_cut }))
}

/// `s3://BUCKET/PREFIX`
pub(crate) fn url(prefix: &str) -> String {
    format!("s3://{BUCKET}/{prefix}")
}

pub(crate) fn builder(dir: impl Into<PathBuf>, cache: &CacheConfig) -> LoaderBuilder {
    Loader::builder(dir).batch_size(8).remainder(Remainder::DropLast).seed(3).cache(cache.clone())
}

/// All that a batch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) keys: Vec<String>,
    pub(crate) captions: Vec<String>,
    pub(crate) pixels: Vec<u8>,
}

impl Delivered {
    pub(crate) fn of(batch: &loader::Batch) -> Delivered {
        Delivered {
            keys: (0..batch.len()).map(|i| batch.key(i).to_owned()).collect(),
            captions: (0..batch.len()).map(|i| batch.caption(i).to_owned()).collect(),
            pixels: batch.u8().to_vec(),
        }
    }
}

/// An epoch, batch by batch.
pub(crate) fn epoch(loader: &Loader, epoch: u64) -> Vec<Delivered> {
    loader.epoch(epoch).unwrap().map(|batch| Delivered::of(&batch.unwrap())).collect()
}

/// The error that ends an epoch, and how many batches came before.
pub(crate) fn failing(loader: &Loader, epoch: u64) -> (usize, loader::Error) {
    let mut count = 0;
    for batch in loader.epoch(epoch).unwrap() {
        match batch {
            Ok(_) => count += 1,
            Err(error) => return (count, error),
        }
    }
    panic!("the epoch ended well after {count} batches");
}

/// Threads of this process whose names begin with `loader`.
pub(crate) fn loader_threads() -> usize {
    let tasks = fs_err::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.map(|task| fs_err::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|name| name.starts_with("loader")).count()
}
