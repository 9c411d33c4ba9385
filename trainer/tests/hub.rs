//! A tokenizer and a language model from a hub, against a stand-in server on the loopback interface.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use trainer::hub::Hub;
use trainer::tokenizer::Tokenizer;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The files of a repository by name.
type Files = Vec<(&'static str, Vec<u8>)>;

/// Serves one model repository `owner/name`, and keeps every request's head.
struct Server {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(tokenizer: Vec<u8>) -> Self {
        Self::of(vec![("tokenizer.json", tokenizer)])
    }

    fn of(files: Files) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        // The thread ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, kept) = (files.clone(), Arc::clone(&kept));
                thread::spawn(move || serve(stream, &files, &kept));
            }
        });
        Self { endpoint, requests }
    }
}

fn serve(mut stream: TcpStream, files: &Files, kept: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        loop {
            let before = head.len();
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
            if &head[before..] == "\r\n" {
                break;
            }
        }
        kept.lock().unwrap().push(head.clone());
        let answer = answer(&head, files);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn answer(head: &str, files: &Files) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap_or("");
    let name = path.strip_prefix("/owner/name/resolve/main/").unwrap_or("");
    let Some((name, file)) = files.iter().find(|(of, _)| *of == name) else {
        return b"HTTP/1.1 404 Not Found\r\nX-Error-Code: EntryNotFound\r\nContent-Length: 0\r\n\r\n"
            .to_vec();
    };
    let range =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let (first, last) = match &range {
        Some(range) => {
            let (first, last) = range.split_once('-').unwrap();
            (first.parse().unwrap(), last.parse().unwrap_or(file.len() - 1))
        }
        None => (0, file.len() - 1),
    };
    let body = &file[first..=last];
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nX-Repo-Commit: {COMMIT}\r\nETag: \"etag-of-{name}\"\r\nContent-Length: {}\r\n\
         Content-Range: bytes {first}-{last}/{}\r\n\r\n",
        body.len(),
        file.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

#[test]
fn a_file_is_fetched_once_and_then_comes_from_the_cache() {
    let trained = Tokenizer::train(["a red star", "a red square", "two stars"], 300).unwrap();
    let server = Server::start(trained.json().to_vec());
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path().to_path_buf());
    let path = hub.fetch("owner/name", "tokenizer.json").unwrap();
    let loaded = Tokenizer::load(path.to_str().unwrap()).unwrap();
    assert_eq!(loaded.digest(), trained.digest());
    let asked = server.requests.lock().unwrap().len();
    assert!(asked > 0);
    assert_eq!(hub.fetch("owner/name", "tokenizer.json").unwrap(), path);
    assert_eq!(server.requests.lock().unwrap().len(), asked, "the cache was not used");
}

#[test]
fn a_file_or_a_hub_that_is_not_there_is_one_error_that_names_them() {
    let server = Server::start(b"{}".to_vec());
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path().to_path_buf());
    let text = hub.fetch("owner/other", "tokenizer.json").unwrap_err().to_string();
    assert_eq!(
        text,
        format!(
            "could not fetch tokenizer.json of owner/other, which is no file or folder here, from {}",
            server.endpoint
        )
    );
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hub = Hub::new(format!("http://{closed}"), cache.path().to_path_buf());
    assert!(hub.fetch("owner/other", "tokenizer.json").is_err());
}

#[test]
fn the_token_reaches_the_hub_and_no_message() {
    let server = Server::start(b"{}".to_vec());
    let cache = tempfile::tempdir().unwrap();
    // hf-hub keeps the token beside the cache folder of the hub.
    let home = cache.path().join("home");
    fs_err::create_dir_all(home.join("hub")).unwrap();
    fs_err::write(home.join("token"), "a-secret-token").unwrap();
    let hub = Hub::new(&server.endpoint, home.join("hub"));
    let error = hub.fetch("owner/other", "tokenizer.json").unwrap_err();
    let said = format!("{error:?}") + &format!("{:#}", anyhow::Error::from(error));
    assert!(!said.contains("a-secret-token"), "{said}");
    let asked = server.requests.lock().unwrap().join("\n").to_lowercase();
    assert!(asked.contains("authorization: bearer a-secret-token"), "{asked}");
}

#[test]
fn a_language_model_comes_from_a_hub_in_one_file_or_several() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lm/llama");
    let read = |name: &str| fs_err::read(folder.join(name)).unwrap();
    let index = br#"{"weight_map": {"a": "model.safetensors-1"}}"#.to_vec();
    let common = || vec![("config.json", read("config.json")), ("tokenizer.json", read("tokenizer.json"))];
    let bench = |files: Files| {
        let server = Server::of(files);
        let home = tempfile::tempdir().unwrap();
        let config = "model.preset = \"nano\"\ndata.batch_size = 2\n[caption]\nfamily = \"lora\"\ntower = \"none\"\n\
                      context_length = 8\nlm = { source = \"owner/name\" }";
        fs_err::write(home.path().join("lora.toml"), config).unwrap();
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_trainer"))
            .args(["bench", "--config", "lora.toml", "--steps", "1", "--warmup", "0", "--json"])
            .current_dir(home.path())
            .env("HF_ENDPOINT", &server.endpoint)
            .env("HF_HOME", home.path().join("hub"))
            .output()
            .unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let mut one = common();
    one.push(("model.safetensors", read("model.safetensors")));
    assert_eq!(bench(one).0, Some(0));
    let mut several = common();
    several.push(("model.safetensors.index.json", index));
    several.push(("model.safetensors-1", read("model.safetensors")));
    let (code, err) = bench(several);
    assert_eq!(code, Some(0), "{err}");
    let (code, err) =
        bench(vec![("config.json", read("config.json")), ("model.safetensors", read("model.safetensors"))]);
    assert!(code == Some(2) && err.contains("tokenizer.json of owner/name"), "{err}");
}
