//! The captioners' networks.
//!
//! A network takes what a frozen image tower gave and the tokens of captions. Leaves out the tower, tokenizers and
//! how captions are searched for, which are [`captioner`](crate::captioner)'s.

mod diffusion;
mod lora;
mod mapper;
pub(crate) mod noise;
mod prefix;

pub use diffusion::{DiffusionCaptioner, DiffusionSizes, DiffusionTerms, Told as DiffusionTold};
pub use lora::LoraCaptioner;
pub use mapper::{Mapper, MapperSizes};
pub(crate) use prefix::Words;
pub use prefix::{PrefixDecoder, PrefixSizes};
