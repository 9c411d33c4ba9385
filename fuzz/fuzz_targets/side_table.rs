//! Bytes as a side table that the manifest vouches for.
#![no_main]

#[path = "../../shard/tests/common/mod.rs"]
mod common;
#[path = "../../shard/tests/common/outside_bytes.rs"]
mod outside_bytes;

fn prepared() -> tempfile::TempDir {
    // Panics of Arrow's reader are contained; libFuzzer's hook would end the process before that. One that is not
    // contained still ends it.
    std::panic::set_hook(Box::new(|_| {}));
    let dir = tempfile::tempdir().expect("a temporary folder");
    common::write(dir.path(), &shard::ImageSettings::tensor(8), shard::SampleOrder::Source, 9);
    dir
}

std::thread_local!(static DIR: tempfile::TempDir = prepared());

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| DIR.with(|dir| outside_bytes::side_table(dir.path(), bytes)));
