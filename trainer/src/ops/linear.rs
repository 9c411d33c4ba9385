//! Matrix product with a weight in PyTorch's layout and an optional bias: `y = x·Wᵀ + b`.
//!
//! The bias is written to the output first and the product accumulated onto it. Backward: `dx = g·W`,
//! `dW = gᵀ·x`, `db = Σ g`. `dW` and `db` are sums over rows, cut into at most `SEGMENTS` segments whose
//! partial results are added in order. On other devices `x` may be of half precision: weight and bias, kept in f32,
//! are cast to it for the product, and their gradients come back in f32.

use super::buffer::{on_kernels, read, rows_of, slice, sum_in_order, tensor};
use super::gemm::{Matrix, MatrixMut, gemm};
use super::recycle::{Buffer, stale_vec};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Rows of the output that one task computes: enough to repay packing the weight for each task.
const ROWS: usize = 400;

/// Most partial sums of a weight's gradient.
const SEGMENTS: usize = 8;

/// `x` (…, K) times the transpose of `weight` (N, K), plus `bias` (N): (…, N).
///
/// # Errors
/// When the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    if x.dim(D::Minus1)? != inputs || bias.is_some_and(|b| b.dims() != [outputs]) {
        bail!("linear: {:?} by {:?}, bias {:?}", x.shape(), weight.shape(), bias.map(Tensor::shape))
    }
    if on_kernels(&[x, weight, bias.unwrap_or(x)]) {
        let (x, weight) = (x.contiguous()?, weight.contiguous()?);
        return match bias {
            Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Linear),
            None => x.apply_op2(&weight, Linear),
        };
    }
    let rows = x.elem_count() / inputs.max(1);
    let y = x.reshape((rows, inputs))?.matmul(&weight.to_dtype(x.dtype())?.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(&bias.to_dtype(x.dtype())?)?,
        None => y,
    };
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(outputs);
    y.reshape(dims)
}

struct Linear;

fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    shape: &Shape,
    weight_shape: &Shape,
) -> Result<(CpuStorage, Shape)> {
    let (outputs, inputs) = weight_shape.dims2()?;
    let (rows, _) = rows_of(shape)?;
    let mut out = stale_vec(rows * outputs);
    out.par_chunks_mut(ROWS * outputs.max(1)).zip(x.par_chunks(ROWS * inputs)).for_each(|(out, x)| {
        forward_rows(x, weight, bias, out, (inputs, outputs));
    });
    let mut dims = shape.dims().to_vec();
    dims.pop();
    dims.push(outputs);
    Ok((CpuStorage::F32(out), dims.into()))
}

/// `out = x·Wᵀ + b` on this thread; `sizes` is (inputs, outputs).
pub(crate) fn forward_rows(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    (inputs, outputs): (usize, usize),
) {
    let rows = x.len() / inputs;
    if let Some(bias) = bias {
        out.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias));
    }
    let weight = Matrix::new(weight, outputs, inputs).t();
    gemm(MatrixMut::new(out, rows, outputs), bias.is_some(), Matrix::new(x, rows, inputs), weight, 1.0);
}

/// `dx = g·W`, or `dx += g·W` with `accumulate`, on this thread.
pub(crate) fn backward_input(
    grad: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    accumulate: bool,
    (inputs, outputs): (usize, usize),
) {
    let rows = grad.len() / outputs;
    let out = MatrixMut::new(dx, rows, inputs);
    gemm(out, accumulate, Matrix::new(grad, rows, outputs), Matrix::new(weight, outputs, inputs), 1.0);
}

/// `dW += gᵀ·x` and `db += Σ g`, on this thread.
pub(crate) fn backward_weight(
    grad: &[f32],
    x: &[f32],
    dw: &mut [f32],
    db: &mut [f32],
    (inputs, outputs): (usize, usize),
) {
    let rows = grad.len() / outputs;
    let out = MatrixMut::new(dw, outputs, inputs);
    gemm(out, true, Matrix::new(grad, rows, outputs).t(), Matrix::new(x, rows, inputs), 1.0);
    add_rows(grad, db);
}

simd! {
    pub(crate) fn add_rows(rows: &[f32], total: &mut [f32]) {
        if total.is_empty() {
            return;
        }
        for row in rows.chunks_exact(total.len()) {
            for (total, value) in total.iter_mut().zip(row) {
                *total += value;
            }
        }
    }
}

/// Gradients of input, weight and, if there is one, bias; none of the parameters' when they are frozen.
fn backward(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    grad: &Tensor,
) -> Result<[Option<Tensor>; 3]> {
    let (with_bias, is_bias_learned) = (bias.is_some(), bias.is_some_and(Tensor::track_op));
    let sizes @ (inputs, outputs) = (weight.dim(1)?, weight.dim(0)?);
    let (rows, _) = rows_of(x.shape())?;
    let dx = match x.track_op() {
        false => None,
        true => {
            let mut dx = stale_vec(rows * inputs);
            read(weight, |weight| {
                read(grad, |grad| {
                    dx.par_chunks_mut(ROWS * inputs)
                        .zip(grad.par_chunks(ROWS * outputs))
                        .for_each(|(dx, grad)| backward_input(grad, weight, dx, false, sizes));
                    Ok(())
                })
            })?;
            Some(tensor(dx, x.shape())?)
        }
    };
    if !weight.track_op() && !is_bias_learned {
        return Ok([dx, None, None]);
    }
    let segment = rows.div_ceil(SEGMENTS).max(ROWS);
    let parts: Vec<Buffer> = read(x, |x| {
        read(grad, |grad| {
            let parts = x.par_chunks(segment * inputs).zip(grad.par_chunks(segment * outputs));
            Ok(parts
                .map(|(x, grad)| {
                    let mut part = Buffer::zeroed(outputs * inputs + if with_bias { outputs } else { 0 });
                    let (dw, db) = part.split_at_mut(outputs * inputs);
                    backward_weight(grad, x, dw, db, sizes);
                    part
                })
                .collect())
        })
    })?;
    let mut dw = sum_in_order(parts);
    let db = dw.split_off(outputs * inputs);
    let db = if with_bias { Some(tensor(db, outputs)?) } else { None };
    Ok([dx, Some(tensor(dw, weight.shape())?), db])
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward(slice(s1, l1)?, slice(s2, l2)?, None, l1.shape(), l2.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = backward(x, weight, None, grad)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear-bias"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward(slice(s1, l1)?, slice(s2, l2)?, Some(slice(s3, l3)?), l1.shape(), l2.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = backward(x, weight, Some(bias), grad)?;
        Ok((dx, dw, db))
    }
}
