//! Files to score, sound ones changed: scores or a reason, no panic. What a fuzzer found stands here by name.
#![allow(clippy::unwrap_used, reason = "a test may unwrap, and its panic names the place")]

#[path = "../../shard/tests/common/largest.rs"]
mod largest;
#[path = "common/outside_bytes.rs"]
mod outside_bytes;

#[global_allocator]
static ALLOCATOR: largest::Watched = largest::Watched;

/// Far above what files of this size take.
const ALLOCATION_MAX: usize = 8 << 20;

#[test]
fn changed_files_are_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let results = r#"[{"image_id": 1, "caption": "a dog can't run"}, {"image_id": "b", "caption": ""}]"#;
    let references = r#"{"images": [{"id": 1}, {"id": 2}], "annotations":
        [{"image_id": 1, "id": 7, "caption": "A dog, running."}, {"image_id": 2, "id": 8, "caption": "Mr. U.S."}]}"#;
    let frequencies = r#"{"images": 3, "df": {"a": 2, "a dog": 1}}"#;
    for sound in [results, references, frequencies] {
        largest::mutate(sound.as_bytes(), 1_000, ALLOCATION_MAX, |bytes| {
            outside_bytes::scored(folder.path(), bytes);
        });
    }
}
