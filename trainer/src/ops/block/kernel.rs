//! The kernel of a transformer block on a CPU in single precision, as a stage of a stack.
//!
//! A task carries a few samples through the entire block, so that what one step writes the next still finds in
//! the cache. Kept for the backward pass: packed qkv, attention output, `m` and the pre-activation; the rest is
//! computed anew. The backward pass goes by segments of some thousand rows: first every task brings its rows'
//! gradients down, then every task owns a band of a weight's gradient and sums over all rows of the segment, so
//! that no partial sums of whole weights exist and the result has the same bits for any number of threads.

use super::super::attention::{Heads, backward_sample, forward_sample};
use super::super::buffer::{even, sum_in_order};
use super::super::gelu;
use super::super::gemm::{Matrix, MatrixMut, gemm};
use super::super::lanes::add;
use super::super::layer_norm;
use super::super::linear::{add_rows, backward_input, forward_rows};
use super::super::recycle::{Buffer, stale_vec};
use super::super::stack::{Given, Pass, Stage};
use super::{BlockParams, BlockShape};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Rows (tokens) that a task aims at: each task packs the weights anew for its products.
const ROWS: usize = 400;

/// Rows that a segment of the backward pass aims at.
const SEGMENT_ROWS: usize = 2048;

/// Rows of a weight's gradient that one task owns.
const BAND: usize = 192;

/// A block's widths: of its rows and of its hidden layer.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) width: usize,
    pub(super) hidden: usize,
}

impl Sizes {
    /// Number of elements of each parameter, in the order of [`BlockParams::all`].
    pub(super) fn lengths(&self) -> [usize; 12] {
        let (d, h) = (self.width, self.hidden);
        [d, d, 3 * d * d, 3 * d, d * d, d, d, d, h * d, h, d * h, d]
    }

    /// Elements of all vectors among the parameters: both layer norms and the four biases.
    fn vectors(&self) -> usize {
        9 * self.width + self.hidden
    }

    /// Cuts the vectors' gradients in the order of [`VECTORS`].
    fn split_vectors<'a>(&self, mut flat: &'a mut [f32]) -> [&'a mut [f32]; 8] {
        let lengths = self.lengths();
        VECTORS.map(|place| {
            let (head, rest) = std::mem::take(&mut flat).split_at_mut(lengths[place]);
            flat = rest;
            head
        })
    }
}

/// Places of the vectors among the parameters.
const VECTORS: [usize; 8] = [0, 1, 3, 5, 6, 7, 9, 11];

/// What the forward pass keeps, a row a token.
pub(in crate::ops) struct Kept {
    qkv: Buffer,
    attended: Buffer,
    middle: Buffer,
    hidden: Buffer,
}

impl Kept {
    fn new(rows: usize, sizes: Sizes) -> Self {
        let take = |width: usize| Buffer::stale(rows * width);
        let Sizes { width, hidden } = sizes;
        Self { qkv: take(3 * width), attended: take(width), middle: take(width), hidden: take(hidden) }
    }

    fn rows(&self) -> KeptRows<&[f32]> {
        let Self { qkv, attended, middle, hidden } = self;
        KeptRows { qkv, attended, middle, hidden }
    }

    fn rows_mut(&mut self) -> KeptRows<&mut [f32]> {
        let Self { qkv, attended, middle, hidden } = self;
        KeptRows { qkv, attended, middle, hidden }
    }
}

/// Some rows of what is kept.
struct KeptRows<T> {
    qkv: T,
    attended: T,
    middle: T,
    hidden: T,
}

impl KeptRows<&[f32]> {
    fn narrow(&self, range: &std::ops::Range<usize>, Sizes { width, hidden }: Sizes) -> Self {
        Self {
            qkv: rows_of(self.qkv, range, 3 * width),
            attended: rows_of(self.attended, range, width),
            middle: rows_of(self.middle, range, width),
            hidden: rows_of(self.hidden, range, hidden),
        }
    }
}

/// What the rows of a segment pass from the first half of the backward pass to the second.
struct Segment {
    normed1: Buffer,
    normed2: Buffer,
    activated: Buffer,
    dhidden: Buffer,
    dmiddle: Buffer,
    dqkv: Buffer,
}

impl Segment {
    fn new(rows: usize, sizes: Sizes) -> Self {
        let take = |width: usize| Buffer::stale(rows * width);
        let Sizes { width, hidden } = sizes;
        Self {
            normed1: take(width),
            normed2: take(width),
            activated: take(hidden),
            dhidden: take(hidden),
            dmiddle: take(width),
            dqkv: take(3 * width),
        }
    }
}

impl Segment {
    /// Cuts the segment whose input's gradient is `dx` into tasks of `rows` rows.
    fn tasks<'a>(&'a mut self, dx: &'a mut [f32], rows: usize, sizes: Sizes) -> Vec<SegmentRows<'a>> {
        let Sizes { width, hidden } = sizes;
        let count = dx.len() / width;
        let cut = |buffer: &'a mut Buffer, width: usize| buffer[..count * width].chunks_mut(rows * width);
        let dx = dx.chunks_mut(rows * width);
        let normed = cut(&mut self.normed1, width).zip(cut(&mut self.normed2, width));
        let inner = cut(&mut self.activated, hidden).zip(cut(&mut self.dhidden, hidden));
        let outer = cut(&mut self.dmiddle, width).zip(cut(&mut self.dqkv, 3 * width));
        let rows = dx.zip(normed).zip(inner).zip(outer);
        rows.map(|(((dx, (normed1, normed2)), (activated, dhidden)), (dmiddle, dqkv))| SegmentRows {
            normed1,
            normed2,
            activated,
            dhidden,
            dmiddle,
            dqkv,
            dx,
        })
        .collect()
    }
}

/// One task's rows of a segment.
struct SegmentRows<'a> {
    normed1: &'a mut [f32],
    normed2: &'a mut [f32],
    activated: &'a mut [f32],
    dhidden: &'a mut [f32],
    dmiddle: &'a mut [f32],
    dqkv: &'a mut [f32],
    dx: &'a mut [f32],
}

/// Rows `range` of a matrix of this width.
fn rows_of<'a>(matrix: &'a [f32], range: &std::ops::Range<usize>, width: usize) -> &'a [f32] {
    &matrix[range.start * width..range.end * width]
}

/// One block of a stack, for so many rows (tokens of all samples).
pub(super) struct Block {
    pub(super) params: BlockParams,
    pub(super) shape: BlockShape,
    pub(super) heads: Heads,
    pub(super) sizes: Sizes,
    pub(super) rows: usize,
}

impl Block {
    /// Rows that one task takes: whole samples, about `ROWS` tokens.
    fn task_rows(&self) -> usize {
        let tokens = self.heads.tokens;
        even(self.rows / tokens, (ROWS + tokens / 2) / tokens) * tokens
    }

    /// Rows of a segment: whole tasks, spread evenly over the fewest segments.
    fn segment_rows(&self) -> usize {
        let tasks = self.rows.div_ceil(self.task_rows());
        let segments = self.rows.div_ceil(SEGMENT_ROWS).min(tasks).max(1);
        tasks.div_ceil(segments) * self.task_rows()
    }

    /// Runs one task forward into `out`.
    fn forward_task(&self, x: &[f32], params: &[&[f32]; 12], out: &mut [f32], kept: KeptRows<&mut [f32]>) {
        let Sizes { width, hidden } = self.sizes;
        let [ln1_w, ln1_b, in_w, in_b, out_w, out_b, ln2_w, ln2_b, fc_w, fc_b, proj_w, proj_b] = *params;
        let KeptRows { qkv, attended, middle, hidden: hidden_in } = kept;
        // `out` serves as scratch for the normalised rows until the result is written to it.
        layer_norm::forward_rows(x, ln1_w, ln1_b, self.shape.eps, out);
        forward_rows(out, in_w, Some(in_b), qkv, (width, 3 * width));
        let sample = self.heads.tokens * width;
        let mut scores = Buffer::stale(self.heads.tokens * self.heads.tokens);
        for (qkv, attended) in qkv.chunks_exact(3 * sample).zip(attended.chunks_exact_mut(sample)) {
            forward_sample(qkv, &self.heads, attended, &mut scores);
        }
        forward_rows(attended, out_w, Some(out_b), middle, (width, width));
        add(x, middle);
        layer_norm::forward_rows(middle, ln2_w, ln2_b, self.shape.eps, out);
        forward_rows(out, fc_w, Some(fc_b), hidden_in, (width, hidden));
        let mut activated = Buffer::stale(hidden_in.len());
        gelu::forward(self.shape.activation, hidden_in, &mut activated);
        forward_rows(&activated, proj_w, Some(proj_b), out, (hidden, width));
        add(middle, out);
    }

    /// Brings the gradient of one task's rows down to its input; `s` gets what the weights' gradients need.
    fn backward_task(
        &self,
        x: &[f32],
        grad: &[f32],
        kept: &KeptRows<&[f32]>,
        params: &[&[f32]; 12],
        s: SegmentRows<'_>,
        vectors: &mut [f32],
    ) {
        let Sizes { width, hidden } = self.sizes;
        let (eps, tokens) = (self.shape.eps, self.heads.tokens);
        let [ln1_w, ln1_b, in_w, _, out_w, _, ln2_w, ln2_b, fc_w, _, proj_w, _] = *params;
        let [dln1_w, dln1_b, din_b, dout_b, dln2_w, dln2_b, dfc_b, dproj_b] =
            self.sizes.split_vectors(vectors);
        let (mut row, mut dnormed) = (Buffer::stale(width), Buffer::stale(x.len()));

        // Feed-forward half.
        backward_input(grad, proj_w, s.dhidden, false, (hidden, width));
        add_rows(grad, dproj_b);
        gelu::forward_and_backward(self.shape.activation, kept.hidden, s.activated, s.dhidden);
        add_rows(s.dhidden, dfc_b);
        layer_norm::forward_rows(kept.middle, ln2_w, ln2_b, eps, s.normed2);
        backward_input(s.dhidden, fc_w, &mut dnormed, false, (width, hidden));
        s.dmiddle.copy_from_slice(grad);
        layer_norm::backward_rows(kept.middle, ln2_w, eps, &dnormed, s.dmiddle, dln2_w, dln2_b, &mut row);

        // Attention half; `dnormed` first holds the gradient of the attention's output.
        add_rows(s.dmiddle, dout_b);
        backward_input(s.dmiddle, out_w, &mut dnormed, false, (width, width));
        let (sample, square) = (tokens * width, tokens * tokens);
        let (mut scores, mut dscores) = (Buffer::stale(square), Buffer::stale(square));
        let samples = kept.qkv.chunks_exact(3 * sample).zip(dnormed.chunks_exact(sample));
        for ((qkv, grad), dqkv) in samples.zip(s.dqkv.chunks_exact_mut(3 * sample)) {
            backward_sample(qkv, grad, &self.heads, dqkv, &mut scores, &mut dscores);
        }
        add_rows(s.dqkv, din_b);
        layer_norm::forward_rows(x, ln1_w, ln1_b, eps, s.normed1);
        backward_input(s.dqkv, in_w, &mut dnormed, false, (width, 3 * width));
        s.dx.copy_from_slice(s.dmiddle);
        layer_norm::backward_rows(x, ln1_w, eps, &dnormed, s.dx, dln1_w, dln1_b, &mut row);
    }
}

impl Block {
    /// Sums the weights' gradients over the rows of a segment; those that are not wanted are empty.
    fn weights(
        &self,
        grads: &mut [Vec<f32>],
        s: &Segment,
        kept: &KeptRows<&[f32]>,
        grad: &[f32],
        accumulate: bool,
    ) {
        let Sizes { width, hidden } = self.sizes;
        let rows = grad.len() / width;
        let [_, _, din, _, dout, _, _, _, dfc, _, dproj, _] = grads else { return };
        let mut all: Vec<Band<'_>> = Vec::new();
        all.extend(bands(dproj, grad, &s.activated[..rows * hidden], (hidden, width)));
        all.extend(bands(dfc, &s.dhidden[..rows * hidden], &s.normed2[..rows * width], (width, hidden)));
        all.extend(bands(dout, &s.dmiddle[..rows * width], kept.attended, (width, width)));
        all.extend(bands(din, &s.dqkv[..3 * rows * width], &s.normed1[..rows * width], (width, 3 * width)));
        all.into_par_iter().for_each(|band| band.run(accumulate));
    }
}

/// A band of a weight's gradient: columns of `dy` (rows of width `outputs`) from `first` on, times all of `x`.
struct Band<'a> {
    dw: &'a mut [f32],
    dy: &'a [f32],
    x: &'a [f32],
    outputs: usize,
    inputs: usize,
    first: usize,
}

impl Band<'_> {
    fn run(self, accumulate: bool) {
        let (rows, columns) = (self.x.len() / self.inputs, self.dw.len() / self.inputs);
        let dy = Matrix::strided(&self.dy[self.first..], rows, columns, self.outputs).t();
        let dw = MatrixMut::new(self.dw, columns, self.inputs);
        gemm(dw, accumulate, dy, Matrix::new(self.x, rows, self.inputs), 1.0);
    }
}

/// The bands of one weight's gradient; none if the gradient is not wanted.
fn bands<'a>(
    dw: &'a mut [f32],
    dy: &'a [f32],
    x: &'a [f32],
    (inputs, outputs): (usize, usize),
) -> impl Iterator<Item = Band<'a>> {
    dw.chunks_mut(BAND * inputs).enumerate().map(move |(band, dw)| Band {
        dw,
        dy,
        x,
        outputs,
        inputs,
        first: band * BAND,
    })
}

impl Stage for Block {
    type Kept = Kept;

    fn parameters(&self) -> Vec<&Tensor> {
        self.params.all().collect()
    }

    fn out_len(&self) -> usize {
        self.rows * self.sizes.width
    }

    fn forward(&self, x: &[f32], parameters: &[&[f32]], out: &mut [f32], pass: Pass) -> Result<Option<Kept>> {
        let Ok(params) = <&[&[f32]; 12]>::try_from(parameters) else { bail!("a block has 12 parameters") };
        let Sizes { width, hidden } = self.sizes;
        let task = self.task_rows();
        let tasks = out.par_chunks_mut(task * width).zip(x.par_chunks(task * width));
        if !pass.keeps {
            tasks.for_each(|(out, x)| {
                let mut kept = Kept::new(x.len() / width, self.sizes);
                self.forward_task(x, params, out, kept.rows_mut());
            });
            return Ok(None);
        }
        let mut kept = Kept::new(self.rows, self.sizes);
        tasks
            .zip(kept.qkv.par_chunks_mut(task * 3 * width))
            .zip(kept.attended.par_chunks_mut(task * width))
            .zip(kept.middle.par_chunks_mut(task * width))
            .zip(kept.hidden.par_chunks_mut(task * hidden))
            .for_each(|(((((out, x), qkv), attended), middle), hidden)| {
                self.forward_task(x, params, out, KeptRows { qkv, attended, middle, hidden });
            });
        Ok(Some(kept))
    }

    fn backward(&self, given: &Given<'_, Kept>, dx: Option<&mut [f32]>) -> Vec<Vec<f32>> {
        let Ok(params) = <&[&[f32]; 12]>::try_from(given.parameters) else { return Vec::new() };
        let width = self.sizes.width;
        let mut unwanted = if dx.is_none() { Buffer::stale(given.x.len()) } else { Buffer::stale(0) };
        let dx = dx.unwrap_or(&mut unwanted);
        let (rows, task) = (self.segment_rows(), self.task_rows());
        let mut segment = Segment::new(rows.min(self.rows), self.sizes);
        let lengths = self.sizes.lengths();
        let is_weight = |place: usize| !VECTORS.contains(&place) && given.wanted[place];
        let mut grads: Vec<Vec<f32>> =
            (0..12).map(|place| stale_vec(if is_weight(place) { lengths[place] } else { 0 })).collect();
        let mut vectors: Vec<Buffer> = Vec::new();
        for (number, dx) in dx.chunks_mut(rows * width).enumerate() {
            let range = number * rows..number * rows + dx.len() / width;
            let (x, grad) = (rows_of(given.x, &range, width), rows_of(given.grad, &range, width));
            let kept = given.kept.rows().narrow(&range, self.sizes);
            let tasks: Vec<SegmentRows<'_>> = segment.tasks(dx, task, self.sizes);
            let found = tasks.into_par_iter().enumerate().map(|(number, s)| {
                let range = number * task..number * task + s.dx.len() / width;
                let (x, grad) = (rows_of(x, &range, width), rows_of(grad, &range, width));
                let mut vectors = Buffer::zeroed(self.sizes.vectors());
                let kept = kept.narrow(&range, self.sizes);
                self.backward_task(x, grad, &kept, params, s, &mut vectors);
                vectors
            });
            vectors.par_extend(found);
            self.weights(&mut grads, &segment, &kept, grad, number > 0);
        }
        let mut vectors = sum_in_order(vectors);
        for (place, vector) in VECTORS.into_iter().zip(self.sizes.split_vectors(&mut vectors)) {
            grads[place] = vector.to_vec();
        }
        grads
    }
}
