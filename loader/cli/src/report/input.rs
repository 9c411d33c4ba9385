//! What a report is about: a data set's own order, an imagined one's, or files of keys that any loader delivered.
//! Sample numbers, shards and source rows come from here; nothing is measured.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use loader::{LoaderConfig, Origin, Remainder, report::Delivered};
use shard::{Dataset, ShardReader};

use crate::args::ReportArgs;

pub(super) struct Input {
    /// What was measured, and what is not known of it: a sentence or two.
    pub(super) about: String,
    pub(super) delivered: Delivered,
}

impl Input {
    pub(super) fn of(args: &ReportArgs) -> Result<Input> {
        if let (Some(dir), []) = (&args.dir, args.keys.as_slice()) {
            return of_loader(dir, args);
        }
        if !args.view.is_plain() {
            bail!("views, mixtures and --distinct go with DIR alone, without --keys or --synthetic");
        }
        let set = match (&args.dir, args.synthetic) {
            (Some(dir), _) => Some(Set::open(dir, &args.view.split)?),
            (None, Some(samples)) => Some(Set::imagined(samples, args.shard_samples)?),
            (None, None) => None,
        };
        match (set, args.keys.as_slice()) {
            (Some(set), []) => set.ordered(args),
            (Some(set), files) => set.looked_up(args, files),
            (None, files) => keys_alone(args, files),
        }
    }
}

/// The samples that are there, in stored order.
struct Set {
    name: String,
    shards: Vec<u64>,
    source: Vec<u64>,
    /// Sample numbers by key, where keys are looked up.
    keys: HashMap<String, u64>,
}

/// The program tells damage from other failures by the loader's error.
fn shards_of(dir: &Path, split: &str) -> loader::Result<Vec<ShardReader>> {
    Ok(Dataset::open(dir)?.open_split(split)?)
}

impl Set {
    fn open(dir: &Path, split: &str) -> Result<Set> {
        let (mut shards, mut source, mut keys) = (Vec::new(), Vec::new(), HashMap::new());
        for (number, shard) in (0..).zip(shards_of(dir, split)?) {
            for row in 0..shard.len() {
                let row = shard.row(row).map_err(loader::Error::from)?;
                keys.insert(row.key.to_owned(), source.len() as u64);
                shards.push(number);
                source.push(row.source_row);
            }
        }
        if source.is_empty() {
            bail!("split {split:?} of {} has no samples", dir.display());
        }
        Ok(Set { name: format!("split {split:?} of {}", dir.display()), shards, source, keys })
    }

    fn imagined(samples: u64, shard_samples: u64) -> Result<Set> {
        if samples == 0 || samples > u64::from(u32::MAX) {
            bail!("--synthetic takes 1 to 2^32 - 1 samples, not {samples}");
        }
        let shards = (0..samples).map(|sample| sample / shard_samples).collect();
        let name = "an imagined data set in source order".to_owned();
        Ok(Set { name, shards, source: (0..samples).collect(), keys: HashMap::new() })
    }

    fn delivered(self, args: &ReportArgs, epochs: Vec<Vec<u64>>) -> Delivered {
        Delivered {
            shards: Some(self.shards),
            source: Some(self.source.clone()),
            ..Delivered::new(self.source.len() as u64, args.batch_size, epochs)
        }
    }

    fn ordered(self, args: &ReportArgs) -> Result<Input> {
        let samples = self.source.len() as u64;
        // Samples are numbered one shard after the other.
        let shards: Vec<u64> = self.shards.chunk_by(|a, b| a == b).map(|shard| shard.len() as u64).collect();
        let mut epochs = Vec::new();
        for epoch in 0..args.epochs {
            let order = args.view.shuffle.epoch_over(args.seed, epoch, &shards)?;
            epochs.push((0..samples).map(|position| order.sample(position)).collect());
        }
        let size = size(args, samples, epochs.len());
        let about = format!(
            "{}, by this loader's order (shuffle {}, seed {}): {size}",
            self.name, args.view.shuffle, args.seed
        );
        Ok(Input { about, delivered: self.delivered(args, epochs) })
    }

    fn looked_up(self, args: &ReportArgs, files: &[PathBuf]) -> Result<Input> {
        let mut epochs = Vec::new();
        for path in files {
            let mut epoch = Vec::new();
            for line in lines(path)? {
                let known = self.keys.get(&line.key);
                let place = || {
                    format!(
                        "{}:{}: no sample of {} has key {:?}",
                        path.display(),
                        line.number,
                        self.name,
                        line.key
                    )
                };
                epoch.push(*known.with_context(place)?);
            }
            epochs.push(epoch);
        }
        let samples = self.source.len() as u64;
        let about = format!("keys delivered from {}: {}", self.name, size(args, samples, epochs.len()));
        Ok(Input { about, delivered: self.delivered(args, epochs) })
    }
}

fn size(args: &ReportArgs, samples: u64, epochs: usize) -> String {
    let s = if epochs == 1 { "" } else { "s" };
    format!("{samples} samples, {epochs} epoch{s}, batches of {}", args.batch_size)
}

/// The order of a data set, or of a view or a mixture, as training would have it.
fn of_loader(dir: &Path, args: &ReportArgs) -> Result<Input> {
    let config = LoaderConfig {
        batch_size: usize::try_from(args.batch_size)?,
        remainder: Some(Remainder::PadLast),
        seed: args.seed,
        ..LoaderConfig::default()
    };
    let loader = args.view.open(dir, config)?;
    if loader.draws().iter().any(|part| part.draws != part.samples) {
        bail!("an epoch that draws samples more or less than once has no ideal shuffle to be held against");
    }
    // Those that take part, numbered anew.
    let (mut shards, mut source, mut number) = (Vec::new(), Vec::new(), HashMap::new());
    for sample in loader.samples() {
        let Origin { part, shard, source_row } = loader.origin(sample)?;
        number.insert(sample, source.len() as u64);
        shards.push(shard as u64);
        source.push((part, source_row));
    }
    let mut epochs = Vec::new();
    for epoch in 0..args.epochs {
        let samples = loader.epoch_samples(epoch)?.map(|sample| Ok(number[&sample?]));
        epochs.push(samples.collect::<loader::Result<Vec<u64>>>()?);
    }
    let samples = loader.len();
    let about = format!(
        "split {:?} of {}, by this loader's order (shuffle {}, seed {}): {}",
        args.view.split,
        dir.display(),
        loader.order(),
        args.seed,
        size(args, samples, epochs.len())
    );
    let delivered = Delivered {
        shards: Some(shards),
        source: Some(ranks(&source)),
        ..Delivered::new(samples, args.batch_size, epochs)
    };
    Ok(Input { about, delivered })
}

/// Each value's place among all.
fn ranks(values: &[(usize, u64)]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by_key(|&place| values[place]);
    let mut ranks = vec![0; values.len()];
    order.into_iter().zip(0..).for_each(|(place, rank)| ranks[place] = rank);
    ranks
}

/// A line of a key file.
struct Line {
    number: usize,
    shard: Option<String>,
    key: String,
}

fn lines(path: &Path) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(fs_err::File::open(path)?).lines()) {
        let line = line.with_context(|| format!("{}:{number}", path.display()))?;
        let (shard, key) = match line.split_once('\t') {
            Some((shard, key)) => (Some(shard.to_owned()), key.to_owned()),
            None => (None, line),
        };
        if key.is_empty() {
            bail!("{}:{number}: the line has no key", path.display());
        }
        lines.push(Line { number, shard, key });
    }
    if lines.is_empty() {
        bail!("{}: no keys", path.display());
    }
    Ok(lines)
}

/// Keys without a data set: all that is known is what the lines say.
fn keys_alone(args: &ReportArgs, files: &[PathBuf]) -> Result<Input> {
    let read: Result<Vec<Vec<Line>>> = files.iter().map(|path| lines(path)).collect();
    let read = read?;
    let mut keys: Vec<&str> = read.iter().flatten().map(|line| line.key.as_str()).collect();
    // Numbers without leading zeros sort as numbers.
    let numbers = keys.iter().all(|key| key.len() <= 18 && key.bytes().all(|byte| byte.is_ascii_digit()));
    let rank = |key: &str| if numbers { key.parse::<u64>().unwrap_or_default() } else { 0 };
    keys.sort_unstable_by_key(|key| (rank(key), *key));
    keys.dedup();
    let sample_of: HashMap<&str, u64> = keys.iter().copied().zip(0..).collect();
    let number = |line: &Line| sample_of[line.key.as_str()];
    let epochs = read.iter().map(|lines| lines.iter().map(number).collect()).collect();
    let samples = keys.len() as u64;
    let shards = shards(files, &read, &sample_of)?;
    let about = format!(
        "delivered keys: {}. The distinct keys of all files count as the samples, sorted as {} they count as the \
         source's order{}",
        size(args, samples, files.len()),
        if numbers { "numbers" } else { "text" },
        if shards.is_some() { "" } else { "; shards are not known" }
    );
    let source = Some((0..samples).collect());
    Ok(Input {
        about,
        delivered: Delivered { shards, source, ..Delivered::new(samples, args.batch_size, epochs) },
    })
}

/// The shard of each sample, where the lines say it: all of them or none, and one shard for one key.
fn shards(files: &[PathBuf], read: &[Vec<Line>], sample_of: &HashMap<&str, u64>) -> Result<Option<Vec<u64>>> {
    let all = || files.iter().zip(read).flat_map(|(path, lines)| lines.iter().map(move |line| (path, line)));
    if all().all(|(_, line)| line.shard.is_none()) {
        return Ok(None);
    }
    let mut names: HashMap<&str, u64> = HashMap::new();
    let mut of = vec![None; sample_of.len()];
    for (path, line) in all() {
        let place = || format!("{}:{}", path.display(), line.number);
        let Some(name) = &line.shard else {
            bail!("{}: no shard before the key, where other lines have one", place());
        };
        let next = names.len() as u64;
        let shard = *names.entry(name).or_insert(next);
        let known = &mut of[sample_of[line.key.as_str()] as usize];
        if known.replace(shard).is_some_and(|before| before != shard) {
            bail!("{}: key {:?} was in another shard than {name:?} before", place(), line.key);
        }
    }
    Ok(of.into_iter().collect())
}
