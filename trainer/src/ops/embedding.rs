//! Token embedding: a row of the table for each id, plus a learned row for each position.
//!
//! The backward pass adds gradients of repeated ids in the order of the tokens, so that it is deterministic; each
//! task owns a band of the table's rows. The table's gradient is the largest of a model and goes to the sink: candle
//! would zero another and make a third of their sum.

use super::buffer::{on_kernels, read, tensor};
use super::recycle::{Buffer, stale_vec};
use super::sink::GradSink;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Rows of the table that one task of the backward pass owns.
const BAND: usize = 256;

/// Looks up `input_ids` (B, T) in `table` (V, D) and adds `positions` (at least T rows of D): (B, T, D); the
/// gradients of both go to `sink`.
///
/// # Errors
/// When an id is not below V, or there are fewer than T positions.
pub fn embedding(input_ids: &Tensor, table: &Tensor, positions: &Tensor, sink: &GradSink) -> Result<Tensor> {
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
        let learns = table.track_op() || positions.track_op();
        let anchor = if learns { sink.anchor().clone() } else { sink.anchor().detach() };
        let (table, positions, sink) = (table.clone(), positions.clone(), sink.clone());
        return anchor.apply_op1(Embedding { ids, batch, tokens, width, table, positions, sink });
    }
    let rows = table.index_select(&ids, 0)?.reshape((batch, tokens, width))?;
    rows.broadcast_add(&positions.narrow(0, 0, tokens)?)
}

/// Rows of a frozen `table` (V, D) for `input_ids` (B, T): (B, T, D), with no gradient.
///
/// # Errors
/// When an id is not below V.
pub fn embedding_rows(input_ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    let ((batch, tokens), (vocab, width)) = (input_ids.dims2()?, table.dims2()?);
    let ids = input_ids.to_dtype(DType::U32)?.flatten_all()?;
    if let Some(id) = ids.to_vec1::<u32>()?.iter().find(|id| **id as usize >= vocab) {
        bail!("embedding: token id {id} is outside the vocabulary of {vocab}")
    }
    table.detach().index_select(&ids, 0)?.reshape((batch, tokens, width))
}

struct Embedding {
    ids: Vec<u32>,
    batch: usize,
    tokens: usize,
    width: usize,
    table: Tensor,
    positions: Tensor,
    sink: GradSink,
}

impl CustomOp1 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, _anchor: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let out =
            read(&self.table, |table| read(&self.positions, |positions| Ok(self.rows(table, positions))))?;
        Ok((CpuStorage::F32(out), (self.batch, self.tokens, self.width).into()))
    }

    fn bwd(&self, _anchor: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if self.table.track_op() {
            let grad = read(grad, |grad| Ok(self.table_grad(grad, self.table.elem_count())))?;
            self.sink.add(&self.table, tensor(grad, self.table.shape())?)?;
        }
        if self.positions.track_op() {
            let grad = read(grad, |grad| Ok(self.positions_grad(grad, self.positions.elem_count())))?;
            self.sink.add(&self.positions, tensor(grad, self.positions.shape())?)?;
        }
        Ok(None)
    }
}

impl Embedding {
    fn rows(&self, table: &[f32], positions: &[f32]) -> Vec<f32> {
        let mut out = stale_vec(self.ids.len() * self.width);
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
        out
    }

    /// The gradient of the table, which has `len` numbers.
    fn table_grad(&self, grad: &[f32], len: usize) -> Vec<f32> {
        let width = self.width;
        let mut dtable = Buffer::zeroed(len).into_vec();
        // Places of the tokens by id, and in the order of the tokens where ids are equal.
        let mut places: Vec<usize> = (0..self.ids.len()).collect();
        places.sort_by_key(|place| self.ids[*place]);
        dtable.par_chunks_mut(BAND * width.max(1)).enumerate().for_each(|(band, rows)| {
            let first = band * BAND;
            let begin = places.partition_point(|place| (self.ids[*place] as usize) < first);
            let of_band = places[begin..].iter().map(|place| (*place, self.ids[*place] as usize - first));
            for (place, row) in of_band.take_while(|(_, row)| *row < BAND) {
                add(&grad[place * width..][..width], &mut rows[row * width..][..width]);
            }
        });
        dtable
    }

    /// The gradient of the positions, which have `len` numbers.
    fn positions_grad(&self, grad: &[f32], len: usize) -> Vec<f32> {
        let (width, tokens) = (self.width, self.tokens.max(1));
        let mut dpositions = Buffer::zeroed(len).into_vec();
        let rows = dpositions[..self.tokens * width].par_chunks_mut(width.max(1));
        rows.enumerate().for_each(|(token, row)| {
            for grad in grad.chunks_exact(tokens * width) {
                add(&grad[token * width..][..width], row);
            }
        });
        dpositions
    }
}

simd! {
    fn add(grad: &[f32], row: &mut [f32]) {
        for (row, g) in row.iter_mut().zip(grad) {
            *row += g;
        }
    }
}
