//! Bytes as the files that are scored: results, references, document frequencies.
#![no_main]

#[path = "../../cocoeval/tests/common/outside_bytes.rs"]
mod outside_bytes;

std::thread_local!(static DIR: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| DIR.with(|dir| outside_bytes::scored(dir.path(), bytes)));
