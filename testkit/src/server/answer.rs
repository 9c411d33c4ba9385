//! One answer to one request: status, headers and as much of the body as the fault allows.

use std::{
    io::{Result, Write as _},
    net::TcpStream,
    sync::Arc,
};

use super::{Fault, Request, Shared, Stored, hub};

/// What is to be sent.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Arc<Vec<u8>>,
    /// The part of `body` that is sent.
    pub(super) part: std::ops::Range<usize>,
}

impl Answer {
    pub(super) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(super) fn whole(status: u16, body: Vec<u8>) -> Self {
        Self { status, part: 0..body.len(), body: Arc::new(body), headers: Vec::new() }
    }

    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Answers; whether the connection can take another request.
pub(super) fn answer(stream: &TcpStream, request: &Request, fault: Fault, shared: &Shared) -> Result<bool> {
    let plain = match &fault {
        Fault::Hangup => return Ok(false),
        Fault::Status(status, retry_after) => {
            let answer = Answer::whole(*status, b"not now".to_vec());
            Some(match retry_after {
                Some(wait) => answer.with("Retry-After", *wait),
                None => answer,
            })
        }
        Fault::HubError(status, code) => Some(hub::error(*status, code)),
        Fault::Redirect(url) => Some(Answer::status(302).with("Location", url.as_str())),
        Fault::NotSatisfiable(length) => {
            Some(Answer::status(416).with("Content-Range", format!("bytes */{length}")))
        }
        Fault::Replace(bytes) => {
            shared.state().put(&request.path, bytes);
            None
        }
        _ => None,
    };
    let answer = match plain {
        Some(answer) => answer,
        None => found(request, &fault, shared),
    };
    send(stream, request, answer, &fault, shared)
}

fn found(request: &Request, fault: &Fault, shared: &Shared) -> Answer {
    let (stored, rangeless) = {
        let state = shared.state();
        (state.files.get(&request.path).cloned(), state.rangeless.contains(&request.path))
    };
    match stored {
        Some(stored) if rangeless => file(request, &stored, &Fault::NoRanges),
        Some(stored) => file(request, &stored, fault),
        None => hub::answer(request, shared).unwrap_or_else(|| Answer::whole(404, b"nothing here".to_vec())),
    }
}

/// A file, or the part of it that was asked for.
pub(super) fn file(request: &Request, stored: &Stored, fault: &Fault) -> Answer {
    let length = stored.bytes.len();
    let answer = Answer { body: stored.bytes.clone(), ..Answer::default() };
    let answer = match fault {
        Fault::NoEtag => answer,
        _ => answer.with("ETag", stored.etag.as_str()),
    };
    let same = request.header("if-range").is_none_or(|etag| etag == stored.etag);
    match request.range().filter(|_| same && !matches!(fault, Fault::NoRanges)) {
        None => Answer { status: 200, part: 0..length, ..answer },
        Some((first, _)) if first >= length as u64 => Answer { status: 416, body: Arc::default(), ..answer }
            .with("Content-Range", format!("bytes */{length}")),
        Some((first, last)) => {
            let end = last.map_or(length as u64, |last| (last + 1).min(length as u64));
            let end = if let Fault::LessRange(most) = fault { end.min(first + most.max(&1)) } else { end };
            let shift = if let Fault::WrongRange(shift) = fault { *shift } else { 0 };
            let length = if let Fault::WrongTotal(total) = fault { *total } else { length as u64 };
            let said = format!("bytes {}-{}/{length}", first + shift, end - 1 + shift);
            Answer { status: 206, part: first as usize..end as usize, ..answer }
                .with("Content-Range", said)
                .with("Accept-Ranges", "bytes")
        }
    }
}

fn send(
    mut stream: &TcpStream,
    request: &Request,
    answer: Answer,
    fault: &Fault,
    shared: &Shared,
) -> Result<bool> {
    let mut body = answer.body[answer.part.clone()].to_vec();
    if let (Fault::Corrupt, Some(byte)) = (fault, body.first_mut()) {
        *byte ^= 0x55;
    }
    let lengthless = matches!(fault, Fault::NoLength);
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if lengthless {
        head.push_str("Connection: close\r\n");
    } else {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(true);
    }
    match *fault {
        Fault::Cut(bytes) if bytes < body.len() => {
            stream.write_all(&body[..bytes])?;
            return Ok(false);
        }
        Fault::Stall(bytes) => {
            let now = bytes.min(body.len());
            stream.write_all(&body[..now])?;
            shared.stall();
            stream.write_all(&body[now..])?;
        }
        Fault::Slow(piece, pause) => {
            for piece in body.chunks(piece.max(1)) {
                stream.write_all(piece)?;
                std::thread::sleep(pause);
            }
        }
        _ => stream.write_all(&body)?,
    }
    Ok(!lengthless)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        302 => "Found",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
