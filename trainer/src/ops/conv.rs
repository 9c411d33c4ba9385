//! Convolution of pictures stored (B, H, W, C), as tiles of im2col and a matrix product.
//!
//! In this layout a 1×1 convolution is a matrix product as it stands, and a row of im2col is a few runs of
//! contiguous numbers. A tile unfolds some hundred output pixels, so a whole batch is never unfolded. Backward:
//! `dW = dYᵀ·im2col(X)`; `dX` is, for stride 1, the convolution of `dY` with the mirrored kernel, else
//! `dY·W` scattered back picture by picture. Sums over tiles go by fixed groups that are added in order.
//!
//! Left out: groups, dilation, bias, rectangular kernels, and padding other than half the kernel.

use super::buffer::{even, every, on_kernels, sum_in_order};
use super::gemm::{Matrix, MatrixMut, gemm};
use super::recycle::{Buffer, stale_vec};
use super::sink::GradSink;
use super::stack::{Given, Pass, Stage, stack};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;

/// Numbers that a tile's unfolded rows aim at.
const TILE_ELEMENTS: usize = 1 << 20;

/// Most rows of a tile, and fewest where a row is long (each tile packs the whole weight anew).
const TILE_ROWS: Range<usize> = 256..1024;

/// Most numbers that the partial sums of one weight's gradient take together.
const PARTS_ELEMENTS: usize = 1 << 23;

/// Most partial sums of a weight's gradient.
const PARTS: usize = 16;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ConvShape {
    pub(crate) batch: usize,
    /// Height and width of the input.
    pub(crate) size: [usize; 2],
    /// Channels of the input.
    pub(crate) inputs: usize,
    /// Channels of the output.
    pub(crate) outputs: usize,
    /// Height and width of the kernel; odd.
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Whether the input comes as (B, C, H, W); the output never does.
    pub(crate) planar: bool,
}

impl ConvShape {
    fn pad(&self) -> usize {
        self.kernel / 2
    }

    /// Height and width of the output.
    pub(crate) fn out_size(&self) -> [usize; 2] {
        self.size.map(|side| (side + 2 * self.pad() - self.kernel) / self.stride + 1)
    }

    /// Pixels of all outputs.
    pub(crate) fn rows(&self) -> usize {
        let [height, width] = self.out_size();
        self.batch * height * width
    }

    /// Numbers of one input picture.
    fn picture(&self) -> usize {
        self.size[0] * self.size[1] * self.inputs
    }

    /// Numbers under the kernel: the width of an unfolded row.
    pub(crate) fn taps(&self) -> usize {
        self.kernel * self.kernel * self.inputs
    }

    /// Whether the input's rows are the unfolded rows.
    fn is_plain(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && !self.planar
    }

    /// Rows of a tile.
    pub(crate) fn tile(&self) -> usize {
        even(self.rows(), (TILE_ELEMENTS / self.taps()).clamp(TILE_ROWS.start, TILE_ROWS.end))
    }

    /// PyTorch's (O, I, k, k) with the taps in the order of an unfolded row; none where that is the same.
    fn pack(&self, weight: &[f32]) -> Option<Buffer> {
        if self.kernel == 1 || self.planar {
            return None;
        }
        let mut packed = Buffer::stale(weight.len());
        let square = self.kernel * self.kernel;
        for (packed, weight) in packed.chunks_exact_mut(self.taps()).zip(weight.chunks_exact(self.taps())) {
            for (tap, packed) in packed.chunks_exact_mut(self.inputs).enumerate() {
                for (input, packed) in packed.iter_mut().enumerate() {
                    *packed = weight[input * square + tap];
                }
            }
        }
        Some(packed)
    }

    /// Turns a gradient in the order of [`ConvShape::pack`] to PyTorch's order.
    fn unpack(&self, packed: Vec<f32>) -> Vec<f32> {
        if self.kernel == 1 || self.planar {
            return packed;
        }
        let square = self.kernel * self.kernel;
        let mut grad = stale_vec(packed.len());
        for (grad, packed) in grad.chunks_exact_mut(self.taps()).zip(packed.chunks_exact(self.taps())) {
            for (tap, packed) in packed.chunks_exact(self.inputs).enumerate() {
                for (input, value) in packed.iter().enumerate() {
                    grad[input * square + tap] = *value;
                }
            }
        }
        grad
    }

    /// The convolution that takes this one's output gradient to its input gradient; for stride 1.
    fn mirrored(&self, weight: &[f32]) -> (Self, Buffer) {
        let square = self.kernel * self.kernel;
        let mut packed = Buffer::stale(weight.len());
        for (input, packed) in packed.chunks_exact_mut(square * self.outputs).enumerate() {
            for (tap, packed) in packed.chunks_exact_mut(self.outputs).enumerate() {
                for (output, packed) in packed.iter_mut().enumerate() {
                    *packed = weight[(output * self.inputs + input) * square + square - 1 - tap];
                }
            }
        }
        (Self { inputs: self.outputs, outputs: self.inputs, ..*self }, packed)
    }

    /// Unfolds output rows `rows` of `x`.
    fn unfold(&self, x: &[f32], rows: Range<usize>, out: &mut [f32]) {
        let [out_height, out_width] = self.out_size();
        for (row, out) in rows.zip(out.chunks_exact_mut(self.taps())) {
            let (line, column) = (row / out_width, row % out_width);
            let (picture, line) = (line / out_height, line % out_height);
            let x = &x[picture * self.picture()..][..self.picture()];
            if self.planar {
                for (x, out) in x
                    .chunks_exact(self.size[0] * self.size[1])
                    .zip(out.chunks_exact_mut(self.kernel * self.kernel))
                {
                    self.lines(line, column, 1, |tap, from| copy_or_clear(x, from, &mut out[tap]));
                }
            } else {
                self.lines(line, column, self.inputs, |tap, from| copy_or_clear(x, from, &mut out[tap]));
            }
        }
    }

    /// Adds an unfolded row's gradient back to its picture `dx`.
    fn fold_row(&self, row: &[f32], line: usize, column: usize, dx: &mut [f32]) {
        let add = |dx: &mut [f32], row: &[f32], channels: usize| {
            self.lines(line, column, channels, |tap, from| {
                if let Some(from) = from {
                    dx[from].iter_mut().zip(&row[tap]).for_each(|(dx, value)| *dx += value);
                }
            });
        };
        if self.planar {
            let planes = dx.chunks_exact_mut(self.size[0] * self.size[1]);
            for (dx, row) in planes.zip(row.chunks_exact(self.kernel * self.kernel)) {
                add(dx, row, 1);
            }
        } else {
            add(dx, row, self.inputs);
        }
    }

    /// Calls `f` for each run of taps that lies in one line of the picture: the taps' places in the unfolded row,
    /// and the input's places, or none for a run in the padding.
    #[inline(always)]
    fn lines(
        &self,
        line: usize,
        column: usize,
        channels: usize,
        mut f: impl FnMut(Range<usize>, Option<Range<usize>>),
    ) {
        let (kernel, pad, [height, width]) = (self.kernel, self.pad(), self.size);
        let left = (column * self.stride).saturating_sub(pad);
        let before = pad.saturating_sub(column * self.stride);
        let inside = (kernel - before).min(width - left.min(width));
        for ky in 0..kernel {
            let taps = ky * kernel * channels..(ky + 1) * kernel * channels;
            let y = (line * self.stride + ky).wrapping_sub(pad);
            if y >= height {
                f(taps, None);
                continue;
            }
            let middle = taps.start + before * channels..taps.start + (before + inside) * channels;
            let from = (y * width + left) * channels;
            if before > 0 {
                f(taps.start..middle.start, None);
            }
            f(middle.clone(), Some(from..from + inside * channels));
            if middle.end < taps.end {
                f(middle.end..taps.end, None);
            }
        }
    }
}

#[inline(always)]
fn copy_or_clear(x: &[f32], from: Option<Range<usize>>, out: &mut [f32]) {
    match from {
        Some(from) => out.copy_from_slice(&x[from]),
        None => out.fill(0.0),
    }
}

/// Writes the convolution of `x` to `out` (rows × outputs) and calls `finish` with each tile as it is done;
/// returns what `finish` returned, in order.
pub(crate) fn forward<R: Send>(
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    out: &mut [f32],
    finish: impl Fn(&mut [f32]) -> R + Sync,
) -> Vec<R> {
    let packed = shape.pack(weight);
    forward_packed(shape, x, packed.as_deref().unwrap_or(weight), out, false, finish)
}

fn forward_packed<R: Send>(
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    out: &mut [f32],
    accumulate: bool,
    finish: impl Fn(&mut [f32]) -> R + Sync,
) -> Vec<R> {
    let (tile, taps, outputs) = (shape.tile(), shape.taps(), shape.outputs);
    let weight = Matrix::new(weight, outputs, taps).t();
    let run = |(number, out): (usize, &mut [f32])| {
        let rows = out.len() / outputs;
        let range = number * tile..number * tile + rows;
        if shape.is_plain() {
            let x = Matrix::new(&x[range.start * taps..range.end * taps], rows, taps);
            gemm(MatrixMut::new(out, rows, outputs), accumulate, x, weight, 1.0);
        } else {
            let mut unfolded = Buffer::stale(rows * taps);
            shape.unfold(x, range, &mut unfolded);
            let x = Matrix::new(&unfolded, rows, taps);
            gemm(MatrixMut::new(out, rows, outputs), accumulate, x, weight, 1.0);
        }
        finish(out)
    };
    out.par_chunks_mut(tile * outputs).enumerate().map(run).collect()
}

/// Writes the gradient of the input to `dx`, or adds it with `accumulate`.
pub(crate) fn backward_input(
    shape: &ConvShape,
    dy: &[f32],
    weight: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    let outputs = shape.outputs;
    if shape.is_plain() {
        let weight = Matrix::new(weight, outputs, shape.inputs);
        let tile = shape.tile();
        dx.par_chunks_mut(tile * shape.inputs).zip(dy.par_chunks(tile * outputs)).for_each(|(dx, dy)| {
            let rows = dy.len() / outputs;
            let out = MatrixMut::new(dx, rows, shape.inputs);
            gemm(out, accumulate, Matrix::new(dy, rows, outputs), weight, 1.0);
        });
        return;
    }
    if shape.stride == 1 && !shape.planar {
        let (mirrored, packed) = shape.mirrored(weight);
        forward_packed(&mirrored, dy, &packed, dx, accumulate, |_| ());
        return;
    }
    let packed = shape.pack(weight);
    let weight = Matrix::new(packed.as_deref().unwrap_or(weight), outputs, shape.taps());
    let [out_height, out_width] = shape.out_size();
    let pixels = out_height * out_width;
    let tile = even(pixels, shape.tile());
    dx.par_chunks_mut(shape.picture()).zip(dy.par_chunks(pixels * outputs)).for_each(|(dx, dy)| {
        if !accumulate {
            dx.fill(0.0);
        }
        let mut unfolded = Buffer::stale(tile * shape.taps());
        for (number, dy) in dy.chunks(tile * outputs).enumerate() {
            let rows = dy.len() / outputs;
            let out = MatrixMut::new(&mut unfolded[..rows * shape.taps()], rows, shape.taps());
            gemm(out, false, Matrix::new(dy, rows, outputs), weight, 1.0);
            for (row, unfolded) in
                (number * tile..).zip(unfolded[..rows * shape.taps()].chunks_exact(shape.taps()))
            {
                shape.fold_row(unfolded, row / out_width, row % out_width, dx);
            }
        }
    });
}

/// The gradient of the weight, in PyTorch's order.
pub(crate) fn backward_weight(shape: &ConvShape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (tile, taps, outputs) = (shape.tile(), shape.taps(), shape.outputs);
    let tiles = shape.rows().div_ceil(tile);
    let parts = tiles.min(PARTS).min((PARTS_ELEMENTS / (outputs * taps)).max(4));
    let run = |part: usize| {
        let mut dw = Buffer::stale(outputs * taps);
        let mut unfolded = Buffer::stale(if shape.is_plain() { 0 } else { tile * taps });
        let range = part * tiles / parts..(part + 1) * tiles / parts;
        for number in range.clone() {
            let rows = number * tile..((number + 1) * tile).min(shape.rows());
            let dy = Matrix::new(&dy[rows.start * outputs..rows.end * outputs], rows.len(), outputs).t();
            let x = if shape.is_plain() {
                &x[rows.start * taps..rows.end * taps]
            } else {
                let unfolded = &mut unfolded[..rows.len() * taps];
                shape.unfold(x, rows.clone(), unfolded);
                unfolded
            };
            let out = MatrixMut::new(&mut dw, outputs, taps);
            gemm(out, number > range.start, dy, Matrix::new(x, rows.len(), taps), 1.0);
        }
        dw
    };
    let parts: Vec<Buffer> = (0..parts).into_par_iter().map(run).collect();
    shape.unpack(sum_in_order(parts))
}

/// Convolves pictures `x` (B, H, W, I) with `weight` (O, I, k, k), k odd, padded by k / 2: (B, H', W', O).
///
/// # Errors
/// When the shapes do not fit, or the kernel is even or larger than the padded picture.
pub fn conv2d(x: &Tensor, weight: &Tensor, stride: usize, sink: &GradSink) -> Result<Tensor> {
    let (batch, height, width, inputs) = x.dims4()?;
    let (outputs, of, kernel, other) = weight.dims4()?;
    if of != inputs || kernel != other || kernel % 2 == 0 || stride == 0 || height * width * batch == 0 {
        bail!("conv2d: pictures {:?}, weight {:?}, stride {stride}", x.shape(), weight.shape())
    }
    let shape = ConvShape { batch, size: [height, width], inputs, outputs, kernel, stride, planar: false };
    let [out_height, out_width] = shape.out_size();
    if !on_kernels(&[x, weight]) {
        return composite(x, weight, &shape);
    }
    let stage = Convolution { shape, weight: weight.clone() };
    stack(x, vec![stage], (batch, out_height, out_width, outputs), sink, false)
}

/// The convolution from shifted views and one matrix product. (candle's own has no input gradient where height
/// and width leave different remainders, and a slow one elsewhere.)
fn composite(x: &Tensor, weight: &Tensor, shape: &ConvShape) -> Result<Tensor> {
    let (pad, stride, [out_height, out_width]) = (shape.pad(), shape.stride, shape.out_size());
    let x = x.pad_with_zeros(1, pad, pad + stride)?.pad_with_zeros(2, pad, pad + stride)?;
    let mut taps = Vec::with_capacity(shape.kernel * shape.kernel);
    for ky in 0..shape.kernel {
        let lines = every(&x, 1, ky, out_height, stride)?;
        for kx in 0..shape.kernel {
            taps.push(every(&lines, 2, kx, out_width, stride)?);
        }
    }
    let unfolded = Tensor::cat(&taps, 3)?.reshape((shape.rows(), shape.taps()))?;
    let weight = weight
        .to_dtype(x.dtype())?
        .permute((2, 3, 1, 0))?
        .contiguous()?
        .reshape((shape.taps(), shape.outputs))?;
    unfolded.matmul(&weight)?.reshape((shape.batch, out_height, out_width, shape.outputs))
}

struct Convolution {
    shape: ConvShape,
    weight: Tensor,
}

impl Stage for Convolution {
    type Kept = ();

    fn parameters(&self) -> Vec<&Tensor> {
        vec![&self.weight]
    }

    fn out_len(&self) -> usize {
        self.shape.rows() * self.shape.outputs
    }

    fn forward(&self, x: &[f32], parameters: &[&[f32]], out: &mut [f32], _: Pass) -> Result<Option<()>> {
        forward(&self.shape, x, parameters[0], out, |_| ());
        Ok(Some(()))
    }

    fn backward(&self, given: &Given<'_, ()>, dx: Option<&mut [f32]>) -> Vec<Vec<f32>> {
        if let Some(dx) = dx {
            backward_input(&self.shape, given.grad, given.parameters[0], dx, false);
        }
        vec![if given.wanted[0] { backward_weight(&self.shape, given.x, given.grad) } else { Vec::new() }]
    }
}
