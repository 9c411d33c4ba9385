//! `cargo demo`: the whole way on the embedded data set, from shards to a trained and evaluated CLIP, by the
//! commands that a user types. It ends by holding the results against what the README promises.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::command::{Line, root};

/// Recall@1 must be so many times chance.
const TIMES_CHANCE_MIN: f64 = 20.0;

/// With captions dealt anew, recall@1 must be below so many times chance: five hits where one is expected come by
/// luck once in 300.
const SHUFFLED_TIMES_CHANCE_MAX: f64 = 5.0;

/// Held-out scenes.
const SCENES: u64 = 1_000;

/// Packs, checks, draws, trains, evaluates, and checks the claims.
///
/// # Errors
/// Where a command fails or a claim does not hold.
pub(crate) fn run() -> Result<()> {
    let begun = Instant::now();
    let (root, dir) = (root()?, folder()?);
    let built = build(&root)?;
    let after_build = Instant::now();
    let place = |name: &str| -> Result<String> {
        let path = if dir == Path::new(".") { PathBuf::from(name) } else { dir.join(name) };
        Ok(path.to_str().context("--dir is no UTF-8")?.to_owned())
    };
    let (data, runs, sheet) = (place("data/demo")?, place("runs")?, place("data/demo.png")?);
    let program = |words: &[&str]| Line::new(words, &root);
    let [prep, trainer] = ["prep", "trainer"].map(|name| format!("{built}/{name}"));

    program(&[
        &prep,
        "--dataset",
        "shapes",
        "--limit",
        "20000",
        "--val",
        "1000",
        "--size",
        "64",
        "--shards",
        "8",
        "--out",
        &data,
    ])
    .run()?;
    program(&[&prep, "verify", &data]).run()?;
    program(&[&prep, "inspect", &data, "--grid", &sheet]).run()?;
    let mut train = vec![trainer.as_str(), "train", "--config", "configs/demo.toml", "--data", &data];
    if runs != "runs" {
        train.extend(["--runs-dir", &runs]);
    }
    if root.join(&runs).join("demo").exists() {
        train.push("--resume"); // an earlier demo was stopped, or is complete
    }
    // The allocator keeps the pages of one step for the next: a fifth less time.
    program(&train).env("MIMALLOC_PURGE_DELAY", "-1").run()?;

    let run_dir = if runs == "runs" { "demo".to_owned() } else { format!("{runs}/demo") };
    let eval = [trainer.as_str(), "eval", "--run", &run_dir, "--data", &data, "--json"];
    let trained = measured(&program(&eval))?;
    let shuffled = measured(&program(&[&eval[..], &["--shuffle-captions"]].concat()))?;
    let baseline = measured(&program(&[&trainer, "baseline", "--data", &data, "--json"]))?;

    println!("\npictures:");
    for picture in [PathBuf::from(&sheet)].into_iter().chain(plots(&root, &runs)?) {
        println!("  {}", picture.display());
    }
    let claims = claims(&trained, &shuffled, &baseline)?;
    println!("\n{}", claims.text);
    let (total, own) = (begun.elapsed().as_secs_f64(), after_build.elapsed().as_secs_f64());
    println!("demo: {own:.0} s after the build, {total:.0} s with it");
    ensure!(claims.hold, "the demo's claims do not hold");
    Ok(())
}

/// `--dir DIR`: where data and runs go; the workspace's folder otherwise.
fn folder() -> Result<PathBuf> {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(PathBuf::from(".")),
        ["--dir", dir] => std::path::absolute(dir).context("--dir"),
        _ => bail!("usage: cargo demo [--dir DIR]"),
    }
}

/// Builds the programs; the folder that they lie in, as a user in `root` types it.
pub(crate) fn build(root: &Path) -> Result<String> {
    Line::new(&["cargo", "build", "--release"], root).run()?;
    let target = match std::env::var("CARGO_TARGET_DIR") {
        Ok(target) => std::path::absolute(target)?.join("release").to_string_lossy().into_owned(),
        Err(_) => "target/release".to_owned(),
    };
    for name in ["prep", "loader", "trainer"] {
        let path = root.join(&target).join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        ensure!(path.is_file(), "cargo did not build {}", path.display());
    }
    Ok(target)
}

fn measured(line: &Line) -> Result<Value> {
    serde_json::from_str(&line.output()?).context("its output is no JSON")
}

/// The plots of the run.
fn plots(root: &Path, runs: &str) -> Result<Vec<PathBuf>> {
    let dir = Path::new(runs).join("demo/plots");
    let mut plots = Vec::new();
    for entry in
        std::fs::read_dir(root.join(&dir)).with_context(|| format!("cannot list {}", dir.display()))?
    {
        plots.push(dir.join(entry?.file_name()));
    }
    plots.sort();
    ensure!(!plots.is_empty(), "no plots in {}", dir.display());
    Ok(plots)
}

struct Claims {
    text: String,
    hold: bool,
}

fn claims(trained: &Value, shuffled: &Value, baseline: &Value) -> Result<Claims> {
    let mut text = "recall@1        chance   baseline   shuffled      CLIP   times chance\n".to_owned();
    let images = trained["images"].as_u64();
    let mut hold = images == Some(SCENES);
    for (name, way) in [("image to text", "image_to_text"), ("text to image", "text_to_image")] {
        let recall = |of: &Value| of["r1"].as_f64().context("no recall in the output");
        let [clip, dealt, ridge] = [recall(&trained[way])?, recall(&shuffled[way])?, recall(&baseline[way])?];
        let chance = recall(&trained["chance"][way])?;
        let times = clip / chance;
        let passes = times >= TIMES_CHANCE_MIN
            && clip > ridge
            && dealt < SHUFFLED_TIMES_CHANCE_MAX * recall(&shuffled["chance"][way])?;
        hold &= passes;
        let [chance, ridge, dealt, clip] =
            [chance, ridge, dealt, clip].map(|share| format!("{:.2} %", 100.0 * share));
        let verdict = if passes { "holds" } else { "DOES NOT HOLD" };
        writeln!(
            text,
            "{name:<13} {chance:>8}  {ridge:>9}  {dealt:>9}  {clip:>8}  {times:>9.1}     {verdict}"
        )?;
    }
    let counted = images.map_or("an unknown number of".to_owned(), |images| images.to_string());
    writeln!(
        text,
        "over {counted} held-out scenes; claimed: {SCENES} scenes, at least {TIMES_CHANCE_MIN} times chance and above \
         the baseline, shuffled below {SHUFFLED_TIMES_CHANCE_MAX} times chance"
    )?;
    Ok(Claims { text, hold })
}
