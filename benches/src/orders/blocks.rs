//! Small blocks through a bounded window: blocks of neighbours are shuffled over the whole epoch, and the samples of
//! as many blocks as a window holds are shuffled together. Reads are a block long, memory is a window.

use super::{Random, Size, ranges};

pub(super) fn epoch(size: Size, block: u64, window: u64, random: &mut Random) -> Vec<u64> {
    let mut blocks = ranges(size.samples, block);
    random.shuffle(&mut blocks);
    let in_window = |blocks: &[std::ops::Range<u64>]| {
        let mut samples: Vec<u64> = blocks.iter().cloned().flatten().collect();
        random.shuffle(&mut samples);
        samples
    };
    blocks.chunks(window.div_ceil(block) as usize).flat_map(in_window).collect()
}
