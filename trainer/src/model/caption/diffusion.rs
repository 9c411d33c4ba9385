//! The diffusion captioner: a transformer that takes noise off the embeddings of a caption, all tokens at once.
//!
//! `x̂_0 = out(blocks(in(x_t) + position + time, condition))` (Li et al. 2022; Xu 2022 for captions). A caption fills
//! the whole context: behind its end come ends, which are learned as any token, so that its length is what it says. The
//! picture's tokens stand beside the caption's (`concat`, told apart by a segment's row) or are added to them (`add`);
//! with a probability a learned row stands in their place, for guidance without a classifier (Ho and Salimans 2022). The
//! loss is the distance of x̂_0 to the embeddings, from a drawn step and from the first, and the cross-entropy of the
//! words that are nearest (rounding). Leaves out how captions are drawn.

use super::mapper::{self, Mapper, MapperSizes};
use super::noise::{Noise, normal, uniform};
use crate::config::{Condition, DiffusionConfig, DiffusionLoss, Embeddings, Predicts, Reduction, Rounding};
use crate::init::Init;
use crate::model::params::{ParamSpec, Params};
use crate::model::transformer::{BlockInit, LAYER_NORM_EPS, Transformer, specs as block_specs};
use crate::ops::{
    Activation, BlockShape, GradSink, OutputLayer, Target, activate, embedding, layer_norm, linear,
    token_loss,
};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor};

/// Everything that decides the shapes of a diffusion captioner.
#[derive(Clone, Debug, PartialEq)]
pub struct DiffusionSizes {
    /// From features to the tokens of the condition.
    pub mapper: MapperSizes,
    /// The denoiser and its loss.
    pub config: DiffusionConfig,
    /// Numbers of a caption's embedding by the tower's text side.
    pub text_dim: usize,
    /// Tokens of a caption with its end.
    pub context_length: usize,
    /// Token ids.
    pub vocab_size: usize,
}

impl DiffusionSizes {
    /// Numbers of a token's embedding.
    pub fn embed_dim(&self) -> usize {
        if self.config.embed_dim > 0 { self.config.embed_dim } else { self.config.width }
    }
}

/// A diffusion captioner and its parameters.
#[derive(Clone, Debug)]
pub struct DiffusionCaptioner {
    sizes: DiffusionSizes,
    noise: Noise,
    params: Params,
    mapper: Mapper,
    table: Tensor,
    input: [Tensor; 2],
    positions: Tensor,
    time: Option<[[Tensor; 2]; 2]>,
    /// What stands in the place of a picture that is not told.
    nothing: Tensor,
    /// From a caption's own embedding to a token, and what stands in its place.
    text: Option<([Tensor; 2], Tensor)>,
    /// Added to the tokens of the caption and of the picture.
    segments: Option<Tensor>,
    transformer: Transformer,
    ln_final: [Tensor; 2],
    output: [Tensor; 2],
    sink: GradSink,
}

/// What the network may be told of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// (B, rows, inputs): image features.
    pub features: &'a Tensor,
    /// (B, E): the captions' own embeddings.
    pub text: Option<&'a Tensor>,
}

/// What one batch's loss is made of.
#[derive(Clone, Debug)]
pub struct DiffusionTerms {
    /// What is made small; a scalar.
    pub loss: Tensor,
    /// The distance to the embeddings.
    pub distance: f32,
    /// The cross-entropy of the nearest words, in nats a token.
    pub rounding: f32,
}

const MLP_RATIO: usize = 4;

impl DiffusionCaptioner {
    /// Every parameter of a captioner of these sizes, in order.
    pub fn specs(sizes: &DiffusionSizes) -> Vec<ParamSpec> {
        let DiffusionSizes { config, context_length, vocab_size, .. } = sizes;
        let (width, embed) = (config.width, sizes.embed_dim());
        let uniform = |inputs: usize| Init::Uniform((inputs as f64).sqrt().recip());
        let mut specs = mapper::specs(&sizes.mapper);
        let mut table = ParamSpec::new("token_embedding.weight", &[*vocab_size, embed], Init::Normal(1.0));
        table.trainable = config.embeddings == Embeddings::Trained;
        specs.push(table);
        let inputs = if config.self_conditioning { 2 * embed } else { embed };
        let mut layer = |name: &str, inputs: usize, outputs: usize| {
            specs.push(ParamSpec::new(format!("{name}.weight"), &[outputs, inputs], uniform(inputs)));
            specs.push(ParamSpec::new(format!("{name}.bias"), &[outputs], uniform(inputs)));
        };
        layer("input", inputs, width);
        if config.time_embedding {
            layer("time.c_fc", width, width);
            layer("time.c_proj", width, width);
        }
        layer("output", width, embed);
        specs.push(ParamSpec::new("positional_embedding", &[*context_length, width], Init::Normal(0.02)));
        let mut nothing = ParamSpec::new("no_picture", &[1, width], Init::Normal(0.02));
        nothing.trainable = config.mask_probability > 0.0;
        specs.push(nothing);
        if config.text_condition {
            let bound = uniform(sizes.text_dim);
            specs.push(ParamSpec::new("text.weight", &[width, sizes.text_dim], bound));
            specs.push(ParamSpec::new("text.bias", &[width], bound));
            specs.push(ParamSpec::new("no_text", &[1, width], Init::Normal(0.02)));
        }
        if config.condition == Condition::Concat {
            specs.push(ParamSpec::new("segment_embedding", &[2, width], Init::Normal(0.02)));
        }
        specs.extend(block_specs("", config.layers, width, MLP_RATIO * width, BlockInit::Default));
        specs.push(ParamSpec::new("ln_final.weight", &[width], Init::Constant(1.0)));
        specs.push(ParamSpec::new("ln_final.bias", &[width], Init::Constant(0.0)));
        specs
    }

    /// Builds a captioner with initial values that depend on `seed` and the sizes alone.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn new(sizes: &DiffusionSizes, seed: u64, device: &Device) -> Result<Self> {
        Self::over(sizes, Params::create(Self::specs(sizes), seed, device)?, true)
    }

    fn over(sizes: &DiffusionSizes, params: Params, learns: bool) -> Result<Self> {
        let lookup = |name: &str| params.tensor(name, learns);
        let pair = |name: &str| -> Result<[Tensor; 2]> {
            Ok([lookup(&format!("{name}.weight"))?, lookup(&format!("{name}.bias"))?])
        };
        let table = lookup("token_embedding.weight")?;
        let sink = if learns { GradSink::new(table.device())? } else { GradSink::detached(table.device())? };
        let config = &sizes.config;
        let shape = BlockShape {
            heads: config.heads,
            causal: false,
            activation: Activation::Gelu,
            eps: LAYER_NORM_EPS,
            recompute: false,
        };
        let time = match config.time_embedding {
            true => Some([pair("time.c_fc")?, pair("time.c_proj")?]),
            false => None,
        };
        let segments = match config.condition {
            Condition::Concat => Some(lookup("segment_embedding")?),
            Condition::Add => None,
        };
        Ok(Self {
            noise: Noise::new(config.schedule, config.steps, config.noise_factor),
            mapper: Mapper::new(&sizes.mapper, &sink, &lookup)?,
            table,
            input: pair("input")?,
            positions: lookup("positional_embedding")?,
            time,
            nothing: lookup("no_picture")?,
            text: match config.text_condition {
                true => Some((pair("text")?, lookup("no_text")?)),
                false => None,
            },
            segments,
            transformer: Transformer::new("", config.layers, shape, &sink, &lookup)?,
            ln_final: pair("ln_final")?,
            output: pair("output")?,
            sink,
            sizes: sizes.clone(),
            params,
        })
    }

    /// A captioner over the same parameters whose blocks run forward again in the backward pass, if `recompute`.
    #[must_use]
    pub fn recomputing(mut self, recompute: bool) -> Self {
        self.transformer.set_recompute(recompute);
        self.mapper.set_recompute(recompute);
        self
    }

    /// A captioner over the same parameters, later updates included, that records nothing for a backward pass.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn for_inference(&self) -> Result<Self> {
        Self::over(&self.sizes, self.params.clone(), false)
    }

    /// A captioner of the same values in memory of its own; it records nothing.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn copied(&self) -> Result<Self> {
        Self::over(&self.sizes, self.params.copied()?, false)
    }

    /// The sizes.
    pub fn sizes(&self) -> &DiffusionSizes {
        &self.sizes
    }

    /// The schedule.
    pub fn noise(&self) -> &Noise {
        &self.noise
    }

    /// The parameters, in order.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The table of token embeddings (V, e).
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// What is told of pictures when captions are written: their tokens (B, k, D) of image features (B, rows, inputs),
    /// and that there is no text.
    ///
    /// # Errors
    /// When the features are of another shape.
    pub fn condition(&self, features: &Tensor) -> Result<Tensor> {
        self.with_text(self.mapper.forward(features)?)
    }

    /// The condition when nothing is told, in the shape of `condition`.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn nothing(&self, condition: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = condition.dims3()?;
        let tokens = tokens - usize::from(self.text.is_some());
        self.with_text(self.absent((batch, tokens, width))?)
    }

    /// Pictures that are not told.
    fn absent(&self, shape: (usize, usize, usize)) -> Result<Tensor> {
        self.nothing.unsqueeze(0)?.broadcast_as(shape)?.contiguous()
    }

    /// The pictures' tokens, and that there is no text.
    fn with_text(&self, pictures: Tensor) -> Result<Tensor> {
        let Some((_, nothing)) = &self.text else { return Ok(pictures) };
        let (batch, _, width) = pictures.dims3()?;
        let nothing = nothing.unsqueeze(0)?.broadcast_as((batch, 1, width))?.contiguous()?;
        Tensor::cat(&[pictures, nothing], 1)
    }

    /// The mean norm of a token's embedding, and the mean cosine of two tokens'. A table whose tokens fall together has a
    /// cosine near 1, one that shrinks a norm near 0.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn spread(&self) -> Result<(f64, f64)> {
        let rows = self.table.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let norms = rows.sqr()?.sum_keepdim(1)?.sqrt()?;
        let count = rows.dim(0)? as f64;
        let units = rows.broadcast_div(&(&norms + 1e-12)?)?;
        // The sum over all pairs, from the square of the sum of all.
        let square = units.sum(0)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
        let cosine = (square - count) / (count * (count - 1.0)).max(1.0);
        Ok((norms.mean_all()?.to_scalar()?, cosine))
    }

    /// What the network makes of `noisy` (B, L, e) at `steps` under `condition` (B, k, D): (B, L, e). `guess` is an
    /// earlier x̂_0, of a network that takes one (zeros at first).
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn forward(
        &self,
        noisy: &Tensor,
        steps: &[usize],
        condition: &Tensor,
        guess: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (_, tokens, _) = noisy.dims3()?;
        let given = match (self.sizes.config.self_conditioning, guess) {
            (true, Some(guess)) => Tensor::cat(&[noisy, guess], 2)?,
            (true, None) => Tensor::cat(&[noisy, &noisy.zeros_like()?], 2)?,
            (false, _) => noisy.clone(),
        };
        let mut x = linear(&given, &self.input[0], Some(&self.input[1]))?;
        x = x.broadcast_add(&self.positions.narrow(0, 0, tokens)?)?;
        if let Some([c_fc, c_proj]) = &self.time {
            let waves = waves(steps, self.sizes.config.width, noisy)?;
            let hidden = activate(&linear(&waves, &c_fc[0], Some(&c_fc[1]))?, Activation::Silu)?;
            x = x.broadcast_add(&linear(&hidden, &c_proj[0], Some(&c_proj[1]))?.unsqueeze(1)?)?;
        }
        let x = match &self.segments {
            Some(segments) => {
                let own = x.broadcast_add(&segments.narrow(0, 0, 1)?)?;
                let seen = condition.broadcast_add(&segments.narrow(0, 1, 1)?)?;
                Tensor::cat(&[own, seen], 1)?
            }
            None => x.broadcast_add(&condition.mean_keepdim(1)?)?,
        };
        let x = self.transformer.forward_rows(x, 0, tokens)?;
        let x = layer_norm(&x, &self.ln_final[0], &self.ln_final[1], LAYER_NORM_EPS)?;
        linear(&x, &self.output[0], Some(&self.output[1]))
    }

    /// x̂_0 from what [`forward`](Self::forward) gave for `noisy` at `steps`.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn estimate(&self, given: &Tensor, noisy: &Tensor, steps: &[usize]) -> Result<Tensor> {
        if self.sizes.config.predicts == Predicts::Start {
            return Ok(given.clone());
        }
        let pairs: Vec<(f64, f64)> =
            steps.iter().map(|step| self.noise.posterior(*step, self.earlier(*step))).collect();
        let of_start: Vec<f64> = pairs.iter().map(|(of_start, _)| 1.0 / of_start).collect();
        let of_now: Vec<f64> = pairs.iter().map(|(of_start, of_now)| of_now / of_start).collect();
        given.broadcast_mul(&column(&of_start, given)?)? - noisy.broadcast_mul(&column(&of_now, given)?)?
    }

    /// The step that a network which predicts an earlier one predicts.
    fn earlier(&self, step: usize) -> usize {
        step.saturating_sub(self.sizes.config.stride)
    }

    /// Whole captions as ids (B·L): those of `input_ids` (B, T) behind their beginnings, then ends.
    fn filled(&self, input_ids: &Tensor, targets: &[Target], end: u32) -> Result<Vec<u32>> {
        let (batch, tokens) = input_ids.dims2()?;
        let length = self.sizes.context_length;
        let mut ids = vec![end; batch * length];
        for target in targets {
            let (row, place) = (target.row as usize / tokens, target.row as usize % tokens);
            if row < batch && place < length {
                ids[row * length + place] = target.class;
            }
        }
        Ok(ids)
    }

    /// The loss of a batch. `targets` name every token of a caption and its end, as for a decoder; `seed` draws steps,
    /// noise and pictures that are not told.
    ///
    /// # Errors
    /// When shapes do not fit, or an id is not in the vocabulary.
    pub fn loss(
        &self,
        told: Told<'_>,
        input_ids: &Tensor,
        targets: &[Target],
        end: u32,
        seed: u64,
    ) -> Result<DiffusionTerms> {
        let config = &self.sizes.config;
        let (batch, tokens) = input_ids.dims2()?;
        // Nothing is learned of empty captions.
        let mut is_told = vec![false; batch];
        targets.iter().for_each(|target| is_told[(target.row as usize / tokens).min(batch - 1)] = true);
        let (length, embed) = (self.sizes.context_length, self.sizes.embed_dim());
        let device = told.features.device();
        let ids = self.filled(input_ids, targets, end)?;
        let rows = Tensor::from_vec(ids.clone(), (batch, length), device)?;
        let zeros = Tensor::zeros((length, embed), DType::F32, device)?;
        let start = embedding(&rows, &self.table, &zeros, &self.sink)?;
        let condition = self.told(told, seed)?;
        // Every caption at `draws` drawn steps, and once at the first.
        let draws = config.draws;
        let with_first = config.first_weight > 0.0;
        let copies = draws + usize::from(with_first);
        let mut steps: Vec<usize> = uniform(seed, "steps", draws * batch)
            .into_iter()
            .map(|u| 1 + (u * config.steps as f64) as usize)
            .collect();
        steps.extend(std::iter::repeat_n(1, (copies - draws) * batch));
        let (x_0, conditions) = (repeated(&start, copies)?, repeated(&condition, copies)?);
        let noise = normal(seed, "noise", copies * batch, length * embed);
        let noise = Tensor::from_vec(noise, (copies * batch, length, embed), device)?;
        let noisy = self.noised(&x_0, &noise, &steps)?;
        let guess = self.first_guess(&noisy, &steps, &conditions, seed)?;
        let given = self.forward(&noisy, &steps, &conditions, guess.as_ref())?;
        let wanted = self.wanted(&x_0, &noisy, &steps)?;
        let apart = (given.clone() - wanted)?;
        let apart = match config.loss {
            DiffusionLoss::L1 => apart.abs()?,
            DiffusionLoss::Mse => apart.sqr()?,
        };
        let told_count = is_told.iter().filter(|is_told| **is_told).count();
        let weights: Vec<f64> = is_told
            .iter()
            .map(|is_told| if *is_told { batch as f64 / told_count as f64 } else { 0.0 })
            .collect();
        let apart = match told_count == batch {
            true => apart,
            false => apart.broadcast_mul(&column(&weights.repeat(copies), &apart)?)?,
        };
        let mean_of = |first: usize, count: usize| apart.narrow(0, first * batch, count * batch)?.mean_all();
        let mut distance = mean_of(0, draws)?;
        if config.reduction == Reduction::Sum {
            distance = (distance * draws as f64)?;
        }
        if with_first {
            distance = (distance + (mean_of(draws, 1)? * config.first_weight)?)?;
        }
        let rounded = match config.rounding_of {
            Rounding::Estimate => {
                let estimate = self.estimate(&given, &noisy, &steps)?;
                // An earlier step has so little of the start that what it says of it drowns in its error, but for the
                // first.
                let is_early = config.predicts == Predicts::Previous && with_first;
                let (first, count) = if is_early { (draws, 1) } else { (0, draws) };
                estimate.narrow(0, first * batch, count * batch)?.contiguous()?
            }
            Rounding::Sample => {
                // As little noise as the first step has, so that embeddings are learned apart from one another.
                let (kept, added) = self.noise.shares(1);
                ((&start * kept)? + (noise.narrow(0, 0, batch)? * added)?)?
            }
        };
        let count = rounded.elem_count() / embed;
        let nearest: Vec<Target> = (0..count)
            .filter(|row| is_told[row / length % batch])
            .map(|row| Target { row: row as u32, class: ids[row % ids.len()] })
            .collect();
        let output = OutputLayer { weight: self.table.clone(), bias: None };
        let rounding = token_loss(&rounded, &output, &nearest, &self.sink)?.mean;
        let (near, far) = (rounding.to_scalar::<f32>()?, distance.to_scalar::<f32>()?);
        // A weight that follows both terms is a number, through which nothing flows.
        let weight = match config.rounding_ratio {
            0.0 => config.rounding_weight,
            ratio => ratio * f64::from(far) / f64::from(near).max(1e-6),
        };
        let loss = (distance + (rounding * weight)?)?;
        Ok(DiffusionTerms { loss, distance: far, rounding: near })
    }

    /// The condition, of which some pictures and captions are not told.
    fn told(&self, told: Told<'_>, seed: u64) -> Result<Tensor> {
        let config = &self.sizes.config;
        let mut pictures = self.mapper.forward(told.features)?;
        if config.mask_probability > 0.0 {
            let nothing = self.absent(pictures.dims3()?)?;
            pictures = masked(&pictures, &nothing, config.mask_probability, seed, "pictures")?;
        }
        let (Some(([weight, bias], nothing)), Some(text)) = (&self.text, told.text) else {
            return self.with_text(pictures);
        };
        let text = linear(&text.unsqueeze(1)?, weight, Some(bias))?;
        let nothing = nothing.unsqueeze(0)?.broadcast_as(text.shape())?.contiguous()?;
        let text = masked(&text, &nothing, config.text_mask_probability, seed, "texts")?;
        Tensor::cat(&[pictures, text], 1)
    }

    fn noised(&self, x_0: &Tensor, noise: &Tensor, steps: &[usize]) -> Result<Tensor> {
        let shares: Vec<(f64, f64)> = steps.iter().map(|step| self.noise.shares(*step)).collect();
        let kept: Vec<f64> = shares.iter().map(|shares| shares.0).collect();
        let added: Vec<f64> = shares.iter().map(|shares| shares.1).collect();
        x_0.broadcast_mul(&column(&kept, x_0)?)? + noise.broadcast_mul(&column(&added, x_0)?)?
    }

    /// What the network is to give.
    fn wanted(&self, x_0: &Tensor, noisy: &Tensor, steps: &[usize]) -> Result<Tensor> {
        if self.sizes.config.predicts == Predicts::Start {
            return Ok(x_0.clone());
        }
        let pairs: Vec<(f64, f64)> =
            steps.iter().map(|step| self.noise.posterior(*step, self.earlier(*step))).collect();
        let of_start: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
        let of_now: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        x_0.broadcast_mul(&column(&of_start, x_0)?)? + noisy.broadcast_mul(&column(&of_now, x_0)?)?
    }

    /// For half of the batches of a network that takes an earlier guess: its own, through which nothing flows
    /// (Chen et al. 2023).
    fn first_guess(
        &self,
        noisy: &Tensor,
        steps: &[usize],
        conditions: &Tensor,
        seed: u64,
    ) -> Result<Option<Tensor>> {
        if !self.sizes.config.self_conditioning || uniform(seed, "guess", 1)[0] < 0.5 {
            return Ok(None);
        }
        let (noisy, conditions) = (noisy.detach(), conditions.detach());
        let plain = self.for_inference()?;
        let given = plain.forward(&noisy, steps, &conditions, None)?;
        plain.estimate(&given, &noisy, steps).map(|guess| Some(guess.detach()))
    }

    /// Runs the backward pass of a loss of this model: the gradients of every parameter.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        self.sink.backward(loss)
    }
}

/// Rows of `given`, a share of which `nothing` takes the place of.
fn masked(given: &Tensor, nothing: &Tensor, share: f64, seed: u64, name: &str) -> Result<Tensor> {
    let kept: Vec<f64> =
        uniform(seed, name, given.dim(0)?).into_iter().map(|u| if u < share { 0.0 } else { 1.0 }).collect();
    let hidden: Vec<f64> = kept.iter().map(|kept| 1.0 - kept).collect();
    given.broadcast_mul(&column(&kept, given)?)? + nothing.broadcast_mul(&column(&hidden, given)?)?
}

/// `copies` of a batch behind one another.
fn repeated(batch: &Tensor, copies: usize) -> Result<Tensor> {
    if copies == 1 {
        return Ok(batch.clone());
    }
    Tensor::cat(&vec![batch; copies], 0)
}

/// Numbers a sample, to be broadcast over (B, ·, ·).
fn column(numbers: &[f64], like: &Tensor) -> Result<Tensor> {
    let numbers: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
    let count = numbers.len();
    Tensor::from_vec(numbers, (count, 1, 1), like.device())?.to_dtype(like.dtype())
}

/// Sines and cosines of the steps, (B, D) (Vaswani et al. 2017).
fn waves(steps: &[usize], width: usize, like: &Tensor) -> Result<Tensor> {
    let half = width / 2;
    let mut numbers = vec![0f32; steps.len() * width];
    for (row, step) in numbers.chunks_exact_mut(width).zip(steps) {
        for place in 0..half {
            let angle = *step as f64 * 10_000f64.powf(-(place as f64) / half as f64);
            (row[place], row[half + place]) = (angle.sin() as f32, angle.cos() as f32);
        }
    }
    Tensor::from_vec(numbers, (steps.len(), width), like.device())?.to_dtype(like.dtype())
}

#[cfg(test)]
mod tests;
