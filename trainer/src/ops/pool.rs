//! Pooling a sequence to one row a sample: the row at a given position, or the mean of the rows after the
//! class token.

use super::buffer::{on_kernels, read, slice, tensor};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Row `positions[b]` of each sample of `x` (B, T, D): (B, D).
///
/// # Errors
/// When there is not one position a sample, or a position is not below T.
pub fn select_positions(x: &Tensor, positions: &[u32]) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    if positions.len() != batch {
        bail!("select_positions: {batch} samples, {} positions", positions.len())
    }
    if let Some(position) = positions.iter().find(|p| **p as usize >= tokens) {
        bail!("select_positions: position {position} in a sequence of {tokens} tokens")
    }
    let rows: Vec<u32> =
        positions.iter().enumerate().map(|(sample, p)| (sample * tokens) as u32 + p).collect();
    if on_kernels(&[x]) {
        return x.contiguous()?.apply_op1(Select { rows, width });
    }
    let rows = Tensor::from_vec(rows, batch, x.device())?;
    x.reshape((batch * tokens, width))?.index_select(&rows, 0)
}

struct Select {
    rows: Vec<u32>,
    width: usize,
}

impl CustomOp1 for Select {
    fn name(&self) -> &'static str {
        "select-positions"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let rows = self.rows.iter().flat_map(|row| &x[*row as usize * self.width..][..self.width]);
        Ok((CpuStorage::F32(rows.copied().collect()), (self.rows.len(), self.width).into()))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = vec![0.0; x.elem_count()];
        read(grad, |grad| {
            for (row, grad) in self.rows.iter().zip(grad.chunks_exact(self.width.max(1))) {
                dx[*row as usize * self.width..][..self.width].copy_from_slice(grad);
            }
            Ok(())
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}

/// Mean over tokens 1 to T − 1 of `x` (B, T, D), which leaves out the class token: (B, D).
///
/// # Errors
/// When there are fewer than two tokens.
pub fn mean_pool(x: &Tensor) -> Result<Tensor> {
    let (_, tokens, width) = x.dims3()?;
    if tokens < 2 || width == 0 {
        bail!("mean_pool: no token beside the class token in {:?}", x.shape())
    }
    if on_kernels(&[x]) {
        return x.contiguous()?.apply_op1(Mean { tokens, width });
    }
    x.narrow(1, 1, tokens - 1)?.mean(1)
}

struct Mean {
    tokens: usize,
    width: usize,
}

impl CustomOp1 for Mean {
    fn name(&self) -> &'static str {
        "mean-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(storage, layout)?;
        let batch = layout.dims()[0];
        let scale = 1.0 / (self.tokens - 1) as f32;
        let mut out = vec![0.0; batch * self.width];
        out.par_chunks_mut(self.width).zip(x.par_chunks(self.tokens * self.width)).for_each(|(out, x)| {
            for row in x.chunks_exact(self.width).skip(1) {
                out.iter_mut().zip(row).for_each(|(out, v)| *out += v);
            }
            out.iter_mut().for_each(|out| *out *= scale);
        });
        Ok((CpuStorage::F32(out), (batch, self.width).into()))
    }

    fn bwd(&self, x: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let scale = 1.0 / (self.tokens - 1) as f32;
        let mut dx = vec![0.0; x.elem_count()];
        read(grad, |grad| {
            dx.par_chunks_mut(self.tokens * self.width).zip(grad.par_chunks(self.width)).for_each(
                |(dx, grad)| {
                    for row in dx.chunks_exact_mut(self.width).skip(1) {
                        row.iter_mut().zip(grad).for_each(|(dx, g)| *dx = g * scale);
                    }
                },
            );
            Ok(())
        })?;
        Ok(Some(tensor(dx, x.shape())?))
    }
}
