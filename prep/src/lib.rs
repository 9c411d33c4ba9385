//! Image-text sets → shuffled shards: sources are listed and planned, pictures decoded, resized and packed on every
//! core, in bytes that do not depend on how many there are.
//!
//! The program `prep` is a thin layer over this library. It leaves out reading in the order of training (`loader`)
//! and everything that learns (`trainer`).

pub mod cli;
pub mod commands;
mod contain;
mod error;
pub mod fetch;
mod ledger;
pub mod near;
pub mod open;
mod ordered;
pub mod output;
pub mod pack;
pub mod pixels;
pub mod plan;
mod progress;
mod report;
pub mod settings;
pub mod source;
pub mod spill;

pub use error::{Error, Result};
pub use report::unwritten;
