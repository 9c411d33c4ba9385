//! `prep --dataset …`: list, plan, pack, tell.

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
    pack::{Outcome, pack},
    plan::Plan,
    progress, report,
    settings::Settings,
};

/// Packs a data set.
///
/// # Errors
/// What the source, the folder or the format says.
pub fn run(args: &PackArgs) -> Result<()> {
    let begun = Instant::now();
    let settings = Settings::resolve(args)?;
    let source = settings.open_source()?;
    let plan = Plan::of(source.as_ref(), &settings.plan_settings())?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    // A second signal ends the program at once; either way no manifest is there and a rerun starts over.
    let _ = ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    let mut bar = progress::Samples::new(plan.len());
    let outcome = pack(source.as_ref(), &plan, &settings.pack, &stop, &mut bar);
    bar.finish();
    match outcome? {
        Outcome::Written(manifest) => report::packed(&settings.pack.out, &manifest, Some(begun.elapsed())),
        Outcome::AlreadyThere(manifest) => report::packed(&settings.pack.out, &manifest, None),
    }
    Ok(())
}
