//! Bytes as a shard's index and tar: opened, read, verified in full and quickly.
#![no_main]

#[path = "../../shard/tests/common/outside_bytes.rs"]
mod outside_bytes;

std::thread_local!(static DIR: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| DIR.with(|dir| outside_bytes::shard(dir.path(), bytes)));
