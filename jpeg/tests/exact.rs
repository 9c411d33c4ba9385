//! Against pictures that libjpeg-turbo decoded (`fixtures/generate.py`).

use jpeg::Decoder;

const PICTURES: &[u8] = include_bytes!("fixtures/pictures.bin");

/// JPEG, (width, height), interleaved pixels.
fn records() -> Vec<(&'static [u8], (usize, usize), &'static [u8])> {
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

#[test]
fn pictures_are_what_libjpeg_turbo_makes_of_them() {
    let records = records();
    assert_eq!(records.len(), 5 * 8);
    // One decoder for all: nothing of a picture may show in the next one.
    let mut decoder = Decoder::default();
    for (number, (jpeg, (width, height), wanted)) in records.iter().enumerate() {
        let picture = decoder.open(jpeg).expect("a usual file");
        assert_eq!((picture.width(), picture.height()), (*width, *height));
        let mut planar = vec![1; wanted.len()];
        picture.planar(&mut planar).expect("an undamaged file");
        let plane = width * height;
        let wrong = (0..wanted.len()).find(|&at| wanted[at] != planar[at % 3 * plane + at / 3]);
        assert_eq!(wrong, None, "picture {number} of {width}x{height}: first other value");
    }
}
