//! Causal attention of grouped queries (Ainslie et al. 2023) with rotary positions (Su et al. 2021), on a CPU.
//!
//! Queries are rows of H·d numbers, keys and values rows of G·d, and query head h looks at group h·G/H. A rotation
//! turns the pairs (i, i + d/2) of a head, as in Hugging Face's llama. Probabilities are computed anew in the backward
//! pass. Left out: attention windows, and scaled rotations.

use super::super::attention::{softmax_backward, softmax_rows};
use super::super::gemm::{Matrix, MatrixMut, gemm};

/// The sizes of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    /// Tokens of a sample.
    pub(crate) tokens: usize,
    /// Heads of queries.
    pub(crate) heads: usize,
    /// Heads of keys and values.
    pub(crate) groups: usize,
    /// Numbers of a head.
    pub(crate) depth: usize,
}

/// Cosines and sines of the rotations: a row of d/2 a position.
#[derive(Clone, Debug)]
pub(crate) struct Rotations {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Rotations {
    /// For positions `first` to `first + count`, angles `position · theta^(−2i/d)`.
    pub(crate) fn new(depth: usize, theta: f64, first: usize, count: usize) -> Self {
        let half = depth / 2;
        let angle = |i: usize| {
            let (position, pair) = ((first + i / half) as f64, (i % half) as f64);
            position * theta.powf(-2.0 * pair / depth as f64)
        };
        let numbers = |f: fn(f64) -> f64| (0..count * half).map(|i| f(angle(i)) as f32).collect();
        Self { cos: numbers(f64::cos), sin: numbers(f64::sin), half }
    }

    /// Turns every head of rows of `width` numbers; row r stands at position r modulo the number of positions.
    /// `back` turns the other way.
    pub(crate) fn turn(&self, rows: &mut [f32], width: usize, back: bool) {
        let positions = self.cos.len() / self.half.max(1);
        for (row, numbers) in rows.chunks_exact_mut(width).enumerate() {
            let at = row % positions * self.half;
            let (cos, sin) = (&self.cos[at..at + self.half], &self.sin[at..at + self.half]);
            for head in numbers.chunks_exact_mut(2 * self.half) {
                rotate(head, cos, sin, if back { -1.0 } else { 1.0 });
            }
        }
    }
}

simd! {
    fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
        let (left, right) = head.split_at_mut(cos.len());
        for ((x, y), (cos, sin)) in left.iter_mut().zip(right).zip(cos.iter().zip(sin)) {
            let (a, b, sin) = (*x, *y, sign * sin);
            *x = a * cos - b * sin;
            *y = b * cos + a * sin;
        }
    }
}

impl Groups {
    fn scale(&self) -> f32 {
        1.0 / (self.depth as f32).sqrt()
    }

    fn queries<'a>(&self, q: &'a [f32], head: usize) -> Matrix<'a> {
        Matrix::strided(&q[head * self.depth..], self.tokens, self.depth, self.heads * self.depth)
    }

    fn keys<'a>(&self, k: &'a [f32], head: usize) -> Matrix<'a> {
        let group = head * self.groups / self.heads;
        Matrix::strided(&k[group * self.depth..], self.tokens, self.depth, self.groups * self.depth)
    }

    fn probabilities(&self, q: &[f32], k: &[f32], head: usize, scores: &mut [f32]) {
        let out = MatrixMut::new(scores, self.tokens, self.tokens);
        gemm(out, false, self.queries(q, head), self.keys(k, head).t(), self.scale());
        softmax_rows(scores, self.tokens, true);
    }

    /// Attention of one sample; `scores` holds tokens² numbers.
    pub(crate) fn forward(&self, [q, k, v]: [&[f32]; 3], out: &mut [f32], scores: &mut [f32]) {
        let (tokens, depth) = (self.tokens, self.depth);
        for head in 0..self.heads {
            self.probabilities(q, k, head, scores);
            let out = MatrixMut::strided(&mut out[head * depth..], tokens, depth, self.heads * depth);
            gemm(out, false, Matrix::new(scores, tokens, tokens), self.keys(v, head), 1.0);
        }
    }

    /// Writes the gradients of one sample's queries, keys and values; `scores` and `dscores` hold tokens² numbers.
    pub(crate) fn backward(
        &self,
        [q, k, v]: [&[f32]; 3],
        grad: &[f32],
        [dq, dk, dv]: [&mut [f32]; 3],
        scores: &mut [f32],
        dscores: &mut [f32],
    ) {
        let (tokens, depth) = (self.tokens, self.depth);
        let in_group = self.heads / self.groups;
        for head in 0..self.heads {
            self.probabilities(q, k, head, scores);
            let g = self.queries(grad, head);
            // The first head of a group writes, the others add.
            let accumulate = head % in_group > 0;
            let at = head / in_group * depth;
            let p = Matrix::new(scores, tokens, tokens);
            let stride = self.groups * depth;
            gemm(MatrixMut::strided(&mut dv[at..], tokens, depth, stride), accumulate, p.t(), g, 1.0);
            gemm(MatrixMut::new(dscores, tokens, tokens), false, g, self.keys(v, head).t(), 1.0);
            softmax_backward(scores, dscores, tokens);
            let ds = Matrix::new(dscores, tokens, tokens);
            let out = MatrixMut::strided(&mut dq[head * depth..], tokens, depth, self.heads * depth);
            gemm(out, false, ds, self.keys(k, head), self.scale());
            let out = MatrixMut::strided(&mut dk[at..], tokens, depth, stride);
            gemm(out, accumulate, ds.t(), self.queries(q, head), self.scale());
        }
    }
}
