//! kill −9 at random moments: the resumed run is, bit for bit, the run that was not stopped.
//!
//! Through the real program, under other numbers of loader and compute threads after each kill. The number of
//! kills is `TRAINER_KILLS`, 10 unless given; they are dealt out over the scenarios.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]
#![allow(clippy::print_stdout, reason = "where the kills fell, for whoever asks with --nocapture")]
#![cfg(unix)]

mod common;

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Every scenario evaluates, saves the best and writes norms; each has its own ways to get to a gradient.
const SCENARIOS: [&[&str]; 3] = [
    &[],
    &["optim.accum_steps=2", "train.ema_decay=0.9", "train.chunk_size=3", "train.sample_ledger=true"],
    &[
        "loss.kind=siglip",
        "optim.kind=adam",
        "optim.schedule=linear",
        "train.recompute=true",
        "train.ema_decay=0.99",
        "train.freeze=[\"visual.transformer.resblocks.0\"]",
    ],
];

const BASE: [&str; 6] = [
    "optim.steps=30",
    "train.eval_every=6",
    "train.eval_limit=5",
    "train.checkpoint_every=5",
    "train.keep_checkpoints=2",
    "train.grad_norms_every=7",
];

fn kills() -> usize {
    match std::env::var("TRAINER_KILLS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("TRAINER_KILLS={text} is not a number")),
        Err(_) => 10,
    }
}

/// Numbers in [0, 1), the same in every run of the test.
struct Draw(u32);

impl Draw {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.0 >> 8) / f64::from(1u32 << 24)
    }
}

/// The program on a run, to be begun or gone on with.
fn trainer(at: &Path, data: &Path, name: &str, scenario: &[&str], threads: [usize; 2]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.args(["train", "--config", "small.toml", "--run", name, "--data"]).arg(data);
    for set in BASE.iter().chain(scenario) {
        command.args(["--set", set]);
    }
    command.args(["--set", &format!("train.threads={}", threads[0])]);
    if at.join("runs").join(name).join("config.toml").exists() {
        command.arg("--resume");
    }
    command.current_dir(at).env("RAYON_NUM_THREADS", threads[1].to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn finish(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Everything that must be equal: the rows without what a clock says, and the last checkpoint's weights,
/// moments, averages and ledger of samples byte by byte.
fn outcome(run: &Path) -> (Vec<Value>, Vec<(String, Vec<u8>)>) {
    let text = fs_err::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        ["time", "samples_per_s", "data_wait"].iter().for_each(|key| drop(row.shift_remove(*key)));
    }
    let checkpoints = run.join("checkpoints");
    let mut files: Vec<(String, Vec<u8>)> = fs_err::read_dir(checkpoints.join("step-00000030"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name() != "state.json")
        .map(|entry| (entry.file_name().into_string().unwrap(), fs_err::read(entry.path()).unwrap()))
        .collect();
    files.push(("best.json".to_owned(), fs_err::read(checkpoints.join("best.json")).unwrap()));
    files.sort();
    (rows, files)
}

/// How far a run's rows and its newest checkpoint are, in words.
fn standing(run: &Path) -> String {
    let newest = trainer::checkpoint::Checkpoints::of_run(run).list().unwrap().pop();
    let rows = fs_err::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    format!("{rows} rows, checkpoint {}", newest.map_or("none".to_owned(), |(step, _)| step.to_string()))
}

#[test]
fn killed_at_random_moments_it_is_the_same_run() {
    let (data, folder) = (common::data(), tempfile::tempdir().unwrap());
    let (at, data) = (folder.path(), data.path());
    fs_err::write(at.join("small.toml"), common::config(&[]).to_toml().unwrap()).unwrap();
    let (kills, mut draw) = (kills(), Draw(7));
    for (number, scenario) in SCENARIOS.iter().enumerate() {
        let begun = Instant::now();
        finish(trainer(at, data, "straight", scenario, [1, 1]));
        let whole = begun.elapsed().as_secs_f64();
        let expected = outcome(&at.join("runs/straight"));
        assert_eq!(expected.0.len(), 30 + 5 + 4, "every step, evaluation and norm has its row");
        let run = at.join("runs/killed");
        let is_the_same = || {
            finish(trainer(at, data, "killed", scenario, [2, 3]));
            let found = outcome(&run);
            assert_eq!(found.0, expected.0, "{scenario:?}");
            assert!(found.1 == expected.1, "{scenario:?}: another checkpoint");
        };
        let mut left = kills / SCENARIOS.len() + usize::from(number < kills % SCENARIOS.len());
        while left > 0 {
            let threads = [1 + left % 3, 1 + left % 4];
            let mut child = trainer(at, data, "killed", scenario, threads).spawn().unwrap();
            // A part of a whole run's time, so that most runs are killed more than once before their end.
            std::thread::sleep(Duration::from_secs_f64(0.6 * whole * draw.next()));
            let is_alive = child.try_wait().unwrap().is_none();
            drop(child.kill());
            child.wait().unwrap();
            if is_alive {
                left -= 1;
                println!("scenario {number}, threads {threads:?}: killed at {}", standing(&run));
            }
            if run.join("checkpoints/step-00000030").exists() {
                // The end was reached: on with a new run.
                is_the_same();
                fs_err::remove_dir_all(&run).unwrap();
            }
        }
        is_the_same();
        ["straight", "killed"]
            .iter()
            .for_each(|run| fs_err::remove_dir_all(at.join("runs").join(run)).unwrap());
    }
}
