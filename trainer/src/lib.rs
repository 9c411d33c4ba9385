//! CLIP on candle: models, losses, training, evaluation, and the program `trainer` around them.

pub mod checkpoint;
pub mod config;
pub mod error;
pub mod fsync;
pub mod hub;
pub mod metrics;
pub mod retrieval;
pub mod tensorboard;
pub mod tokenizer;

pub use error::{Error, Result};
