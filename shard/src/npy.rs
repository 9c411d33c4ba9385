//! The NumPy header in front of stored pixels. Version 1 of the format writes exactly one header for given
//! settings, so reading is a comparison of 128 bytes and parsing is left out.

use crate::{ImageFormat, ImageSettings, Layout};

/// Bytes of the header: pixels start at this offset of an npy payload.
pub const HEADER_BYTES: usize = 128;

/// The NPY 1.0 header of a uint8 array with the shape of `image`, padded with spaces to 128 bytes.
pub fn header(image: &ImageSettings) -> [u8; HEADER_BYTES] {
    let (channels, height, width) = (image.channels, image.height, image.width);
    let shape = match image.layout {
        Layout::Chw => format!("({channels}, {height}, {width})"),
        Layout::Hwc => format!("({height}, {width}, {channels})"),
    };
    let dictionary = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
    let mut header = [b' '; HEADER_BYTES];
    header[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    header[8..10].copy_from_slice(&((HEADER_BYTES - 10) as u16).to_le_bytes());
    header[10..10 + dictionary.len()].copy_from_slice(dictionary.as_bytes());
    header[HEADER_BYTES - 1] = b'\n';
    header
}

/// The length that an image payload must have, where the settings alone decide it.
pub fn payload_bytes(image: &ImageSettings) -> Option<u64> {
    match image.format {
        ImageFormat::Npy => Some((HEADER_BYTES + image.pixel_bytes()) as u64),
        ImageFormat::Jpg => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_what_numpy_writes() {
        let header = header(&ImageSettings::tensor(224));
        let text = std::str::from_utf8(&header[10..]).unwrap();
        assert!(text.starts_with("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 224, 224), }"));
        assert!(text.ends_with(" \n"));
        assert_eq!(&header[..10], b"\x93NUMPY\x01\x00\x76\x00");
    }

    #[test]
    fn the_largest_side_fits() {
        let header = header(&ImageSettings::tensor(crate::SIDE_MAX));
        assert!(header[10..].contains(&b'}'));
    }
}
