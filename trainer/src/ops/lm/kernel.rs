//! The kernel of a frozen block on a CPU in single precision, as a stage of a stack.
//!
//! A task carries a few samples through the entire block. Kept for the backward pass: rotated queries and keys, values,
//! attention output, `m` and the pre-activations; the rest is computed anew. There are no gradients of whole weights:
//! the corrections' small ones are summed by task and added up in the order of the tasks, so that the result has the
//! same bits for any number of threads.

use super::attention::{Groups, Rotations};
use super::lora::{LoraGrad, LoraPass, View};
use super::norm::NormView;
use super::{LmBlockParams, LmShape};
use crate::ops::buffer::{even, sum_in_order};
use crate::ops::gelu;
use crate::ops::lanes::{add, multiply};
use crate::ops::recycle::Buffer;
use crate::ops::stack::{Given, Pass, Stage};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Rows (tokens) that a task aims at: each task packs the weights anew for its products.
const ROWS: usize = 400;

/// The number before that of a block's first layer, by which masks are told apart.
pub(super) fn first_layer(block: usize) -> u64 {
    16 * block as u64
}

/// One block of a stack.
pub(super) struct Block {
    pub(super) params: LmBlockParams,
    pub(super) shape: LmShape,
    pub(super) groups: Groups,
    pub(super) rotations: Option<Arc<Rotations>>,
    pub(super) pass: LoraPass,
    /// The block's place in the stack.
    pub(super) number: usize,
    pub(super) width: usize,
    pub(super) hidden: usize,
    pub(super) rows: usize,
}

/// What the forward pass keeps, a row a token.
pub(in crate::ops) struct Kept {
    q: Buffer,
    k: Buffer,
    v: Buffer,
    attended: Buffer,
    middle: Buffer,
    gate: Buffer,
    up: Buffer,
}

/// What one task's backward pass reads; its first row is number `first` of the batch.
#[derive(Clone, Copy)]
struct Task<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    first: usize,
    views: &'a Views<'a>,
    kept: Rows<&'a [f32]>,
}

/// Some rows of what is kept.
#[derive(Clone, Copy)]
struct Rows<T> {
    q: T,
    k: T,
    v: T,
    attended: T,
    middle: T,
    gate: T,
    up: T,
}

/// The numbers of a block's parameters.
struct Views<'a> {
    norm_1: NormView<'a>,
    norm_2: NormView<'a>,
    q: View<'a>,
    k: View<'a>,
    v: View<'a>,
    out: View<'a>,
    gate: Option<View<'a>>,
    up: View<'a>,
    down: View<'a>,
}

/// The corrections' gradients of one task.
struct Learned {
    numbers: Buffer,
    /// Where each layer's A and B are, in the order of [`LmBlockParams::linears`].
    places: Vec<Option<(Range<usize>, Range<usize>)>>,
}

impl Learned {
    fn of(&mut self, place: usize) -> Option<LoraGrad<'_>> {
        let (a, b) = self.places.get(place)?.clone()?;
        let numbers = &mut self.numbers[a.start..b.end];
        let (a, b) = numbers.split_at_mut(a.len());
        Some(LoraGrad { a, b })
    }
}

impl Block {
    /// Numbers of a row of queries, and of one of keys or values.
    fn wide(&self) -> (usize, usize) {
        (self.groups.heads * self.groups.depth, self.groups.groups * self.groups.depth)
    }

    fn gate_width(&self) -> usize {
        if self.params.mlp.gate.is_some() { self.hidden } else { 0 }
    }

    /// Rows that one task takes: whole samples, about `ROWS` tokens.
    fn task_rows(&self) -> usize {
        let tokens = self.groups.tokens;
        even(self.rows / tokens, (ROWS + tokens / 2) / tokens) * tokens
    }

    fn kept(&self, rows: usize) -> Kept {
        let take = |width: usize| Buffer::stale(rows * width);
        let (q, k) = self.wide();
        Kept {
            q: take(q),
            k: take(k),
            v: take(k),
            attended: take(q),
            middle: take(self.width),
            gate: take(self.gate_width()),
            up: take(self.hidden),
        }
    }

    fn views<'a>(&self, parameters: &[&'a [f32]]) -> Option<Views<'a>> {
        let mut from = parameters.iter().copied();
        let (p, eps, pass) = (&self.params, self.shape.eps, self.pass);
        let norm_1 = NormView::take(&p.norm_1, &mut from, eps)?;
        let norm_2 = NormView::take(&p.norm_2, &mut from, eps)?;
        let mut place = first_layer(self.number);
        let mut next = |layer| {
            place += 1;
            View::take(layer, &mut from, pass, place)
        };
        let (q, k, v, out) = (next(&p.q)?, next(&p.k)?, next(&p.v)?, next(&p.out)?);
        let gate = match &p.mlp.gate {
            Some(gate) => Some(next(gate)?),
            None => None,
        };
        Some(Views { norm_1, norm_2, q, k, v, out, gate, up: next(&p.mlp.up)?, down: next(&p.mlp.down)? })
    }

    fn learned(&self) -> Learned {
        let mut end = 0;
        let mut places = Vec::new();
        for (_, layer) in self.params.linears() {
            places.push(layer.lora.as_ref().map(|lora| {
                let a = end..end + lora.a.elem_count();
                let b = a.end..a.end + lora.b.elem_count();
                end = b.end;
                (a, b)
            }));
        }
        Learned { numbers: Buffer::zeroed(end), places }
    }

    /// Runs one task forward into `out`; its first row is number `first` of the batch.
    fn forward_task(
        &self,
        x: &[f32],
        views: &Views<'_>,
        first: usize,
        out: &mut [f32],
        kept: Rows<&mut [f32]>,
    ) {
        let Rows { q, k, v, attended, middle, gate, up } = kept;
        let (wide, narrow) = self.wide();
        // `out` serves as scratch for the normalised rows until the result is written to it.
        views.norm_1.forward(x, out);
        views.q.forward(out, first, q);
        views.k.forward(out, first, k);
        views.v.forward(out, first, v);
        if let Some(rotations) = &self.rotations {
            rotations.turn(q, wide, false);
            rotations.turn(k, narrow, false);
        }
        let tokens = self.groups.tokens;
        let mut scores = Buffer::stale(tokens * tokens);
        for sample in 0..x.len() / self.width / tokens {
            let of = |rows: &'_ [f32], width: usize| -> Range<usize> {
                debug_assert!(rows.len() >= (sample + 1) * tokens * width);
                sample * tokens * width..(sample + 1) * tokens * width
            };
            let (range, narrow) = (of(q, wide), of(k, narrow));
            let parts = [&q[range.clone()], &k[narrow.clone()], &v[narrow]];
            self.groups.forward(parts, &mut attended[range], &mut scores);
        }
        views.out.forward(attended, first, middle);
        add(x, middle);
        views.norm_2.forward(middle, out);
        views.up.forward(out, first, up);
        let mut hidden = Buffer::stale(up.len());
        match &views.gate {
            Some(view) => {
                view.forward(out, first, gate);
                gelu::forward(self.shape.activation, gate, &mut hidden);
                multiply(up, &mut hidden);
            }
            None => gelu::forward(self.shape.activation, up, &mut hidden),
        }
        views.down.forward(&hidden, first, out);
        add(middle, out);
    }

    /// Writes the gradient of one task's rows to `dx`, and adds the corrections' to `learned`.
    fn backward_task(&self, task: &Task<'_>, dx: &mut [f32], learned: &mut Learned) {
        let mut dmiddle = Buffer::stale(task.x.len());
        self.backward_feed_forward(task, &mut dmiddle, learned);
        self.backward_attention(task, &dmiddle, dx, learned);
    }

    /// The gradient of the rows between both halves.
    fn backward_feed_forward(&self, task: &Task<'_>, dmiddle: &mut [f32], learned: &mut Learned) {
        let Task { x, grad, first, views, kept } = *task;
        let gated = usize::from(views.gate.is_some());
        let (mut normed, mut dnormed) = (Buffer::stale(x.len()), Buffer::stale(x.len()));
        views.norm_2.forward(kept.middle, &mut normed);
        let (mut hidden, mut dhidden) = (Buffer::stale(kept.up.len()), Buffer::stale(kept.up.len()));
        let activation = self.shape.activation;
        match &views.gate {
            Some(gate) => {
                let mut activated = Buffer::stale(kept.up.len());
                gelu::forward(activation, kept.gate, &mut activated);
                hidden.copy_from_slice(&activated);
                multiply(kept.up, &mut hidden);
                views.down.backward(&hidden, first, grad, &mut dhidden, false, learned.of(5 + gated));
                // The gradient of what the gate was multiplied with, then of the gate's pre-activation.
                multiply(&dhidden, &mut activated);
                views.up.backward(&normed, first, &activated, &mut dnormed, false, learned.of(4 + gated));
                multiply(kept.up, &mut dhidden);
                gelu::forward_and_backward(activation, kept.gate, &mut hidden, &mut dhidden);
                gate.backward(&normed, first, &dhidden, &mut dnormed, true, learned.of(4));
            }
            None => {
                gelu::forward(activation, kept.up, &mut hidden);
                views.down.backward(&hidden, first, grad, &mut dhidden, false, learned.of(5));
                gelu::forward_and_backward(activation, kept.up, &mut hidden, &mut dhidden);
                views.up.backward(&normed, first, &dhidden, &mut dnormed, false, learned.of(4));
            }
        }
        dmiddle.copy_from_slice(grad);
        views.norm_2.backward(kept.middle, &dnormed, dmiddle);
    }

    /// The gradient of the block's input.
    fn backward_attention(&self, task: &Task<'_>, dmiddle: &[f32], dx: &mut [f32], learned: &mut Learned) {
        let Task { x, first, views, kept, .. } = *task;
        let (wide, narrow) = self.wide();
        let (rows, tokens) = (x.len() / self.width, self.groups.tokens);
        let mut dattended = Buffer::stale(rows * wide);
        views.out.backward(kept.attended, first, dmiddle, &mut dattended, false, learned.of(3));
        let take = |width: usize| Buffer::stale(rows * width);
        let (mut dq, mut dk, mut dv) = (take(wide), take(narrow), take(narrow));
        let (mut scores, mut dscores) = (Buffer::stale(tokens * tokens), Buffer::stale(tokens * tokens));
        for sample in 0..rows / tokens {
            let range = sample * tokens * wide..(sample + 1) * tokens * wide;
            let narrow = sample * tokens * narrow..(sample + 1) * tokens * narrow;
            let parts = [&kept.q[range.clone()], &kept.k[narrow.clone()], &kept.v[narrow.clone()]];
            let grads = [&mut dq[range.clone()], &mut dk[narrow.clone()], &mut dv[narrow]];
            self.groups.backward(parts, &dattended[range], grads, &mut scores, &mut dscores);
        }
        if let Some(rotations) = &self.rotations {
            rotations.turn(&mut dq, wide, true);
            rotations.turn(&mut dk, narrow, true);
        }
        let (mut normed, mut dnormed) = (Buffer::stale(x.len()), Buffer::stale(x.len()));
        views.norm_1.forward(x, &mut normed);
        views.q.backward(&normed, first, &dq, &mut dnormed, false, learned.of(0));
        views.k.backward(&normed, first, &dk, &mut dnormed, true, learned.of(1));
        views.v.backward(&normed, first, &dv, &mut dnormed, true, learned.of(2));
        dx.copy_from_slice(dmiddle);
        views.norm_1.backward(x, &dnormed, dx);
    }

    /// Rows `range` of what is kept.
    fn narrow<'a>(&self, kept: &'a Kept, range: &Range<usize>) -> Rows<&'a [f32]> {
        let (wide, narrow) = self.wide();
        let of = |rows: &'a Buffer, width: usize| &rows[range.start * width..range.end * width];
        Rows {
            q: of(&kept.q, wide),
            k: of(&kept.k, narrow),
            v: of(&kept.v, narrow),
            attended: of(&kept.attended, wide),
            middle: of(&kept.middle, self.width),
            gate: of(&kept.gate, self.gate_width()),
            up: of(&kept.up, self.hidden),
        }
    }
}

/// Cuts a matrix into tasks of `rows` rows; as many empty ones for a matrix without numbers.
fn cut(matrix: &mut [f32], rows: usize, width: usize, tasks: usize) -> Vec<&mut [f32]> {
    if width == 0 {
        return (0..tasks).map(|_| Default::default()).collect();
    }
    matrix.chunks_mut(rows * width).collect()
}

impl Stage for Block {
    type Kept = Kept;

    fn parameters(&self) -> Vec<&Tensor> {
        self.params.all().collect()
    }

    fn out_len(&self) -> usize {
        self.rows * self.width
    }

    fn forward(&self, x: &[f32], parameters: &[&[f32]], out: &mut [f32], pass: Pass) -> Result<Option<Kept>> {
        let Some(views) = self.views(parameters) else { bail!("a block's parameters are not all there") };
        let (task, width) = (self.task_rows(), self.width);
        let tasks = out.par_chunks_mut(task * width).zip(x.par_chunks(task * width)).enumerate();
        if !pass.keeps {
            tasks.for_each(|(number, (out, x))| {
                let mut kept = self.kept(x.len() / width);
                let Kept { q, k, v, attended, middle, gate, up } = &mut kept;
                let rows = Rows {
                    q: &mut q[..],
                    k: &mut k[..],
                    v: &mut v[..],
                    attended: &mut attended[..],
                    middle: &mut middle[..],
                    gate: &mut gate[..],
                    up: &mut up[..],
                };
                self.forward_task(x, &views, number * task, out, rows);
            });
            return Ok(None);
        }
        let mut kept = self.kept(self.rows);
        let count = self.rows.div_ceil(task);
        let (wide, narrow) = self.wide();
        let q = cut(&mut kept.q, task, wide, count);
        let k = cut(&mut kept.k, task, narrow, count);
        let v = cut(&mut kept.v, task, narrow, count);
        let attended = cut(&mut kept.attended, task, wide, count);
        let middle = cut(&mut kept.middle, task, width, count);
        let gate = cut(&mut kept.gate, task, self.gate_width(), count);
        let up = cut(&mut kept.up, task, self.hidden, count);
        let rows = q.into_par_iter().zip(k).zip(v).zip(attended).zip(middle).zip(gate).zip(up);
        let rows = rows.map(|((((((q, k), v), attended), middle), gate), up)| Rows {
            q,
            k,
            v,
            attended,
            middle,
            gate,
            up,
        });
        tasks.zip(rows).for_each(|((number, (out, x)), rows)| {
            self.forward_task(x, &views, number * task, out, rows);
        });
        Ok(Some(kept))
    }

    fn backward(&self, given: &Given<'_, Kept>, dx: Option<&mut [f32]>) -> Vec<Vec<f32>> {
        let Some(views) = self.views(given.parameters) else { return Vec::new() };
        let width = self.width;
        let mut unwanted = if dx.is_none() { Buffer::stale(given.x.len()) } else { Buffer::stale(0) };
        let dx = dx.unwrap_or(&mut unwanted);
        let task = self.task_rows();
        let parts: Vec<Buffer> = dx
            .par_chunks_mut(task * width)
            .enumerate()
            .map(|(number, dx)| {
                let range = number * task..number * task + dx.len() / width;
                let numbers = range.start * width..range.end * width;
                let kept = self.narrow(given.kept, &range);
                let mut learned = self.learned();
                let (x, grad) = (&given.x[numbers.clone()], &given.grad[numbers]);
                let task = Task { x, grad, first: range.start, views: &views, kept };
                self.backward_task(&task, dx, &mut learned);
                learned.numbers
            })
            .collect();
        let learned = sum_in_order(parts);
        // The frozen ones have none.
        let mut grads: Vec<Vec<f32>> = Vec::with_capacity(given.parameters.len());
        let norms = self.params.norm_1.all().chain(self.params.norm_2.all()).count();
        grads.extend((0..norms).map(|_| Vec::new()));
        let mut end = 0;
        for (_, layer) in self.params.linears() {
            let frozen = 1 + usize::from(layer.bias.is_some());
            grads.extend((0..frozen).map(|_| Vec::new()));
            if let Some(lora) = &layer.lora {
                for tensor in [&lora.a, &lora.b] {
                    let count = tensor.elem_count();
                    grads.push(learned[end..end + count].to_vec());
                    end += count;
                }
            }
        }
        grads
    }
}
