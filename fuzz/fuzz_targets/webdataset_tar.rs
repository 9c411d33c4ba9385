//! Bytes as a tar of samples.
#![no_main]

#[path = "../../prep/tests/common/outside_bytes.rs"]
mod outside_bytes;

std::thread_local!(static DIR: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| DIR.with(|dir| outside_bytes::webdataset_tar(dir.path(), bytes)));
