//! CLIP training and evaluation on candle.

pub mod init;
pub mod loss;
pub mod model;
pub mod ops;
pub mod optim;
pub mod schedule;
