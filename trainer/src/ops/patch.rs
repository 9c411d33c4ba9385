//! Cutting images into patches, and putting the class token and positions around embedded patches.
//!
//! A convolution whose stride is its kernel is a reshape and a matrix product (`linear.rs`); its weight
//! (D, 3, p, p) read as (D, 3·p·p) fits the patches made here.

use super::buffer::{on_kernels, read, slice, tensor};
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Cuts `pixel_values` (B, C, H, W) into square patches: (B, H/p · W/p, C·p·p), rows of patches from the top.
///
/// # Errors
/// When the patch size does not divide height and width.
pub fn patchify(pixel_values: &Tensor, patch: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = pixel_values.dims4()?;
    if patch == 0 || !height.is_multiple_of(patch) || !width.is_multiple_of(patch) {
        bail!("patchify: {height}×{width} pixels do not split into patches of {patch}")
    }
    if on_kernels(&[pixel_values]) {
        let op = Patchify { channels, height, width, patch };
        return pixel_values.contiguous()?.apply_op1(op);
    }
    let (down, across) = (height / patch, width / patch);
    pixel_values
        .reshape(vec![batch, channels, down, patch, across, patch])?
        .permute(vec![0, 2, 4, 1, 3, 5])?
        .reshape((batch, down * across, channels * patch * patch))
}

struct Patchify {
    channels: usize,
    height: usize,
    width: usize,
    patch: usize,
}

impl Patchify {
    /// Calls `copy(pixel offset, patch offset)` for each run of `patch` pixels of one image.
    fn for_each_run(&self, mut copy: impl FnMut(usize, usize)) {
        let (across, p) = (self.width / self.patch, self.patch);
        for channel in 0..self.channels {
            for y in 0..self.height {
                for column in 0..across {
                    let patch_number = y / p * across + column;
                    let inside = (channel * p + y % p) * p;
                    let pixels = (channel * self.height + y) * self.width + column * p;
                    copy(pixels, patch_number * self.channels * p * p + inside);
                }
            }
        }
    }

    fn image_len(&self) -> usize {
        (self.channels * self.height * self.width).max(1)
    }
}

impl CustomOp1 for Patchify {
    fn name(&self) -> &'static str {
        "patchify"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let pixels = slice(storage, layout)?;
        let mut out = vec![0.0; pixels.len()];
        let image = self.image_len();
        out.par_chunks_mut(image).zip(pixels.par_chunks(image)).for_each(|(out, pixels)| {
            self.for_each_run(|from, to| {
                out[to..to + self.patch].copy_from_slice(&pixels[from..from + self.patch]);
            });
        });
        let p = self.patch;
        let patches = (self.height / p) * (self.width / p);
        Ok((CpuStorage::F32(out), (layout.dims()[0], patches, self.channels * p * p).into()))
    }

    fn bwd(&self, pixels: &Tensor, _result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = vec![0.0; pixels.elem_count()];
        let image = self.image_len();
        read(grad, |grad| {
            dx.par_chunks_mut(image).zip(grad.par_chunks(image)).for_each(|(dx, grad)| {
                self.for_each_run(|to, from| {
                    dx[to..to + self.patch].copy_from_slice(&grad[from..from + self.patch]);
                });
            });
            Ok(())
        })?;
        Ok(Some(tensor(dx, pixels.shape())?))
    }
}

/// Puts `class` (D) before embedded patches (B, N, D) and adds `positions` (N + 1, D): (B, N + 1, D).
///
/// # Errors
/// When the shapes do not fit.
pub fn assemble_tokens(patches: &Tensor, class: &Tensor, positions: &Tensor) -> Result<Tensor> {
    let (batch, count, width) = patches.dims3()?;
    if class.dims() != [width] || positions.dims() != [count + 1, width] {
        bail!(
            "assemble_tokens: patches {:?}, class {:?}, positions {:?}",
            patches.shape(),
            class.shape(),
            positions.shape()
        )
    }
    if on_kernels(&[patches, class, positions]) {
        let op = Assemble { count, width };
        return patches.contiguous()?.apply_op3(&class.contiguous()?, &positions.contiguous()?, op);
    }
    let dtype = patches.dtype();
    let class = class.to_dtype(dtype)?.reshape((1, 1, width))?.broadcast_as((batch, 1, width))?;
    Tensor::cat(&[&class.contiguous()?, patches], 1)?.broadcast_add(&positions.to_dtype(dtype)?)
}

struct Assemble {
    count: usize,
    width: usize,
}

impl CustomOp3 for Assemble {
    fn name(&self) -> &'static str {
        "assemble-tokens"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (patches, class, positions) = (slice(s1, l1)?, slice(s2, l2)?, slice(s3, l3)?);
        let (batch, sample) = (l1.dims()[0], (self.count + 1) * self.width);
        let mut out = vec![0.0; batch * sample];
        if self.width > 0 && self.count > 0 {
            out.par_chunks_mut(sample).zip(patches.par_chunks(self.count * self.width)).for_each(
                |(out, patches)| {
                    let tokens = class.iter().chain(patches);
                    for ((out, token), position) in out.iter_mut().zip(tokens).zip(positions) {
                        *out = token + position;
                    }
                },
            );
        }
        Ok((CpuStorage::F32(out), (batch, self.count + 1, self.width).into()))
    }

    fn bwd(
        &self,
        patches: &Tensor,
        class: &Tensor,
        positions: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (width, sample) = (self.width, (self.count + 1) * self.width);
        let mut dpatches = vec![0.0; patches.elem_count()];
        let mut dpositions = vec![0.0; sample];
        read(grad, |grad| {
            if self.count > 0 && width > 0 {
                dpatches
                    .par_chunks_mut(self.count * width)
                    .zip(grad.par_chunks(sample))
                    .for_each(|(dpatches, grad)| dpatches.copy_from_slice(&grad[width..]));
                // One task a position, which adds the samples in order.
                dpositions.par_chunks_mut(width).enumerate().for_each(|(token, total)| {
                    for grad in grad.chunks_exact(sample) {
                        let row = &grad[token * width..][..width];
                        total.iter_mut().zip(row).for_each(|(total, g)| *total += g);
                    }
                });
            }
            Ok(())
        })?;
        let dclass = dpositions[..width].to_vec();
        Ok((
            Some(tensor(dpatches, patches.shape())?),
            Some(tensor(dclass, class.shape())?),
            Some(tensor(dpositions, positions.shape())?),
        ))
    }
}
