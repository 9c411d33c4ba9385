//! CLIP on candle: models, losses, training, evaluation, and the program `trainer` around them.

pub mod baseline;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod fsync;
pub mod hub;
pub mod metrics;
pub mod plots;
pub mod resize;
pub mod retrieval;
pub mod run;
pub mod tensorboard;
pub mod tokenizer;

pub use error::{Error, Result};
