//! Bytes as a manifest.
#![no_main]

#[path = "../../shard/tests/common/outside_bytes.rs"]
mod outside_bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outside_bytes::manifest(bytes));
