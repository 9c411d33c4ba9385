//! Whether EXIF data turn a picture. It leaves out turning it: the general decoder does that (`decode`).

use image::metadata::Orientation;

/// Whether the content of an APP1 segment says that the picture is to be turned.
pub(super) fn is_turned(content: &[u8]) -> bool {
    let chunk = content.strip_prefix(b"Exif\0\0");
    let orientation = chunk.and_then(Orientation::from_exif_chunk);
    orientation.is_some_and(|orientation| orientation != Orientation::NoTransforms)
}

/// Whether a JPEG of any kind has EXIF data that say that it is to be turned, or segments that cannot be followed.
#[cfg(feature = "turbo")]
pub(super) fn may_be_turned(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        match bytes.get(at..at + 4) {
            Some([0xff, 0xff, ..]) => at += 1,
            Some([0xff, 0xda, ..]) => return false,
            Some(&[0xff, marker, high, low]) => {
                let length = usize::from(high) << 8 | usize::from(low);
                match bytes.get(at + 4..at + 2 + length) {
                    Some(content) if marker != 0xe1 || !is_turned(content) => at += 2 + length,
                    _ => return true,
                }
            }
            _ => return true,
        }
    }
}
