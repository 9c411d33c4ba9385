//! LitData: the chunks of an epoch are shuffled and dealt to the workers in equal runs, and each chunk's samples are
//! shuffled within it; a worker reads its chunks one after the other. A chunk is 64 MB by default, which is some 400
//! raw pictures of 224×224.

use super::{Random, Size, in_turn, ranges};

pub(super) fn epoch(size: Size, chunk: u64, random: &mut Random) -> Vec<u64> {
    let mut chunks = ranges(size.samples, chunk);
    random.shuffle(&mut chunks);
    let run = chunks.len().div_ceil(size.workers as usize);
    let of_worker = |chunks: &[std::ops::Range<u64>]| {
        let shuffled = |chunk: &std::ops::Range<u64>| {
            let mut samples: Vec<u64> = chunk.clone().collect();
            random.shuffle(&mut samples);
            samples
        };
        chunks.iter().flat_map(shuffled).collect()
    };
    in_turn(chunks.chunks(run).map(of_worker).collect(), size.batch_size)
}
