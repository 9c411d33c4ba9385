//! Which samples are shown: evenly spread over a split, which in a shuffled set is a fair draw of it. It leaves out how.

use shard::ShardReader;

/// At most `count` samples spread over `shards`: each with its shard and its row there.
pub(super) fn spread(shards: &[ShardReader], count: usize) -> Vec<(&ShardReader, usize)> {
    let total: usize = shards.iter().map(ShardReader::len).sum();
    let count = total.min(count);
    (0..count)
        .filter_map(|sample| {
            let mut row = sample * total / count;
            shards.iter().find_map(|shard| {
                if row < shard.len() {
                    return Some((shard, row));
                }
                row -= shard.len();
                None
            })
        })
        .collect()
}
