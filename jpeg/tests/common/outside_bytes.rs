//! What the loader does with a stored JPEG, done to bytes from outside: whatever they are, no panic and no memory in
//! proportion to what they claim. A property test and a fuzz target in `fuzz/` call the same function.
#![allow(unreachable_pub, reason = "each user takes its own part")]

/// Most values that a picture may declare here.
const VALUES_MAX: usize = 3 << 18;

/// The bytes as a JPEG, with a decoder that has seen another one; whether they are one.
pub fn picture(decoder: &mut jpeg::Decoder, bytes: &[u8]) -> bool {
    let Ok(picture) = decoder.open(bytes) else { return false };
    let values = 3 * picture.height() * picture.width();
    if values > VALUES_MAX {
        return false;
    }
    let mut planes = vec![0; values];
    let is_decoded = picture.planar(&mut planes).is_ok();
    assert!(is_decoded || planes.iter().all(|value| *value == 0), "a refused picture left values behind");
    is_decoded
}
