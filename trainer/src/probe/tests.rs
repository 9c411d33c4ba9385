//! The loss beside its plain formula, clouds that can and cannot be told apart, one result for any threads.

use super::*;

/// Clouds around one centre a class: `spread` is the deviation within one.
fn clouds(seed: u64, classes: usize, each: usize, width: usize, spread: f32) -> (Features, Vec<usize>) {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The sum of four uniform numbers is near enough to a normal one.
        (0..4).map(|i| (state >> (16 * i) & 0xffff) as f32 / 65_536.0 - 0.5).sum::<f32>() * 1.7
    };
    let labels: Vec<usize> = (0..classes * each).map(|i| i / each).collect();
    let centre = |class: usize, i: usize| if i % classes == class { 1.0 } else { 0.0 };
    let values = labels.iter().flat_map(|l| (0..width).map(|i| centre(*l, i)).collect::<Vec<f32>>());
    let values = values.collect::<Vec<_>>().into_iter().map(|centre| centre + spread * next()).collect();
    (Features { values, width }, labels)
}

#[test]
fn the_gradient_is_that_of_the_value_and_vanishes_at_the_minimum() {
    let (rows, labels) = clouds(3, 3, 40, 5, 1.0);
    let problem = Problem { rows: &rows, labels: &labels, classes: 3, l2: 0.01 };
    // The same loss written down plainly in f64.
    let plain = |at: &[f64]| {
        let mut loss = 0.0;
        for (i, label) in labels.iter().enumerate() {
            let score = |c: usize| {
                let row = rows.row(i).iter().zip(&at[c * 5..]).map(|(x, w)| f64::from(*x) * w);
                row.sum::<f64>() + at[15 + c]
            };
            loss += (0..3).map(|c| score(c).exp()).sum::<f64>().ln() - score(*label);
        }
        loss / 120.0 + 0.005 * at[..15].iter().map(|w| w * w).sum::<f64>()
    };
    let slope = |at: &[f64], i: usize| {
        let moved = |by: f64| {
            plain(&at.iter().enumerate().map(|(j, v)| if i == j { v + by } else { *v }).collect::<Vec<_>>())
        };
        (moved(1e-5) - moved(-1e-5)) / 2e-5
    };
    let at: Vec<f64> = (0..18).map(|i| (i as f64 * 0.37).sin()).collect();
    let (value, gradient) = problem.value_and_gradient(&at);
    assert!((value - plain(&at)).abs() < 1e-6, "{value} {}", plain(&at));
    (0..18).for_each(|i| assert!((gradient[i] - slope(&at, i)).abs() < 1e-5, "{i}"));
    let minimum = fit(&rows, &labels, 3, 0.01, None);
    assert!(minimum.gradient_max < 1e-5, "{}", minimum.gradient_max);
    (0..18).for_each(|i| assert!(slope(&minimum.at, i).abs() < 1e-5, "{i}"));
    assert!(plain(&minimum.at) < plain(&[0.0; 18]) - 0.1);
}

#[test]
fn what_can_be_told_apart_is_and_noise_is_not() {
    let names = ["a", "b", "c", "d"];
    let (train, labels) = clouds(1, 4, 50, 12, 0.4);
    let (test, test_labels) = clouds(2, 4, 30, 12, 0.4);
    let train = Labelled { features: &train, labels: &labels };
    let test = Labelled { features: &test, labels: &test_labels };
    let found = probe(train, test, &names, None).unwrap();
    assert!(found.test.top1 > 0.95 && found.train_top1 > 0.95 && found.l2_chosen, "{found:?}");
    assert_eq!((found.test.images, found.test.classes), (120, 4));
    // Labels that have nothing to do with the features.
    let mixed: Vec<usize> = (0..200).map(|i| i * 7 % 4).collect();
    let found = probe(Labelled { labels: &mixed, ..train }, test, &names, Some(0.1)).unwrap();
    assert!(found.test.top1 < 0.5 && found.l2 == 0.1 && !found.l2_chosen, "{}", found.test.top1);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (rows, labels) = clouds(5, 3, 700, 7, 1.5);
    let weights = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let minimum = pool.install(|| fit(&rows, &labels, 3, 1e-3, None));
        minimum.at.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(weights(1), weights(3));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (rows, labels) = clouds(1, 2, 4, 3, 0.1);
    let good = Labelled { features: &rows, labels: &labels };
    let names = ["a", "b"];
    let text = probe(good, good, &names, None).unwrap_err();
    assert!(format!("{:#}", anyhow::Error::from(text)).contains("give --l2"));
    assert!(probe(good, Labelled { labels: &labels[1..], ..good }, &names, Some(1.0)).is_err());
    assert!(probe(good, good, &names[..1], Some(1.0)).is_err());
    let bad = Features { values: vec![f32::NAN; 24], width: 3 };
    assert!(probe(Labelled { features: &bad, ..good }, good, &names, Some(1.0)).is_err());
    // Features that never change: every class as likely as the other.
    let flat = Features { values: vec![1.0; 24], width: 3 };
    let found = probe(Labelled { features: &flat, ..good }, good, &names, Some(1.0)).unwrap();
    assert_eq!(found.test.top1, 0.5);
}
