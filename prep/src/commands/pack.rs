//! `prep --dataset …`: open, plan, pack, tell.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{
    Result,
    cli::PackArgs,
    open::Opened,
    output::{Claim, Output, SPILL_NAME},
    pack::pack,
    plan::Plan,
    progress, report,
    settings::Settings,
    source::Source,
    spill::spill,
};

/// Packs a data set.
///
/// # Errors
/// What the source, the folder or the format says.
pub fn run(args: &PackArgs) -> Result<()> {
    let begun = Instant::now();
    let settings = Settings::resolve(args)?;
    let stop = stop_on_signal();
    let opened = settings.source.open(&settings.plan, &stop)?;
    let info = match &opened {
        Opened::Whole(source) => source.info(),
        Opened::Inputs(inputs) => inputs.info(),
    };
    if args.advise {
        return super::advise::run(&settings, opened, &stop);
    }
    if settings.dry_run {
        return dry_run(&settings, &opened);
    }
    // A plan that cannot be leaves no folder behind.
    let plan = match &opened {
        Opened::Whole(source) => Some(Plan::of(&info, source.listings(), &settings.plan_settings())?),
        Opened::Inputs(_) => None,
    };
    let job = settings.pack.manifest(info);
    let output = match Output::claim(&settings.pack.out, &job, settings.plan.shards)? {
        Claim::Finished(manifest) => {
            report::packed(&settings.pack.out, &manifest, None);
            return Ok(());
        }
        Claim::Claimed(output) => output,
    };
    let mut bar = progress::Samples::new();
    let manifest = pack_opened(opened, plan, output, &settings, &stop, &mut bar);
    bar.finish();
    report::packed(&settings.pack.out, &manifest?, Some(begun.elapsed()));
    Ok(())
}

fn pack_opened(
    opened: Opened,
    plan: Option<Plan>,
    output: Output,
    settings: &Settings,
    stop: &AtomicBool,
    bar: &mut progress::Samples,
) -> Result<shard::Manifest> {
    let source: Box<dyn Source> = match opened {
        Opened::Whole(source) => source,
        Opened::Inputs(inputs) => {
            let dir = output.dir().join(SPILL_NAME);
            Box::new(spill(inputs.as_ref(), &dir, &settings.plan, &settings.pack, stop, bar)?)
        }
    };
    let plan = match plan {
        Some(plan) => plan,
        None => Plan::of(&source.info(), source.listings(), &settings.plan_settings())?,
    };
    bar.plan(plan.len());
    pack(output, source.as_ref(), &plan, &settings.pack, stop, bar)
}

/// Set by the first signal that asks to stop. A second one ends the program at once; either way no manifest is there,
/// and a rerun goes on.
pub(super) fn stop_on_signal() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let _ = ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    stop
}

/// Says what would be written.
fn dry_run(settings: &Settings, opened: &Opened) -> Result<()> {
    match opened {
        Opened::Whole(source) => {
            let plan = Plan::of(&source.info(), source.listings(), &settings.plan_settings())?;
            report::planned(&settings.pack, &source.info(), &plan);
        }
        Opened::Inputs(inputs) => report::planned_inputs(&settings.pack, &inputs.info(), inputs.names()),
    }
    Ok(())
}
