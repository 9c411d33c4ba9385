//! L2 normalisation of rows: `y = x / max(‖x‖, ε)`, ε = 1e-12 as in PyTorch's `normalize`.
//!
//! Backward, with `n` the norm: `dx = (g − y·(g·y)) / n`.

use super::buffer::{on_kernels, read, rows_of, rows_per_chunk, slice, tensor};
use super::lanes::dot;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

const EPSILON: f32 = 1e-12;

/// Scales each row of `x` (…, D) to unit length.
///
/// # Errors
/// When `x` is a scalar or its rows are empty.
pub fn normalize_rows(x: &Tensor) -> Result<Tensor> {
    if on_kernels(&[x]) {
        return x.contiguous()?.apply_op1(Normalize);
    }
    let norm = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    x.broadcast_div(&norm.maximum(f64::from(EPSILON))?)
}

simd! {
    fn forward_rows(x: &[f32], width: usize, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let scale = 1.0 / dot(x, x).sqrt().max(EPSILON);
            for (out, x) in out.iter_mut().zip(x) {
                *out = x * scale;
            }
        }
    }
}

simd! {
    fn backward_rows(x: &[f32], grad: &[f32], width: usize, dx: &mut [f32]) {
        let rows = x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for ((x, grad), dx) in rows {
            let norm = dot(x, x).sqrt();
            let scale = 1.0 / norm.max(EPSILON);
            // Below ε the divisor is a constant, so the projection falls away.
            let along = if norm > EPSILON { dot(x, grad) * scale * scale } else { 0.0 };
            for ((dx, x), g) in dx.iter_mut().zip(x).zip(grad) {
                *dx = (g - x * along) * scale;
            }
        }
    }
}

struct Normalize;

impl CustomOp1 for Normalize {
    fn name(&self) -> &'static str {
        "normalize-rows"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let (_, width) = rows_of(layout.shape())?;
        let chunk = rows_per_chunk(width) * width;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| forward_rows(x, width, out));
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, width) = rows_of(x.shape())?;
        let chunk = rows_per_chunk(width) * width;
        let mut dx = vec![0.0; x.elem_count()];
        read(x, |x| {
            read(grad, |grad| {
                dx.par_chunks_mut(chunk)
                    .zip(x.par_chunks(chunk))
                    .zip(grad.par_chunks(chunk))
                    .for_each(|((dx, x), grad)| backward_rows(x, grad, width, dx));
                Ok(())
            })
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}
