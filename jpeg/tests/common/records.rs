//! The pictures of `fixtures/pictures.bin`.
#![allow(unreachable_pub, reason = "each user takes its own part")]

const PICTURES: &[u8] = include_bytes!("../fixtures/pictures.bin");

/// JPEG, (width, height), interleaved pixels.
pub fn records() -> Vec<(&'static [u8], (usize, usize), &'static [u8])> {
    let (mut rest, mut records) = (PICTURES, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (jpeg, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        let (&[w0, w1, h0, h1], after) = after.split_first_chunk::<4>().expect("a size");
        let (width, height) =
            (usize::from(u16::from_le_bytes([w0, w1])), usize::from(u16::from_le_bytes([h0, h1])));
        let (pixels, after) = after.split_at(3 * width * height);
        records.push((jpeg, (width, height), pixels));
        rest = after;
    }
    records
}
