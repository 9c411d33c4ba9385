//! `loader order`: the keys that an epoch's batches deliver, padding included, through the real reading path.

use std::io::{BufWriter, Write};

use anyhow::Result;
use loader::LoaderConfig;

use crate::args::{OrderArgs, tell_substitutions};

pub(crate) fn run(args: &OrderArgs) -> Result<()> {
    let defaults = LoaderConfig::default();
    let config = LoaderConfig {
        batch_size: args.batch_size,
        remainder: Some(args.remainder.into()),
        seed: args.seed,
        threads: args.threads.unwrap_or(defaults.threads),
        ..defaults
    };
    let loader = args.data.open(config)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for batch in loader.epoch(args.epoch)? {
        // What came before a damaged sample is printed first.
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                out.flush()?;
                return Err(error.into());
            }
        };
        for i in 0..batch.len() {
            writeln!(out, "{}", batch.key(i))?;
        }
    }
    out.flush()?;
    tell_substitutions(&loader);
    Ok(())
}
