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
pub(crate) mod cached;
pub(crate) mod gemm;
mod lanes;
pub(crate) mod recycle;
mod sink;
mod stack;

pub mod attention;
pub mod batch_norm;
pub mod block;
pub mod bottleneck;
pub mod conv;
pub mod cross_entropy;
pub mod embedding;
pub mod gelu;
pub mod layer_norm;
pub mod linear;
pub mod lm;
pub mod max_pool;
pub mod normalize;
pub mod patch;
pub mod pool;
pub mod resnet;
pub mod sigmoid_loss;
pub mod token_loss;
pub(crate) mod update;

pub use attention::attention;
pub use batch_norm::{Statistics, batch_norm};
pub use block::{BlockParams, BlockShape, residual_block_at, residual_block_rows, residual_blocks};
pub use bottleneck::{BottleneckParams, ConvNorm};
pub use conv::conv2d;
pub use cross_entropy::{cross_entropy, smoothed_cross_entropy};
pub use embedding::{embedding, embedding_rows};
pub use gelu::{Activation, activate};
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use lm::{LmBlockParams, LmLinear, LmMlp, LmNorm, LmShape, Lora, LoraPass, lm_blocks, lm_norm};
pub use max_pool::max_pool;
pub use normalize::normalize_rows;
pub use patch::{assemble_tokens, patchify};
pub use pool::{mean_pool, select_positions};
pub use resnet::{ResNetParams, resnet, resnet_with_pixels};
pub use sigmoid_loss::sigmoid_loss;
pub use sink::GradSink;
pub use token_loss::{OutputLayer, Target, TokenLoss, token_loss};

pub(crate) use buffer::{on_kernels, read};
pub(crate) use cross_entropy::log_sum_parts;
pub(crate) use lanes::dot;
