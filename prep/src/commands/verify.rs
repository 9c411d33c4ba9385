//! `prep verify DIR`: every byte, or with `--quick` the structure alone, on all cores.

use std::path::Path;

use rayon::prelude::*;
use shard::verify::{Plan, Report};

use crate::{Error, Result, cli::VerifyArgs, progress, report};

/// Checks a data set and says whether it is sound.
///
/// # Errors
/// Where the check could not be run; damage is an answer.
pub fn run(args: &VerifyArgs) -> Result<bool> {
    let verdict = check(&args.dir, args.quick, args.threads)?;
    report::verified(&args.dir, &verdict, args.json);
    Ok(verdict.is_sound())
}

/// Checks every shard of a data set, with a bar.
pub(super) fn check(dir: &Path, quick: bool, threads: Option<usize>) -> Result<Report> {
    let plan = Plan::of(dir)?;
    let plan = if quick { plan.quick() } else { plan };
    let bar = progress::bytes(plan.jobs().iter().map(|job| job.bytes).sum(), "verifying");
    let threads = threads.unwrap_or(0); // 0 is rayon's word for all cores
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::Config(format!("--threads {threads}: {error}")))?;
    let shards: Result<Vec<_>, shard::Error> = pool.install(|| {
        (0..plan.jobs().len())
            .into_par_iter()
            .map(|job| {
                let shard = plan.check_shard(job)?;
                bar.inc(shard.bytes());
                Ok(shard)
            })
            .collect()
    });
    bar.finish_and_clear();
    Ok(plan.conclude(shards?))
}
