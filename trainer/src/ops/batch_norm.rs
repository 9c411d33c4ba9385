//! Batch normalisation over rows (Ioffe and Szegedy 2015), with running statistics as PyTorch keeps them.
//!
//! With the batch's mean and (biased) variance of each column, `x̂ = (x − mean)·rstd` and `y = x̂·w + b`. Backward:
//! `dx = w·rstd·(g − mean(g) − x̂·mean(g·x̂))`, `dw = Σ g·x̂`, `db = Σ g`. Running values move by
//! `r ← r + momentum·(batch − r)`, the variance's with the unbiased value. Means and variances are taken tile by
//! tile and merged in order in double precision (Chan et al. 1979), so they do not depend on the thread count.
//!
//! Left out: momentum none (cumulative averages), and statistics over several processes.

use super::buffer::{at_least_f32, even, on_kernels};
use super::recycle::Buffer;
use super::sink::GradSink;
use super::stack::{Given, Pass, Stage, stack};
use candle_core::{Device, Result, Tensor, Var, bail};
use rayon::prelude::*;

/// ε of batch normalisation, as in PyTorch.
const EPS: f64 = 1e-5;

/// Share of the way that running statistics go to a batch's, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// Numbers that one task normalises.
const TASK_ELEMENTS: usize = 1 << 16;

/// Where a batch normalisation takes mean and variance from.
#[derive(Clone, Debug)]
pub enum Statistics {
    /// The batch's; the running ones follow them where `follow` is set.
    Batch {
        /// Running mean (C).
        mean: Var,
        /// Running variance (C).
        variance: Var,
        /// Whether the running values follow.
        follow: bool,
    },
    /// The running mean and variance, as constants.
    Running {
        /// Running mean (C).
        mean: Tensor,
        /// Running variance (C).
        variance: Tensor,
    },
}

/// Mean and sum of squared deviations of a tile's columns.
pub(crate) struct Moments {
    rows: usize,
    /// Means, then sums of squared deviations.
    values: Buffer,
}

/// Takes the moments of the columns of `tile` (rows of `width`).
pub(crate) fn moments(tile: &[f32], width: usize) -> Moments {
    let rows = tile.len() / width;
    let mut values = Buffer::zeroed(2 * width);
    let (mean, squares) = values.split_at_mut(width);
    super::linear::add_rows(tile, mean);
    let scale = 1.0 / rows as f32;
    mean.iter_mut().for_each(|v| *v *= scale);
    add_squares(tile, mean, squares);
    Moments { rows, values }
}

simd! {
    fn add_squares(tile: &[f32], mean: &[f32], squares: &mut [f32]) {
        for row in tile.chunks_exact(mean.len()) {
            for ((sum, mean), value) in squares.iter_mut().zip(mean).zip(row) {
                let deviation = value - mean;
                *sum += deviation * deviation;
            }
        }
    }
}

/// Mean and reciprocal deviation of each column, and the line `x·scale + shift` that they make with w and b.
pub(crate) struct Norm {
    pub(crate) mean: Vec<f32>,
    pub(crate) rstd: Vec<f32>,
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    /// Whether mean and variance depend on the batch, and so have gradients.
    from_batch: bool,
}

impl Norm {
    /// Merges the moments of all tiles, or takes the running statistics; running ones follow in a first run.
    pub(crate) fn new(
        statistics: &Statistics,
        tiles: &[Moments],
        weight: &[f32],
        bias: &[f32],
        is_first: bool,
    ) -> Result<Self> {
        let (mean, variance, from_batch) = match statistics {
            Statistics::Batch { mean: running_mean, variance: running_variance, follow } => {
                let (mean, variance, count) = merge(tiles, weight.len());
                if *follow && is_first {
                    let unbiased = count / (count - 1.0).max(1.0);
                    follow_batch(running_mean, &mean, 1.0)?;
                    follow_batch(running_variance, &variance, unbiased)?;
                }
                (mean, variance, true)
            }
            Statistics::Running { mean, variance } => (doubles(mean)?, doubles(variance)?, false),
        };
        let rstd: Vec<f64> = variance.iter().map(|v| 1.0 / (v + EPS).sqrt()).collect();
        let scale: Vec<f64> = rstd.iter().zip(weight).map(|(r, w)| r * f64::from(*w)).collect();
        let shift = mean.iter().zip(&scale).zip(bias).map(|((m, s), b)| (f64::from(*b) - m * s) as f32);
        Ok(Self {
            shift: shift.collect(),
            mean: mean.iter().map(|v| *v as f32).collect(),
            rstd: rstd.iter().map(|v| *v as f32).collect(),
            scale: scale.iter().map(|v| *v as f32).collect(),
            from_batch,
        })
    }
}

fn doubles(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(candle_core::DType::F64)?.to_vec1()
}

/// Mean, biased variance and number of rows over all tiles.
fn merge(tiles: &[Moments], width: usize) -> (Vec<f64>, Vec<f64>, f64) {
    let (mut mean, mut squares, mut count) = (vec![0.0; width], vec![0.0; width], 0.0);
    for tile in tiles {
        let rows = tile.rows as f64;
        let total = count + rows;
        let (tile_mean, tile_squares) = tile.values.split_at(width);
        for column in 0..width {
            let delta = f64::from(tile_mean[column]) - mean[column];
            mean[column] += delta * rows / total;
            squares[column] += f64::from(tile_squares[column]) + delta * delta * count * rows / total;
        }
        count = total;
    }
    squares.iter_mut().for_each(|v: &mut f64| *v /= count.max(1.0));
    (mean, squares, count)
}

fn follow_batch(running: &Var, batch: &[f64], factor: f64) -> Result<()> {
    let moved = doubles(running)?;
    let moved = moved.iter().zip(batch).map(|(r, b)| (r + MOMENTUM * (b * factor - r)) as f32);
    running.set(&Tensor::from_iter(moved, &Device::Cpu)?)
}

simd! {
    fn line(x: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
        let width = scale.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            for (((out, x), scale), shift) in out.iter_mut().zip(x).zip(scale).zip(shift) {
                *out = x * scale + shift;
            }
        }
    }
}

simd! {
    fn line_relu(x: &[f32], scale: &[f32], shift: &[f32], out: &mut [f32]) {
        let width = scale.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            for (((out, x), scale), shift) in out.iter_mut().zip(x).zip(scale).zip(shift) {
                let value = x * scale + shift;
                *out = if value > 0.0 { value } else { 0.0 };
            }
        }
    }
}

simd! {
    /// The positive part of a normalised row and another row.
    fn line_plus_relu(x: &[f32], scale: &[f32], shift: &[f32], other: &[f32], out: &mut [f32]) {
        let width = scale.len();
        let rows = x.chunks_exact(width).zip(other.chunks_exact(width)).zip(out.chunks_exact_mut(width));
        for ((x, other), out) in rows {
            for ((((out, x), scale), shift), other) in out.iter_mut().zip(x).zip(scale).zip(shift).zip(other) {
                let value = x * scale + shift + other;
                *out = if value > 0.0 { value } else { 0.0 };
            }
        }
    }
}

simd! {
    /// The positive part of the sum of two normalised rows.
    fn two_lines_relu(x: [&[f32]; 2], scale: [&[f32]; 2], shift: [&[f32]; 2], out: &mut [f32]) {
        let width = scale[0].len();
        let rows = x[0].chunks_exact(width).zip(x[1].chunks_exact(width)).zip(out.chunks_exact_mut(width));
        for ((x0, x1), out) in rows {
            let columns = scale[0].iter().zip(shift[0]).zip(scale[1].iter().zip(shift[1]));
            for (((out, x0), x1), ((scale0, shift0), (scale1, shift1))) in out.iter_mut().zip(x0).zip(x1).zip(columns) {
                let value = x0 * scale0 + shift0 + (x1 * scale1 + shift1);
                *out = if value > 0.0 { value } else { 0.0 };
            }
        }
    }
}

/// What a normalisation's result goes through.
#[derive(Clone, Copy)]
pub(crate) enum After<'a> {
    /// Nothing.
    Nothing,
    /// The positive part.
    Relu,
    /// The sum with these numbers, then the positive part.
    PlusRelu(&'a [f32]),
    /// The sum with these numbers, normalised themselves, then the positive part.
    PlusNormRelu(&'a [f32], &'a Norm),
}

/// Rows of `width` numbers that one task of an element-wise pass takes.
pub(crate) fn task(rows: usize, width: usize) -> usize {
    even(rows, (TASK_ELEMENTS / width.max(1)).max(1)) * width
}

/// Normalises rows into `out`.
pub(crate) fn apply(norm: &Norm, x: &[f32], out: &mut [f32], after: After<'_>) {
    let width = norm.scale.len();
    let task = task(x.len() / width, width);
    let (scale, shift) = (&norm.scale, &norm.shift);
    let tasks = out.par_chunks_mut(task).zip(x.par_chunks(task));
    match after {
        After::Nothing => tasks.for_each(|(out, x)| line(x, scale, shift, out)),
        After::Relu => tasks.for_each(|(out, x)| line_relu(x, scale, shift, out)),
        After::PlusRelu(other) => tasks
            .zip(other.par_chunks(task))
            .for_each(|((out, x), other)| line_plus_relu(x, scale, shift, other, out)),
        After::PlusNormRelu(other, norm) => {
            tasks.zip(other.par_chunks(task)).for_each(|((out, x), other)| {
                two_lines_relu([x, other], [scale, &norm.scale], [shift, &norm.shift], out);
            });
        }
    }
}

/// Sums over rows of `g` and of `g·(x − mean)`, a pair of rows: what a task leaves of its backward pass.
pub(crate) type Sums = Buffer;

simd! {
    /// Adds to the sums of `g` and of `g·(x − mean)` over rows.
    pub(crate) fn add_sums(grad: &[f32], x: &[f32], mean: &[f32], sums: &mut [f32]) {
        let width = mean.len();
        let (sum, along) = sums.split_at_mut(width);
        for (grad, x) in grad.chunks_exact(width).zip(x.chunks_exact(width)) {
            for ((((sum, along), g), x), mean) in sum.iter_mut().zip(along.iter_mut()).zip(grad).zip(x).zip(mean) {
                *sum += g;
                *along += g * (x - mean);
            }
        }
    }
}

simd! {
    /// Sets the gradient to zero where the normalised value is not positive.
    pub(crate) fn mask_by_line(x: &[f32], scale: &[f32], shift: &[f32], grad: &mut [f32]) {
        let width = scale.len();
        for (x, grad) in x.chunks_exact(width).zip(grad.chunks_exact_mut(width)) {
            for (((g, x), scale), shift) in grad.iter_mut().zip(x).zip(scale).zip(shift) {
                *g = if x * scale + shift > 0.0 { *g } else { 0.0 };
            }
        }
    }
}

simd! {
    /// Writes the gradient where the output is positive, zero elsewhere, to two places.
    pub(crate) fn mask_by_output(grad: &[f32], output: &[f32], out: &mut [f32], copy: &mut [f32]) {
        for (((out, copy), g), value) in out.iter_mut().zip(copy).zip(grad).zip(output) {
            *out = if *value > 0.0 { *g } else { 0.0 };
            *copy = *out;
        }
    }
}

/// The coefficients of `dx = a·g + b·(x − mean) + c` for each column, and the gradients of weight and bias.
pub(crate) struct Backward {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    mean: Vec<f32>,
    pub(crate) dweight: Vec<f32>,
    pub(crate) dbias: Vec<f32>,
}

/// Adds up the tasks' sums in order.
pub(crate) fn backward(norm: &Norm, sums: &[Sums], rows: usize) -> Backward {
    let width = norm.mean.len();
    let mut total = vec![0.0f64; 2 * width];
    for sums in sums {
        total.iter_mut().zip(sums.iter()).for_each(|(total, value)| *total += f64::from(*value));
    }
    let (dbias, along) = total.split_at(width);
    let dweight: Vec<f64> = along.iter().zip(&norm.rstd).map(|(v, rstd)| v * f64::from(*rstd)).collect();
    let count = if norm.from_batch { rows as f64 } else { f64::INFINITY };
    let mut found = Backward {
        a: norm.scale.clone(),
        b: Vec::with_capacity(width),
        c: Vec::with_capacity(width),
        mean: norm.mean.clone(),
        dweight: dweight.iter().map(|v| *v as f32).collect(),
        dbias: dbias.iter().map(|v| *v as f32).collect(),
    };
    for column in 0..width {
        let scale = f64::from(norm.scale[column]);
        // x̂·mean(g·x̂) = (x − mean)·rstd·mean(g·x̂)
        let slope = scale * f64::from(norm.rstd[column]) * dweight[column] / count;
        found.b.push(-slope as f32);
        found.c.push((-scale * dbias[column] / count) as f32);
    }
    found
}

simd! {
    fn bring_down(a: &[f32], b: &[f32], c: &[f32], mean: &[f32], x: &[f32], grad: &mut [f32]) {
        let width = a.len();
        for (x, grad) in x.chunks_exact(width).zip(grad.chunks_exact_mut(width)) {
            for (((((g, x), a), b), c), mean) in grad.iter_mut().zip(x).zip(a).zip(b).zip(c).zip(mean) {
                *g = a * *g + b * (x - mean) + c;
            }
        }
    }
}

impl Backward {
    /// Turns gradients of the normalised rows to those of `x`, in place, on this thread.
    pub(crate) fn apply_rows(&self, x: &[f32], grad: &mut [f32]) {
        bring_down(&self.a, &self.b, &self.c, &self.mean, x, grad);
    }

    /// The same in parallel.
    pub(crate) fn apply(&self, x: &[f32], grad: &mut [f32]) {
        let task = task(x.len() / self.a.len(), self.a.len());
        grad.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(grad, x)| self.apply_rows(x, grad));
    }
}

/// Normalises each column of `x` (…, C) and applies `weight` (C) and `bias` (C).
///
/// # Errors
/// When the shapes do not fit, or there is no row.
pub fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    statistics: &Statistics,
    sink: &GradSink,
) -> Result<Tensor> {
    let width = x.dim(candle_core::D::Minus1)?;
    let rows = x.elem_count() / width.max(1);
    if weight.dims() != [width] || bias.dims() != [width] || rows == 0 {
        bail!("batch_norm: {:?}, weight {:?}, bias {:?}", x.shape(), weight.shape(), bias.shape())
    }
    if on_kernels(&[x, weight, bias]) {
        let stage =
            BatchNorm { parameters: [weight.clone(), bias.clone()], statistics: statistics.clone(), rows };
        return stack(x, vec![stage], x.dims(), sink, false);
    }
    composite(x, weight, bias, statistics)
}

fn composite(x: &Tensor, weight: &Tensor, bias: &Tensor, statistics: &Statistics) -> Result<Tensor> {
    let rows = at_least_f32(&x.flatten_to(x.rank() - 2)?)?;
    let (centred, variance) = match statistics {
        Statistics::Batch { mean: running_mean, variance: running_variance, follow } => {
            let mean = rows.mean_keepdim(0)?;
            let centred = rows.broadcast_sub(&mean)?;
            let variance = centred.sqr()?.mean_keepdim(0)?;
            if *follow {
                let count = rows.dim(0)? as f64;
                let unbiased = (variance.squeeze(0)? * (count / (count - 1.0).max(1.0)))?;
                for (running, batch) in [(running_mean, mean.squeeze(0)?), (running_variance, unbiased)] {
                    let kept = (running.as_detached_tensor() * (1.0 - MOMENTUM))?;
                    let moved = (batch.detach() * MOMENTUM)?.to_dtype(kept.dtype())?;
                    running.set(&(kept + moved)?)?;
                }
            }
            (centred, variance)
        }
        Statistics::Running { mean, variance } => {
            let of = |tensor: &Tensor| tensor.to_dtype(rows.dtype())?.unsqueeze(0);
            (rows.broadcast_sub(&of(mean)?)?, of(variance)?)
        }
    };
    let normal = centred.broadcast_div(&(variance + EPS)?.sqrt()?)?;
    let [weight, bias] = [weight.to_dtype(rows.dtype())?, bias.to_dtype(rows.dtype())?];
    normal.broadcast_mul(&weight)?.broadcast_add(&bias)?.reshape(x.shape())?.to_dtype(x.dtype())
}

struct BatchNorm {
    parameters: [Tensor; 2],
    statistics: Statistics,
    rows: usize,
}

impl Stage for BatchNorm {
    type Kept = Norm;

    fn parameters(&self) -> Vec<&Tensor> {
        self.parameters.iter().collect()
    }

    fn out_len(&self) -> usize {
        self.rows * self.parameters[0].elem_count()
    }

    fn forward(&self, x: &[f32], p: &[&[f32]], out: &mut [f32], pass: Pass) -> Result<Option<Norm>> {
        let width = p[0].len();
        let tiles: Vec<Moments> =
            x.par_chunks(task(self.rows, width)).map(|tile| moments(tile, width)).collect();
        let norm = Norm::new(&self.statistics, &tiles, p[0], p[1], pass.is_first)?;
        apply(&norm, x, out, After::Nothing);
        Ok(pass.keeps.then_some(norm))
    }

    fn backward(&self, given: &Given<'_, Norm>, dx: Option<&mut [f32]>) -> Vec<Vec<f32>> {
        let (norm, width) = (given.kept, given.kept.mean.len());
        let task = task(self.rows, width);
        let tasks = given.grad.par_chunks(task).zip(given.x.par_chunks(task));
        let sums: Vec<Sums> = tasks
            .map(|(grad, x)| {
                let mut sums = Buffer::zeroed(2 * width);
                add_sums(grad, x, &norm.mean, &mut sums);
                sums
            })
            .collect();
        let found = backward(norm, &sums, self.rows);
        if let Some(dx) = dx {
            dx.copy_from_slice(given.grad);
            found.apply(given.x, dx);
        }
        vec![found.dweight, found.dbias]
    }
}
