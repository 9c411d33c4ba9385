//! Against pictures that PyTorch made (`tests/fixtures/generate.py`), and against itself with other instructions and
//! layouts.

use serde_json::Value;

use super::*;

const PICTURES: &[u8] = include_bytes!("../../tests/fixtures/augment.bin");
const CASES: &str = include_str!("../../tests/fixtures/augment.json");

/// A case, its height and width, and its planar pixels.
fn cases() -> Vec<(Value, (usize, usize), &'static [u8])> {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    cases
        .into_iter()
        .map(|case| {
            let (height, width) = (number(&case["height"]), number(&case["width"]));
            let offset = number(&case["offset"]);
            (case, (height, width), &PICTURES[offset..offset + 3 * height * width])
        })
        .collect()
}

fn drawn(case: &Value, sides: (usize, usize)) -> Drawn {
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let mut drawn = Drawn { region: Region::centre(sides, sides), flip: false, jitter: Jitter::default() };
    if case["kind"] == "crop" {
        let [top, left, height, width] = [0, 1, 2, 3].map(|at| number(&case["region"][at]));
        drawn.region = Region { top, left, height, width };
        drawn.flip = case["flip"] == true;
    }
    for (slot, step) in
        drawn.jitter.adjustments.iter_mut().zip(case["steps"].as_array().into_iter().flatten())
    {
        let factor = step[1].as_f64().unwrap() as f32;
        *slot = Some(match step[0].as_str().unwrap() {
            "brightness" => jitter::Adjustment::Brightness(factor),
            "contrast" => jitter::Adjustment::Contrast(factor),
            "saturation" => jitter::Adjustment::Saturation(factor),
            "hue" => jitter::Adjustment::Hue(factor),
            other => panic!("{other} is no adjustment"),
        });
    }
    drawn
}

fn interleaved(planar: &[u8]) -> Vec<u8> {
    (0..planar.len()).map(|i| planar[i % 3 * (planar.len() / 3) + i / 3]).collect()
}

#[test]
fn pictures_are_those_of_pytorch_with_any_instructions_and_layout() {
    let all = cases();
    let (_, (height, width), source) = &all[0];
    let (height, width) = (*height, *width);
    let mixed = interleaved(source);
    let mut scratch = Scratch::default();
    assert_eq!(all.len(), 25);
    for (case, size, wanted) in &all[1..] {
        let drawn = drawn(case, (height, width));
        let mut first: Option<Vec<u8>> = None;
        for instructions in Instructions::ALL {
            for (pixels, layout) in [(*source, Layout::Chw), (&mixed[..], Layout::Hwc)] {
                let mut out = vec![0; wanted.len()];
                let picture = Picture { pixels, layout, height, width };
                apply_with(instructions, &drawn, picture, *size, &mut out, &mut scratch);
                let first = first.get_or_insert_with(|| out.clone());
                assert!(out == *first, "{case}: {instructions:?} {layout:?}");
            }
        }
        let out = first.unwrap();
        let errors: Vec<u8> = out.iter().zip(*wanted).map(|(a, b)| a.abs_diff(*b)).collect();
        let worst = errors.iter().max().unwrap();
        let off = errors.iter().filter(|&&error| error > 0).count();
        assert!(*worst <= 1, "{case}: off by {worst}");
        // What is off by one lies half way between two bytes; a scale of 3/2 brings most such sums.
        assert!(off * 200 <= errors.len(), "{case}: {off} of {} bytes differ", errors.len());
    }
}

#[test]
fn nothing_drawn_leaves_the_stored_bytes() {
    let (_, (height, width), source) = cases().swap_remove(0);
    let settings = [
        Augment::default(),
        Augment {
            crop: Some(RandomResizedCrop { scale: (1.0, 1.0), ratio: (4.0 / 3.0, 4.0 / 3.0) }),
            flip: Some(0.0),
            jitter: Some(ColorJitter { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0 }),
            grayscale: Some(0.0),
        },
    ];
    let streams = EpochStreams::new(0, 0);
    for augment in settings {
        assert_eq!(augment.problems(), Vec::<String>::new());
        for sample in 0..20 {
            let drawn = augment.draw(&streams, sample, (height, width), (height, width));
            let mut out = vec![0; source.len()];
            let picture = Picture { pixels: source, layout: Layout::Chw, height, width };
            apply(&drawn, picture, (height, width), &mut out, &mut Scratch::default());
            assert!(out == source);
        }
    }
}

#[test]
fn flips_factors_and_orders_come_as_often_as_they_should() {
    let augment = Augment {
        crop: None,
        flip: Some(0.3),
        jitter: Some(ColorJitter { hue: 0.2, ..ColorJitter::default() }),
        grayscale: None,
    };
    let streams = EpochStreams::new(4, 2);
    let count = 24_000;
    let mut flips = 0;
    let mut orders = std::collections::BTreeMap::new();
    let mut values: [Vec<f64>; 4] = Default::default();
    for sample in 0..count {
        let drawn = augment.draw(&streams, sample, (8, 8), (8, 8));
        flips += u32::from(drawn.flip);
        let order: Vec<usize> = Vec::from_iter(drawn.jitter.adjustments[..4].iter().map(|adjustment| {
            let (kind, share) = match adjustment.unwrap() {
                jitter::Adjustment::Brightness(factor) => (0, (factor - 0.6) / 0.8),
                jitter::Adjustment::Contrast(factor) => (1, (factor - 0.6) / 0.8),
                jitter::Adjustment::Saturation(factor) => (2, (factor - 0.6) / 0.8),
                jitter::Adjustment::Hue(turn) => (3, (turn + 0.2) / 0.4),
            };
            values[kind].push(f64::from(share));
            kind
        }));
        *orders.entry(order).or_insert(0u32) += 1;
    }
    // Standard deviations: 71 flips, 31 of an order, 0.002 of a mean.
    assert!(flips.abs_diff(7_200) < 360, "{flips}");
    assert_eq!(orders.len(), 24);
    assert!(orders.values().all(|&times| times.abs_diff(1_000) < 160), "{orders:?}");
    for values in values {
        assert!(values.iter().all(|value| (-1e-6..=1.0 + 1e-6).contains(value)));
        let mean = values.iter().sum::<f64>() / count as f64;
        let below = values.iter().filter(|&&value| value < 0.25).count() as f64 / count as f64;
        assert!((mean - 0.5).abs() < 0.01 && (below - 0.25).abs() < 0.015, "{mean} {below}");
    }
}

#[test]
fn ranges_that_cannot_be_are_all_named() {
    let augment = Augment {
        crop: Some(RandomResizedCrop { scale: (0.5, 0.2), ratio: (0.0, f32::INFINITY) }),
        flip: Some(1.5),
        jitter: Some(ColorJitter { brightness: -1.0, contrast: f32::NAN, saturation: -0.1, hue: 0.6 }),
        grayscale: Some(-0.5),
    };
    let text = augment.problems().join("; ");
    for word in ["scale", "ratio", "flip", "brightness", "contrast", "saturation", "hue", "grey"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
    for crop in [RandomResizedCrop::default(), RandomResizedCrop::CLIP] {
        let jitter = Some(ColorJitter::default());
        let augment = Augment { crop: Some(crop), flip: Some(1.0), jitter, grayscale: Some(1.0) };
        assert!(augment.problems().is_empty());
    }
}
