//! CLIP on candle: models, losses, training, evaluation, and the program `trainer` around them.

pub mod config;
pub mod error;
pub mod hub;
pub mod tokenizer;

pub use error::{Error, Result};
