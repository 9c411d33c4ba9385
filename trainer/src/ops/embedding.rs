//! Token embedding: a row of the table for each id, plus a learned row for each position.
//!
//! The backward pass adds gradients of repeated ids in the order of the tokens, so that it is
//! deterministic; each task owns a band of the table's columns and walks all tokens.

use super::buffer::{on_kernels, read, slice, tensor};
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Columns that one task of the backward pass owns.
const BAND: usize = 32;

/// Looks up `input_ids` (B, T) in `table` (V, D) and adds `positions` (at least T rows of D): (B, T, D).
///
/// # Errors
/// When an id is not below V, or there are fewer than T positions.
pub fn embedding(input_ids: &Tensor, table: &Tensor, positions: &Tensor) -> Result<Tensor> {
    let (batch, tokens) = input_ids.dims2()?;
    let (vocab, width) = table.dims2()?;
    let (places, position_width) = positions.dims2()?;
    if tokens > places || position_width != width {
        bail!("embedding: {tokens} tokens of width {width}, positions {:?}", positions.shape())
    }
    let ids = input_ids.to_dtype(DType::U32)?.flatten_all()?;
    if on_kernels(&[table, positions]) {
        let ids = ids.to_vec1::<u32>()?;
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            bail!("embedding: token id {id} is outside the vocabulary of {vocab}")
        }
        let op = Embedding { ids, batch, tokens, width };
        return table.contiguous()?.apply_op2(&positions.contiguous()?, op);
    }
    let rows = table.index_select(&ids, 0)?.reshape((batch, tokens, width))?;
    rows.broadcast_add(&positions.narrow(0, 0, tokens)?)
}

struct Embedding {
    ids: Vec<u32>,
    batch: usize,
    tokens: usize,
    width: usize,
}

impl CustomOp2 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (table, positions) = (slice(s1, l1)?, slice(s2, l2)?);
        let mut out = vec![0.0; self.ids.len() * self.width];
        let sample = (self.tokens * self.width).max(1);
        out.par_chunks_mut(sample).zip(self.ids.par_chunks(self.tokens.max(1))).for_each(|(out, ids)| {
            let rows = out.chunks_exact_mut(self.width).zip(positions.chunks_exact(self.width));
            for ((out, position), id) in rows.zip(ids) {
                let row = &table[*id as usize * self.width..][..self.width];
                for ((out, row), position) in out.iter_mut().zip(row).zip(position) {
                    *out = row + position;
                }
            }
        });
        Ok((CpuStorage::F32(out), (self.batch, self.tokens, self.width).into()))
    }

    fn bwd(
        &self,
        table: &Tensor,
        positions: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (width, tokens) = (self.width, self.tokens);
        let rows = table.dim(0)?;
        let mut dtable = vec![0.0; rows * width];
        let mut dpositions = vec![0.0; positions.elem_count()];
        read(grad, |grad| {
            let bands: Vec<(Vec<f32>, Vec<f32>)> = (0..width.div_ceil(BAND))
                .into_par_iter()
                .map(|band| self.backward_band(grad, rows, band * BAND))
                .collect();
            for (band, (table_band, position_band)) in bands.iter().enumerate() {
                let (start, columns) = (band * BAND, BAND.min(width - band * BAND));
                spread(&mut dtable, table_band, width, start, columns);
                spread(&mut dpositions[..tokens * width], position_band, width, start, columns);
            }
            Ok(())
        })?;
        Ok((Some(tensor(dtable, table.shape())?), Some(tensor(dpositions, positions.shape())?)))
    }
}

impl Embedding {
    /// Gradients of the columns from `start` on: a narrow table and narrow positions.
    fn backward_band(&self, grad: &[f32], rows: usize, start: usize) -> (Vec<f32>, Vec<f32>) {
        let columns = BAND.min(self.width - start);
        let mut table = vec![0.0; rows * columns];
        let mut positions = vec![0.0; self.tokens * columns];
        for (token, (id, grad)) in self.ids.iter().zip(grad.chunks_exact(self.width)).enumerate() {
            let grad = &grad[start..start + columns];
            let row = &mut table[*id as usize * columns..][..columns];
            row.iter_mut().zip(grad).for_each(|(row, g)| *row += g);
            let row = &mut positions[token % self.tokens * columns..][..columns];
            row.iter_mut().zip(grad).for_each(|(row, g)| *row += g);
        }
        (table, positions)
    }
}

/// Copies a band of columns to its place in a wider matrix.
fn spread(wide: &mut [f32], band: &[f32], width: usize, start: usize, columns: usize) {
    for (wide, band) in wide.chunks_exact_mut(width).zip(band.chunks_exact(columns)) {
        wide[start..start + columns].copy_from_slice(band);
    }
}
