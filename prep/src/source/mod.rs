//! Sources.
pub mod shapes;
