//! A causal stack that is run a few tokens at a time and keeps keys and values of the earlier ones.
//!
//! The forward pass alone, on a CPU in single precision, for pre-norm blocks of the captioners' own decoders and of frozen
//! language models with their corrections. All rows (captions that are being written) have the same length. A product
//! of few rows with a large matrix is bound by reading the matrix: it is cut into bands of outputs, each read once for
//! all rows. Bands depend on shapes alone, so results have the same bits for any number of threads. Left out: training,
//! and rows of different lengths.

use super::gelu::{self, Activation};
use super::gemm::{Matrix, MatrixMut, gemm};
use super::lanes::{add, dot, exp, max, multiply, sum_map};
use super::lm::{LmLinear, LmNorm, NormView, Rotations};
use super::recycle::Buffer;
use super::{buffer::read, linear::forward_rows};
use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

/// Outputs that one task computes for all rows.
const BAND: usize = 96;

/// Most rows that a band computes at once.
const ROWS: usize = 512;

/// A learned correction of low rank.
struct LowRank {
    a: Vec<f32>,
    b: Vec<f32>,
    scale: f32,
}

/// A matrix (N, K), a bias (N) and a correction. The matrix is kept in bands of outputs, each the other way around and in
/// one piece, (K, band): as a product of few rows reads it without packing it anew each time.
pub(crate) struct Affine {
    bands: Vec<f32>,
    bias: Option<Vec<f32>>,
    low_rank: Option<LowRank>,
    inputs: usize,
    outputs: usize,
}

/// The tensor on the CPU in f32, shared where it is there already.
fn at_hand(tensor: &Tensor) -> Result<Tensor> {
    tensor.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()
}

/// The numbers of a tensor of any device and type.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    read(&at_hand(tensor)?, |values| Ok(values.to_vec()))
}

impl Affine {
    /// Of weight (N, K) and bias (N).
    pub(crate) fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let bias = bias.map(numbers).transpose()?;
        if bias.as_ref().is_some_and(|bias| bias.len() != outputs) {
            bail!("a layer of {outputs} outputs has a bias of another length")
        }
        let mut bands = vec![0.0; outputs * inputs];
        read(&at_hand(weight)?, |weight| {
            let pairs = bands.par_chunks_mut(BAND * inputs).zip(weight.par_chunks(BAND * inputs));
            pairs.for_each(|(band, weight)| {
                let count = weight.len() / inputs;
                for (output, row) in weight.chunks_exact(inputs).enumerate() {
                    for (input, value) in row.iter().enumerate() {
                        band[input * count + output] = *value;
                    }
                }
            });
            Ok(())
        })?;
        Ok(Self { bands, bias, low_rank: None, inputs, outputs })
    }

    /// Of a frozen layer, with its correction times `scale`.
    pub(crate) fn frozen(layer: &LmLinear, scale: f32) -> Result<Self> {
        let mut affine = Self::new(&layer.weight, layer.bias.as_ref())?;
        affine.low_rank = match &layer.lora {
            Some(lora) => Some(LowRank { a: numbers(&lora.a)?, b: numbers(&lora.b)?, scale }),
            None => None,
        };
        Ok(affine)
    }

    /// Numbers that come out for a row.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `out = x·Wᵀ + b`, and the correction, for rows of K and N numbers.
    pub(crate) fn apply(&self, x: &[f32], out: &mut [f32]) {
        for (x, out) in x.chunks(ROWS * self.inputs).zip(out.chunks_mut(ROWS * self.outputs)) {
            self.some_rows(x, out);
        }
    }

    fn some_rows(&self, x: &[f32], out: &mut [f32]) {
        let Self { inputs, outputs, .. } = *self;
        let rows = x.len() / inputs;
        // A band's results stand together, (rows, its outputs), and are dealt to the rows afterwards.
        let mut banded = Buffer::stale(rows * outputs);
        let bands = banded.par_chunks_mut(BAND * rows).zip(self.bands.par_chunks(BAND * inputs));
        bands.for_each(|(banded, band)| {
            let count = banded.len() / rows;
            if rows == 1 {
                products(band, x, banded);
                return;
            }
            let weight = Matrix::new(band, inputs, count);
            gemm(MatrixMut::new(banded, rows, count), false, Matrix::new(x, rows, inputs), weight, 1.0);
        });
        let bias = self.bias.as_deref();
        out.par_chunks_mut(outputs).enumerate().for_each(|(row, out)| {
            for (band, (out, banded)) in out.chunks_mut(BAND).zip(banded.chunks(BAND * rows)).enumerate() {
                let count = out.len();
                out.copy_from_slice(&banded[row * count..][..count]);
                if let Some(bias) = bias {
                    add(&bias[band * BAND..][..count], out);
                }
            }
        });
        let Some(LowRank { a, b, scale }) = &self.low_rank else { return };
        let rank = a.len() / inputs;
        let mut inner = Buffer::stale(rows * rank);
        forward_rows(x, a, None, &mut inner, (inputs, rank));
        let (inner, b) = (Matrix::new(&inner, rows, rank), Matrix::new(b, outputs, rank));
        gemm(MatrixMut::new(out, rows, outputs), true, inner, b.t(), *scale);
    }
}

simd! {
    /// One row through a band.
    fn products(band: &[f32], x: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        for (x, weights) in x.iter().zip(band.chunks_exact(out.len())) {
            for (out, weight) in out.iter_mut().zip(weights) {
                *out += x * weight;
            }
        }
    }
}

/// Normalisation of rows with a learned scale.
pub(crate) struct Norm {
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    eps: f32,
}

impl Norm {
    /// Layer normalisation with weight and bias (D).
    pub(crate) fn layer([weight, bias]: &[Tensor; 2], eps: f32) -> Result<Self> {
        Ok(Self { weight: numbers(weight)?, bias: Some(numbers(bias)?), eps })
    }

    /// A frozen normalisation.
    pub(crate) fn frozen(norm: &LmNorm, eps: f32) -> Result<Self> {
        let bias = norm.bias.as_ref().map(numbers).transpose()?;
        Ok(Self { weight: numbers(&norm.weight)?, bias, eps })
    }

    /// Normalises rows into `out`.
    pub(crate) fn apply(&self, x: &[f32], out: &mut [f32]) {
        NormView { weight: &self.weight, bias: self.bias.as_deref(), eps: self.eps }.forward(x, out);
    }
}

/// Queries, keys and values.
pub(crate) enum Projection {
    /// All from one matrix, in this order.
    Packed(Affine),
    /// From one each.
    Split(Box<[Affine; 3]>),
}

/// One pre-norm block.
pub(crate) struct Layer {
    /// Before attention.
    pub(crate) norm_1: Norm,
    /// Into attention.
    pub(crate) qkv: Projection,
    /// Behind attention.
    pub(crate) out: Affine,
    /// Before the feed-forward layers.
    pub(crate) norm_2: Norm,
    /// What the hidden units are multiplied with, behind its non-linearity.
    pub(crate) gate: Option<Affine>,
    /// Into the hidden units.
    pub(crate) up: Affine,
    /// Out of them.
    pub(crate) down: Affine,
    /// Non-linearity of the gate, or of the hidden units.
    pub(crate) activation: Activation,
}

/// How wide a stack is and how many heads it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    /// Width of a token.
    pub(crate) width: usize,
    /// Heads of the queries.
    pub(crate) heads: usize,
    /// Heads of keys and values.
    pub(crate) groups: usize,
    /// Numbers of a head.
    pub(crate) depth: usize,
    /// Base of the rotations, where there are any.
    pub(crate) rope_theta: Option<f64>,
}

impl Sizes {
    /// Numbers of a token's queries, and of its keys or values.
    fn wide(&self) -> (usize, usize) {
        (self.heads * self.depth, self.groups * self.depth)
    }
}

/// The blocks, without what comes before and after them.
pub(crate) struct CachedStack {
    layers: Vec<Layer>,
    sizes: Sizes,
}

/// Keys and values of what rows have seen: for each layer (rows, capacity, keys and values), of which `len` tokens are
/// there.
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
        let width = 2 * self.sizes.wide().1;
        let layers = self.layers.iter().map(|_| vec![0.0; rows * capacity * width]).collect();
        Cache { layers, rows, len: 0, capacity, width }
    }

    /// Carries the next tokens of every row (rows, tokens, D) through the blocks and remembers them: what becomes of the
    /// last token of each, (rows, D).
    ///
    /// # Errors
    /// When the memory has no room for them.
    pub(crate) fn extend(&self, mut x: Vec<f32>, cache: &mut Cache) -> Result<Vec<f32>> {
        let Sizes { width, depth, rope_theta, .. } = self.sizes;
        let (wide, narrow) = self.sizes.wide();
        let count = x.len() / width;
        let tokens = count / cache.rows.max(1);
        if cache.rows == 0 || tokens * cache.rows != count || cache.len + tokens > cache.capacity {
            bail!("{count} tokens for {} rows, {} of {} places taken", cache.rows, cache.len, cache.capacity)
        }
        let rotations = rope_theta.map(|theta| Rotations::new(depth, theta, cache.len, tokens));
        let mut normed = Buffer::stale(count * width);
        let mut qkv = Buffer::stale(count * (wide + 2 * narrow));
        let mut attended = Buffer::stale(count * wide);
        for (number, (layer, memory)) in self.layers.iter().zip(&mut cache.layers).enumerate() {
            layer.norm_1.apply(&x, &mut normed);
            // Of the last block, nothing but keys and values is needed of the tokens before the last.
            let wanted = if number + 1 == self.layers.len() { 1 } else { tokens };
            let part = Part { sizes: self.sizes, tokens, wanted, seen: cache.len };
            let [q, k, v] = layer.qkv.apply(&normed, &mut qkv, (wide, narrow), rotations.as_ref());
            memory
                .par_chunks_mut(cache.capacity * cache.width)
                .zip(attended.par_chunks_mut(wanted * wide))
                .enumerate()
                .for_each(|(row, (memory, attended))| {
                    let [q, k, v] = [q, k, v].map(|rows| rows.skip(row * tokens));
                    part.attend(memory, q, k, v, attended);
                });
            if wanted < tokens {
                x = last_rows(&x, tokens, width);
            }
            let (count, normed) = (cache.rows * wanted, &mut normed[..x.len()]);
            layer.out.apply(&attended[..count * wide], normed);
            add(normed, &mut x);
            layer.norm_2.apply(&x, normed);
            layer.feed_forward(normed, count);
            add(normed, &mut x);
        }
        cache.len += tokens;
        Ok(if self.layers.is_empty() { last_rows(&x, tokens, width) } else { x })
    }
}

/// The last of every `tokens` rows.
fn last_rows(x: &[f32], tokens: usize, width: usize) -> Vec<f32> {
    x.chunks_exact(tokens * width).flat_map(|rows| &rows[(tokens - 1) * width..]).copied().collect()
}

impl Layer {
    /// The feed-forward layers on `count` rows, in place.
    fn feed_forward(&self, rows: &mut [f32], count: usize) {
        let hidden = count * self.up.outputs();
        let (mut up, mut activated) = (Buffer::stale(hidden), Buffer::stale(hidden));
        self.up.apply(rows, &mut up);
        match &self.gate {
            Some(gate) => {
                let mut gated = Buffer::stale(hidden);
                gate.apply(rows, &mut gated);
                gelu::forward(self.activation, &gated, &mut activated);
                multiply(&up, &mut activated);
            }
            None => gelu::forward(self.activation, &up, &mut activated),
        }
        self.down.apply(&activated, rows);
    }
}

/// Rows of numbers that lie `stride` apart.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
    width: usize,
}

impl<'a> Rows<'a> {
    fn skip(self, rows: usize) -> Self {
        Self { data: &self.data[rows * self.stride..], ..self }
    }

    fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.stride..][..self.width]
    }
}

impl Projection {
    /// Queries, keys and values of rows, rotated; `space` holds them.
    fn apply<'a>(
        &self,
        x: &[f32],
        space: &'a mut [f32],
        (wide, narrow): (usize, usize),
        rotations: Option<&Rotations>,
    ) -> [Rows<'a>; 3] {
        match self {
            Self::Packed(all) => {
                all.apply(x, space);
                let stride = wide + 2 * narrow;
                let part = |first: usize, width| Rows { data: &space[first..], stride, width };
                [part(0, wide), part(wide, narrow), part(wide + narrow, narrow)]
            }
            Self::Split(layers) => {
                let [of_q, of_k, of_v] = &**layers;
                let count = space.len() / (wide + 2 * narrow);
                let (q, rest) = space.split_at_mut(count * wide);
                let (k, v) = rest.split_at_mut(count * narrow);
                of_q.apply(x, q);
                of_k.apply(x, k);
                of_v.apply(x, v);
                if let Some(rotations) = rotations {
                    rotations.turn(q, wide, false);
                    rotations.turn(k, narrow, false);
                }
                let part = |data: &'a [f32], width| Rows { data, stride: width, width };
                [part(q, wide), part(k, narrow), part(v, narrow)]
            }
        }
    }
}

/// The new tokens of one row.
#[derive(Clone, Copy)]
struct Part {
    sizes: Sizes,
    tokens: usize,
    /// The last of them, which attend.
    wanted: usize,
    /// Tokens that are remembered.
    seen: usize,
}

impl Part {
    /// Remembers keys and values, and attends to all that is remembered and not later.
    fn attend(&self, memory: &mut [f32], q: Rows<'_>, k: Rows<'_>, v: Rows<'_>, out: &mut [f32]) {
        let Sizes { heads, groups, depth, .. } = self.sizes;
        let (wide, narrow) = self.sizes.wide();
        let scale = 1.0 / (depth as f32).sqrt();
        let first = self.seen * 2 * narrow;
        for (token, kv) in memory[first..].chunks_exact_mut(2 * narrow).take(self.tokens).enumerate() {
            let (keys, values) = kv.split_at_mut(narrow);
            keys.copy_from_slice(k.row(token));
            values.copy_from_slice(v.row(token));
        }
        let mut scores = Buffer::stale(self.seen + self.tokens);
        let first = self.tokens - self.wanted;
        for (token, out) in (first..).zip(out.chunks_exact_mut(wide)) {
            let (query, seen) = (q.row(token), self.seen + token + 1);
            for head in 0..heads {
                let (at, group) = (head * depth, head * groups / heads * depth);
                let scores = &mut scores[..seen];
                weigh(&query[at..at + depth], &memory[group..], 2 * narrow, scale, scores);
                gather(scores, &memory[narrow + group..], 2 * narrow, &mut out[at..at + depth]);
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
