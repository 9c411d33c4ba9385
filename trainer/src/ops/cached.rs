//! A causal stack that is run a few tokens at a time and keeps keys and values of the earlier ones.
//!
//! The forward pass alone, on a CPU in single precision. All rows (captions that are being written) have the same
//! length. A product of few rows with a large matrix is bound by reading the matrix: it is cut into bands of outputs,
//! each read once for all rows. Bands depend on shapes alone, so results have the same bits for any number of threads.
//! Left out: training, and rows of different lengths.

use super::gelu::{self, Activation};
use super::gemm::{Matrix, MatrixMut, gemm};
use super::lanes::{dot, exp, max, sum_map};
use super::recycle::Buffer;
use super::{buffer::read, layer_norm};
use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

/// Outputs that one task computes for all rows.
const BAND: usize = 96;

/// Most rows that a band computes at once.
const ROWS: usize = 512;

/// A matrix (N, K) and a bias (N), held as plain numbers.
pub(crate) struct Affine {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    inputs: usize,
    outputs: usize,
}

/// The numbers of a tensor of any device and type.
fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = tensor.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    read(&tensor, |values| Ok(values.to_vec()))
}

impl Affine {
    /// Copies weight (N, K) and bias (N).
    pub(crate) fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let bias = bias.map(numbers).transpose()?;
        if bias.as_ref().is_some_and(|bias| bias.len() != outputs) {
            bail!("a layer of {outputs} outputs has a bias of another length")
        }
        Ok(Self { weight: numbers(weight)?, bias, inputs, outputs })
    }

    /// Numbers that come out for a row.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `out = x·Wᵀ + b` for rows of K and N numbers.
    pub(crate) fn apply(&self, x: &[f32], out: &mut [f32]) {
        let Self { inputs, outputs, .. } = *self;
        for (x, out) in x.chunks(ROWS * inputs).zip(out.chunks_mut(ROWS * outputs)) {
            let rows = x.len() / inputs;
            // A band's results stand together: (N, rows), turned around afterwards.
            let mut turned = Buffer::stale(rows * outputs);
            turned.par_chunks_mut(BAND * rows).zip(self.weight.par_chunks(BAND * inputs)).for_each(
                |(turned, weight)| {
                    if rows == 1 {
                        products(weight, x, turned);
                        return;
                    }
                    let count = turned.len() / rows;
                    let x = Matrix::new(x, rows, inputs).t();
                    gemm(
                        MatrixMut::new(turned, count, rows),
                        false,
                        Matrix::new(weight, count, inputs),
                        x,
                        1.0,
                    );
                },
            );
            let bias = self.bias.as_deref();
            out.par_chunks_mut(outputs).enumerate().for_each(|(row, out)| {
                for (place, (out, of_rows)) in out.iter_mut().zip(turned.chunks_exact(rows)).enumerate() {
                    *out = of_rows[row] + bias.map_or(0.0, |bias| bias[place]);
                }
            });
        }
    }
}

simd! {
    /// One row through a matrix: no packing, the matrix is read as it lies.
    fn products(weight: &[f32], x: &[f32], out: &mut [f32]) {
        for (out, weight) in out.iter_mut().zip(weight.chunks_exact(x.len())) {
            *out = dot(weight, x);
        }
    }
}

/// Normalisation of rows with a learned scale.
pub(crate) struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl Norm {
    /// Layer normalisation with weight and bias (D).
    pub(crate) fn layer([weight, bias]: &[Tensor; 2], eps: f32) -> Result<Self> {
        Ok(Self { weight: numbers(weight)?, bias: numbers(bias)?, eps })
    }

    /// Normalises rows into `out`.
    pub(crate) fn apply(&self, x: &[f32], out: &mut [f32]) {
        layer_norm::forward_rows(x, &self.weight, &self.bias, self.eps, out);
    }
}

/// One pre-norm block.
pub(crate) struct Layer {
    /// Before attention.
    pub(crate) norm_1: Norm,
    /// Packed queries, keys and values.
    pub(crate) qkv: Affine,
    /// Behind attention.
    pub(crate) out: Affine,
    /// Before the feed-forward layers.
    pub(crate) norm_2: Norm,
    /// Into the hidden units.
    pub(crate) c_fc: Affine,
    /// Out of them.
    pub(crate) c_proj: Affine,
    /// Non-linearity of the hidden units.
    pub(crate) activation: Activation,
}

/// How wide a stack is and how many heads it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Width of a token.
    pub(crate) width: usize,
    /// Heads of the queries.
    pub(crate) heads: usize,
}

/// The blocks, without what comes before and after them.
pub(crate) struct CachedStack {
    layers: Vec<Layer>,
    sizes: Sizes,
}

/// Keys and values of what rows have seen: for each layer (rows, capacity, 2·D), of which `len` tokens are there.
pub(crate) struct Cache {
    layers: Vec<Vec<f32>>,
    rows: usize,
    len: usize,
    capacity: usize,
    /// Numbers of a token in a layer.
    width: usize,
}

impl Cache {
    /// Captions that are being written.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Goes on with these rows, each as often as it is named.
    pub(crate) fn choose(&mut self, parents: &[usize]) {
        let row = self.capacity * self.width;
        let used = self.len * self.width;
        self.layers.par_iter_mut().for_each(|layer| {
            let mut chosen = vec![0.0; parents.len() * row];
            for (chosen, parent) in chosen.chunks_exact_mut(row).zip(parents) {
                chosen[..used].copy_from_slice(&layer[parent * row..][..used]);
            }
            *layer = chosen;
        });
        self.rows = parents.len();
    }
}

impl CachedStack {
    /// A stack of blocks whose sizes agree.
    pub(crate) fn new(layers: Vec<Layer>, sizes: Sizes) -> Self {
        Self { layers, sizes }
    }

    /// An empty memory for so many rows of at most `capacity` tokens.
    pub(crate) fn cache(&self, rows: usize, capacity: usize) -> Cache {
        let width = 2 * self.sizes.width;
        let layers = self.layers.iter().map(|_| vec![0.0; rows * capacity * width]).collect();
        Cache { layers, rows, len: 0, capacity, width }
    }

    /// Carries the next tokens of every row (rows, tokens, D) through the blocks, in place, and remembers them.
    ///
    /// # Errors
    /// When the memory has no room for them.
    pub(crate) fn extend(&self, x: &mut [f32], cache: &mut Cache) -> Result<()> {
        let Sizes { width, .. } = self.sizes;
        let count = x.len() / width;
        let tokens = count / cache.rows.max(1);
        if cache.rows == 0 || tokens * cache.rows != count || cache.len + tokens > cache.capacity {
            bail!("{count} tokens for {} rows, {} of {} places taken", cache.rows, cache.len, cache.capacity)
        }
        let hidden = self.layers.iter().map(|layer| layer.c_fc.outputs()).max().unwrap_or(0);
        let mut normed = Buffer::stale(count * width);
        let mut qkv = Buffer::stale(3 * count * width);
        let mut attended = Buffer::stale(count * width);
        let mut inner = Buffer::stale(count * hidden);
        let mut activated = Buffer::stale(count * hidden);
        for (layer, memory) in self.layers.iter().zip(&mut cache.layers) {
            layer.norm_1.apply(x, &mut normed);
            layer.qkv.apply(&normed, &mut qkv);
            let part = Part { sizes: self.sizes, tokens, seen: cache.len };
            memory
                .par_chunks_mut(cache.capacity * cache.width)
                .zip(qkv.par_chunks(3 * tokens * width))
                .zip(attended.par_chunks_mut(tokens * width))
                .for_each(|((memory, qkv), attended)| part.attend(memory, qkv, attended));
            layer.out.apply(&attended, &mut normed);
            add(&normed, x);
            layer.norm_2.apply(x, &mut normed);
            let inner = &mut inner[..count * layer.c_fc.outputs()];
            layer.c_fc.apply(&normed, inner);
            let activated = &mut activated[..inner.len()];
            gelu::forward(layer.activation, inner, activated);
            layer.c_proj.apply(activated, &mut normed);
            add(&normed, x);
        }
        cache.len += tokens;
        Ok(())
    }
}

simd! {
    fn add(from: &[f32], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to += from;
        }
    }
}

/// The new tokens of one row.
#[derive(Clone, Copy)]
struct Part {
    sizes: Sizes,
    tokens: usize,
    /// Tokens that are remembered.
    seen: usize,
}

impl Part {
    /// Remembers keys and values, and attends to all that is remembered and not later.
    fn attend(&self, memory: &mut [f32], qkv: &[f32], out: &mut [f32]) {
        let Sizes { width, heads } = self.sizes;
        let depth = width / heads;
        let scale = 1.0 / (depth as f32).sqrt();
        let first = self.seen * 2 * width;
        for (kv, qkv) in memory[first..].chunks_exact_mut(2 * width).zip(qkv.chunks_exact(3 * width)) {
            kv.copy_from_slice(&qkv[width..]);
        }
        let mut scores = Buffer::stale(self.seen + self.tokens);
        for (token, (qkv, out)) in qkv.chunks_exact(3 * width).zip(out.chunks_exact_mut(width)).enumerate() {
            let seen = self.seen + token + 1;
            for head in 0..heads {
                let at = head * depth;
                let scores = &mut scores[..seen];
                weigh(&qkv[at..at + depth], &memory[at..], 2 * width, scale, scores);
                gather(scores, &memory[width + at..], 2 * width, &mut out[at..at + depth]);
            }
        }
    }
}

simd! {
    /// Softmax of a query's products with the keys, which lie `stride` numbers apart.
    fn weigh(query: &[f32], keys: &[f32], stride: usize, scale: f32, scores: &mut [f32]) {
        for (place, score) in scores.iter_mut().enumerate() {
            *score = scale * dot(query, &keys[place * stride..][..query.len()]);
        }
        let largest = max(scores);
        for score in scores.iter_mut() {
            *score = exp(*score - largest);
        }
        let scale = 1.0 / sum_map(scores, |v| v);
        for score in scores.iter_mut() {
            *score *= scale;
        }
    }
}

simd! {
    /// The weighted sum of the values, which lie `stride` numbers apart.
    fn gather(scores: &[f32], values: &[f32], stride: usize, out: &mut [f32]) {
        out.fill(0.0);
        for (place, score) in scores.iter().enumerate() {
            for (out, value) in out.iter_mut().zip(&values[place * stride..]) {
                *out += score * value;
            }
        }
    }
}
