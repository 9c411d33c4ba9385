//! ResNets of bottlenecks (He et al. 2016), ResNet-50 by default, in torchvision's layout, with a projection without
//! bias to the shared space in the place of the last layer. Parameters are torchvision's names under `visual.`; running
//! statistics stand among them, not trainable. Left out: basic blocks, and the attention pooling of OpenAI's ResNets.

use super::config::VisionConfig;
use super::params::{ParamSpec, Params};
use super::transformer::LAYER_NORM_EPS;
use crate::init::Init;
use crate::ops::{
    BottleneckParams, ConvNorm, GradSink, ResNetParams, Statistics, layer_norm, linear, resnet,
    resnet_with_pixels,
};
use candle_core::{Result, Tensor, bail};

/// Stages, each but the first of which halves height and width.
const STAGES: usize = 4;

/// Outer width of a bottleneck over its inner width.
const EXPANSION: usize = 4;

/// Channels of the features, before the projection.
fn features(width: usize) -> usize {
    8 * EXPANSION * width
}

/// One bottleneck: its name, inner width, input channels and stride.
struct Place {
    name: String,
    inner: usize,
    inputs: usize,
    stride: usize,
}

fn places(width: usize, depths: [usize; 4]) -> Vec<Place> {
    let (mut places, mut inputs) = (Vec::new(), width);
    for (stage, depth) in depths.into_iter().enumerate() {
        let inner = width << stage;
        for block in 0..depth {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("visual.layer{}.{block}", stage + 1);
            places.push(Place { name, inner, inputs, stride });
            inputs = EXPANSION * inner;
        }
    }
    places
}

impl Place {
    /// Whether the way around the layers needs a convolution of its own.
    fn changes_shape(&self) -> bool {
        self.stride != 1 || self.inputs != EXPANSION * self.inner
    }
}

/// A convolution and its normalisation, initialised as torchvision does (He et al. 2015, fan out).
fn add_layer(specs: &mut Vec<ParamSpec>, conv: &str, norm: &str, shape: [usize; 4]) {
    let fan_out = (shape[0] * shape[2] * shape[3]) as f64;
    specs.push(ParamSpec::new(format!("{conv}.weight"), &shape, Init::Normal((2.0 / fan_out).sqrt())));
    let (zero, one) = (Init::Constant(0.0), Init::Constant(1.0));
    for (part, init, trainable) in [
        ("weight", one, true),
        ("bias", zero, true),
        ("running_mean", zero, false),
        ("running_var", one, false),
    ] {
        let spec = ParamSpec::new(format!("{norm}.{part}"), &[shape[0]], init);
        specs.push(ParamSpec { trainable, ..spec });
    }
}

/// The parameters of a ResNet tower, in order.
pub(super) fn specs(config: &VisionConfig, embed_dim: usize) -> Vec<ParamSpec> {
    let width = config.width;
    let mut specs = Vec::new();
    add_layer(&mut specs, "visual.conv1", "visual.bn1", [width, 3, 7, 7]);
    for place in places(width, config.depths) {
        let Place { name, inner, inputs, .. } = &place;
        let outer = EXPANSION * inner;
        let shapes = [[*inner, *inputs, 1, 1], [*inner, *inner, 3, 3], [outer, *inner, 1, 1]];
        for (number, shape) in (1..).zip(shapes) {
            add_layer(&mut specs, &format!("{name}.conv{number}"), &format!("{name}.bn{number}"), shape);
        }
        if place.changes_shape() {
            let (conv, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
            add_layer(&mut specs, &conv, &norm, [outer, *inputs, 1, 1]);
        }
    }
    let scale = Init::Normal((features(width) as f64).sqrt().recip());
    specs.push(ParamSpec::new("visual.proj", &[features(width), embed_dim], scale));
    specs
}

/// Every convolution of the tower as (output pixels, taps, output channels), in order; the last is the last
/// bottleneck's.
pub fn resnet_convolutions(config: &VisionConfig) -> Vec<(usize, usize, usize)> {
    let mut side = config.image_size.div_ceil(2);
    let mut all = vec![(side * side, 3 * 49, config.width)];
    side = side.div_ceil(2);
    for place in places(config.width, config.depths) {
        let (Place { inner, inputs, stride, .. }, outer) = (&place, EXPANSION * place.inner);
        let after = side.div_ceil(*stride);
        if place.changes_shape() {
            all.push((after * after, *inputs, outer));
        }
        all.push((side * side, *inputs, *inner));
        all.push((after * after, 9 * inner, *inner));
        all.push((after * after, *inner, outer));
        side = after;
    }
    all
}

/// Where batch normalisation takes its statistics from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchStatistics {
    /// From the batch; the running ones follow.
    Follow,
    /// From the batch; the running ones stay.
    Batch,
    /// The running ones.
    Running,
}

/// The image side of CLIP as a ResNet.
#[derive(Clone, Debug)]
pub struct ResNetTower {
    params: ResNetParams,
    proj: Tensor,
    sink: GradSink,
    depths: [usize; 4],
    recompute: bool,
}

impl ResNetTower {
    /// Takes its parameters from `lookup` by full name, and running statistics from `params`.
    pub(super) fn new(
        config: &VisionConfig,
        statistics: BatchStatistics,
        params: &Params,
        sink: &GradSink,
        lookup: &dyn Fn(&str) -> Result<Tensor>,
    ) -> Result<Self> {
        let layer = |conv: &str, norm: &str| -> Result<ConvNorm> {
            let running = |part: &str| match params.get(&format!("{norm}.{part}")) {
                Some(var) => Ok(var.clone()),
                None => bail!("the model has no {norm}.{part}"),
            };
            let (mean, variance) = (running("running_mean")?, running("running_var")?);
            let weight = lookup(&format!("{norm}.weight"))?;
            // A frozen layer normalises as in evaluation, as is usual, and its statistics stay.
            let is_frozen = params.find(&format!("{norm}.weight")).is_some_and(|param| !param.trainable);
            let statistics = match statistics {
                BatchStatistics::Follow if !is_frozen => Statistics::Batch { mean, variance, follow: true },
                BatchStatistics::Batch if !is_frozen => Statistics::Batch { mean, variance, follow: false },
                _ => Statistics::Running {
                    mean: mean.as_detached_tensor(),
                    variance: variance.as_detached_tensor(),
                },
            };
            let affine = [weight, lookup(&format!("{norm}.bias"))?];
            Ok(ConvNorm { weight: lookup(&format!("{conv}.weight"))?, affine, statistics })
        };
        let stem = layer("visual.conv1", "visual.bn1")?;
        let bottlenecks = places(config.width, config.depths).into_iter().map(|place| {
            let name = &place.name;
            let part = |n: usize| layer(&format!("{name}.conv{n}"), &format!("{name}.bn{n}"));
            let around = || layer(&format!("{name}.downsample.0"), &format!("{name}.downsample.1"));
            let downsample = place.changes_shape().then(around).transpose()?;
            Ok(BottleneckParams { layers: [part(1)?, part(2)?, part(3)?], downsample, stride: place.stride })
        });
        let params = ResNetParams { stem, bottlenecks: bottlenecks.collect::<Result<_>>()? };
        Ok(Self {
            params,
            proj: lookup("visual.proj")?,
            sink: sink.clone(),
            depths: config.depths,
            recompute: false,
        })
    }

    /// Keeps the inputs of the bottlenecks alone for the backward pass, which runs them forward again.
    pub(super) fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    /// Features (B, E) of `pixel_values` (B, 3, H, W), before L2 normalisation.
    ///
    /// # Errors
    /// When the parameters do not fit.
    pub fn forward(&self, pixel_values: &Tensor) -> Result<Tensor> {
        linear(&resnet(pixel_values, &self.params, self.recompute, &self.sink)?, &self.proj.t()?, None)
    }
    /// The pixels of `pixel_values` (B, 3, H, W) before the last `skip` stages, each brought to mean 0 and deviation 1,
    /// (B, P, C), and the features (B, E) before L2 normalisation.
    ///
    /// # Errors
    /// When the parameters do not fit.
    pub fn forward_with_pixels(&self, pixel_values: &Tensor, skip: usize) -> Result<(Tensor, Tensor)> {
        let blocks = self.depths.iter().take(self.depths.len().saturating_sub(skip)).sum();
        let (pixels, mean) = resnet_with_pixels(pixel_values, &self.params, blocks, &self.sink)?;
        // Each of mean 0 and deviation 1, as the patches of a ViT.
        let one = Tensor::ones(pixels.dim(2)?, pixels.dtype(), pixels.device())?;
        let pixels = layer_norm(&pixels, &one, &one.zeros_like()?, LAYER_NORM_EPS)?;
        Ok((pixels, linear(&mean, &self.proj.t()?, None)?))
    }
}

/// Pixels before the last `skip` stages of a ResNet with a stem of `width` channels, and the numbers of each.
pub(crate) fn resnet_pixels(image_size: usize, width: usize, skip: usize) -> (usize, usize) {
    let stages = STAGES.saturating_sub(skip);
    // The stem's convolution and its pooling halve; so does every stage but the first.
    let halvings = 2 + stages.saturating_sub(1);
    let side = (0..halvings).fold(image_size, |side, _| side.div_ceil(2));
    let channels = match stages {
        0 => width,
        stages => (EXPANSION * width) << (stages - 1),
    };
    (side * side, channels)
}
