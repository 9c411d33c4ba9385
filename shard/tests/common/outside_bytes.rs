//! Everything that this crate offers over bytes from outside, called on them: whatever they are, no panic and no memory
//! in proportion to what they claim. Property tests and the fuzz targets in `fuzz/` call the same functions.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "each user takes its own part; a test may unwrap"
)]

use std::path::Path;

use shard::{
    Dataset, ImageSettings, Index, Manifest, ShardEntry, ShardReader, SideTableEntry, SplitEntry, checksum,
    side_table, verify::Plan,
};

/// Side of the pictures that the bytes are held against.
pub const SIDE: u32 = 8;

/// The bytes as an index.
pub fn index(bytes: &[u8]) {
    let path = Path::new("bytes");
    if let Ok(index) = Index::parse(bytes, path) {
        for row in 0..index.len().min(64) {
            if let Ok(row) = index.row(bytes, path, row) {
                let _ = row.captions.into_iter().map(str::len).sum::<usize>();
            }
        }
    }
}

/// The bytes as a manifest.
pub fn manifest(bytes: &[u8]) {
    let _ = Manifest::parse(bytes, Path::new("bytes"));
    let _ = shard::tar::parse(bytes);
}

/// The bytes as a shard: one byte that decides whether the digests hold, four with the length of the index, the index,
/// the tar. It is opened, read and verified in `dir`.
pub fn shard(dir: &Path, bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_at_checked(5) else { return };
    let index_bytes = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let (table, tar) = rest.split_at(index_bytes.min(rest.len()));
    let samples = Index::parse(table, Path::new("bytes")).map_or(1, |index| index.len() as u64);
    let digest =
        |bytes: &[u8], flag: u8| checksum::blake3_hex(if head[0] & flag == 0 { bytes } else { b"others" });
    let entry = ShardEntry {
        name: "shard-000000".to_owned(),
        samples,
        tar_bytes: tar.len() as u64,
        tar_blake3: digest(tar, 1),
        index_bytes: table.len() as u64,
        index_blake3: digest(table, 2),
        side_tables: Default::default(),
    };
    let split = dir.join("train");
    std::fs::create_dir_all(&split).unwrap();
    std::fs::write(split.join(entry.tar_name()), tar).unwrap();
    std::fs::write(split.join(entry.index_name()), table).unwrap();
    let image = if head[0] & 4 == 0 { ImageSettings::tensor(SIDE) } else { ImageSettings::jpeg(SIDE, 90) };
    if let Ok(reader) = ShardReader::open(&split, &entry, &image) {
        for row in 0..reader.len().min(64) {
            let Ok(row) = reader.row(row) else { continue };
            let _ = reader.image(&row);
            for payload in [row.image, row.json] {
                if let Ok(bytes) = reader.payload(&row, payload) {
                    let _ = reader.check(&row, payload, bytes);
                }
                reader.prefetch(payload);
            }
        }
    }
    let mut manifest = Manifest::of(image, vec![SplitEntry::of("train", vec![entry])]);
    std::fs::write(dir.join("dataset.json"), manifest.to_bytes()).unwrap();
    for quick in [false, true] {
        let plan = Plan::of(dir).unwrap();
        let plan = if quick { plan.quick() } else { plan };
        let shards = (0..plan.jobs().len()).map(|job| plan.check_shard(job)).collect::<Result<_, _>>();
        if let Ok(shards) = shards {
            let _ = plan.conclude(shards);
        }
    }
}

/// The bytes as side table `score` of the first shard of `train`, in the data set in `dir`, whose manifest vouches for
/// them.
pub fn side_table(dir: &Path, bytes: &[u8]) {
    let mut manifest = Manifest::read(dir).unwrap();
    let entry = &mut manifest.splits[0].shards[0];
    let listed = SideTableEntry { bytes: bytes.len() as u64, blake3: checksum::blake3_hex(bytes) };
    std::fs::write(dir.join("train").join(entry.side_table_name("score")), bytes).unwrap();
    entry.side_tables.insert("score".to_owned(), listed);
    std::fs::write(dir.join("dataset.json"), manifest.to_bytes()).unwrap();
    let dataset = Dataset::open(dir).unwrap();
    let _ = side_table::read(&dataset, "train", 0, "score");
}
