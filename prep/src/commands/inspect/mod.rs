//! `prep inspect DIR`: counts, sizes, caption lengths, a sheet of samples, near-duplicates, and all of that as a page of
//! HTML. It leaves out whether the bytes are sound, which is `verify`'s.

mod facts;
mod grid;
mod html;
mod samples;

pub use facts::{SplitSummary, Stats, Summary};

use facts::Facts;
use shard::Dataset;

use crate::{Error, Result, cli::InspectArgs, near, progress, report};

/// Prints what is in a data set, and draws some of it.
///
/// # Errors
/// Where it cannot be read or drawn.
pub fn run(args: &InspectArgs) -> Result<()> {
    let threads = args.threads.unwrap_or(0); // 0 is rayon's word for all cores
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::Config(format!("--threads {threads}: {error}")))?;
    pool.install(|| inspect(args))
}

fn inspect(args: &InspectArgs) -> Result<()> {
    let dataset = Dataset::open(&args.dir)?;
    let manifest = dataset.manifest();
    let samples: u64 = manifest.splits.iter().map(|split| split.samples).sum();
    let bar = progress::samples(samples, "counting");
    let count = |split| Facts::of(&dataset, split, args.html.is_some(), |samples| bar.inc(samples as u64));
    let facts = manifest.splits.iter().map(count).collect::<Result<Vec<Facts>>>();
    bar.finish_and_clear();
    let facts = facts?;
    let near = (args.near || args.html.is_some()).then(|| {
        let bar = progress::samples(samples, "hashing");
        let found = near::find(&dataset, args.max_distance, |pictures| bar.inc(pictures as u64));
        bar.finish_and_clear();
        found
    });
    let summary = Summary::of(manifest, &facts, near.transpose()?);
    if let Some(path) = &args.html {
        let page = html::page(&dataset, &summary, &facts, args.samples.into())?;
        fs_err::write(path, page).map_err(Error::io("write", path))?;
    }
    if let Some(path) = &args.grid {
        grid::draw(&dataset, args, path)?;
    }
    report::inspected(&args.dir, &summary, args.near, args.json);
    for path in [&args.html, &args.grid].into_iter().flatten().filter(|_| !args.json) {
        report::drawn(path);
    }
    Ok(())
}
