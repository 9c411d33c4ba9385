//! MosaicML streaming's `py1e`, on one canonical node: shards are shuffled once for the run and again for the epoch,
//! samples are shuffled within each, then each is moved by a uniform distance such that a shard spreads over about
//! one block (drawn for each shard within a quarter of the setting), cut at both ends of the epoch; the samples are
//! delivered as they then lie, batch after batch over all workers. The function's default block is 2^18.

use super::{Random, Size};

pub(super) fn epoch(size: Size, block: u64, of_run: &mut Random, random: &mut Random) -> Vec<u64> {
    let mut shards = size.shards();
    of_run.shuffle(&mut shards);
    random.shuffle(&mut shards);
    let all = size.samples as f64;
    let mut placed: Vec<(f64, u64)> = Vec::with_capacity(size.samples as usize);
    for shard in shards {
        let (start, len) = (placed.len() as f64, (shard.end - shard.start) as f64);
        let mut samples: Vec<u64> = shard.collect();
        random.shuffle(&mut samples);
        let range = block as f64 * (0.75 + 0.5 * random.share());
        let reach = ((range - len) / 2.0).max(0.0);
        let (back, ahead) = (reach.min(start), reach.min(all - start - len));
        let move_from = |at: f64, random: &mut Random| at - back + (back + ahead) * random.share();
        for sample in samples {
            let at = placed.len() as f64;
            placed.push((move_from(at, random), sample));
        }
    }
    placed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    placed.into_iter().map(|(_, sample)| sample).collect()
}
