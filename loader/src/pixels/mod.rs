//! Stored pixels into a batch: one pass that copies or normalises, with the checksum on the way. Left out: where the
//! pixels come from ([`crate::decode`] for JPEGs), where they go ([`crate::collate`]), and what changes pictures
//! ([`crate::augment`]).

pub(crate) mod simd;

use shard::Layout;

use simd::{Instructions, Steps, Stores, Work};

/// Bytes that are checked and then converted while they are still in the first-level cache.
const CHUNK_BYTES: usize = 16 * 1024;

/// Pixels that are taken apart before they go on to their planes: small enough for the first-level cache.
const CHUNK_PIXELS: usize = 2048;

/// Where a sample's pixels are written, 3 × height × width.
pub(crate) struct Target<'a> {
    pub(crate) values: Values<'a>,
    pub(crate) stores: Stores,
}

/// A sample's place in a batch, in either form.
pub(crate) enum Values<'a> {
    U8(&'a mut [u8]),
    /// With each channel's (scale, shift).
    F32(&'a mut [f32], [(f32, f32); 3]),
}

/// Copies planar pixels, and takes them into `crc` if there is one.
pub(crate) fn write_planar(planar: &[u8], target: Target<'_>, crc: Option<&mut crc32fast::Hasher>) {
    simd::run(Instructions::Best, Planar { planar, target, crc });
}

/// Takes interleaved pixels (R, G, B, R, …) apart into planes.
pub(crate) fn write_interleaved(interleaved: &[u8], target: Target<'_>) {
    simd::run(Instructions::Best, Interleaved { interleaved, target });
}

struct Planar<'a> {
    planar: &'a [u8],
    target: Target<'a>,
    crc: Option<&'a mut crc32fast::Hasher>,
}

impl Work for Planar<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Steps>(self, steps: S) {
        let Planar { planar, target: Target { values, stores }, mut crc } = self;
        let mut check = |chunk: &[u8]| {
            if let Some(crc) = &mut crc {
                crc.update(chunk);
            }
        };
        match values {
            Values::U8(out) => {
                for (chunk, out) in planar.chunks(CHUNK_BYTES).zip(out.chunks_mut(CHUNK_BYTES)) {
                    check(chunk);
                    steps.copy(chunk, out, stores);
                }
            }
            Values::F32(out, affine) => {
                let plane = (planar.len() / 3).max(1);
                let planes = planar.chunks(plane).zip(out.chunks_mut(plane));
                for ((values, out), affine) in planes.zip(affine) {
                    for (chunk, out) in values.chunks(CHUNK_BYTES).zip(out.chunks_mut(CHUNK_BYTES)) {
                        check(chunk);
                        steps.normalize(chunk, out, affine, stores);
                    }
                }
            }
        }
    }
}

struct Interleaved<'a> {
    interleaved: &'a [u8],
    target: Target<'a>,
}

impl Work for Interleaved<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Steps>(self, steps: S) {
        let Interleaved { interleaved, target: Target { mut values, stores } } = self;
        let plane = interleaved.len() / 3;
        let mut planes = [[0; CHUNK_PIXELS]; 3];
        for (number, chunk) in interleaved.chunks(3 * CHUNK_PIXELS).enumerate() {
            steps.split(chunk, planes.each_mut().map(|bytes| bytes.as_mut_slice()));
            let (start, len) = (number * CHUNK_PIXELS, chunk.len() / 3);
            for (c, bytes) in planes.iter().enumerate() {
                let place = c * plane + start..c * plane + start + len;
                match &mut values {
                    Values::U8(out) => steps.copy(&bytes[..len], &mut out[place], stores),
                    Values::F32(out, affine) => {
                        steps.normalize(&bytes[..len], &mut out[place], affine[c], stores);
                    }
                }
            }
        }
    }
}

/// The centred square of `size`×`size` out of a picture of `height`×`width`, in the layout that it has.
pub(crate) fn crop(
    pixels: &[u8],
    layout: Layout,
    (height, width): (usize, usize),
    size: usize,
    out: &mut Vec<u8>,
) {
    let (top, left) = ((height - size) / 2, (width - size) / 2);
    // Rows of a plane hold a byte a pixel, rows of interleaved pixels three.
    let (planes, samples) = match layout {
        Layout::Chw => (3, 1),
        Layout::Hwc => (1, 3),
    };
    out.clear();
    for plane in pixels.chunks_exact(pixels.len() / planes) {
        for row in plane.chunks_exact(samples * width).skip(top).take(size) {
            out.extend_from_slice(&row[samples * left..samples * (left + size)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AFFINE: [(f32, f32); 3] = [(0.5, -1.0), (2.0, 0.25), (1.0, 3.0)];

    #[test]
    fn a_crop_is_the_centre() {
        // Columns 0 to 5 of 4 rows, in each channel 100 apart.
        let value = |c: usize, y: usize, x: usize| (100 * c + 10 * y + x) as u8;
        let mut planar = Vec::new();
        (0..3).for_each(|c| (0..4).for_each(|y| planar.extend((0..6).map(|x| value(c, y, x)))));
        let interleaved: Vec<u8> = (0..72).map(|i| planar[i % 3 * 24 + i / 3]).collect();
        let mut out = Vec::new();
        crop(&planar, Layout::Chw, (4, 6), 4, &mut out);
        let mut wanted = Vec::new();
        (0..3).for_each(|c| (0..4).for_each(|y| wanted.extend((1..5).map(|x| value(c, y, x)))));
        assert_eq!(out, wanted);
        crop(&interleaved, Layout::Hwc, (4, 6), 4, &mut out);
        let wanted: Vec<u8> = (0..48).map(|i| wanted[i % 3 * 16 + i / 3]).collect();
        assert_eq!(out, wanted);
    }

    proptest! {
        #[test]
        fn planes_and_interleaved_pixels_agree(side in 1usize..90, seed: u64) {
            let plane = side * side;
            let planar: Vec<u8> = (0..3 * plane as u64).map(|i| (seed.wrapping_mul(i + 1) >> 32) as u8).collect();
            let interleaved: Vec<u8> = (0..3 * plane).map(|i| planar[i % 3 * plane + i / 3]).collect();
            let expected = crc32fast::hash(&planar);
            let wanted: Vec<f32> = planar
                .iter()
                .enumerate()
                .map(|(i, &value)| f32::from(value) * AFFINE[i / plane].0 + AFFINE[i / plane].1)
                .collect();
            for stores in [Stores::Cached, Stores::Streamed] {
                let (mut a, mut b) = (vec![0u8; 3 * plane], vec![0u8; 3 * plane]);
                let mut crc = crc32fast::Hasher::new();
                write_planar(&planar, Target { values: Values::U8(&mut a), stores }, Some(&mut crc));
                write_interleaved(&interleaved, Target { values: Values::U8(&mut b), stores });
                prop_assert_eq!(&a, &planar);
                prop_assert_eq!(&b, &planar);
                prop_assert_eq!(crc.finalize(), expected);

                let (mut a, mut b) = (vec![0f32; 3 * plane], vec![0f32; 3 * plane]);
                let mut crc = crc32fast::Hasher::new();
                write_planar(&planar, Target { values: Values::F32(&mut a, AFFINE), stores }, Some(&mut crc));
                write_interleaved(&interleaved, Target { values: Values::F32(&mut b, AFFINE), stores });
                prop_assert_eq!(&a, &wanted);
                prop_assert_eq!(&b, &wanted);
                prop_assert_eq!(crc.finalize(), expected);
            }
        }
    }
}
