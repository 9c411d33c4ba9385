//! CLIP on candle: models, losses, training, evaluation, and the program `trainer` around them.
//!
//! A run is a folder, `runs/NAME/`, and is continued bit for bit on a CPU with any number of threads.
//! [`fit::train`] is the loop; [`step`] one step of it; [`embed`] and [`retrieval`] are the evaluation.
//! Leaves out printing, arguments and exit codes, which are the binary's.

pub mod accuracy;
pub(crate) mod ahead;
pub mod baseline;
pub mod bench;
pub mod captioner;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod device;
pub mod embed;
pub mod error;
pub mod fit;
pub mod fsync;
pub mod hub;
pub mod imagefolder;
pub mod init;
pub mod ledger;
pub mod lm;
pub mod loss;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod optim;
pub mod periodicity;
pub mod plots;
pub mod probe;
pub mod resize;
pub mod retrieval;
pub mod run;
pub mod samples;
pub mod schedule;
pub mod search;
pub mod step;
pub mod sweep;
pub mod table;
pub mod tensorboard;
pub mod tokenizer;
pub mod trained;
pub mod weights;
pub mod zeroshot;

pub use error::{Error, Result};
