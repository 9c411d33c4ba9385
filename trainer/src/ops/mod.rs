//! Differentiable operations that candle lacks, or has without a gradient or at a fraction of the speed.
//!
//! Each file holds one operation: a kernel over plain slices, a candle custom op with a backward pass, and
//! a public function. On f32 CPU tensors the function runs the kernel; elsewhere it falls back to stock
//! candle operations that do differentiate. Work is cut into chunks whose size depends on shapes alone, and
//! partial sums are added in chunk order, so every result has the same bits for any number of threads.
//!
//! Left out: second derivatives (candle detaches gradients anyway), and dtypes other than f32 in the kernels.

#[macro_use]
mod simd;
mod buffer;
pub(crate) mod gemm;
mod lanes;
mod recycle;

pub mod attention;
pub mod block;
pub mod cross_entropy;
pub mod embedding;
pub mod gelu;
pub mod layer_norm;
pub mod linear;
pub mod normalize;
pub mod patch;
pub mod pool;

pub use attention::attention;
pub use block::{BlockParams, BlockShape, residual_block, residual_block_at};
pub use cross_entropy::cross_entropy;
pub use embedding::embedding;
pub use gelu::{Activation, activate};
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use normalize::normalize_rows;
pub use patch::{assemble_tokens, patchify};
pub use pool::{mean_pool, select_positions};

pub(crate) use buffer::{on_kernels, read, slice, slice_mut};
pub(crate) use lanes::dot;
