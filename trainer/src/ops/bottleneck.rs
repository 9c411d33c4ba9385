//! A bottleneck block of ResNet (He et al. 2016; stride on the 3×3 convolution, as torchvision has it).
//!
//! `y = relu(bn3(conv3(a2)) + s)` with `a1 = relu(bn1(conv1(x)))`, `a2 = relu(bn2(conv2(a1)))`, conv1 and conv3
//! 1×1, conv2 3×3, and `s` either `x` or, where shape changes, `bn(conv(x))`. Kept for the backward pass: the
//! convolutions' outputs. The activations between them are computed anew.

use super::batch_norm::{
    After, Backward, Moments, Norm, Statistics, Sums, add_sums, apply, backward, mask_by_line,
};
use super::batch_norm::{mask_by_output, moments, task};
use super::conv::{self, ConvShape};
use super::recycle::Buffer;
use super::stack::{Given, Pass, Stage};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// A convolution's weight (O, I, k, k) and the normalisation behind it.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    /// The weight.
    pub weight: Tensor,
    /// Weight and bias (O) of the normalisation.
    pub affine: [Tensor; 2],
    /// Where the normalisation takes mean and variance from.
    pub statistics: Statistics,
}

impl ConvNorm {
    pub(crate) fn parameters(&self) -> [&Tensor; 3] {
        [&self.weight, &self.affine[0], &self.affine[1]]
    }
}

/// The layers of a bottleneck.
#[derive(Clone, Debug)]
pub struct BottleneckParams {
    /// 1×1 to the inner width, 3×3 with the stride, 1×1 to the outer width.
    pub layers: [ConvNorm; 3],
    /// 1×1 with the stride on the way around them, where the shape changes.
    pub downsample: Option<ConvNorm>,
    /// Stride of the 3×3 convolution.
    pub stride: usize,
}

/// A bottleneck for pictures of one size.
pub(crate) struct Bottleneck {
    params: BottleneckParams,
    shapes: [ConvShape; 3],
    around: Option<ConvShape>,
}

/// A convolution's output and its normalisation.
struct Layer {
    output: Buffer,
    norm: Norm,
}

/// What the forward pass keeps.
pub(crate) struct Kept {
    layers: [Layer; 3],
    around: Option<Layer>,
}

impl Bottleneck {
    /// A bottleneck over `batch` pictures of `size` with `channels`.
    pub(crate) fn new(
        params: &BottleneckParams,
        batch: usize,
        size: [usize; 2],
        channels: usize,
    ) -> Result<Self> {
        let shape = |layer: &ConvNorm, size: [usize; 2], inputs: usize, kernel: usize, stride: usize| {
            let (outputs, of, k1, k2) = layer.weight.dims4()?;
            let fits = (of, k1, k2) == (inputs, kernel, kernel);
            if !fits || layer.affine.iter().any(|t| t.dims() != [outputs]) {
                bail!("bottleneck: weight {:?} on {inputs} channels", layer.weight.shape())
            }
            Ok(ConvShape { batch, size, inputs, outputs, kernel, stride, planar: false })
        };
        let [first, second, third] = &params.layers;
        let first = shape(first, size, channels, 1, 1)?;
        let second = shape(second, size, first.outputs, 3, params.stride)?;
        let third = shape(third, second.out_size(), second.outputs, 1, 1)?;
        let around =
            params.downsample.as_ref().map(|d| shape(d, size, channels, 1, params.stride)).transpose()?;
        let ends = around.map_or((size, channels), |a| (a.out_size(), a.outputs));
        if ends != (third.out_size(), third.outputs) {
            bail!(
                "bottleneck: the shortcut has shape {ends:?}, the layers {:?}",
                (third.out_size(), third.outputs)
            )
        }
        Ok(Self { params: params.clone(), shapes: [first, second, third], around })
    }

    /// Height and width of the output.
    pub(crate) fn out_size(&self) -> [usize; 2] {
        self.shapes[2].out_size()
    }

    /// Channels of the output.
    pub(crate) fn outputs(&self) -> usize {
        self.shapes[2].outputs
    }
}

/// Convolves `x` and takes the normalisation of the result; `p` are weight, affine weight and bias.
pub(crate) fn conv_norm(
    shape: &ConvShape,
    layer: &ConvNorm,
    p: &[&[f32]],
    x: &[f32],
    is_first: bool,
) -> Result<(Buffer, Norm)> {
    let mut output = Buffer::stale(shape.rows() * shape.outputs);
    let tiles: Vec<Moments> = match layer.statistics {
        Statistics::Batch { .. } => {
            conv::forward(shape, x, p[0], &mut output, |tile| moments(tile, shape.outputs))
        }
        Statistics::Running { .. } => {
            conv::forward(shape, x, p[0], &mut output, |_| ());
            Vec::new()
        }
    };
    let norm = Norm::new(&layer.statistics, &tiles, p[1], p[2], is_first)?;
    Ok((output, norm))
}

/// The activation behind a layer.
fn activation(layer: &Layer) -> Buffer {
    let mut active = Buffer::stale(layer.output.len());
    apply(&layer.norm, &layer.output, &mut active, After::Relu);
    active
}

/// Takes a normalisation's sums over all rows; `grad` are gradients of the normalised rows.
pub(crate) fn sums(layer_output: &[f32], norm: &Norm, grad: &[f32]) -> Vec<Sums> {
    let width = norm.mean.len();
    let task = task(layer_output.len() / width, width);
    let tasks = grad.par_chunks(task).zip(layer_output.par_chunks(task));
    tasks
        .map(|(grad, x)| {
            let mut sums = Buffer::zeroed(2 * width);
            add_sums(grad, x, &norm.mean, &mut sums);
            sums
        })
        .collect()
}

impl Layer {
    /// Turns gradients of the activation behind this layer to those of its convolution's output, in place.
    fn bring_down(&self, grad: &mut [f32]) -> Backward {
        let (norm, width) = (&self.norm, self.norm.mean.len());
        let rows = self.output.len() / width;
        let task = task(rows, width);
        let tasks = grad.par_chunks_mut(task).zip(self.output.par_chunks(task));
        let sums: Vec<Sums> = tasks
            .map(|(grad, x)| {
                mask_by_line(x, &norm.scale, &norm.shift, grad);
                let mut sums = Buffer::zeroed(2 * width);
                add_sums(grad, x, &norm.mean, &mut sums);
                sums
            })
            .collect();
        let found = backward(norm, &sums, rows);
        found.apply(&self.output, grad);
        found
    }
}

/// Gradients of one layer's three parameters.
fn grads(wanted: &[bool], weight: impl FnOnce() -> Vec<f32>, norm: Backward) -> [Vec<f32>; 3] {
    [if wanted[0] { weight() } else { Vec::new() }, norm.dweight, norm.dbias]
}

impl Stage for Bottleneck {
    type Kept = Kept;

    fn parameters(&self) -> Vec<&Tensor> {
        self.params.layers.iter().chain(&self.params.downsample).flat_map(ConvNorm::parameters).collect()
    }

    fn out_len(&self) -> usize {
        self.shapes[2].rows() * self.outputs()
    }

    fn forward(&self, x: &[f32], p: &[&[f32]], out: &mut [f32], pass: Pass) -> Result<Option<Kept>> {
        let run = |place: usize, x: &[f32]| -> Result<Layer> {
            let (shape, layer) = (&self.shapes[place], &self.params.layers[place]);
            let (output, norm) = conv_norm(shape, layer, &p[3 * place..], x, pass.is_first)?;
            Ok(Layer { output, norm })
        };
        let around = match (&self.around, &self.params.downsample) {
            (Some(shape), Some(layer)) => {
                let (output, norm) = conv_norm(shape, layer, &p[9..], x, pass.is_first)?;
                Some(Layer { output, norm })
            }
            _ => None,
        };
        let first = run(0, x)?;
        let second = run(1, &activation(&first))?;
        let third = run(2, &activation(&second))?;
        let after = match &around {
            Some(layer) => After::PlusNormRelu(&layer.output, &layer.norm),
            None => After::PlusRelu(x),
        };
        apply(&third.norm, &third.output, out, after);
        Ok(pass.keeps.then(|| Kept { layers: [first, second, third], around }))
    }

    fn backward(&self, given: &Given<'_, Kept>, dx: Option<&mut [f32]>) -> Vec<Vec<f32>> {
        let (x, p, wanted, kept) = (given.x, given.parameters, given.wanted, given.kept);
        let [first, second, third] = &kept.layers;
        let mut unwanted = Buffer::stale(if dx.is_none() { x.len() } else { 0 });
        let dx = dx.unwrap_or(&mut unwanted);

        // The gradient behind the last activation goes both ways; without a shortcut of its own, `dx` takes it.
        let mut shortcut = Buffer::stale(if self.around.is_some() { given.grad.len() } else { 0 });
        let masked: &mut [f32] = if self.around.is_some() { &mut shortcut } else { &mut *dx };
        let mut dy = Buffer::stale(masked.len());
        let piece = task(given.grad.len(), 1);
        masked
            .par_chunks_mut(piece)
            .zip(dy.par_chunks_mut(piece))
            .zip(given.grad.par_chunks(piece).zip(given.out.par_chunks(piece)))
            .for_each(|((masked, dy), (grad, out))| mask_by_output(grad, out, masked, dy));

        let norm = backward(&third.norm, &sums(&third.output, &third.norm, &dy), self.shapes[2].rows());
        norm.apply(&third.output, &mut dy);
        let active = activation(second);
        let third = grads(&wanted[6..], || conv::backward_weight(&self.shapes[2], &active, &dy), norm);
        let mut grad = active;
        conv::backward_input(&self.shapes[2], &dy, p[6], &mut grad, false);
        drop(dy);

        let norm = second.bring_down(&mut grad);
        let active = activation(first);
        let second = grads(&wanted[3..], || conv::backward_weight(&self.shapes[1], &active, &grad), norm);
        let mut dy = active;
        conv::backward_input(&self.shapes[1], &grad, p[3], &mut dy, false);
        drop(grad);

        let norm = first.bring_down(&mut dy);
        let first = grads(wanted, || conv::backward_weight(&self.shapes[0], x, &dy), norm);
        conv::backward_input(&self.shapes[0], &dy, p[0], dx, self.around.is_none());
        let mut all: Vec<Vec<f32>> = [first, second, third].into_iter().flatten().collect();
        if let (Some(shape), Some(layer)) = (&self.around, &kept.around) {
            let norm = backward(&layer.norm, &sums(&layer.output, &layer.norm, &shortcut), shape.rows());
            norm.apply(&layer.output, &mut shortcut);
            all.extend(grads(&wanted[9..], || conv::backward_weight(shape, x, &shortcut), norm));
            conv::backward_input(shape, &shortcut, p[9], dx, true);
        }
        all
    }
}
