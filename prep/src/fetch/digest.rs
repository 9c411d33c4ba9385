//! What a file's bytes must be: a SHA-256, or git's name of a blob. It leaves out where the digest comes from.

use std::{
    fmt,
    io::Read as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// The digest that a publisher gives for a file, in small hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256 of the bytes.
    Sha256(String),
    /// git's object name: SHA-1 of `blob LENGTH`, a zero byte and the bytes.
    GitBlob(String),
}

impl Digest {
    /// A SHA-256 from 64 hexadecimal digits; none from anything else.
    pub fn sha256(text: &str) -> Option<Self> {
        hex_digits(text, 64).map(Self::Sha256)
    }

    /// A git object name from 40 hexadecimal digits; none from anything else.
    pub fn git_blob(text: &str) -> Option<Self> {
        hex_digits(text, 40).map(Self::GitBlob)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::GitBlob(digits) => digits,
        }
    }

    /// The same kind of digest of what is in a file.
    pub(super) fn of_file(&self, path: &Path, stop: &AtomicBool) -> Result<Self> {
        let io = |source| Error::Io { action: "read", path: path.to_path_buf(), source };
        let mut file = fs_err::File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let (mut sha256, mut sha1) = (Sha256::new(), Sha1::new());
        sha1.update(format!("blob {length}\0"));
        let mut buffer = vec![0; 1 << 20];
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let bytes = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(io(error)),
            };
            match self {
                Self::Sha256(_) => sha256.update(&buffer[..bytes]),
                Self::GitBlob(_) => sha1.update(&buffer[..bytes]),
            }
        }
        Ok(match self {
            Self::Sha256(_) => Self::Sha256(hex(&sha256.finalize())),
            Self::GitBlob(_) => Self::GitBlob(hex(&sha1.finalize())),
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digits) => write!(f, "sha256 {digits}"),
            Self::GitBlob(digits) => write!(f, "git blob {digits}"),
        }
    }
}

fn hex_digits(text: &str, count: usize) -> Option<String> {
    let fits = text.len() == count && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| text.to_ascii_lowercase())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha256sum_and_git() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs_err::write(&path, "hello\n").unwrap();
        let stop = AtomicBool::new(false);
        // `printf 'hello\n' | sha256sum` and `| git hash-object --stdin`
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        for digest in [Digest::sha256(sha256).unwrap(), Digest::git_blob(git).unwrap()] {
            assert_eq!(digest.of_file(&path, &stop).unwrap(), digest);
        }
        stop.store(true, Ordering::Relaxed);
        let stopped = Digest::git_blob(git).unwrap().of_file(&path, &stop);
        assert!(matches!(stopped, Err(Error::Interrupted)));
        assert_eq!(Digest::sha256("12"), None);
        assert_eq!(Digest::git_blob(&"g".repeat(40)), None);
    }
}
