//! What can go wrong with one answer.

use std::time::Duration;

/// A misbehaviour of the server, for one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// None: to place the next fault at a later request.
    Pass,
    /// The body ends after this many bytes, with the headers of the whole.
    Cut(usize),
    /// Another status, and perhaps a header `Retry-After`.
    Status(u16, Option<&'static str>),
    /// Another status with the header `X-Error-Code`, as the Hub says it.
    HubError(u16, &'static str),
    /// The right number of bytes, one of them wrong.
    Corrupt,
    /// To another URL.
    Redirect(String),
    /// After this many bytes of body nothing, until [`release`](super::Server::release).
    Stall(usize),
    /// The file becomes another, with another etag, just before this answer.
    Replace(Vec<u8>),
    /// `Range` is not heeded.
    NoRanges,
    /// The bytes asked for, but said to be this many bytes further on.
    WrongRange(u64),
    /// Fewer bytes than were asked for, and said to be so.
    LessRange(u64),
    /// A range of a file that is said to have this many bytes.
    WrongTotal(u64),
    /// 416, as if the file had just this many bytes.
    NotSatisfiable(u64),
    /// No `Content-Length`: the end of the connection ends the body.
    NoLength,
    /// No `ETag`.
    NoEtag,
    /// The connection closes without an answer.
    Hangup,
    /// A pause after each piece of so many bytes.
    Slow(usize, Duration),
}
