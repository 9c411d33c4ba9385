//! `loader verify-resume`: whether a saved state's past is this data in this order. The replay is the library's.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use loader::{Loader, LoaderConfig, LoaderState};

use crate::args::VerifyResumeArgs;

/// Whether the state holds.
pub(crate) fn run(args: &VerifyResumeArgs) -> Result<bool> {
    let state = read(args)?;
    let config = LoaderConfig {
        batch_size: args.batch_size,
        remainder: Some(args.remainder.into()),
        seed: state.seed,
        ..LoaderConfig::default()
    };
    let loader: Loader = args.data.open(config)?;
    let verdict = judge(&loader, &state)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let (holds, problem) = (verdict.is_none(), verdict.as_deref());
        let found = serde_json::json!({
            "holds": holds, "problem": problem, "samples": state.history.samples, "epoch": state.epoch,
            "position": state.position,
        });
        writeln!(out, "{found}")?;
    } else {
        let since = (state.history.epoch, state.history.position);
        let span = format!(
            "{} samples from epoch {}, position {} to epoch {}, position {}",
            state.history.samples, since.0, since.1, state.epoch, state.position
        );
        match &verdict {
            None => writeln!(out, "holds: {span}: the keys are those of this data in this order")?,
            Some(problem) => writeln!(out, "does not hold: {span}: {problem}")?,
        }
    }
    Ok(verdict.is_none())
}

/// What is wrong with the state's past, if anything.
fn judge(loader: &Loader, state: &LoaderState) -> Result<Option<String>> {
    use loader::Error::{OtherData, OtherOrder, OtherSeed};
    let replayed = match loader.replay(state) {
        Ok(replayed) => replayed,
        Err(error @ (OtherData { .. } | OtherSeed { .. } | OtherOrder { .. })) => {
            return Ok(Some(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    if replayed.samples != state.history.samples {
        return Ok(Some(format!(
            "it counts {} samples where the order has {} so far",
            state.history.samples, replayed.samples
        )));
    }
    Ok((replayed != state.history).then(|| {
        format!("its keys hash to {:032x}, those of the order to {:032x}", state.history.hash, replayed.hash)
    }))
}

fn read(args: &VerifyResumeArgs) -> Result<LoaderState> {
    let path = args.state.display();
    let text = fs_err::read_to_string(&args.state)?;
    let mut json: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{path} is no JSON"))?;
    let state = json.get_mut("loader").map(serde_json::Value::take).unwrap_or(json);
    LoaderState::from_json(&state.to_string()).with_context(|| path.to_string())
}
