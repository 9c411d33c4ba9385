//! Reading candle tensors as slices, making tensors from vectors, and the fixed chunking of rows.
//!
//! Left out: other dtypes and devices; callers fall back to stock operations for those.

use super::recycle::Buffer;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;
use std::cell::RefCell;

/// Elements a chunk holds: small enough for the L2 cache, large enough to hide a task's cost.
const CHUNK_ELEMENTS: usize = 1 << 15;

/// Rows in a chunk, from the row's width alone so that the cut never depends on the thread count.
pub(crate) fn rows_per_chunk(width: usize) -> usize {
    (CHUNK_ELEMENTS / width.max(1)).max(1)
}

/// The size of pieces that `count` is cut into evenly, with at most `most` in a piece.
pub(crate) fn even(count: usize, most: usize) -> usize {
    let pieces = count.div_ceil(most.max(1)).max(1);
    count.div_ceil(pieces).max(1)
}

/// Whether the kernels can take these tensors; otherwise the stock operations run.
pub(crate) fn on_kernels(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// The tensor in f32 if it is of half precision, for sums that need the range; otherwise as it is.
pub(crate) fn at_least_f32(tensor: &Tensor) -> Result<Tensor> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => tensor.to_dtype(DType::F32),
        _ => Ok(tensor.clone()),
    }
}

/// The elements of a contiguous f32 storage.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("this operation needs a contiguous tensor, got strides {:?}", layout.stride()),
    }
}

/// The elements of a contiguous f32 storage, to be changed in place.
pub(crate) fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (layout.contiguous_offsets(), storage) {
        (Some((start, end)), CpuStorage::F32(values)) => Ok(&mut values[start..end]),
        _ => bail!("an in-place update needs a contiguous f32 tensor"),
    }
}

/// Calls `f` with the elements of an f32 CPU tensor, copying it first if it is not contiguous.
pub(crate) fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => bail!("this operation has a CPU kernel only"),
    }
}

/// Calls `f` with the elements of contiguous f32 CPU tensors.
pub(crate) fn with_slices<R>(tensors: &[&Tensor], f: impl FnOnce(&[&[f32]]) -> Result<R>) -> Result<R> {
    let guards: Vec<_> = tensors.iter().map(|t| t.storage_and_layout()).collect();
    let slices = guards.iter().map(|(storage, layout)| match &**storage {
        Storage::Cpu(storage) => slice(storage, layout),
        _ => bail!("this operation has a CPU kernel only"),
    });
    f(&slices.collect::<Result<Vec<_>>>()?)
}

/// Places shift, shift + stride, … (`count` of them) of `x` along `axis`, by operations that have a gradient on
/// every device; `x` reaches to shift + count·stride at least.
pub(crate) fn every(x: &Tensor, axis: usize, shift: usize, count: usize, stride: usize) -> Result<Tensor> {
    let run = x.narrow(axis, shift, count * stride)?.contiguous()?;
    if stride == 1 {
        return Ok(run);
    }
    let mut split = x.dims().to_vec();
    split[axis] = count;
    split.insert(axis + 1, stride);
    run.reshape(split)?.narrow(axis + 1, 0, 1)?.squeeze(axis + 1)?.contiguous()
}

/// Calls `f` with the elements of a contiguous f32 CPU tensor, to be changed in place. Calls may be nested
/// over tensors that share no memory.
pub(crate) fn write(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
    tensor.inplace_op1(&Write(RefCell::new(Some(f))))
}

struct Write<F>(RefCell<Option<F>>);

impl<F: FnOnce(&mut [f32]) -> Result<()>> InplaceOp1 for Write<F> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let values = slice_mut(storage, layout)?;
        self.0.take().map_or(Ok(()), |f| f(values))
    }
}

/// A CPU tensor that takes over `values`.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// Last dimension and number of rows of a shape; an error for a scalar or an empty row.
pub(crate) fn rows_of(shape: &Shape) -> Result<(usize, usize)> {
    match shape.dims().last() {
        Some(&width) if width > 0 => Ok((shape.elem_count() / width, width)),
        _ => bail!("expected a last dimension of at least 1, got shape {shape:?}"),
    }
}

/// Adds `from` to `to`, in parallel.
pub(crate) fn add_to(to: &mut [f32], from: &[f32]) {
    to.par_chunks_mut(CHUNK_ELEMENTS).zip(from.par_chunks(CHUNK_ELEMENTS)).for_each(|(to, from)| {
        for (to, from) in to.iter_mut().zip(from) {
            *to += from;
        }
    });
}

/// Adds up equally long partial results in their order, in parallel over the positions.
pub(crate) fn sum_in_order(parts: Vec<Buffer>) -> Vec<f32> {
    let mut rest = parts.into_iter();
    let Some(first) = rest.next() else { return Vec::new() };
    let (mut total, rest) = (first.into_vec(), rest.as_slice());
    total.par_chunks_mut(CHUNK_ELEMENTS).enumerate().for_each(|(chunk, total)| {
        let start = chunk * CHUNK_ELEMENTS;
        for part in rest {
            for (sum, value) in total.iter_mut().zip(&part[start..]) {
                *sum += value;
            }
        }
    });
    total
}
