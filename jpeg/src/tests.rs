//! Instructions that were looked for against those that every machine has, and bytes that are no sound picture.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use proptest::prelude::*;

use crate::{
    Decoder, Refusal, Unusual,
    idct::Coefficients,
    simd::{self, Instructions, Kernels, Work},
};

const SAMPLINGS: [SamplingFactor; 4] =
    [SamplingFactor::F_1_1, SamplingFactor::F_2_1, SamplingFactor::F_2_2, SamplingFactor::F_1_2];

/// A picture of waves, and of noise from `noise` on.
fn encoded(seed: u64, width: usize, height: usize, quality: u8, sampling: usize, restart: u16) -> Vec<u8> {
    let value = |at: usize| {
        let noise = (seed.wrapping_mul(at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8;
        let wave = 100.0 * (at as f64 / (5 + seed % 90) as f64).sin();
        if seed.is_multiple_of(3) { noise } else { (128.0 + wave) as u8 ^ (noise & 15) }
    };
    let pixels: Vec<u8> = (0..3 * width * height).map(value).collect();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    let colours = match SAMPLINGS.get(sampling) {
        Some(sampling) => {
            encoder.set_sampling_factor(*sampling);
            ColorType::Rgb
        }
        None => ColorType::Luma,
    };
    if restart > 0 {
        encoder.set_restart_interval(restart);
    }
    // With tables of its own it writes several scans for colours, and restart marks that are none.
    encoder.set_optimized_huffman_tables(colours == ColorType::Luma && restart == 0);
    let pixels = if colours == ColorType::Luma { &pixels[..width * height] } else { &pixels };
    encoder.encode(pixels, width as u16, height as u16, colours).unwrap();
    bytes
}

/// What becomes of the bytes, unless they claim to be large.
fn decoded(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let picture = decoder.open(bytes).map_err(|Unusual| Refusal::Unusual)?;
    let values = 3 * picture.height() * picture.width();
    if values > 1 << 18 {
        return Err(Refusal::Unusual);
    }
    let mut out = vec![0; values];
    picture.planar(&mut out)?;
    Ok(out)
}

struct OneBlock<'a>(&'a Coefficients, &'a Coefficients, usize);

impl Work for OneBlock<'_> {
    type Output = Vec<u8>;

    fn run<K: Kernels>(self, kernels: K) -> Vec<u8> {
        let OneBlock(block, steps, stride) = self;
        let mut out = vec![7; 7 * stride + 8];
        kernels.block(block, steps, &mut out, stride);
        out
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn blocks_are_the_same_with_any_instructions(
        coefficients in prop::collection::vec(any::<i16>(), 65),
        steps in prop::collection::vec(any::<i16>(), 65),
        narrow in 0u32..16,
        stride in 8usize..30,
    ) {
        let array = |values: &[i16], shift| Coefficients(std::array::from_fn(|at| values[at] >> shift));
        let (block, steps) = (array(&coefficients, narrow), array(&steps, 15 - narrow));
        let with = |instructions| simd::run(instructions, OneBlock(&block, &steps, stride));
        prop_assert_eq!(with(Instructions::Best), with(Instructions::Plain));
    }

    #[test]
    fn pictures_are_the_same_with_any_instructions(
        seed: u64,
        (width, height) in (1usize..70, 1usize..40),
        quality in 20u8..=100,
        sampling in 0usize..5,
        restart in 0u16..4,
    ) {
        let bytes = encoded(seed, width, height, quality, sampling, restart);
        let best = decoded(&mut Decoder::default(), &bytes);
        let mut plain = Decoder::with(Instructions::Plain);
        prop_assert_eq!(best.as_ref().map(|_| ()), Ok(()));
        prop_assert_eq!(best, decoded(&mut plain, &bytes));
    }

    #[test]
    fn changed_bytes_are_refused_or_decoded(
        seed: u64,
        (width, height) in (1usize..40, 1usize..40),
        sampling in 0usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        kept in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let sound = encoded(seed, width, height, 85, sampling, (seed % 3) as u16);
        let mut bytes = sound.clone();
        for (place, byte) in changes {
            let len = bytes.len();
            bytes[place.index(len)] = byte;
        }
        if is_cut {
            bytes.truncate(kept.index(bytes.len()));
        }
        let mut decoder = Decoder::default();
        let first = decoded(&mut decoder, &bytes);
        prop_assert_eq!(&first, &decoded(&mut Decoder::with(Instructions::Plain), &bytes));
        // What was kept of it does not show in the next picture, nor in itself.
        prop_assert_eq!(decoded(&mut decoder, &sound), decoded(&mut Decoder::default(), &sound));
        prop_assert_eq!(first, decoded(&mut decoder, &bytes));
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = encoded(5, 33, 17, 90, 2, 2);
    let mut decoder = Decoder::default();
    assert!(decoded(&mut decoder, &bytes).is_ok());
    for kept in 0..bytes.len() {
        assert!(decoded(&mut decoder, &bytes[..kept]).is_err(), "{kept} bytes of {}", bytes.len());
    }
}

#[test]
fn tables_of_an_earlier_picture_are_none_of_the_next() {
    let with = encoded(4, 16, 16, 90, 0, 0);
    // Without its Huffman tables.
    let mut without = with.clone();
    while let Some(at) = without.windows(2).position(|pair| pair == [0xff, 0xc4]) {
        let length = usize::from(without[at + 2]) << 8 | usize::from(without[at + 3]);
        without.drain(at..at + 2 + length);
    }
    let mut decoder = Decoder::default();
    assert_eq!(decoded(&mut decoder, &with).map(|_| ()), Ok(()));
    assert_eq!(decoded(&mut decoder, &without), Err(Refusal::Unusual));
    assert_eq!(decoded(&mut decoder, &with).map(|_| ()), Ok(()));
}
