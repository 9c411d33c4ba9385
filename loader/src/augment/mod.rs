//! Pictures changed at random, as torchvision defines it: random resized crop, horizontal flip, colour jitter, greys,
//! in this order, before normalisation.
//!
//! Every draw comes from hash(seed, epoch, sample), so a picture is the same at any number of threads, on any rank and
//! after a resume. Pictures are bytes again after the resize and after the jitter. Left out: where pixels come from
//! and go to (`collate`).

mod crop;
mod jitter;
mod resample;

use shard::Layout;

use crate::{
    pixels::simd::{self, Instructions},
    rng::{EpochStreams, Purpose},
};

pub use crop::RandomResizedCrop;
pub use jitter::ColorJitter;

use crop::Region;
use jitter::{Adjust, Jitter};
use resample::{Place, Taps};

/// What is done to each picture; a part that is `None` is left out. [`Augment::default`] changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// A part of the picture, resized to the size that batches have. Without it: the whole picture, or the centre of
    /// one that has sides of its own.
    pub crop: Option<RandomResizedCrop>,
    /// How likely a picture is mirrored, left to right, from 0 to 1.
    pub flip: Option<f32>,
    /// Brightness, contrast, saturation and hue.
    pub jitter: Option<ColorJitter>,
    /// How likely a picture loses its colours, from 0 to 1: torchvision's `RandomGrayscale`.
    pub grayscale: Option<f32>,
}

impl Augment {
    /// What cannot work, each in a sentence.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.crop.iter().flat_map(RandomResizedCrop::problems));
        for (what, probability) in [("a flip", self.flip), ("a grey picture", self.grayscale)] {
            if let Some(probability) = probability
                && !(0.0..=1.0).contains(&probability)
            {
                problems.push(format!("the probability of {what} must be from 0 to 1, not {probability}"));
            }
        }
        problems.extend(self.jitter.iter().flat_map(ColorJitter::problems));
        problems
    }

    /// What becomes of one sample, whose stored picture has `sides` (height, width), in a batch of `size`
    /// (height, width).
    pub(crate) fn draw(
        &self,
        streams: &EpochStreams,
        sample: u64,
        sides: (usize, usize),
        size: (usize, usize),
    ) -> Drawn {
        let region = match &self.crop {
            Some(crop) => crop.draw(&mut streams.stream(sample, Purpose::Crop), sides),
            None => Region::centre(sides, size),
        };
        let happens = |probability: Option<f32>, purpose| {
            probability.is_some_and(|share| streams.stream(sample, purpose).unit() < f64::from(share))
        };
        let jitter = self.jitter.map(|jitter| jitter.draw(&mut streams.stream(sample, Purpose::Jitter)));
        let mut jitter = jitter.unwrap_or_default();
        if happens(self.grayscale, Purpose::Grayscale) {
            jitter.lose_colours();
        }
        Drawn { region, flip: happens(self.flip, Purpose::Flip), jitter }
    }
}

/// What was drawn for one sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Drawn {
    region: Region,
    flip: bool,
    jitter: Jitter,
}

/// A picture as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picture<'a> {
    /// Three bytes a pixel.
    pub(crate) pixels: &'a [u8],
    pub(crate) layout: Layout,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// What a worker keeps from picture to picture.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    down: Taps,
    across: Taps,
    /// A band of eight rows, column by column.
    band: Vec<[f32; 8]>,
}

/// Writes the picture as `drawn` changes it to `out`: 3 planes of `size` (height, width).
pub(crate) fn apply(
    drawn: &Drawn,
    picture: Picture<'_>,
    size: (usize, usize),
    out: &mut [u8],
    scratch: &mut Scratch,
) {
    apply_with(Instructions::Best, drawn, picture, size, out, scratch);
}

fn apply_with(
    instructions: Instructions,
    drawn: &Drawn,
    picture: Picture<'_>,
    size: (usize, usize),
    out: &mut [u8],
    scratch: &mut Scratch,
) {
    let place = Place { picture, region: drawn.region, size, flip: drawn.flip };
    resample::write(instructions, place, out, scratch);
    if !drawn.jitter.is_nothing() {
        simd::run(instructions, Adjust { jitter: &drawn.jitter, planar: out });
    }
}

#[cfg(test)]
mod tests;
