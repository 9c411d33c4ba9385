//! Caption metrics that equal pycocoevalcap's.

mod tokenizer;

pub use tokenizer::{tokenize, tokenize_joined};
