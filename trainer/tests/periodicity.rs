//! Periodicity: how often noise is taken for a period, how often a period is found, and what the program says.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod common;

use std::fmt::Write as _;
use std::path::Path;
use testkit::Spec;
use trainer::config::Config;
use trainer::periodicity::log::LossLog;
use trainer::periodicity::watch::Watch;
use trainer::periodicity::{self, Options, Verdict};

/// Normal numbers from a fixed sequence (SplitMix64, Box and Muller).
struct Noise {
    state: u64,
}

impl Noise {
    fn unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((z ^ (z >> 31)) >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// A log to be made up: noise of deviation 1 over a falling loss.
#[derive(Clone, Copy)]
struct Shape {
    /// Epochs, the first one included.
    epochs: u64,
    steps: u64,
    every: u64,
    /// How much of itself the noise keeps from step to step.
    rho: f64,
    /// White noise on top, as a single batch's.
    white: f64,
    /// Deviation of the period that every epoch repeats.
    period: f64,
    /// Drop at each epoch's start.
    teeth: f64,
}

const PLAIN: Shape = Shape { epochs: 6, steps: 100, every: 1, rho: 0.0, white: 0.0, period: 0.0, teeth: 0.0 };

/// The rows (step, epoch, loss) of a log.
fn rows(shape: Shape, seed: u64) -> Vec<(u64, Option<u64>, f64)> {
    let mut noise = Noise { state: seed.wrapping_mul(0xD1B5_4A32_D192_ED03) };
    let pattern: Vec<f64> = {
        let levels: Vec<f64> = (0..10).map(|_| noise.normal()).collect();
        (0..shape.steps).map(|step| levels[(step * 10 / shape.steps) as usize]).collect()
    };
    let mut slow = noise.normal();
    let mut rows = Vec::new();
    for step in 1..=shape.epochs * shape.steps {
        slow = shape.rho * slow + (1.0 - shape.rho * shape.rho).sqrt() * noise.normal();
        let place = (step - 1) as f64 / shape.steps as f64;
        let trend = 40.0 / (place + 0.3) - 3.0 * place + shape.teeth * place.fract();
        let period = shape.period * pattern[((step - 1) % shape.steps) as usize];
        let loss = slow + shape.white * noise.normal() + trend + period;
        if step == 1 || step.is_multiple_of(shape.every) {
            rows.push((step, Some((step - 1) / shape.steps), loss));
        }
    }
    rows
}

fn p(shape: Shape, seed: u64, draws: u64) -> f64 {
    let log = LossLog::new("made up", &rows(shape, seed), None).unwrap();
    periodicity::of_log(&log, &Options { draws, seed, ..Options::default() }).unwrap().test.p
}

/// How many of `count` logs have a p-value of at most 0.05, and of at most 0.01.
fn alarms(shape: Shape, count: u64) -> (f64, f64) {
    let all: Vec<f64> = (0..count).map(|seed| p(shape, seed + 1, 199)).collect();
    let at_most = |bound: f64| all.iter().filter(|p| **p <= bound).count() as f64;
    (at_most(0.05), at_most(0.01))
}

/// Three and a half standard deviations above what a rate gives: one luckless test of 4,000.
fn bound(rate: f64, count: u64) -> f64 {
    let mean = rate * count as f64;
    mean + 3.5 * (mean * (1.0 - rate)).sqrt()
}

#[test]
fn noise_is_a_period_as_seldom_as_the_p_value_says() {
    let count = 500;
    let shapes = [(3, 30, 1), (4, 40, 1), (6, 100, 1), (6, 128, 4), (11, 60, 1)];
    for (epochs, steps, every) in shapes {
        for (rho, white) in [(0.0, 0.0), (0.6, 0.0), (0.9, 0.0), (0.97, 0.0), (0.99, 0.0), (0.97, 1.0)] {
            let (at_5, at_1) = alarms(Shape { epochs, steps, every, rho, white, ..PLAIN }, count);
            // White noise turns exactly. Slow noise does not quite, in logs of two or three epochs least of all:
            // in long simulations at most 8 % and 2.2 % were found.
            let (rate_5, rate_1) = if rho == 0.0 { (0.05, 0.01) } else { (0.08, 0.022) };
            assert!(
                at_5 <= bound(rate_5, count) && at_1 <= bound(rate_1, count),
                "{epochs} epochs of {steps} steps, a row every {every}, rho {rho}, white {white}: {at_5} and {at_1}"
            );
        }
    }
    // The other way round: a p-value that is never small would pass all of the above.
    let (at_5, _) = alarms(PLAIN, 400);
    assert!(at_5 >= 20.0 - 3.5 * (20.0_f64 * 0.95).sqrt(), "{at_5}");
}

#[test]
fn a_planted_period_is_found() {
    let found = |shape: Shape| alarms(shape, 40).1;
    // A third of the variance, in five epochs; a tenth in ten; and under slow noise.
    assert!(found(Shape { period: 0.7, ..PLAIN }) >= 33.0);
    assert!(found(Shape { period: 0.33, epochs: 11, ..PLAIN }) >= 30.0);
    assert!(found(Shape { period: 0.7, rho: 0.9, epochs: 9, ..PLAIN }) >= 36.0);
    assert!(found(Shape { period: 0.7, every: 5, steps: 200, epochs: 9, ..PLAIN }) >= 27.0);
    // Two epochs can hardly tell, three seeds of them can.
    let short = Shape { epochs: 3, steps: 60, period: 1.0, ..PLAIN };
    let logs: Vec<LossLog> =
        (1..=3).map(|seed| LossLog::new("short", &rows(short, seed), None).unwrap()).collect();
    let report = periodicity::of_logs("seeds", &logs, &Options::default()).unwrap();
    assert_eq!(report.verdict, Verdict::Period, "{}", report.p);
}

#[test]
fn a_sawtooth_is_told_apart_from_a_period() {
    let logs: Vec<LossLog> = (1..=3)
        .map(|seed| {
            LossLog::new("teeth", &rows(Shape { teeth: 2.0, epochs: 9, ..PLAIN }, seed), None).unwrap()
        })
        .collect();
    let report = periodicity::of_logs("teeth", &logs, &Options::default()).unwrap();
    assert_eq!(report.verdict, Verdict::None, "{}", report.p);
    assert!((report.drop().unwrap() - 2.0).abs() < 0.5, "{:?}", report.drop());
    assert!(report.sawtooth_p.unwrap() < 1e-4);
    assert!(periodicity::verdict::words(&report).contains("memorises"));
    let alarms = (0..200u64)
        .filter(|seed| {
            let log = LossLog::new("none", &rows(Shape { epochs: 9, rho: 0.5, ..PLAIN }, seed + 1), None);
            periodicity::of_log(&log.unwrap(), &Options { draws: 99, ..Options::default() })
                .unwrap()
                .sawtooth
                .and_then(|teeth| teeth.p)
                .is_some_and(|p| p <= 0.05)
        })
        .count();
    assert!(alarms as f64 <= bound(0.05, 200), "{alarms}");
}

#[test]
fn threads_change_no_bit_and_seeds_change_the_draws_alone() {
    let log = LossLog::new("log", &rows(Shape { rho: 0.5, ..PLAIN }, 5), None).unwrap();
    let at = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let options = Options { draws: 3_000, seed, ..Options::default() };
        pool.install(|| periodicity::of_log(&log, &options).unwrap().test)
    };
    assert_eq!(at(1, 0), at(3, 0));
    let (one, other) = (at(1, 0), at(1, 1));
    assert_eq!(one.share, other.share);
    assert_ne!(one.null_mean, other.null_mean);
    assert!((one.p - other.p).abs() < 0.05);
}

/// Rows as JSON lines.
fn json_lines(rows: &[(u64, Option<u64>, f64)]) -> String {
    let mut text = String::new();
    for (step, epoch, loss) in rows {
        let epoch = epoch.map(|epoch| format!("\"epoch\":{epoch},")).unwrap_or_default();
        writeln!(text, "{{\"step\":{step},{epoch}\"loss\":{loss}}}").unwrap();
    }
    text
}

/// `trainer periodicity`, run to the end: exit code, standard output, standard error.
fn run(arguments: &[&str], at: &Path) -> (i32, String, String) {
    common::program::run(&[&["periodicity"], arguments].concat(), at)
}

#[test]
fn the_command_answers_with_its_exit_code_in_words_json_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for seed in [1, 2] {
        let name = format!("runs/sorted-{seed}");
        fs_err::create_dir_all(at.join(&name)).unwrap();
        let sorted = json_lines(&rows(Shape { period: 1.0, ..PLAIN }, seed));
        fs_err::write(at.join(name).join("metrics.jsonl"), sorted).unwrap();
        fs_err::write(at.join(format!("mixed-{seed}.jsonl")), json_lines(&rows(PLAIN, 10 + seed))).unwrap();
    }
    let (code, out, err) = run(&["sorted-1", "runs/sorted-2", "--out", "folded.png"], at);
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(out.contains("has the period of an epoch") && out.contains("data.order = \"global\""), "{out}");
    assert!(out.contains("sorted-1") && out.contains("combined p"), "{out}");
    assert!(fs_err::read(at.join("folded.png")).unwrap().starts_with(b"\x89PNG"));
    let (code, out, err) = run(&["mixed-1.jsonl", "mixed-2.jsonl"], at);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("No period of an epoch"), "{out}");
    let both = ["sorted=sorted-1", "mixed=mixed-1.jsonl", "sorted=sorted-2", "--json", "--draws", "999"];
    let (code, out, _) = run(&both, at);
    assert_eq!(code, 1);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let conditions = value["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 2);
    assert_eq!((&conditions[0]["verdict"], &conditions[1]["verdict"]), (&"period".into(), &"none".into()));
    assert_eq!(conditions[0]["logs"].as_array().unwrap().len(), 2);
    assert_eq!(conditions[0]["logs"][0]["steps_per_epoch"], 100.0);
    assert_eq!(run(&both, at).1, out, "the same seed says the same");
    // Another program's log: steps from 0 and no epoch.
    let foreign: Vec<_> = rows(PLAIN, 3).into_iter().map(|(step, _, loss)| (step - 1, None, loss)).collect();
    fs_err::write(at.join("foreign.jsonl"), json_lines(&foreign)).unwrap();
    assert_eq!(run(&["foreign.jsonl", "--steps-per-epoch", "100"], at).0, 0);
    let (code, _, err) = run(&["foreign.jsonl"], at);
    assert!(code == 2 && err.contains("--steps-per-epoch"), "{err}");
}

#[test]
fn what_does_not_tell_is_one_sentence_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let write = |name: &str, text: String| fs_err::write(at.join(name), text).unwrap();
    write("short.jsonl", json_lines(&rows(Shape { epochs: 2, ..PLAIN }, 1)));
    write("one.jsonl", json_lines(&rows(Shape { epochs: 1, ..PLAIN }, 1)));
    write("thin.jsonl", json_lines(&rows(Shape { every: 20, ..PLAIN }, 1)));
    write("empty.jsonl", String::new());
    write("damaged.jsonl", format!("{{\n{}", json_lines(&rows(PLAIN, 1))));
    let table: [(&[&str], &str); 8] = [
        (&["short.jsonl"], "1 whole epochs after the first"),
        (&["one.jsonl"], "does not reach a second epoch"),
        (&["thin.jsonl"], "train.log_every"),
        (&["empty.jsonl"], "no row with a step and a loss"),
        (&["damaged.jsonl"], "line 1"),
        (&["none.jsonl"], "none.jsonl"),
        (&["short.jsonl", "--alpha", "1.5"], "--alpha 1.5"),
        (&["short.jsonl", "--steps-per-epoch", "0"], "--steps-per-epoch 0"),
    ];
    for (arguments, expected) in table {
        let (code, out, err) = run(arguments, at);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(expected), "{arguments:?}: {err}");
        assert_eq!(err.trim_end().lines().count(), 1, "{err}");
    }
}

#[test]
fn the_watch_is_silent_over_noise_and_speaks_once_of_a_period() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics.jsonl");
    let spoken = |shape: Shape, seed: u64| {
        let rows = rows(shape, seed);
        let mut watch = Watch::default();
        let mut spoken = Vec::new();
        for finished in 1..=shape.epochs {
            fs_err::write(&file, json_lines(&rows[..(finished * shape.steps) as usize])).unwrap();
            spoken.extend(watch.look(folder.path(), finished, shape.epochs).map(|text| (finished, text)));
        }
        spoken
    };
    let runs = 15;
    let alarms = (1..=runs).filter(|&seed| !spoken(Shape { epochs: 8, rho: 0.7, ..PLAIN }, seed).is_empty());
    assert!(alarms.count() as f64 <= bound(0.01, runs));
    let said = spoken(Shape { epochs: 8, period: 1.5, ..PLAIN }, 1);
    assert_eq!(said.len(), 1);
    let (at, text) = &said[0];
    assert!((3..=6).contains(at) && text.contains("data.order = \"global\""), "{at}: {text}");
}

/// A run that does not learn, of 8 epochs of 20 steps.
fn idle(order: &str) -> Config {
    let order = format!("data.order={order}");
    let set = [
        "data.batch_size=3",
        "optim.lr=1e-12",
        "optim.steps=160",
        "data.captions=first",
        "train.eval_every=0",
    ];
    common::config(&[&set[..], &[&order]].concat())
}

#[test]
fn a_run_over_a_fixed_order_warns_by_itself_and_again_when_it_is_resumed() {
    let splits = vec![("train".to_owned(), 60), ("val".to_owned(), 5)];
    let data = Spec { splits, ..Spec::small() }.size(32).temporary();
    let runs = tempfile::tempdir().unwrap();
    let mut mixed = common::Keep::default();
    common::train(&idle("global"), data.path(), &runs.path().join("mixed"), false, &mut mixed).unwrap();
    assert_eq!((mixed.rows.len(), mixed.warnings.len()), (160, 0), "{:?}", mixed.warnings);
    assert_eq!(mixed.evaluated[0].loss.map(|loss| loss.is_finite()), Some(true));
    let run = runs.path().join("sorted");
    let mut first = common::Keep::until(130);
    common::train(&idle("none"), data.path(), &run, false, &mut first).unwrap();
    assert_eq!(first.warnings.len(), 1);
    assert!(first.warnings[0].contains("repeats with the epoch"), "{:?}", first.warnings);
    let mut second = common::Keep::default();
    common::train(&idle("none"), data.path(), &run, true, &mut second).unwrap();
    assert_eq!((second.begun_at, second.warnings.len()), (130, 1));
}
