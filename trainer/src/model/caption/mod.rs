//! The captioners' networks.
//!
//! A network takes what a frozen image tower gave and the tokens of captions. Leaves out the tower, tokenizers and
//! how captions are searched for, which are [`captioner`](crate::captioner)'s.

mod lora;
mod mapper;
mod prefix;

pub use lora::LoraCaptioner;
pub use mapper::{Mapper, MapperSizes};
pub(crate) use prefix::Words;
pub use prefix::{PrefixDecoder, PrefixSizes};
