//! The captioners' networks.
//!
//! A network takes what a frozen image tower gave and the tokens of captions. Leaves out the tower, tokenizers and
//! how captions are searched for, which are [`captioner`](crate::captioner)'s.

mod mapper;
mod prefix;

pub use mapper::{Mapper, MapperSizes};
pub use prefix::{PrefixDecoder, PrefixSizes};
