//! Retrieval recall@k between images and captions, with all captions kept.
//!
//! An image is found by a caption when one of its own captions is among the k best; ties count against
//! the model, so that equal features never look like skill. Leaves out where features come from.

use crate::error::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;

/// The k of recall@k.
pub const KS: [usize; 3] = [1, 5, 10];

/// Rows scored in one block; bounds the memory of a block at `BLOCK` × captions.
const BLOCK: usize = 128;

/// Feature vectors, one a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features {
    /// Row-major values.
    pub values: Vec<f32>,
    /// Values a row.
    pub width: usize,
}

impl Features {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }
}

/// Recall of one direction, as shares from 0 to 1, at [`KS`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Recall {
    /// Recall at 1.
    pub r1: f64,
    /// Recall at 5.
    pub r5: f64,
    /// Recall at 10.
    pub r10: f64,
}

impl Recall {
    /// At 1, 5 and 10.
    pub fn shares(&self) -> [f64; 3] {
        [self.r1, self.r5, self.r10]
    }

    fn from_shares([r1, r5, r10]: [f64; 3]) -> Self {
        Self { r1, r5, r10 }
    }
}

/// Both directions, with what guessing would reach.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retrieval {
    /// Images that were searched among.
    pub images: usize,
    /// Captions that were searched among.
    pub captions: usize,
    /// Image → text: an image asks for its captions.
    pub image_to_text: Recall,
    /// Text → image: a caption asks for its image.
    pub text_to_image: Recall,
    /// The middle rank, from 1, of an image's best caption; half of a rank between two.
    pub median_rank_image_to_text: f64,
    /// The middle rank, from 1, of a caption's image.
    pub median_rank_text_to_image: f64,
    /// What a random order of the captions reaches.
    pub chance_image_to_text: Recall,
    /// What a random order of the images reaches.
    pub chance_text_to_image: Recall,
}

/// Recall from the scores `images · captionsᵀ`; `owner[c]` is the image that caption `c` belongs to.
///
/// The rank of a query's best positive is the number of negatives that score at least as high; a score
/// that is not a number counts as higher. An image without a caption is never found, and
/// its rank is behind all captions.
///
/// # Errors
/// [`Error::Tensor`] when the features do not fit together: widths that differ, an owner out of range.
pub fn recall(images: &Features, captions: &Features, owner: &[usize]) -> Result<Retrieval> {
    let (n, m) = (images.len(), captions.len());
    if images.width != captions.width || owner.len() != m || owner.iter().any(|o| *o >= n) {
        let message = format!(
            "{n} images of width {}, {m} captions of width {}, {} owners",
            images.width,
            captions.width,
            owner.len()
        );
        return Err(Error::Tensor {
            doing: "compare images with captions",
            source: candle_core::Error::Msg(message),
        });
    }
    // The score of each caption with its own image, by the same sums that the ranks are counted on.
    let own: Vec<f32> = (0..m).into_par_iter().map(|c| dot(images.row(owner[c]), captions.row(c))).collect();
    let mut image_ranks = Vec::with_capacity(n);
    let mut caption_ranks = vec![0usize; m];
    for start in (0..n).step_by(BLOCK) {
        let rows: Vec<(usize, Vec<f32>)> =
            (start..n.min(start + BLOCK)).into_par_iter().map(|i| (i, scores(images, captions, i))).collect();
        image_ranks.par_extend(rows.par_iter().map(|(i, scores)| image_rank(*i, scores, owner)));
        caption_ranks.par_iter_mut().enumerate().for_each(|(c, rank)| {
            *rank += rows.iter().filter(|(i, scores)| *i != owner[c] && at_least(scores[c], own[c])).count();
        });
    }
    let mut positives = vec![0usize; n];
    owner.iter().for_each(|o| positives[*o] += 1);
    Ok(Retrieval {
        images: n,
        captions: m,
        image_to_text: shares(&image_ranks),
        text_to_image: shares(&caption_ranks),
        median_rank_image_to_text: median(image_ranks.iter().map(|rank| (*rank).min(m)).collect()),
        median_rank_text_to_image: median(caption_ranks),
        chance_image_to_text: chance(&positives, m),
        chance_text_to_image: Recall::from_shares(
            KS.map(|k| if n == 0 { 0.0 } else { k.min(n) as f64 / n as f64 }),
        ),
    })
}

fn scores(images: &Features, captions: &Features, image: usize) -> Vec<f32> {
    let row = images.row(image);
    (0..captions.len()).map(|c| dot(row, captions.row(c))).collect()
}

/// Whether a negative stands before a positive: also at the same score, and where either is not a number.
fn at_least(negative: f32, positive: f32) -> bool {
    negative >= positive || negative.is_nan() || positive.is_nan()
}

/// A dot product in eight fixed lanes: the same bits on every thread, and wide enough to vectorise.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for lane in 0..8 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// How many captions of other images score at least as high as the best own one.
fn image_rank(image: usize, scores: &[f32], owner: &[usize]) -> usize {
    let own = || scores.iter().zip(owner).filter(|(_, o)| **o == image).map(|(s, _)| *s);
    let best = own().fold(f32::NEG_INFINITY, f32::max);
    if own().next().is_none() || best.is_nan() {
        return usize::MAX;
    }
    scores.iter().zip(owner).filter(|(s, o)| **o != image && at_least(**s, best)).count()
}

fn shares(ranks: &[usize]) -> Recall {
    let share = |k: usize| {
        let hits = ranks.iter().filter(|rank| **rank < k).count();
        if ranks.is_empty() { 0.0 } else { hits as f64 / ranks.len() as f64 }
    };
    Recall::from_shares(KS.map(share))
}

/// The median of ranks from 0, told from 1; 0 without any.
fn median(mut ranks: Vec<usize>) -> f64 {
    ranks.sort_unstable();
    let Some(last) = ranks.len().checked_sub(1) else { return 0.0 };
    (ranks[last / 2] + ranks[last.div_ceil(2)]) as f64 / 2.0 + 1.0
}

/// The chance that one of `p` positives is among the first k of m in random order, averaged over images.
fn chance(positives: &[usize], m: usize) -> Recall {
    let one = |p: usize, k: usize| {
        // 1 − C(m−p, k) / C(m, k), as a product of k factors.
        let missed: f64 = (0..k.min(m)).map(|i| (m - i).saturating_sub(p) as f64 / (m - i) as f64).product();
        1.0 - missed
    };
    let mean = |k: usize| {
        if positives.is_empty() {
            0.0
        } else {
            positives.iter().map(|p| one(*p, k)).sum::<f64>() / positives.len() as f64
        }
    };
    Recall::from_shares(KS.map(mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator for test values (xorshift64*).
    fn noise(seed: u64, count: usize, levels: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) % levels
        };
        (0..count).map(|_| next() as f32 - levels as f32 / 2.0).collect()
    }

    /// Recall and median ranks by sorting every list, with each tie broken against the positive.
    fn by_sorting(images: &Features, captions: &Features, owner: &[usize]) -> [([f64; 3], f64); 2] {
        let (n, m) = (images.len(), captions.len());
        let score = |i: usize, c: usize| -> f64 {
            images.row(i).iter().zip(captions.row(c)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let place = |mut list: Vec<(f64, bool)>| {
            list.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            1 + list.iter().position(|(_, positive)| *positive).unwrap()
        };
        let told = |mut places: Vec<usize>| {
            let share =
                |k: usize| places.iter().filter(|place| **place <= k).count() as f64 / places.len() as f64;
            let recall = KS.map(share);
            places.sort_unstable();
            let half = places.len() / 2;
            let is_even = places.len().is_multiple_of(2);
            let low = if is_even { places[half - 1] } else { places[half] };
            (recall, (low + places[half]) as f64 / 2.0)
        };
        let of_images = (0..n).map(|i| place((0..m).map(|c| (score(i, c), owner[c] == i)).collect()));
        let of_captions = (0..m).map(|c| place((0..n).map(|i| (score(i, c), owner[c] == i)).collect()));
        [told(of_images.collect()), told(of_captions.collect())]
    }

    #[test]
    fn agrees_with_sorting_by_brute_force_ties_included() {
        // Few levels make whole numbers, so sums are exact in both and ties are common; more, they are rare.
        for (seed, levels) in [(1, 2), (2, 3), (3, 5), (4, 100)] {
            let n = 150;
            let owner: Vec<usize> =
                (0..n).flat_map(|i| std::iter::repeat_n(i, 1 + (i * 7 + seed) % 4)).collect();
            let images = Features { values: noise(seed as u64, n * 11, levels), width: 11 };
            let mut captions =
                Features { values: noise(99 + seed as u64, owner.len() * 11, levels), width: 11 };
            for (c, o) in owner.iter().enumerate().step_by(3) {
                captions.values[c * 11..(c + 1) * 11].copy_from_slice(images.row(*o));
            }
            let result = recall(&images, &captions, &owner).unwrap();
            let [(to_text, text_median), (to_image, image_median)] = by_sorting(&images, &captions, &owner);
            assert_eq!(result.image_to_text, Recall::from_shares(to_text), "levels {levels}");
            assert_eq!(result.text_to_image, Recall::from_shares(to_image), "levels {levels}");
            assert_eq!(result.median_rank_image_to_text, text_median, "levels {levels}");
            assert_eq!(result.median_rank_text_to_image, image_median, "levels {levels}");
            assert!(result.image_to_text.r1 > 0.0 && result.image_to_text.r1 < 1.0);
        }
    }

    #[test]
    fn perfect_features_find_all_and_equal_features_nothing() {
        let n = 20;
        let mut eye = vec![0f32; n * n];
        (0..n).for_each(|i| eye[i * n + i] = 1.0);
        let images = Features { values: eye, width: n };
        let owner: Vec<usize> = (0..n).collect();
        assert_eq!(recall(&images, &images, &owner).unwrap().text_to_image.r1, 1.0);
        let flat = Features { values: vec![1.0; n * n], width: n };
        let result = recall(&flat, &flat, &owner).unwrap();
        assert_eq!((result.image_to_text.r10, result.text_to_image.r10), (0.0, 0.0));
        let broken = Features { values: vec![f32::NAN; n * n], width: n };
        let result = recall(&broken, &broken, &owner).unwrap();
        assert_eq!((result.image_to_text.r10, result.text_to_image.r10), (0.0, 0.0));
    }

    #[test]
    fn chance_is_what_drawing_reaches() {
        let positives = [5, 5];
        let level = chance(&positives, 10);
        assert!((level.r1 - 0.5).abs() < 1e-12);
        assert!((level.r5 - (1.0 - 1.0 / 252.0)).abs() < 1e-12);
        assert_eq!(level.r10, 1.0);
        assert_eq!(chance(&[], 0), Recall { r1: 0.0, r5: 0.0, r10: 0.0 });
    }

    #[test]
    fn features_that_do_not_fit_are_refused() {
        let a = Features { values: vec![1.0; 6], width: 3 };
        let b = Features { values: vec![1.0; 6], width: 2 };
        assert!(recall(&a, &b, &[0, 0, 0]).is_err());
        assert!(recall(&a, &a, &[0, 2]).is_err());
        assert!(recall(&a, &a, &[0]).is_err());
    }

    #[test]
    fn an_image_without_captions_is_never_found() {
        let a = Features { values: vec![1.0, 0.0, 0.0, 1.0], width: 2 };
        let c = Features { values: vec![1.0, 0.0], width: 2 };
        let result = recall(&a, &c, &[0]).unwrap();
        assert_eq!(result.image_to_text.r10, 0.5);
    }
}
