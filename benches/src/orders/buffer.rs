//! webdataset, and open_clip on top of it: the shards of an epoch are shuffled, every n-th goes to worker n of N,
//! and its samples pass through a buffer. While the buffer is not full two samples go in for each that is taken out
//! at random; the first is taken when the initial number is reached, and at the end the buffer is emptied.
//! webdataset's usual buffer is 1,000 with 100 at first, open_clip's 5,000 with 1,000.

use super::{Random, Size, in_turn};

pub(super) fn epoch(size: Size, buffer: u64, initial: u64, random: &mut Random) -> Vec<u64> {
    let mut shards = size.shards();
    random.shuffle(&mut shards);
    let of_worker = |worker: u64| {
        let own = shards.iter().skip(worker as usize).step_by(size.workers as usize);
        through(own.cloned().flatten(), buffer as usize, initial.min(buffer) as usize, random)
    };
    in_turn((0..size.workers).map(of_worker).collect(), size.batch_size)
}

fn through(samples: impl Iterator<Item = u64>, full: usize, initial: usize, random: &mut Random) -> Vec<u64> {
    let mut samples = samples;
    let (mut buffer, mut taken) = (Vec::with_capacity(full), Vec::new());
    while let Some(sample) = samples.next() {
        buffer.push(sample);
        if buffer.len() < full {
            buffer.extend(samples.next());
        }
        if buffer.len() >= initial {
            taken.push(buffer.swap_remove(random.below(buffer.len() as u64) as usize));
        }
    }
    while !buffer.is_empty() {
        taken.push(buffer.swap_remove(random.below(buffer.len() as u64) as usize));
    }
    taken
}
