//! Bytes from outside, sound ones changed: a model or a reason, no panic, no huge allocation. What a fuzzer found stands
//! here by name.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, and its panic names the place")]

#[path = "../../shard/tests/common/largest.rs"]
mod largest;
#[path = "common/outside_bytes.rs"]
mod outside_bytes;

#[global_allocator]
static ALLOCATOR: largest::Watched = largest::Watched;

/// Far above what files of this size take, far below what a lie in them asks for.
const ALLOCATION_MAX: usize = 8 << 20;

#[test]
fn changed_language_models_are_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama.gguf", "gpt2.gguf"] {
        let path = format!("{}/tests/fixtures/lm/{name}", env!("CARGO_MANIFEST_DIR"));
        let sound = fs_err::read(path).unwrap();
        largest::mutate(&sound, 1_000, ALLOCATION_MAX, |bytes| outside_bytes::gguf(folder.path(), bytes));
    }
}
