//! Bytes as a stored JPEG, by the decoder that the loader uses.
#![no_main]

#[path = "../../jpeg/tests/common/outside_bytes.rs"]
mod outside_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outside_bytes::picture(&mut jpeg::Decoder::default(), bytes);
});
