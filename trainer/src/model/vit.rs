//! The vision transformer (Dosovitskiy et al. 2021) in the shape that CLIP gives it: layer normalisation
//! before the first block, and a projection without bias to the shared space.

use super::config::{Pool, VisionConfig};
use super::params::ParamSpec;
use super::transformer::{BlockInit, LAYER_NORM_EPS, Transformer, specs as block_specs};
use crate::init::Init;
use crate::ops::{
    Activation, BlockShape, GradSink, assemble_tokens, layer_norm, linear, mean_pool, patchify,
};
use candle_core::{Result, Tensor};

/// The parameters of a vision tower, in order.
pub(super) fn specs(config: &VisionConfig, embed_dim: usize) -> Vec<ParamSpec> {
    let (width, patch) = (config.width, config.patch_size);
    let scale = Init::Normal((width as f64).sqrt().recip());
    let fan_in = (3 * patch * patch) as f64;
    let (zero, one) = (Init::Constant(0.0), Init::Constant(1.0));
    let mut specs = vec![
        ParamSpec::new("visual.class_embedding", &[width], scale),
        ParamSpec::new("visual.positional_embedding", &[config.patches() + 1, width], scale),
        ParamSpec::new("visual.proj", &[width, embed_dim], scale),
        ParamSpec::new(
            "visual.conv1.weight",
            &[width, 3, patch, patch],
            Init::Uniform(fan_in.sqrt().recip()),
        ),
        ParamSpec::new("visual.ln_pre.weight", &[width], one),
        ParamSpec::new("visual.ln_pre.bias", &[width], zero),
    ];
    specs.extend(block_specs("visual.", config.layers, width, config.hidden(), BlockInit::Default));
    specs.push(ParamSpec::new("visual.ln_post.weight", &[width], one));
    specs.push(ParamSpec::new("visual.ln_post.bias", &[width], zero));
    specs
}

/// The image side of CLIP.
#[derive(Clone, Debug)]
pub struct VitTower {
    patch: usize,
    pool: Pool,
    conv1: Tensor,
    class_embedding: Tensor,
    positional_embedding: Tensor,
    ln_pre: [Tensor; 2],
    transformer: Transformer,
    ln_post: [Tensor; 2],
    proj: Tensor,
}

impl VitTower {
    /// Takes its parameters from `lookup` by full name.
    pub(super) fn new(
        config: &VisionConfig,
        activation: Activation,
        sink: &GradSink,
        lookup: &dyn Fn(&str) -> Result<Tensor>,
    ) -> Result<Self> {
        let shape = BlockShape {
            heads: config.heads,
            causal: false,
            activation,
            eps: LAYER_NORM_EPS,
            recompute: false,
        };
        Ok(Self {
            patch: config.patch_size,
            pool: config.pool,
            conv1: lookup("visual.conv1.weight")?,
            class_embedding: lookup("visual.class_embedding")?,
            positional_embedding: lookup("visual.positional_embedding")?,
            ln_pre: [lookup("visual.ln_pre.weight")?, lookup("visual.ln_pre.bias")?],
            transformer: Transformer::new("visual.", config.layers, shape, sink, lookup)?,
            ln_post: [lookup("visual.ln_post.weight")?, lookup("visual.ln_post.bias")?],
            proj: lookup("visual.proj")?,
        })
    }

    /// Whether blocks run their forward pass again in the backward pass instead of keeping its results.
    pub(super) fn set_recompute(&mut self, recompute: bool) {
        self.transformer.set_recompute(recompute);
    }

    /// The tokens behind the first normalisation: the class token and the patches, (B, P + 1, W).
    fn embed(&self, pixel_values: &Tensor) -> Result<Tensor> {
        let patches = patchify(pixel_values, self.patch)?;
        let patches = linear(&patches, &self.conv1.flatten_from(1)?, None)?;
        let tokens = assemble_tokens(&patches, &self.class_embedding, &self.positional_embedding)?;
        layer_norm(&tokens, &self.ln_pre[0], &self.ln_pre[1], LAYER_NORM_EPS)
    }

    /// The tokens of the patches of `pixel_values` (B, 3, H, W) before the last `skip` blocks, (B, P, W), and the features
    /// as of [`forward`](Self::forward). Behind the last block the tokens go through its layer normalisation; before it
    /// each is brought to mean 0 and deviation 1.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn forward_with_patches(&self, pixel_values: &Tensor, skip: usize) -> Result<(Tensor, Tensor)> {
        let blocks = self.transformer.len().saturating_sub(skip);
        let (there, last) = self.transformer.forward_past(self.embed(pixel_values)?, blocks)?;
        let tokens = layer_norm(&last, &self.ln_post[0], &self.ln_post[1], LAYER_NORM_EPS)?;
        let count = tokens.dim(1)?;
        let pooled = match self.pool {
            Pool::Cls => tokens.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?,
            Pool::Mean => mean_pool(&tokens)?,
        };
        let features = linear(&pooled, &self.proj.t()?, None)?;
        let seen = if skip == 0 {
            tokens
        } else {
            let (one, zero) = (self.ln_post[0].ones_like()?, self.ln_post[1].zeros_like()?);
            layer_norm(&there, &one, &zero, LAYER_NORM_EPS)?
        };
        Ok((seen.narrow(1, 1, count - 1)?.contiguous()?, features))
    }

    /// Features (B, E) of `pixel_values` (B, 3, H, W), before L2 normalisation.
    ///
    /// # Errors
    /// When the images are not of the size of the configuration.
    pub fn forward(&self, pixel_values: &Tensor) -> Result<Tensor> {
        let batch = pixel_values.dim(0)?;
        let tokens = self.embed(pixel_values)?;
        let [weight, bias] = &self.ln_post;
        let pooled = match self.pool {
            Pool::Cls => {
                let class = self.transformer.forward_at(tokens, &vec![0; batch])?;
                layer_norm(&class, weight, bias, LAYER_NORM_EPS)?
            }
            Pool::Mean => {
                let tokens = self.transformer.forward(tokens)?;
                mean_pool(&layer_norm(&tokens, weight, bias, LAYER_NORM_EPS)?)?
            }
        };
        linear(&pooled, &self.proj.t()?, None)
    }
}
