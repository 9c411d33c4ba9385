//! `prep repair DIR`: finds damaged shards and makes just these again from the source, byte for byte, or says why it
//! cannot. A shard takes its place only when its digests are those of the manifest. It leaves out damage that no
//! source can mend: of the manifest, of side tables, of files that nobody lists.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use shard::{Manifest, place, verify};

use super::{pack::stop_on_signal, verify::check};
use crate::{
    Error, Result,
    cli::RepairArgs,
    open::Opened,
    output::SPILL_NAME,
    pack::{Leaks, Packer},
    plan::Plan,
    progress, report,
    settings::Settings,
    source::{Source, inputs::Inputs},
    spill::spill_some,
};

/// Where shards are made before they take their place.
const WORK_NAME: &str = "prep-repair";

/// A damaged shard: its split and number.
type Damaged = BTreeSet<(String, u32)>;

/// Repairs a data set and says whether it is sound now.
///
/// # Errors
/// Where the source cannot be read, or is another.
pub fn run(args: &RepairArgs) -> Result<bool> {
    let before = check(&args.dir, false, args.threads)?;
    if before.is_sound() {
        report::verified(&args.dir, &before, false);
        return Ok(true);
    }
    let manifest = Manifest::read(&args.dir).map_err(|error| {
        let problem = format!(
            "{error}: what it was made with is not known for sure, so nothing is made again; \
             give prep the command that wrote the data set and another --out"
        );
        Error::Output { path: args.dir.clone(), problem }
    })?;
    let (damaged, beyond) = damaged_shards(&before, &manifest);
    report::beyond_repair(&beyond);
    if damaged.is_empty() {
        return Ok(false);
    }
    let settings = Settings::of_manifest(args, &manifest)?;
    let stop = stop_on_signal();
    let work = args.dir.join(WORK_NAME);
    fs_err::create_dir_all(&work).map_err(Error::io("create", &work))?;
    let outcome = make_again(&Job { args, manifest: &manifest, damaged, settings, stop, work: &work });
    fs_err::remove_dir_all(&work).map_err(Error::io("remove", &work))?;
    outcome?;
    let after = check(&args.dir, false, args.threads)?;
    report::verified(&args.dir, &after, false);
    Ok(after.is_sound())
}

struct Job<'a> {
    args: &'a RepairArgs,
    manifest: &'a Manifest,
    damaged: Damaged,
    settings: Settings,
    stop: Arc<AtomicBool>,
    work: &'a Path,
}

/// Shards to make again, and damages that are of no shard.
fn damaged_shards(found: &verify::Report, manifest: &Manifest) -> (Damaged, Vec<String>) {
    let (mut damaged, mut beyond) = (Damaged::new(), Vec::new());
    for damage in &found.damages {
        let shard = manifest.splits.iter().find_map(|split| {
            let number = split.shards.iter().position(|shard| {
                [shard.tar_name(), shard.index_name()]
                    .iter()
                    .any(|name| damage.file == format!("{}/{name}", split.name))
            })?;
            Some((split.name.clone(), number as u32))
        });
        match shard {
            Some(shard) => _ = damaged.insert(shard),
            None => beyond.push(damage.to_string()),
        }
    }
    (damaged, beyond)
}

fn make_again(job: &Job<'_>) -> Result<()> {
    match job.settings.source.open(&job.settings.plan, &job.stop)? {
        Opened::Whole(source) => rebuild_from(job, source.as_ref()),
        Opened::Inputs(inputs) => rebuild_inputs(job, inputs.as_ref()),
    }
}

fn same_source(job: &Job<'_>, found: &shard::SourceInfo) -> Result<()> {
    let made_from = &job.manifest.source;
    if found == made_from {
        return Ok(());
    }
    let (name, revision) = (&made_from.name, &made_from.revision);
    Err(Error::Config(format!(
        "the data set was made from {name} ({revision}), this is {} ({}): other samples would come of it",
        found.name, found.revision
    )))
}

/// Takes in of every input what the damaged shards need.
fn rebuild_inputs(job: &Job<'_>, inputs: &dyn Inputs) -> Result<()> {
    same_source(job, &inputs.info())?;
    let (plan, pack) = (&job.settings.plan, &job.settings.pack);
    // Which samples are held out is known when all are listed: for train alone the hash tells before.
    let only_train = job.damaged.iter().all(|(split, _)| split == "train");
    let wanted = |id: &str| {
        let shard = place::shard_of(place::hash128(plan.seed, id), plan.shards);
        !only_train || job.damaged.contains(&("train".to_owned(), shard))
    };
    let dir = job.work.join(SPILL_NAME);
    let mut bar = progress::Samples::new();
    let spilled = spill_some(inputs, &dir, plan, pack, &job.stop, &mut bar, &wanted)?;
    bar.finish();
    rebuild_from(job, &spilled)
}

fn rebuild_from(job: &Job<'_>, source: &dyn Source) -> Result<()> {
    same_source(job, &source.info())?;
    let pack = &job.settings.pack;
    let plan = Plan::of(&source.info(), source.listings(), &job.settings.plan_settings())?;
    // Train is compared with the other splits where leaks are excluded: they come first.
    let (train, others): (Vec<_>, Vec<_>) = job.damaged.iter().partition(|(split, _)| split == "train");
    for (split, number) in others.into_iter().chain(train) {
        let entry = job.manifest.splits.iter().find(|entry| entry.name == *split);
        let expected = entry.and_then(|entry| entry.shards.get(*number as usize));
        let split_plan = plan.splits.iter().find(|plan| plan.name == *split);
        let (Some(expected), Some(split_plan)) = (expected, split_plan) else { continue };
        let leaks = Leaks::of(pack, &job.args.dir, split, job.manifest.splits.iter())?;
        let dir = job.work.join(split);
        fs_err::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let made = Packer::new(source, &plan, split_plan, pack, leaks, &job.stop).rebuild(*number, &dir)?;
        let name = format!("{split}/{}", expected.name);
        if (&made.tar_blake3, &made.index_blake3) != (&expected.tar_blake3, &expected.index_blake3) {
            report::not_repaired(
                &name,
                "the source gives other bytes for it now: a picture or a caption has changed",
            );
            continue;
        }
        for file in [made.tar_name(), made.index_name()] {
            let to = job.args.dir.join(split).join(&file);
            fs_err::rename(dir.join(&file), &to).map_err(Error::io("write", &to))?;
        }
        report::repaired(&name);
    }
    Ok(())
}
