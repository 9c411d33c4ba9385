//! The section `[decode]`: how captions are written. Leaves out the writing.

use super::caption::{CaptionConfig, Family, Sampler, refuse_unused};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Keys of writing token by token, and of writing by a diffusion.
const TOKEN_KEYS: &[&str] = &[
    "method",
    "temperature",
    "top_k",
    "top_p",
    "beams",
    "length_penalty",
    "repetition_penalty",
    "no_repeat_ngram",
];
const DIFFUSION_KEYS: &[&str] = &["sampler", "diffusion_steps", "guidance"];

/// How captions are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecodeConfig {
    /// How the next token is chosen.
    pub method: DecodeMethod,
    /// Logits are divided by it before a token is drawn.
    pub temperature: f64,
    /// Tokens that are drawn from: the most likely ones; 0: all.
    pub top_k: usize,
    /// Tokens that are drawn from: the fewest whose probabilities reach this.
    pub top_p: f64,
    /// Captions that a beam search follows.
    pub beams: usize,
    /// A beam's score is its log-probability over length to this power.
    pub length_penalty: f64,
    /// Divides positive logits of tokens that were written already, and multiplies negative ones.
    pub repetition_penalty: f64,
    /// No run of so many tokens comes twice; 0: any may.
    pub no_repeat_ngram: usize,
    /// Tokens before a caption may end.
    pub min_length: usize,
    /// Tokens of a caption at most; 0: what the context has room for.
    pub max_length: usize,
    /// Captions that are written for a picture, of which CLIP's favourite is kept.
    pub candidates: usize,
    /// How a diffusion writes.
    pub sampler: Sampler,
    /// Estimates that a diffusion makes.
    pub diffusion_steps: usize,
    /// How far a diffusion goes from what it says without the picture to what it says with it, and beyond.
    pub guidance: f64,
    /// Seed of what is drawn.
    pub seed: u64,
}

impl Default for DecodeConfig {
    fn default() -> Self {
        Self {
            method: DecodeMethod::Greedy,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            beams: 4,
            length_penalty: 1.0,
            repetition_penalty: 1.0,
            no_repeat_ngram: 0,
            min_length: 1,
            max_length: 0,
            candidates: 1,
            sampler: Sampler::Ddim,
            diffusion_steps: 10,
            guidance: 1.0,
            seed: 0,
        }
    }
}

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecodeMethod {
    /// The likeliest.
    #[default]
    Greedy,
    /// Drawn.
    Sample,
    /// The best of several captions that are followed at once.
    Beam,
}

impl DecodeConfig {
    pub(super) fn validate(&self, caption: &CaptionConfig) -> Result<()> {
        let room = caption.context_length - 2;
        let refuse = |key: &str, value: usize, allowed: String| {
            Err(Error::Config { key: key.to_owned(), value: value.to_string(), allowed })
        };
        if self.max_length > room {
            let allowed = format!("at most caption.context_length less its two markers, which is {room}");
            return refuse("decode.max_length", self.max_length, allowed);
        }
        let longest = if self.max_length == 0 { room } else { self.max_length };
        if self.min_length > longest {
            let allowed = format!("at most the {longest} tokens that a caption may have");
            return refuse("decode.min_length", self.min_length, allowed);
        }
        if caption.family == Family::Diffusion {
            refuse_unused("decode", self, TOKEN_KEYS, "in a diffusion, which writes whole captions at once")?;
            return self.validate_diffusion(caption);
        }
        refuse_unused("decode", self, DIFFUSION_KEYS, "in a family that writes token by token")?;
        if self.candidates > 1 && self.method == DecodeMethod::Greedy {
            let allowed =
                "1 with decode.method = \"greedy\", which has one answer; \"sample\" or \"beam\" have more";
            return refuse("decode.candidates", self.candidates, allowed.to_owned());
        }
        if self.candidates > self.beams && self.method == DecodeMethod::Beam {
            let allowed = format!("at most decode.beams, which is {}", self.beams);
            return refuse("decode.candidates", self.candidates, allowed);
        }
        Ok(())
    }

    fn validate_diffusion(&self, caption: &CaptionConfig) -> Result<()> {
        // A shorter diffusion makes as many estimates as it has steps.
        let is_given = self.diffusion_steps != Self::default().diffusion_steps;
        if is_given && self.diffusion_steps > caption.diffusion.steps {
            return Err(Error::Config {
                key: "decode.diffusion_steps".into(),
                value: self.diffusion_steps.to_string(),
                allowed: format!("at most caption.diffusion.steps, which is {}", caption.diffusion.steps),
            });
        }
        if self.guidance != 1.0 && caption.diffusion.mask_probability == 0.0 {
            return Err(Error::Config {
                key: "decode.guidance".into(),
                value: self.guidance.to_string(),
                allowed:
                    "1.0 with caption.diffusion.mask_probability = 0, which teaches nothing without a picture"
                        .into(),
            });
        }
        Ok(())
    }
}
