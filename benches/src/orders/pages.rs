//! FFCV's quasi-random order: samples lie in pages of 8 MiB; pages are taken in a random order, a number of them is
//! open, and each next sample is the next of a random open page, whose samples are shuffled within it; a page that
//! is used up makes room for the next. Batches are consecutive: workers do not cut the order. (Its loader keeps
//! twice the batch size of pages open; 32 is what fits beside a small memory.)

use std::collections::VecDeque;

use super::{Random, Size, ranges};

pub(super) fn epoch(size: Size, page: u64, open: u64, random: &mut Random) -> Vec<u64> {
    let mut closed: Vec<Vec<u64>> = ranges(size.samples, page).into_iter().map(Iterator::collect).collect();
    closed.iter_mut().for_each(|page| random.shuffle(page));
    random.shuffle(&mut closed);
    let mut closed = VecDeque::from(closed);
    let (mut pages, mut delivered) = (Vec::new(), Vec::with_capacity(size.samples as usize));
    loop {
        while (pages.len() as u64) < open
            && let Some(next) = closed.pop_front()
        {
            pages.push(next);
        }
        if pages.is_empty() {
            return delivered;
        }
        let chosen = random.below(pages.len() as u64) as usize;
        delivered.extend(pages[chosen].pop());
        if pages[chosen].is_empty() {
            pages.swap_remove(chosen);
        }
    }
}
