//! The pictures of `fixtures/pictures.bin`.
#![allow(dead_code, unreachable_pub, reason = "each user takes its own part")]

const PICTURES: &[u8] = include_bytes!("../fixtures/pictures.bin");

/// A JPEG, and what libjpeg-turbo decodes it to.
pub struct Record {
    pub jpeg: &'static [u8],
    pub width: usize,
    pub height: usize,
    /// Interleaved, rows first.
    pub pixels: &'static [u8],
}

/// All of them.
pub fn records() -> Vec<Record> {
    let (mut rest, mut records) = (PICTURES, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (jpeg, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        let (&[w0, w1, h0, h1], after) = after.split_first_chunk::<4>().expect("a size");
        let [width, height] = [[w0, w1], [h0, h1]].map(|side| usize::from(u16::from_le_bytes(side)));
        let (pixels, after) = after.split_at(3 * width * height);
        records.push(Record { jpeg, width, height, pixels });
        rest = after;
    }
    records
}
