//! Bytes as an image file of any format.
#![no_main]

#[path = "../../prep/tests/common/outside_bytes.rs"]
mod outside_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outside_bytes::picture(bytes));
