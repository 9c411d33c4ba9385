//! Bytes from outside, sound ones changed: a model or a reason, no panic, no huge allocation. What a fuzzer found stands
//! here by name.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, and its panic names the place")]

#[path = "../../shard/tests/common/largest.rs"]
mod largest;
#[path = "common/outside_bytes.rs"]
mod outside_bytes;

use candle_core::Device;
use trainer::lm::LanguageModel;

#[global_allocator]
static ALLOCATOR: largest::Watched = largest::Watched;

/// Far above what files of this size take, far below what a lie in them asks for.
const ALLOCATION_MAX: usize = 8 << 20;

/// A fixture's bytes.
fn sound(name: &str) -> Vec<u8> {
    fs_err::read(format!("{}/tests/fixtures/lm/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn a_tensor_without_numbers_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = sound("llama.gguf");
    let name = b"blk.0.attn_q.weight";
    let place = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    // Behind the name: how many dimensions, and the first of them.
    bytes[place + 4..place + 12].fill(0);
    let path = folder.path().join("empty.gguf");
    fs_err::write(&path, bytes).unwrap();
    let told = LanguageModel::open(path.to_str().unwrap(), "", &Device::Cpu).unwrap_err().to_string();
    assert!(told.contains("blk.0.attn_q.weight of [0, 32] has no numbers"), "{told}");
}

#[test]
fn changed_language_models_are_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama.gguf", "gpt2.gguf"] {
        largest::mutate(&sound(name), 1_000, ALLOCATION_MAX, |bytes| {
            outside_bytes::gguf(folder.path(), bytes)
        });
    }
}
