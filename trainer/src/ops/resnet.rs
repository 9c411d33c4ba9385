//! A residual network (He et al. 2016) from pixels to one row a picture, as one differentiable operation.
//!
//! The stem is a 7×7 convolution with stride 2, normalisation, activation and max-pooling; bottlenecks follow; the
//! mean over all pixels ends it. Activations are stored (B, H, W, C). Left out: the final linear layer, and
//! basic blocks (ResNet-18 and 34).

use super::batch_norm::{After, Norm, apply, backward, batch_norm, mask_by_line};
use super::bottleneck::{Bottleneck, BottleneckParams, ConvNorm, Kept as BottleneckKept, conv_norm, sums};
use super::buffer::on_kernels;
use super::conv::{self, ConvShape, conv2d};
use super::max_pool::{PoolShape, max_pool};
use super::recycle::Buffer;
use super::sink::GradSink;
use super::stack::{Given, Pass, Stage, stack};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// The parameters of a residual network.
#[derive(Clone, Debug)]
pub struct ResNetParams {
    /// The 7×7 convolution and its normalisation.
    pub stem: ConvNorm,
    /// The bottlenecks of all stages, in order.
    pub bottlenecks: Vec<BottleneckParams>,
}

/// Carries `pixel_values` (B, 3, H, W) through a residual network: (B, C), the mean over the last pixels.
///
/// # Errors
/// When the parameters do not fit one another.
pub fn resnet(
    pixel_values: &Tensor,
    params: &ResNetParams,
    recompute: bool,
    sink: &GradSink,
) -> Result<Tensor> {
    let Some(Plan { mut stages, ends }) = plan(pixel_values, params)? else {
        let pixels = composite_stem(pixel_values, &params.stem, sink)?;
        return composite_blocks(pixels, &params.bottlenecks, sink)?.mean((1, 2));
    };
    let last = ends[ends.len() - 1];
    stages.push(Part::Mean(Mean { batch: last.batch, pixels: last.pixels(), channels: last.channels }));
    stack(pixel_values, stages, (last.batch, last.channels), sink, recompute)
}

/// The same, together with the pixels after the first `blocks` bottlenecks, row by row: (B, P, C') and (B, C).
///
/// # Errors
/// As [`resnet`].
pub fn resnet_with_pixels(
    pixel_values: &Tensor,
    params: &ResNetParams,
    blocks: usize,
    sink: &GradSink,
) -> Result<(Tensor, Tensor)> {
    let blocks = blocks.min(params.bottlenecks.len());
    let Some(Plan { mut stages, ends }) = plan(pixel_values, params)? else {
        let pixels = composite_stem(pixel_values, &params.stem, sink)?;
        let pixels = composite_blocks(pixels, &params.bottlenecks[..blocks], sink)?;
        let mean = composite_blocks(pixels.clone(), &params.bottlenecks[blocks..], sink)?.mean((1, 2))?;
        return Ok((pixels.flatten(1, 2)?, mean));
    };
    let mut after = stages.split_off(1 + blocks);
    let (here, last) = (ends[blocks], ends[ends.len() - 1]);
    let pixels = stack(pixel_values, stages, (here.batch, here.pixels(), here.channels), sink, false)?;
    after.push(Part::Mean(Mean { batch: last.batch, pixels: last.pixels(), channels: last.channels }));
    let mean = stack(&pixels, after, (last.batch, last.channels), sink, false)?;
    Ok((pixels, mean))
}

/// The activations that a part leaves: (batch, height, width, channels).
#[derive(Clone, Copy)]
struct Extent {
    batch: usize,
    size: [usize; 2],
    channels: usize,
}

impl Extent {
    fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }
}

/// The parts of a network up to its last bottleneck, and what each leaves.
struct Plan {
    stages: Vec<Part>,
    ends: Vec<Extent>,
}

/// None for tensors that the kernels do not take.
fn plan(pixel_values: &Tensor, params: &ResNetParams) -> Result<Option<Plan>> {
    let (batch, inputs, height, width) = pixel_values.dims4()?;
    let (outputs, of, kernel, other) = params.stem.weight.dims4()?;
    if of != inputs || kernel != other || kernel % 2 == 0 || batch * height * width == 0 {
        bail!("resnet: pictures {:?}, stem {:?}", pixel_values.shape(), params.stem.weight.shape())
    }
    let first = &params.stem;
    if !on_kernels(&[pixel_values, &first.weight, &first.affine[0]]) {
        return Ok(None);
    }
    let shape = ConvShape { batch, size: [height, width], inputs, outputs, kernel, stride: 2, planar: true };
    let pool = PoolShape { batch, size: shape.out_size(), channels: outputs };
    let mut end = Extent { batch, size: pool.out_size(), channels: outputs };
    let mut ends = vec![end];
    let mut stages = vec![Part::Stem(Stem { layer: first.clone(), shape, pool })];
    for params in &params.bottlenecks {
        let bottleneck = Bottleneck::new(params, batch, end.size, end.channels)?;
        end = Extent { batch, size: bottleneck.out_size(), channels: bottleneck.outputs() };
        ends.push(end);
        stages.push(Part::Bottleneck(Box::new(bottleneck)));
    }
    Ok(Some(Plan { stages, ends }))
}

/// The network from single operations: the reference, and the path of other devices.
fn composite_stem(pixel_values: &Tensor, stem: &ConvNorm, sink: &GradSink) -> Result<Tensor> {
    let x = pixel_values.permute((0, 2, 3, 1))?.contiguous()?;
    max_pool(&composite_layer(&x, stem, 2, sink)?.relu()?, sink)
}

fn composite_layer(x: &Tensor, layer: &ConvNorm, stride: usize, sink: &GradSink) -> Result<Tensor> {
    let x = conv2d(x, &layer.weight, stride, sink)?;
    batch_norm(&x, &layer.affine[0], &layer.affine[1], &layer.statistics, sink)
}

fn composite_blocks(mut x: Tensor, blocks: &[BottleneckParams], sink: &GradSink) -> Result<Tensor> {
    for block in blocks {
        let around = match &block.downsample {
            Some(downsample) => composite_layer(&x, downsample, block.stride, sink)?,
            None => x.clone(),
        };
        let [first, second, third] = &block.layers;
        let inner = composite_layer(&x, first, 1, sink)?.relu()?;
        let inner = composite_layer(&inner, second, block.stride, sink)?.relu()?;
        x = (composite_layer(&inner, third, 1, sink)? + around)?.relu()?;
    }
    Ok(x)
}

/// One part of the network.
enum Part {
    Stem(Stem),
    Bottleneck(Box<Bottleneck>),
    Mean(Mean),
}

/// What a part keeps.
enum Kept {
    Stem(StemKept),
    Bottleneck(Box<BottleneckKept>),
    Mean,
}

impl Stage for Part {
    type Kept = Kept;

    fn parameters(&self) -> Vec<&Tensor> {
        match self {
            Self::Stem(stem) => stem.layer.parameters().to_vec(),
            Self::Bottleneck(bottleneck) => bottleneck.parameters(),
            Self::Mean(_) => Vec::new(),
        }
    }

    fn out_len(&self) -> usize {
        match self {
            Self::Stem(stem) => stem.pool.out_len(),
            Self::Bottleneck(bottleneck) => bottleneck.out_len(),
            Self::Mean(mean) => mean.batch * mean.channels,
        }
    }

    fn forward(&self, x: &[f32], p: &[&[f32]], out: &mut [f32], pass: Pass) -> Result<Option<Kept>> {
        Ok(match self {
            Self::Stem(stem) => stem.forward(x, p, out, pass)?.map(Kept::Stem),
            Self::Bottleneck(bottleneck) => {
                bottleneck.forward(x, p, out, pass)?.map(|kept| Kept::Bottleneck(Box::new(kept)))
            }
            Self::Mean(mean) => {
                mean.forward(x, out);
                Some(Kept::Mean)
            }
        })
    }

    fn backward(&self, given: &Given<'_, Kept>, dx: Option<&mut [f32]>) -> Vec<Vec<f32>> {
        match (self, given.kept) {
            (Self::Stem(stem), Kept::Stem(kept)) => stem.backward(&given.with(kept), dx),
            (Self::Bottleneck(bottleneck), Kept::Bottleneck(kept)) => {
                bottleneck.backward(&given.with(&**kept), dx)
            }
            (Self::Mean(mean), Kept::Mean) => {
                if let Some(dx) = dx {
                    mean.backward(given.grad, dx);
                }
                Vec::new()
            }
            _ => unreachable!("a part keeps what is its own"),
        }
    }
}

/// Convolution, normalisation, activation and pooling.
struct Stem {
    layer: ConvNorm,
    shape: ConvShape,
    pool: PoolShape,
}

/// What the stem keeps.
struct StemKept {
    output: Buffer,
    norm: Norm,
    places: Vec<u8>,
}

impl Stem {
    fn forward(&self, x: &[f32], p: &[&[f32]], out: &mut [f32], pass: Pass) -> Result<Option<StemKept>> {
        let (output, norm) = conv_norm(&self.shape, &self.layer, p, x, pass.is_first)?;
        let mut active = Buffer::stale(output.len());
        apply(&norm, &output, &mut active, After::Relu);
        let mut places = vec![0; out.len()];
        self.pool.forward(&active, out, &mut places);
        Ok(pass.keeps.then_some(StemKept { output, norm, places }))
    }

    fn backward(&self, given: &Given<'_, StemKept>, dx: Option<&mut [f32]>) -> Vec<Vec<f32>> {
        let StemKept { output, norm, places } = given.kept;
        let mut grad = Buffer::stale(output.len());
        self.pool.backward(given.grad, places, &mut grad);
        let width = norm.mean.len();
        let task = super::batch_norm::task(self.shape.rows(), width);
        grad.par_chunks_mut(task)
            .zip(output.par_chunks(task))
            .for_each(|(grad, x)| mask_by_line(x, &norm.scale, &norm.shift, grad));
        let found = backward(norm, &sums(output, norm, &grad), self.shape.rows());
        found.apply(output, &mut grad);
        if let Some(dx) = dx {
            conv::backward_input(&self.shape, &grad, given.parameters[0], dx, false);
        }
        let dw =
            if given.wanted[0] { conv::backward_weight(&self.shape, given.x, &grad) } else { Vec::new() };
        vec![dw, found.dweight, found.dbias]
    }
}

/// The mean over all pixels.
struct Mean {
    batch: usize,
    pixels: usize,
    channels: usize,
}

impl Mean {
    fn forward(&self, x: &[f32], out: &mut [f32]) {
        let scale = 1.0 / self.pixels as f32;
        out.par_chunks_mut(self.channels).zip(x.par_chunks(self.pixels * self.channels)).for_each(
            |(out, x)| {
                out.fill(0.0);
                super::linear::add_rows(x, out);
                out.iter_mut().for_each(|v| *v *= scale);
            },
        );
    }

    fn backward(&self, grad: &[f32], dx: &mut [f32]) {
        let scale = 1.0 / self.pixels as f32;
        dx.par_chunks_mut(self.pixels * self.channels).zip(grad.par_chunks(self.channels)).for_each(
            |(dx, grad)| {
                for dx in dx.chunks_exact_mut(self.channels) {
                    dx.iter_mut().zip(grad).for_each(|(dx, g)| *dx = g * scale);
                }
            },
        );
    }
}
