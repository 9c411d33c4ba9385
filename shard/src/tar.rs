//! ustar blocks. One header for given name and length, so that reading is comparison and every byte of an
//! archive is decided by its payloads.
//!
//! ```text
//! offset  bytes  field      value
//!      0    100  name       KEY.npy | KEY.jpg | KEY.json, NUL-padded
//!    100      8  mode       "0000644\0"
//!    108      8  uid        "0000000\0"
//!    116      8  gid        "0000000\0"
//!    124     12  size       11 octal digits, NUL
//!    136     12  mtime      "00000000000\0"
//!    148      8  checksum   6 octal digits, NUL, space
//!    156      1  typeflag   '0'
//!    157    100  linkname   NUL
//!    257      8  magic      "ustar\0" "00"
//!    265     64  owner      NUL
//!    329     16  device     "0000000\0" twice
//!    345    167  prefix     NUL
//! ```
//!
//! It leaves out every other flavour of tar: sources are read with the crate `tar`.

use crate::{Error, Result};

/// Bytes of a tar block.
pub const BLOCK_BYTES: u64 = 512;

/// The end of an archive: two zero blocks.
pub const END_BYTES: u64 = 2 * BLOCK_BYTES;

/// Largest member that 11 octal digits can hold.
pub const MEMBER_BYTES_MAX: u64 = (1 << 33) - 1;

/// A header block.
pub type Header = [u8; BLOCK_BYTES as usize];

/// `bytes` rounded up to whole blocks.
pub fn padded(bytes: u64) -> u64 {
    bytes.saturating_add(BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES
}

/// The one header of a member.
///
/// # Errors
/// `Unfit` where the name is longer than 100 bytes or the length above [`MEMBER_BYTES_MAX`].
pub fn header(name: &str, bytes: u64) -> Result<Header> {
    if name.is_empty() || name.len() > 100 {
        return Err(Error::unfit("member name", name, "1 to 100 bytes"));
    }
    if bytes > MEMBER_BYTES_MAX {
        return Err(Error::unfit("member length", &bytes.to_string(), "at most 8 GiB - 1"));
    }
    let mut block = [0u8; BLOCK_BYTES as usize];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{bytes:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[148..156].copy_from_slice(b"        ");
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[329..337].copy_from_slice(b"0000000\0");
    block[337..345].copy_from_slice(b"0000000\0");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// Name and length that a header block states, or `None` where it is not one of ours to the byte.
pub fn parse(block: &[u8]) -> Option<(&str, u64)> {
    let end = block.get(..100)?.iter().position(|&byte| byte == 0).unwrap_or(100);
    let name = std::str::from_utf8(&block[..end]).ok()?;
    let digits = std::str::from_utf8(block.get(124..135)?).ok()?;
    let bytes = u64::from_str_radix(digits, 8).ok()?;
    let expected = header(name, bytes).ok()?;
    (block == expected).then_some((name, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_any_changed_byte_is_seen() {
        let block = header("000000000009.npy", 150_656).unwrap();
        assert_eq!(parse(&block), Some(("000000000009.npy", 150_656)));
        for position in 0..block.len() {
            let mut damaged = block;
            damaged[position] ^= 1;
            assert_eq!(parse(&damaged), None, "byte {position}");
        }
    }

    #[test]
    fn limits_are_refused() {
        assert!(header(&"k".repeat(101), 1).is_err());
        assert!(header("", 1).is_err());
        assert!(header("k", MEMBER_BYTES_MAX).is_ok());
        assert!(header("k", MEMBER_BYTES_MAX + 1).is_err());
        assert_eq!(parse(&[0; 512]), None);
        assert_eq!(parse(&[]), None);
        assert_eq!(padded(0), 0);
        assert_eq!(padded(1), 512);
        assert_eq!(padded(512), 512);
    }
}
