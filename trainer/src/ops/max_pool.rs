//! Max-pooling of pictures stored (B, H, W, C) with a 3×3 window, stride 2 and a border of 1, as ResNet has it.
//!
//! The border counts as minus infinity. Of equal values the first in reading order takes the gradient, as in
//! PyTorch. Each output keeps its window's place (0 to 8) in a byte. Left out: other windows.

use super::buffer::{every, on_kernels};
use super::sink::GradSink;
use super::stack::{Given, Pass, Stage, stack};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// The sizes of a pooling.
#[derive(Clone, Copy)]
pub(crate) struct PoolShape {
    pub(crate) batch: usize,
    pub(crate) size: [usize; 2],
    pub(crate) channels: usize,
}

impl PoolShape {
    /// Height and width of the output.
    pub(crate) fn out_size(&self) -> [usize; 2] {
        self.size.map(|side| side.div_ceil(2))
    }

    /// Numbers in the output.
    pub(crate) fn out_len(&self) -> usize {
        let [height, width] = self.out_size();
        self.batch * height * width * self.channels
    }

    fn picture(&self) -> usize {
        self.size[0] * self.size[1] * self.channels
    }

    fn out_picture(&self) -> usize {
        self.out_len() / self.batch
    }

    /// The pixels under the window of an output pixel that lie in the picture, with their places.
    fn window(&self, line: usize, column: usize) -> impl Iterator<Item = (u8, usize)> {
        let ([height, width], channels) = (self.size, self.channels);
        (0..9usize).filter_map(move |place| {
            let y = (2 * line + place / 3).wrapping_sub(1);
            let x = (2 * column + place % 3).wrapping_sub(1);
            if y < height && x < width { Some((place as u8, (y * width + x) * channels)) } else { None }
        })
    }

    /// Writes each window's largest value to `out` and its place to `places`.
    pub(crate) fn forward(&self, x: &[f32], out: &mut [f32], places: &mut [u8]) {
        let (line, [_, out_width]) = (self.out_size()[1] * self.channels, self.out_size());
        let lines = out.par_chunks_mut(line).zip(places.par_chunks_mut(line)).enumerate();
        lines.for_each(|(number, (out, places))| {
            let (picture, line) = (number / self.out_size()[0], number % self.out_size()[0]);
            let x = &x[picture * self.picture()..][..self.picture()];
            let pixels = out.chunks_exact_mut(self.channels).zip(places.chunks_exact_mut(self.channels));
            for (column, (out, places)) in (0..out_width).zip(pixels) {
                out.fill(f32::NEG_INFINITY);
                for (place, from) in self.window(line, column) {
                    take_larger(&x[from..from + self.channels], place, out, places);
                }
            }
        });
    }

    /// Writes the gradient of the input to `dx`.
    pub(crate) fn backward(&self, grad: &[f32], places: &[u8], dx: &mut [f32]) {
        let [_, out_width] = self.out_size();
        dx.par_chunks_mut(self.picture())
            .zip(grad.par_chunks(self.out_picture()))
            .zip(places.par_chunks(self.out_picture()))
            .for_each(|((dx, grad), places)| {
                dx.fill(0.0);
                let pixels = grad.chunks_exact(self.channels).zip(places.chunks_exact(self.channels));
                for (pixel, (grad, places)) in pixels.enumerate() {
                    for (place, from) in self.window(pixel / out_width, pixel % out_width) {
                        give_back(grad, places, place, &mut dx[from..from + self.channels]);
                    }
                }
            });
    }
}

simd! {
    fn take_larger(x: &[f32], place: u8, out: &mut [f32], places: &mut [u8]) {
        for ((out, kept), x) in out.iter_mut().zip(places).zip(x) {
            // A value that is no number stays, so that the loss shows it.
            let larger = *x > *out || x.is_nan();
            *out = if larger { *x } else { *out };
            *kept = if larger { place } else { *kept };
        }
    }
}

simd! {
    fn give_back(grad: &[f32], places: &[u8], place: u8, dx: &mut [f32]) {
        for ((dx, g), kept) in dx.iter_mut().zip(grad).zip(places) {
            *dx += if *kept == place { *g } else { 0.0 };
        }
    }
}

/// Pools pictures `x` (B, H, W, C) with a 3×3 window, stride 2 and a border of 1: (B, ⌈H/2⌉, ⌈W/2⌉, C).
///
/// # Errors
/// When `x` is not of rank 4 or has no pixel.
pub fn max_pool(x: &Tensor, sink: &GradSink) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    if x.elem_count() == 0 {
        bail!("max_pool: no pixel in {:?}", x.shape())
    }
    let shape = PoolShape { batch, size: [height, width], channels };
    let [out_height, out_width] = shape.out_size();
    if on_kernels(&[x]) {
        return stack(x, vec![MaxPool(shape)], (batch, out_height, out_width, channels), sink, false);
    }
    // Three shifted views along each axis, taken apart by a reshape: stock pooling has no gradient here.
    let least = x.min_all()?.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()? - 1.0;
    let x = thirds(x, 1, out_height, least)?;
    thirds(&x, 2, out_width, least)
}

/// The largest of places 2i − 1, 2i and 2i + 1 along `axis`, for i below `count`.
fn thirds(x: &Tensor, axis: usize, count: usize, border: f64) -> Result<Tensor> {
    let pad = |count: usize| {
        let mut dims = x.dims().to_vec();
        dims[axis] = count;
        Tensor::full(border, dims, x.device())?.to_dtype(x.dtype())
    };
    let padded = Tensor::cat(&[&pad(1)?, x, &pad(2 * count + 1 - x.dim(axis)?)?], axis)?;
    let pick = |shift: usize| every(&padded, axis, shift, count, 2);
    pick(0)?.maximum(&pick(1)?)?.maximum(&pick(2)?)
}

struct MaxPool(PoolShape);

impl Stage for MaxPool {
    type Kept = Vec<u8>;

    fn parameters(&self) -> Vec<&Tensor> {
        Vec::new()
    }

    fn out_len(&self) -> usize {
        self.0.out_len()
    }

    fn forward(&self, x: &[f32], _: &[&[f32]], out: &mut [f32], pass: Pass) -> Result<Option<Vec<u8>>> {
        let mut places = vec![0; out.len()];
        self.0.forward(x, out, &mut places);
        Ok(pass.keeps.then_some(places))
    }

    fn backward(&self, given: &Given<'_, Vec<u8>>, dx: Option<&mut [f32]>) -> Vec<Vec<f32>> {
        if let Some(dx) = dx {
            self.0.backward(given.grad, given.kept, dx);
        }
        Vec::new()
    }
}
