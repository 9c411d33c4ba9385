//! Sources to shards.
pub mod source;
