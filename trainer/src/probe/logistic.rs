//! The loss of multinomial logistic regression and its gradient.
//!
//! Products are in f32 over fixed blocks of rows; sums over blocks are in f64 and in their order, so the
//! number of threads changes no bit. Leaves out minimising.

use crate::ops::gemm::{Matrix, MatrixMut, gemm};
use crate::retrieval::Features;
use rayon::prelude::*;

/// Rows of a block.
const BLOCK: usize = 512;

/// Blocks whose gradients are held at once.
const BLOCKS_AT_ONCE: usize = 16;

/// A regression: the unknowns are `classes` × width weights, row-major, then `classes` biases.
pub(super) struct Problem<'a> {
    pub(super) rows: &'a Features,
    pub(super) labels: &'a [usize],
    pub(super) classes: usize,
    /// Half of it times the squared weights is added to the mean cross-entropy.
    pub(super) l2: f64,
}

impl Problem<'_> {
    /// How many unknowns there are.
    pub(super) fn len(&self) -> usize {
        self.classes * (self.rows.width + 1)
    }

    /// Weights and biases in f32.
    fn split(&self, at: &[f64]) -> (Vec<f32>, Vec<f32>) {
        let (weights, biases) = at.split_at(self.classes * self.rows.width);
        let single = |values: &[f64]| values.iter().map(|v| *v as f32).collect();
        (single(weights), single(biases))
    }

    /// The scores of a block of rows, one a class.
    fn block_logits(&self, rows: &[f32], weights: &[f32], biases: &[f32]) -> Vec<f32> {
        let (width, classes) = (self.rows.width, self.classes);
        let count = rows.len() / width;
        let mut logits: Vec<f32> = (0..count).flat_map(|_| biases).copied().collect();
        let product = Matrix::new(weights, classes, width).t();
        gemm(
            MatrixMut::new(&mut logits, count, classes),
            true,
            Matrix::new(rows, count, width),
            product,
            1.0,
        );
        logits
    }

    /// The scores of every row, one a class.
    pub(super) fn logits(&self, at: &[f64]) -> Vec<f32> {
        let (weights, biases) = self.split(at);
        let blocks: Vec<Vec<f32>> = self
            .rows
            .values
            .par_chunks(BLOCK * self.rows.width)
            .map(|rows| self.block_logits(rows, &weights, &biases))
            .collect();
        blocks.concat()
    }

    /// The loss in nats and its gradient.
    pub(super) fn value_and_gradient(&self, at: &[f64]) -> (f64, Vec<f64>) {
        let (weights, biases) = self.split(at);
        let (mut value, mut gradient) = (0.0, vec![0.0; self.len()]);
        let group = BLOCK * BLOCKS_AT_ONCE;
        let groups = self.rows.values.chunks(group * self.rows.width).zip(self.labels.chunks(group));
        for (rows, labels) in groups {
            let parts: Vec<(f64, Vec<f32>)> = rows
                .par_chunks(BLOCK * self.rows.width)
                .zip(labels.par_chunks(BLOCK))
                .map(|(rows, labels)| self.block(rows, labels, &weights, &biases))
                .collect();
            for (part, grads) in parts {
                value += part;
                gradient.iter_mut().zip(grads).for_each(|(sum, part)| *sum += f64::from(part));
            }
        }
        let count = self.labels.len().max(1) as f64;
        value /= count;
        gradient.iter_mut().for_each(|g| *g /= count);
        let weights = self.classes * self.rows.width;
        for (g, w) in gradient[..weights].iter_mut().zip(at) {
            *g += self.l2 * w;
            value += 0.5 * self.l2 * w * w;
        }
        (value, gradient)
    }

    /// The summed loss and gradient of a block.
    fn block(&self, rows: &[f32], labels: &[usize], weights: &[f32], biases: &[f32]) -> (f64, Vec<f32>) {
        let (width, classes) = (self.rows.width, self.classes);
        let mut shares = self.block_logits(rows, weights, biases);
        let mut value = 0.0;
        for (row, label) in shares.chunks_exact_mut(classes).zip(labels) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let right = f64::from(row[*label] - largest);
            row.iter_mut().for_each(|v| *v = (*v - largest).exp());
            let sum: f64 = row.iter().map(|v| f64::from(*v)).sum();
            value += sum.ln() - right;
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / sum) as f32);
            row[*label] -= 1.0;
        }
        let mut gradient = vec![0f32; classes * (width + 1)];
        let (of_weights, of_biases) = gradient.split_at_mut(classes * width);
        let errors = Matrix::new(&shares, labels.len(), classes).t();
        let rows = Matrix::new(rows, labels.len(), width);
        gemm(MatrixMut::new(of_weights, classes, width), false, errors, rows, 1.0);
        for row in shares.chunks_exact(classes) {
            of_biases.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
        }
        (value, gradient)
    }
}
