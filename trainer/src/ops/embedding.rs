//! Token embedding: a row of the table for each id, plus a learned row for each position.
//!
//! The backward pass adds gradients of repeated ids in the order of the tokens, so that it is deterministic; each
//! task owns a band of the table's rows.

use super::buffer::{on_kernels, read, slice, tensor};
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Rows of the table that one task of the backward pass owns.
const BAND: usize = 256;

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
        let (width, tokens) = (self.width, self.tokens.max(1));
        let mut dtable = vec![0.0; table.elem_count()];
        let mut dpositions = vec![0.0; positions.elem_count()];
        // Places of the tokens by id, and in the order of the tokens where ids are equal.
        let mut places: Vec<usize> = (0..self.ids.len()).collect();
        places.sort_by_key(|place| self.ids[*place]);
        read(grad, |grad| {
            dtable.par_chunks_mut(BAND * width.max(1)).enumerate().for_each(|(band, rows)| {
                let first = band * BAND;
                let begin = places.partition_point(|place| (self.ids[*place] as usize) < first);
                let of_band = places[begin..].iter().map(|place| (*place, self.ids[*place] as usize - first));
                for (place, row) in of_band.take_while(|(_, row)| *row < BAND) {
                    add(&grad[place * width..][..width], &mut rows[row * width..][..width]);
                }
            });
            dpositions[..self.tokens * width].par_chunks_mut(width.max(1)).enumerate().for_each(
                |(token, row)| {
                    for grad in grad.chunks_exact(tokens * width) {
                        add(&grad[token * width..][..width], row);
                    }
                },
            );
            Ok(())
        })?;
        Ok((Some(tensor(dtable, table.shape())?), Some(tensor(dpositions, positions.shape())?)))
    }
}

simd! {
    fn add(grad: &[f32], row: &mut [f32]) {
        for (row, g) in row.iter_mut().zip(grad) {
            *row += g;
        }
    }
}
