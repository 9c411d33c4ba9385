//! CLIP (Radford et al. 2021): two towers, a shared space and a learned temperature.

use super::config::{ClipConfig, VisionKind};
use super::params::{ParamSpec, Params};
use super::resnet::{self, BatchStatistics, ResNetTower};
use super::text::{TextTower, specs as text_specs};
use super::vit::{self, VitTower};
use crate::init::Init;
use crate::ops::{GradSink, normalize_rows};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, bail};

/// The image side.
#[derive(Clone, Debug)]
enum VisionTower {
    Vit(VitTower),
    ResNet(ResNetTower),
}

impl VisionTower {
    fn forward(&self, pixel_values: &Tensor) -> Result<Tensor> {
        match self {
            Self::Vit(tower) => tower.forward(pixel_values),
            Self::ResNet(tower) => tower.forward(pixel_values),
        }
    }

    fn set_recompute(&mut self, recompute: bool) {
        match self {
            Self::Vit(tower) => tower.set_recompute(recompute),
            Self::ResNet(tower) => tower.set_recompute(recompute),
        }
    }
}

/// What a model over some parameters is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It records for a backward pass, and running statistics follow.
    Learning,
    /// The first pass of gradient caching: what learning computes, with no record, and statistics stay.
    Caching,
    /// No record, and running statistics.
    Inference,
}

/// A CLIP model and its parameters.
#[derive(Clone, Debug)]
pub struct Clip {
    config: ClipConfig,
    params: Params,
    visual: VisionTower,
    text: TextTower,
    logit_scale: Tensor,
    sink: GradSink,
    logit_bias: Option<Tensor>,
    /// What the towers' activations are computed in; `None` for the parameters' own type.
    precision: Option<DType>,
}

/// What a forward pass gives.
#[derive(Clone, Debug)]
pub struct ClipOutput {
    /// (B, E), rows of unit length.
    pub image_features: Tensor,
    /// (B, E), rows of unit length.
    pub text_features: Tensor,
    /// The factor of the cosines: `exp` of the stored parameter; a scalar.
    pub logit_scale: Tensor,
    /// What is added to the logits; a scalar, in models that have it (SigLIP).
    pub logit_bias: Option<Tensor>,
}

impl Clip {
    /// Builds a model with initial values that depend on `seed` and the sizes alone.
    ///
    /// # Errors
    /// When the configuration has problems, which the message lists, or the device cannot hold the model.
    pub fn new(config: &ClipConfig, seed: u64, device: &Device) -> Result<Self> {
        let problems = config.validate();
        if !problems.is_empty() {
            bail!("model configuration: {}", problems.join("; "))
        }
        Self::build(config.clone(), Params::create(Self::specs(config), seed, device)?, Purpose::Learning)
    }

    /// Every parameter of a model of these sizes, in order.
    pub fn specs(config: &ClipConfig) -> Vec<ParamSpec> {
        let scale = Init::Constant((1.0 / config.init_temperature).ln() as f32);
        let mut logit_scale = ParamSpec::new("logit_scale", &[], scale);
        logit_scale.trainable = config.learn_temperature;
        let mut specs = vec![logit_scale];
        let bias = config.init_logit_bias.map(|bias| Init::Constant(bias as f32));
        specs.extend(bias.map(|init| ParamSpec::new("logit_bias", &[], init)));
        specs.extend(match config.vision.kind {
            VisionKind::Vit => vit::specs(&config.vision, config.embed_dim),
            VisionKind::Resnet50 => resnet::specs(&config.vision, config.embed_dim),
        });
        specs.extend(text_specs(&config.text, config.embed_dim));
        specs
    }

    fn build(config: ClipConfig, params: Params, purpose: Purpose) -> Result<Self> {
        let detached = purpose != Purpose::Learning;
        let lookup = |name: &str| params.tensor(name, !detached);
        let logit_scale = lookup("logit_scale")?;
        let device = logit_scale.device();
        let sink = if detached { GradSink::detached(device)? } else { GradSink::new(device)? };
        let visual = match config.vision.kind {
            VisionKind::Vit => {
                VisionTower::Vit(VitTower::new(&config.vision, config.activation, &sink, &lookup)?)
            }
            VisionKind::Resnet50 => {
                let statistics = match purpose {
                    Purpose::Learning => BatchStatistics::Follow,
                    Purpose::Caching => BatchStatistics::Batch,
                    Purpose::Inference => BatchStatistics::Running,
                };
                let tower = ResNetTower::new(&config.vision, statistics, &params, &sink, &lookup)?;
                VisionTower::ResNet(tower)
            }
        };
        let text = TextTower::new(&config.text, config.activation, &sink, &lookup)?;
        let logit_bias = config.init_logit_bias.map(|_| lookup("logit_bias")).transpose()?;
        Ok(Self { config, visual, text, logit_scale, logit_bias, params, sink, precision: None })
    }

    /// The same model over `params`, for another purpose.
    fn over(&self, params: Params, purpose: Purpose) -> Result<Self> {
        let clip = Self::build(self.config.clone(), params, purpose)?;
        Ok(clip.in_precision(self.precision.unwrap_or(DType::F32)))
    }

    /// A model over the same parameters, of which those that `is_frozen` names are not learned; `recompute`
    /// keeps nothing of a block for its backward pass, which then runs its forward pass again.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn for_training(&self, is_frozen: &dyn Fn(&str) -> bool, recompute: bool) -> Result<Self> {
        let mut clip = self.over(self.params.frozen(is_frozen), Purpose::Learning)?;
        clip.visual.set_recompute(recompute);
        clip.text.set_recompute(recompute);
        Ok(clip)
    }

    /// A model of the same values in memory of its own, for an average of the weights; it records nothing.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn copied(&self) -> Result<Self> {
        self.over(self.params.copied()?, Purpose::Inference)
    }

    /// A model over the same parameters that gives what a training pass gives, but records nothing and
    /// leaves running statistics as they are: the first pass of gradient caching.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn for_caching(&self) -> Result<Self> {
        self.over(self.params.clone(), Purpose::Caching)
    }

    /// Whether a sample's features depend on the others of its batch, as under batch normalisation.
    pub fn has_batch_statistics(&self) -> bool {
        self.config.vision.kind == VisionKind::Resnet50
    }

    /// A model over the same parameters, later updates included, that records nothing for a backward pass:
    /// for evaluation, with a fraction of the memory.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn for_inference(&self) -> Result<Self> {
        self.over(self.params.clone(), Purpose::Inference)
    }

    /// The same model over the same parameters with its towers' activations in `dtype`: mixed precision, as far as
    /// the parameters, sums over features, softmax, normalisation and everything behind the towers stay in f32. The
    /// fused operations know f32 alone, so this is for devices that run stock ones.
    #[must_use]
    pub fn in_precision(mut self, dtype: DType) -> Self {
        self.precision = Some(dtype).filter(|dtype| *dtype != DType::F32);
        self.text.set_precision(self.precision);
        self
    }

    /// The sizes.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// The parameters, in order.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Unit-length features (B, E) of normalised `pixel_values` (B, 3, H, W).
    ///
    /// # Errors
    /// When the images are not of the size of the configuration.
    pub fn encode_image(&self, pixel_values: &Tensor) -> Result<Tensor> {
        let size = self.config.vision.image_size;
        let (_, channels, height, width) = pixel_values.dims4()?;
        if (channels, height, width) != (3, size, size) {
            bail!("expected images of 3×{size}×{size}, got {channels}×{height}×{width}")
        }
        let features = match self.precision {
            // The loss is computed in single precision in any case.
            Some(dtype) => self.visual.forward(&pixel_values.to_dtype(dtype)?)?.to_dtype(DType::F32)?,
            None => self.visual.forward(pixel_values)?,
        };
        normalize_rows(&features)
    }

    /// What a captioner sees of `pixel_values` (B, 3, H, W): the tokens of the patches before the last `skip` blocks
    /// (B, P, W), of a ResNet the pixels before its last `skip` stages; and the unit-length features (B, E).
    ///
    /// # Errors
    /// Those of [`encode_image`](Self::encode_image).
    pub fn encode_patches(&self, pixel_values: &Tensor, skip: usize) -> Result<(Tensor, Tensor)> {
        let size = self.config.vision.image_size;
        if pixel_values.dims()[1..] != [3, size, size] {
            bail!("expected images of 3×{size}×{size}, got {:?}", pixel_values.shape())
        }
        let pixel_values = pixel_values.to_dtype(self.precision.unwrap_or(DType::F32))?;
        let (patches, features) = match &self.visual {
            VisionTower::Vit(tower) => tower.forward_with_patches(&pixel_values, skip)?,
            VisionTower::ResNet(tower) => tower.forward_with_pixels(&pixel_values, skip)?,
        };
        Ok((patches.to_dtype(DType::F32)?, normalize_rows(&features.to_dtype(DType::F32)?)?))
    }

    /// Unit-length features (B, E) of `input_ids` (B, T) whose end-of-text tokens stand at `eot_positions`.
    ///
    /// # Errors
    /// When T is over the context length, or an id or position is out of range.
    pub fn encode_text(&self, input_ids: &Tensor, eot_positions: &[u32]) -> Result<Tensor> {
        let features = self.text.forward(input_ids, eot_positions)?;
        normalize_rows(&if self.precision.is_some() { features.to_dtype(DType::F32)? } else { features })
    }

    /// The factor of the cosines, `exp(logit_scale)`; a scalar.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn logit_scale(&self) -> Result<Tensor> {
        self.logit_scale.exp()
    }

    /// Runs the backward pass of a loss of this model's outputs: the gradients of every parameter. Plain
    /// `loss.backward()` misses those that the towers' fused operations deliver by themselves.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        self.sink.backward(loss)
    }

    /// What is added to the logits; a scalar, in models that have it.
    pub fn logit_bias(&self) -> Option<Tensor> {
        self.logit_bias.clone()
    }

    /// Encodes both sides.
    ///
    /// # Errors
    /// Those of [`Clip::encode_image`] and [`Clip::encode_text`].
    pub fn forward(
        &self,
        pixel_values: &Tensor,
        input_ids: &Tensor,
        eot_positions: &[u32],
    ) -> Result<ClipOutput> {
        Ok(ClipOutput {
            image_features: self.encode_image(pixel_values)?,
            text_features: self.encode_text(input_ids, eot_positions)?,
            logit_scale: self.logit_scale()?,
            logit_bias: self.logit_bias(),
        })
    }
}
