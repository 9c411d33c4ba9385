//! Caption metrics that equal pycocoevalcap's: its tokens, BLEU, ROUGE-L and CIDEr, and, where the user has the Java
//! programs, METEOR and SPICE.
//!
//! Equal means: the tokens are the same strings (see [`tokenize`] for what was compared), and scores agree to nine
//! digits and more; `goldens/` holds what pycocoevalcap 1.2 said and the script that asked it. Left out: CLIPScore and
//! all that needs a model, downloads, the command line.
//!
//! ```
//! use cocoeval::{Hypotheses, Missing, Options, References, evaluate};
//!
//! let references = References::new([
//!     (1.into(), vec!["Two dogs play in the snow.", "Dogs are playing in snow"]),
//!     (2.into(), vec!["A man can't ride a horse.", "A man falls off a horse"]),
//! ]);
//! let hypotheses = Hypotheses::new([(1.into(), "two dogs in the snow")]);
//! let options = Options { missing: Missing::Skip, ..Options::default() };
//! let scores = evaluate(&references, &hypotheses, &options)?;
//! assert_eq!(scores.missing, [2.into()]);
//! assert!(scores.metrics.bleu_1 > 0.8);
//! # Ok::<(), cocoeval::CocoevalError>(())
//! ```

mod bleu;
mod cider;
mod coco;
mod degeneration;
mod error;
mod evaluate;
mod frequencies;
pub mod java;
mod ngrams;
mod rouge;
mod tokenizer;
mod vocabulary;

pub use coco::{CaptionedImage, Hypotheses, ImageId, References};
pub use degeneration::{Degeneration, degeneration};
pub use error::CocoevalError;
pub use evaluate::{
    ImageScores, Metrics, Missing, Options, Scores, TokenizedImage, evaluate, evaluate_tokenized, tokenized,
};
pub use frequencies::DocumentFrequencies;
pub use tokenizer::{tokenize, tokenize_joined};
