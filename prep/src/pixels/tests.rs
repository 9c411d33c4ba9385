//! What a picture becomes: held against a convolution in double precision, over every kind of file.

use jpeg_encoder::{ColorType, SamplingFactor};
use shard::{ImageSettings, Layout, npy};

use super::{Fit, PIXELS_MAX, PixelSettings, Preparer, decode, fit, simd::Instructions};
use crate::source::Picture;

/// Something like a photo: soft shapes, edges, some grain.
fn photo(seed: u32, width: usize, height: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(3 * width * height);
    let mut noise = seed;
    for y in 0..height {
        for x in 0..width {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (u, v) = (x as f32 / 40.0, y as f32 / 30.0);
            let disc =
                (x as f32 - width as f32 / 2.0).hypot(y as f32 - height as f32 / 3.0) < height as f32 / 4.0;
            let grain = (noise >> 27) as f32 - 16.0;
            let shade = 110.0
                + 50.0 * (u + seed as f32).sin() * v.cos()
                + grain * 0.5
                + 40.0 * f32::from(u8::from(disc));
            pixels.extend(
                [shade, shade * 0.8 + 30.0 * v.sin(), 200.0 - shade * 0.7].map(|c| c.clamp(0.0, 255.0) as u8),
            );
        }
    }
    pixels
}

fn jpeg(seed: u32, width: usize, height: usize, sampling: SamplingFactor, restart: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 92);
    encoder.set_sampling_factor(sampling);
    if restart > 0 {
        encoder.set_restart_interval(restart);
    }
    encoder.encode(&photo(seed, width, height), width as u16, height as u16, ColorType::Rgb).unwrap();
    bytes
}

/// What the reduction should come to, in double precision throughout: separable Catmull-Rom, widened for shrinking.
fn reference(bytes: &[u8], fit: Fit, size: usize) -> Vec<f64> {
    let rgb = decode(bytes, PIXELS_MAX).unwrap();
    let (width, height) = (rgb.width as usize, rgb.height as usize);
    let [along_x, along_y] = fit::place(fit, width, height, size);
    let kernel = |x: f64| match x.abs() {
        x if x < 1.0 => 1.5 * x.powi(3) - 2.5 * x.powi(2) + 1.0,
        x if x < 2.0 => -0.5 * x.powi(3) + 2.5 * x.powi(2) - 4.0 * x + 2.0,
        _ => 0.0,
    };
    let weights = |pixels: usize, along: fit::Along| -> Vec<Vec<(usize, f64)>> {
        let scale = along.span.length / along.length as f64;
        let centre = |output: usize| along.span.start + (output as f64 + 0.5) * scale - 0.5;
        let row = |output: usize| {
            let all = (0..pixels).map(|p| (p, kernel((p as f64 - centre(output)) / scale.max(1.0))));
            let row: Vec<_> = all.filter(|(_, weight)| *weight != 0.0).collect();
            let sum: f64 = row.iter().map(|(_, weight)| weight).sum();
            row.into_iter().map(|(p, weight)| (p, weight / sum)).collect()
        };
        (0..along.length).map(row).collect()
    };
    let (across, down) = (weights(width, along_x), weights(height, along_y));
    let (rows, columns) =
        if fit == Fit::ShortestSide { (along_y.length, along_x.length) } else { (size, size) };
    let mut out = vec![0.0; 3 * rows * columns];
    for channel in 0..3 {
        let reduced: Vec<Vec<f64>> = (0..height)
            .map(|y| {
                let at = |x: usize| f64::from(rgb.pixels[3 * (y * width + x) + channel]);
                across.iter().map(|row| row.iter().map(|(x, weight)| weight * at(*x)).sum()).collect()
            })
            .collect();
        for (y, row) in down.iter().enumerate() {
            let start = (channel * rows + along_y.start + y) * columns + along_x.start;
            for (x, out) in out[start..start + along_x.length].iter_mut().enumerate() {
                let sum: f64 = row.iter().map(|(source, weight)| weight * reduced[*source][x]).sum();
                *out = sum.clamp(0.0, 255.0);
            }
        }
    }
    out
}

fn prepared(bytes: &[u8], settings: &PixelSettings, instructions: Instructions) -> Vec<u8> {
    let mut payload = Vec::new();
    let picture = Picture::Encoded(bytes.to_vec());
    Preparer::with_instructions(settings, instructions).prepare(&picture, &mut payload).unwrap();
    payload
}

fn settings(size: u32, fit: Fit) -> PixelSettings {
    PixelSettings { fit, ..PixelSettings::of(ImageSettings::tensor(size)) }
}

fn psnr(found: &[u8], expected: &[f64]) -> f64 {
    let squares: f64 = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    10.0 * (255.0 * 255.0 * found.len() as f64 / squares.max(1e-9)).log10()
}

const SAMPLINGS: [SamplingFactor; 4] =
    [SamplingFactor::F_1_1, SamplingFactor::F_2_1, SamplingFactor::F_1_2, SamplingFactor::F_2_2];

#[test]
fn pixels_are_those_of_a_convolution() {
    for (number, (width, height)) in
        [(320, 240), (241, 333), (97, 64), (40, 41), (200, 30)].into_iter().enumerate()
    {
        for sampling in SAMPLINGS {
            let bytes = jpeg(number as u32, width, height, sampling, 0);
            for fit in Fit::ALL {
                for size in [64, 100] {
                    let found = prepared(&bytes, &settings(size, fit), Instructions::Best);
                    let expected = reference(&bytes, fit, size as usize);
                    let psnr = psnr(&found[npy::HEADER_BYTES..], &expected);
                    assert!(psnr > 45.0, "{width}x{height} {sampling:?} {fit:?} to {size}: {psnr:.1} dB");
                }
            }
        }
    }
}

#[test]
fn colours_beyond_white_and_black_are_clipped_before_they_are_mixed() {
    let (width, height) = (300, 260);
    let mut noise = 5u32;
    let mut pixels = photo(1, width, height);
    for (at, value) in pixels.iter_mut().enumerate() {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Single pixels of full colour in their row.
        *value = if noise >> 30 == 0 { 255 * u8::from(at % 3 == 0) } else { value.saturating_mul(2) };
    }
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 90);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(&pixels, width as u16, height as u16, ColorType::Rgb).unwrap();
    let found = prepared(&bytes, &settings(96, Fit::CenterCrop), Instructions::Best);
    let psnr = psnr(&found[npy::HEADER_BYTES..], &reference(&bytes, Fit::CenterCrop, 96));
    assert!(psnr > 45.0, "{psnr:.1} dB");
}

#[test]
fn simd_and_plain_instructions_give_the_same_bytes() {
    for (width, height) in
        [(640, 480), (333, 500), (224, 224), (17, 300), (1, 1), (2_000, 7), (8, 8), (9, 16)]
    {
        for (sampling, restart) in SAMPLINGS.into_iter().zip([0, 1, 5, 7]) {
            let bytes = jpeg(7, width, height, sampling, restart);
            for (size, fit) in
                [(16, Fit::Pad), (64, Fit::Squash), (224, Fit::CenterCrop), (33, Fit::CenterCrop)]
            {
                let settings = settings(size, fit);
                let best = prepared(&bytes, &settings, Instructions::Best);
                assert!(
                    best == prepared(&bytes, &settings, Instructions::Plain),
                    "{width}x{height} {fit:?} to {size}"
                );
            }
        }
    }
}

#[test]
fn a_way_round_gives_nearly_the_same_pixels() {
    // As a PNG the picture takes the general way, from the pixels that the general decoder makes of the JPEG.
    for (width, height) in [(640, 480), (301, 500), (224, 224)] {
        let bytes = jpeg(3, width, height, SamplingFactor::F_2_2, 0);
        let rgb = decode(&bytes, PIXELS_MAX).unwrap();
        let mut png = std::io::Cursor::new(Vec::new());
        let picture = image::RgbImage::from_raw(rgb.width, rgb.height, rgb.pixels).unwrap();
        picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
        let settings = settings(224, Fit::CenterCrop);
        let found = prepared(&bytes, &settings, Instructions::Best);
        let round = prepared(&png.into_inner(), &settings, Instructions::Best);
        let expected: Vec<f64> = round.iter().map(|byte| f64::from(*byte)).collect();
        let psnr = psnr(&found, &expected);
        assert!(psnr > 45.0, "{width}x{height}: {psnr:.1} dB");
    }
}

#[test]
fn fits_put_the_picture_where_they_say() {
    // Red on the left, green in the middle, blue on the right.
    let (width, height) = (96usize, 32usize);
    let colours = [[250u8, 0, 0], [0, 250, 0], [0, 0, 250]];
    let pixels: Vec<u8> = (0..width * height).flat_map(|at| colours[at % width / 32]).collect();
    let mut png = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_raw(width as u32, height as u32, pixels).unwrap();
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let png = png.into_inner();
    let at = |fit: Fit, y: usize, x: usize| -> [u8; 3] {
        let mut settings = settings(48, fit);
        settings.image.layout = Layout::Hwc;
        let payload = prepared(&png, &settings, Instructions::Best);
        payload[npy::HEADER_BYTES + 3 * (48 * y + x)..][..3].try_into().unwrap()
    };
    assert_eq!([8, 24, 40].map(|x| at(Fit::CenterCrop, 24, x)), [[0, 250, 0]; 3]);
    for y in [0, 24, 47] {
        assert_eq!([8, 24, 40].map(|x| at(Fit::Squash, y, x)), colours);
    }
    assert_eq!([8, 24, 40].map(|x| at(Fit::Pad, 24, x)), colours);
    for (y, x) in [(0, 0), (15, 24), (32, 24), (47, 47)] {
        assert_eq!(at(Fit::Pad, y, x), [0; 3]);
    }
    assert_ne!(at(Fit::Pad, 16, 8), [0; 3]);
    assert_ne!(at(Fit::Pad, 31, 8), [0; 3]);
}

#[test]
fn layouts_hold_the_same_pixels() {
    let bytes = jpeg(5, 90, 70, SamplingFactor::F_2_2, 0);
    let mut settings = settings(32, Fit::Pad);
    let planes = prepared(&bytes, &settings, Instructions::Best);
    settings.image.layout = Layout::Hwc;
    let pixels = prepared(&bytes, &settings, Instructions::Best);
    assert_ne!(planes[..npy::HEADER_BYTES], pixels[..npy::HEADER_BYTES]);
    let (planes, pixels) = (&planes[npy::HEADER_BYTES..], &pixels[npy::HEADER_BYTES..]);
    for (at, pixel) in pixels.chunks(3).enumerate() {
        assert_eq!(pixel, [planes[at], planes[1024 + at], planes[2048 + at]]);
    }
}

#[test]
fn damaged_files_are_refused_or_read_but_never_a_panic() {
    let settings = settings(32, Fit::CenterCrop);
    let mut preparers = [Instructions::Best, Instructions::Plain]
        .map(|instructions| Preparer::with_instructions(&settings, instructions));
    let mut refused = 0;
    let mut noise = 1u32;
    for (sampling, restart) in SAMPLINGS.into_iter().zip([0, 3, 0, 1]) {
        let bytes = jpeg(11, 90, 70, sampling, restart);
        for round in 0..300 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 3 {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = noise as usize % damaged.len();
                match round % 5 {
                    0 => damaged.truncate(at.max(3)),
                    1 => drop(damaged.remove(at)),
                    2 => damaged.insert(at, (noise >> 8) as u8),
                    _ => damaged[at] ^= 1 << (noise >> 29),
                }
            }
            let picture = Picture::Encoded(damaged);
            let mut outcomes = preparers.each_mut().map(|preparer| {
                let mut payload = Vec::new();
                preparer.prepare(&picture, &mut payload).map(|size| (size, payload))
            });
            if let Err(rejection) = &mut outcomes[0] {
                assert!(!rejection.detail.contains("panicked"), "{rejection:?}");
                refused += 1;
            }
            assert!(outcomes[0] == outcomes[1]);
        }
    }
    assert!(refused > 400, "only {refused} of 1,200 were refused");
}

#[test]
fn damage_in_the_data_is_told() {
    let settings = settings(32, Fit::CenterCrop);
    let good = jpeg(2, 120, 90, SamplingFactor::F_2_2, 0);
    let end = good.len() - 2;
    let reason = |bytes: Vec<u8>| {
        let outcome = Preparer::new(&settings).prepare(&Picture::Encoded(bytes), &mut Vec::new());
        outcome.map_err(|rejection| rejection.detail)
    };
    assert!(reason(good.clone()).is_ok());
    assert!(reason(good[..end].to_vec()).unwrap_err().contains("without an end-of-image mark"));
    let cut = [&good[..end - 200], &good[end..]].concat();
    assert!(reason(cut).unwrap_err().contains("end early"));
}

#[test]
fn buffers_carry_nothing_from_one_picture_to_the_next() {
    let pictures = [(500, 333), (40, 41), (333, 500), (1, 1), (640, 480), (16, 16)]
        .map(|(width, height)| Picture::Encoded(jpeg(width as u32, width, height, SamplingFactor::F_2_2, 0)));
    let broken = match &pictures[0] {
        Picture::Encoded(bytes) => Picture::Encoded(bytes[..bytes.len() / 2].to_vec()),
        _ => unreachable!(),
    };
    for fit in [Fit::CenterCrop, Fit::Pad] {
        let settings = settings(48, fit);
        let mut kept = Preparer::new(&settings);
        let mut payload = vec![77; 9];
        for picture in &pictures {
            kept.prepare(&broken, &mut payload).unwrap_err();
            kept.prepare(picture, &mut payload).unwrap();
            let mut fresh = Vec::new();
            Preparer::new(&settings).prepare(picture, &mut fresh).unwrap();
            assert!(payload == fresh, "{fit:?}");
        }
    }
}

#[cfg(feature = "turbo")]
mod turbo {
    use super::{super::*, *};

    fn turbo(size: u32, fit: Fit, decode: Decode) -> PixelSettings {
        PixelSettings { engine: Engine::Turbo, decode, ..settings(size, fit) }
    }

    #[test]
    fn both_engines_give_the_same_pixels() {
        for (width, height) in [(640, 480), (333, 500), (17, 300), (9, 16), (3, 3), (1, 1)] {
            for sampling in SAMPLINGS {
                let bytes = jpeg(4, width, height, sampling, 0);
                for (size, fit) in [(64, Fit::Squash), (224, Fit::CenterCrop), (33, Fit::Pad)] {
                    let ours = prepared(&bytes, &settings(size, fit), Instructions::Best);
                    for instructions in [Instructions::Best, Instructions::Plain] {
                        let theirs = prepared(&bytes, &turbo(size, fit, Decode::Exact), instructions);
                        assert!(ours == theirs, "{width}x{height} {sampling:?} {fit:?} to {size}");
                    }
                }
            }
        }
    }

    #[test]
    fn fast_decoding_is_near() {
        for (width, height) in [(640, 480), (1000, 1500), (450, 450)] {
            for sampling in SAMPLINGS {
                let bytes = jpeg(4, width, height, sampling, 0);
                for fit in [Fit::Squash, Fit::CenterCrop, Fit::Pad] {
                    let found = prepared(&bytes, &turbo(112, fit, Decode::Fast), Instructions::Best);
                    let psnr = psnr(&found[npy::HEADER_BYTES..], &reference(&bytes, fit, 112));
                    assert!(psnr > 33.0, "{width}x{height} {sampling:?} {fit:?}: {psnr:.1} dB");
                }
            }
        }
    }

    #[test]
    fn damage_is_refused() {
        let settings = turbo(32, Fit::CenterCrop, Decode::Exact);
        let mut preparer = Preparer::new(&settings);
        let good = jpeg(2, 120, 90, SamplingFactor::F_2_2, 0);
        let mut reason = |bytes: &[u8]| {
            let outcome = preparer.prepare(&Picture::Encoded(bytes.to_vec()), &mut Vec::new());
            outcome.map_err(|rejection| (rejection.reason, rejection.detail))
        };
        for length in [3, 30, good.len() / 2, good.len() - 20, good.len() - 2] {
            let (kind, detail) = reason(&good[..length]).unwrap_err();
            assert_eq!(kind, Reason::BrokenImage, "{length} bytes: {detail}");
        }
        assert_eq!(reason(&good).unwrap(), OriginalSize { height: 90, width: 120 });
        let mut noise = 1u32;
        for _ in 0..500 {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut damaged = good.clone();
            damaged[noise as usize % good.len()] ^= 1 << (noise >> 29);
            if let Err((_, detail)) = reason(&damaged) {
                assert!(!detail.contains("panicked"), "{detail}");
            }
        }
    }

    #[test]
    fn the_engine_is_named_with_its_version() {
        let name = turbo(32, Fit::Pad, Decode::Fast).engine();
        assert!(name.starts_with("turbo-1: libjpeg-turbo 3.") && name.ends_with(", fast"), "{name}");
    }
}
