//! `cargo xtask periodicity`: the experiment of the project. One small CLIP is trained on the same samples under
//! different orders, listed by class and prepared shuffled, with several seeds each; `trainer periodicity` says in which
//! of them the loss has the period of an epoch. It ends with a table and a picture.
//!
//! A run that is complete is not made again, one that was stopped goes on. It leaves out the statistic.

mod clusters;
mod options;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command::{Line, root};
use crate::demo;
use options::Options;

/// What is trained on: how it is prepared twice, and under which orders.
struct Experiment {
    /// In headings and names of folders.
    name: &'static str,
    /// How its samples are listed, in words.
    listed: &'static str,
    /// What `prep` takes beside `--order` and `--out`.
    prep: Vec<String>,
    /// What `trainer train` takes beside the order and the seed.
    train: Vec<String>,
    /// The buffer of the order `shard-buffer`.
    buffer: u32,
}

/// One row of the table.
struct Condition {
    /// How the data was prepared: `source` or `shuffled`.
    prepared: &'static str,
    order: String,
    /// The folders of its runs.
    runs: Vec<String>,
}

impl Condition {
    /// In words, for the picture.
    fn title(&self, listed: &str) -> String {
        let prepared = if self.prepared == "source" { listed } else { "prepared shuffled" };
        format!("{prepared}, order {}", self.order)
    }
}

/// Prepares, trains what is not trained yet, measures, and writes the table and the picture.
///
/// # Errors
/// Where a command fails or a file cannot be written.
pub(crate) fn run() -> Result<()> {
    let options = Options::parse(std::env::args().skip(2))?;
    let root = root()?;
    let programs = match &options.programs {
        Some(folder) => folder.clone(),
        None => demo::build(&root)?,
    };
    let lab = Lab { root, programs, dir: options.dir.clone(), seeds: options.seeds() };
    std::fs::create_dir_all(&lab.dir).with_context(|| format!("cannot make {}", lab.dir.display()))?;
    let mut sections = vec![lab.section(&shapes(options.quick))?];
    match &options.flickr {
        Some(photos) => sections.push(lab.section(&lab.flickr(photos, options.quick)?)?),
        None => println!(
            "\nSKIPPED: photos sorted by cluster of their captions; give --flickr DIR with captions.jsonl"
        ),
    }
    let text = report::document(&sections, &options, &lab.root)?;
    let table = lab.dir.join("periodicity.md");
    std::fs::write(&table, &text).with_context(|| format!("cannot write {}", table.display()))?;
    println!("\n{text}\n{}", table.display());
    for section in &sections {
        println!("{}", section.picture.display());
    }
    if options.record {
        report::record(&text, &sections, &lab.root)?;
    }
    Ok(())
}

/// Procedural scenes, which `prep` lists by class.
fn shapes(quick: bool) -> Experiment {
    let (scenes, val, shards) = if quick { ("1600", "200", "16") } else { ("8000", "1000", "40") };
    let prep = ["--dataset", "shapes", "--limit", scenes, "--val", val, "--size", "64", "--shards", shards];
    Experiment {
        name: "shapes",
        listed: "listed by class",
        prep: prep.map(str::to_owned).into(),
        train: if quick { vec!["optim.epochs=4".to_owned()] } else { Vec::new() },
        buffer: if quick { 200 } else { 1000 },
    }
}

/// What the experiments share.
struct Lab {
    root: PathBuf,
    /// The folder of the programs, as they are typed.
    programs: String,
    dir: PathBuf,
    seeds: u64,
}

impl Lab {
    /// Photos with captions, listed by cluster of their captions.
    fn flickr(&self, photos: &Path, quick: bool) -> Result<Experiment> {
        let list = self.dir.join("flickr-by-cluster.jsonl");
        clusters::sort_list(&photos.join("captions.jsonl"), &list)?;
        let [list, photos] = [&list, photos].map(|path| path.display().to_string());
        let prep =
            ["--dataset", "jsonl", "--from", &list, "--images", &photos, "--val", "100", "--size", "64"];
        let epochs = if quick { "optim.epochs=4" } else { "optim.epochs=12" };
        let train = [epochs, "data.batch_size=16", "train.eval_limit=100"];
        Ok(Experiment {
            name: "flickr",
            listed: "listed by cluster of captions",
            prep: prep.into_iter().chain(["--shards", "30"]).map(str::to_owned).collect(),
            train: train.map(str::to_owned).into(),
            // A sixth of the photos, as 1,000 are of the scenes or a little more.
            buffer: 100,
        })
    }

    /// One experiment, from the data to its rows.
    fn section(&self, experiment: &Experiment) -> Result<report::Section> {
        let place = |name: String| self.dir.join(name).to_string_lossy().into_owned();
        let mut conditions = Vec::new();
        let buffer = format!("shard-buffer:{}", experiment.buffer);
        for (prepared, orders) in
            [("source", vec!["none", &buffer, "global"]), ("shuffled", vec!["none", "global"])]
        {
            let data = place(format!("{}-{prepared}", experiment.name));
            self.prepare(experiment, prepared, &data)?;
            for order in orders {
                let name =
                    |seed| format!("{}-{prepared}-{}-{seed}", experiment.name, order.replace(':', "-"));
                let runs: Vec<String> = (0..self.seeds).map(name).collect();
                for (seed, run) in runs.iter().enumerate() {
                    self.train(experiment, &data, order, seed, run)?;
                }
                let runs = runs.into_iter().map(|run| place(format!("runs/{run}"))).collect();
                conditions.push(Condition { prepared, order: order.to_owned(), runs });
            }
        }
        let picture = self.dir.join(format!("{}.png", experiment.name));
        let measured = self.measure(experiment, &conditions, &picture)?;
        let heading = format!("{}, {}", experiment.name, experiment.listed);
        Ok(report::Section { name: experiment.name, heading, conditions, measured, picture })
    }

    fn prepare(&self, experiment: &Experiment, order: &str, data: &str) -> Result<()> {
        if Path::new(data).join("dataset.json").is_file() {
            println!("\n{data} is prepared");
            return Ok(());
        }
        let prep = format!("{}/prep", self.programs);
        let words = [prep.as_str()].into_iter().chain(experiment.prep.iter().map(String::as_str));
        let words: Vec<&str> = words.chain(["--order", order, "--out", data]).collect();
        Line::new(&words, &self.root).run()
    }

    fn train(&self, experiment: &Experiment, data: &str, order: &str, seed: usize, run: &str) -> Result<()> {
        let runs = self.dir.join("runs");
        if is_complete(&runs.join(run)) {
            println!("\n{run} is trained");
            return Ok(());
        }
        let trainer = format!("{}/trainer", self.programs);
        let runs_dir = runs.to_string_lossy().into_owned();
        let settings = [format!("data.order={order}"), format!("train.seed={seed}")];
        let mut words = vec![&*trainer, "train", "--config", "configs/periodicity.toml", "--data", data];
        words.extend(["--runs-dir", &runs_dir, "--run", run]);
        settings.iter().chain(&experiment.train).for_each(|setting| words.extend(["--set", setting]));
        if runs.join(run).join("config.toml").is_file() {
            words.push("--resume");
        }
        // The allocator keeps the pages of one step for the next.
        Line::new(&words, &self.root).env("MIMALLOC_PURGE_DELAY", "-1").run()
    }

    /// What `trainer periodicity` says of all conditions; it draws the picture.
    fn measure(&self, experiment: &Experiment, conditions: &[Condition], picture: &Path) -> Result<Value> {
        let trainer = format!("{}/trainer", self.programs);
        let title = |condition: &Condition| condition.title(experiment.listed);
        let runs = conditions.iter().flat_map(|condition| {
            condition.runs.iter().map(move |run| format!("{}={run}", title(condition)))
        });
        let picture = picture.to_string_lossy().into_owned();
        let words: Vec<String> = [trainer, "periodicity".to_owned()]
            .into_iter()
            .chain(runs)
            .chain(["--out".to_owned(), picture, "--json".to_owned()])
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // 1 is its answer where a condition has a period.
        let text = Line::new(&words, &self.root).answer(&[0, 1])?;
        serde_json::from_str(&text).context("its output is no JSON")
    }
}

/// Whether a run has made all its steps: its only evaluation is the last thing it logs.
fn is_complete(run: &Path) -> bool {
    report::last_evaluation(run).is_ok()
}
