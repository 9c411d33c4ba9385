//! The next batch as tensors, made ready by a thread of its own while the model learns from the last one.
//!
//! One batch is ready and waits at most, so memory is one batch more. Captions are tokenised, pixels brought to the
//! model's size and the bytes sent to a device in the meantime. The order of batches and errors is the loader's.
//! Leaves out reading, which the loader's threads do.

use crate::error::{Error, Result};
use loader::Batch;
use std::sync::mpsc::sync_channel;

/// A batch and its tensors.
pub(crate) type Ready<I> = (Batch, I);

/// Which step a batch belongs to, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbering {
    /// Steps that are made.
    pub(crate) steps: u64,
    /// Batches gathered for the next one.
    pub(crate) gathered: u64,
    /// Batches a step.
    pub(crate) accum_steps: u64,
}

/// Calls `learn` with what gives the next of `batches`, or none behind the last.
pub(crate) fn with_batches<I: Send, R>(
    prepare: &(impl Fn(&Batch) -> Result<I> + Sync),
    batches: impl Iterator<Item = std::result::Result<Batch, loader::Error>> + Send,
    numbering: Numbering,
    learn: impl FnOnce(&mut dyn FnMut() -> Option<Result<Ready<I>>>) -> R,
) -> R {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(0);
        scope.spawn(move || {
            let Numbering { steps, gathered, accum_steps } = numbering;
            for (place, batch) in (gathered..).zip(batches) {
                let step = steps + 1 + place / accum_steps.max(1);
                let batch = batch.map_err(Error::loader(format!("read the batch of step {step}")));
                let ready = batch.and_then(|batch| {
                    let inputs = prepare(&batch)?;
                    Ok((batch, inputs))
                });
                let is_over = ready.is_err();
                // Nobody listens any more when the run was stopped.
                if send.send(ready).is_err() || is_over {
                    return;
                }
            }
        });
        // The receiver goes with the closure's end, so that the thread ends too.
        let receive = receive;
        learn(&mut || receive.recv().ok())
    })
}
