//! Bytes as a language model in a GGUF file.
#![no_main]

#[path = "../../trainer/tests/common/outside_bytes.rs"]
mod outside_bytes;

std::thread_local!(static DIR: tempfile::TempDir = tempfile::tempdir().expect("a temporary folder"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| DIR.with(|dir| outside_bytes::gguf(dir.path(), bytes)));
