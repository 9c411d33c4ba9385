//! What the end-to-end tests share: short calls of the programs and a training of seconds.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::Path;

use e2e::{Finished, programs, run};

/// A configuration for the smallest model; sizes of batches follow the data.
pub(crate) fn config(dir: &Path, batch_size: usize, steps: usize) {
    let text = format!(
        "tokenizer = {{ vocab_size = 300 }}\n\
         [model]\npreset = \"nano\"\n\
         [data]\nbatch_size = {batch_size}\n\
         [optim]\nepochs = 0\nsteps = {steps}\nlr = 1e-3\nwarmup_steps = 2\n\
         [train]\nlog_every = 1\neval_every = 0\ncheckpoint_every = 0\n"
    );
    fs_err::write(dir.join("nano.toml"), text).unwrap();
}

pub(crate) fn prep(arguments: &[&str], dir: &Path) -> Finished {
    run(&programs().prep, arguments, dir)
}

pub(crate) fn loader(arguments: &[&str], dir: &Path) -> Finished {
    run(&programs().loader, arguments, dir)
}

pub(crate) fn trainer(arguments: &[&str], dir: &Path) -> Finished {
    run(&programs().trainer, arguments, dir)
}

/// A folder that holds a source below `source`, made by `make`.
pub(crate) fn folder(make: impl FnOnce(&Path) -> std::io::Result<()>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("source")).unwrap();
    make(&folder.path().join("source")).unwrap();
    folder
}
