//! Sums of gradients over several backward passes, and their norms.
//!
//! Leaves out which parameter has which place; that is the optimizer's.

use crate::ops::update::blend;
use candle_core::{DType, Result, Tensor, Var};
use rayon::prelude::*;

/// Elements that one task sums.
const CHUNK: usize = 1 << 15;

/// The sum of some backward passes' gradients, by the parameters' places in the optimizer.
///
/// One pass alone is held as it came; memory of its own is only taken for a second one.
#[derive(Debug, Default)]
pub struct Gradients {
    sums: Vec<Option<Sum>>,
}

#[derive(Debug)]
enum Sum {
    /// As a backward pass left it; it may share memory with other tensors.
    Given(Tensor),
    /// A sum of several.
    Owned(Var),
}

impl Gradients {
    pub(super) fn add(&mut self, place: usize, grad: &Tensor) -> Result<()> {
        if self.sums.len() <= place {
            self.sums.resize_with(place + 1, || None);
        }
        let sum = &mut self.sums[place];
        match sum {
            None => *sum = Some(Sum::Given(grad.contiguous()?)),
            Some(Sum::Given(first)) => {
                let total = Var::from_tensor(&first.copy()?)?;
                blend(&total, grad, 1.0, 1.0)?;
                *sum = Some(Sum::Owned(total));
            }
            Some(Sum::Owned(total)) => blend(total, grad, 1.0, 1.0)?,
        }
        Ok(())
    }

    /// Gives the memory of the gradients back to the pool that it came from. Nothing else may read them any more,
    /// nor what a backward pass put into them.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub(crate) fn recycle(self) -> Result<()> {
        for sum in self.sums.into_iter().flatten() {
            match sum {
                Sum::Given(tensor) => crate::ops::recycle::reclaim(&tensor)?,
                Sum::Owned(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, place: usize) -> Option<&Tensor> {
        match self.sums.get(place)?.as_ref()? {
            Sum::Given(tensor) => Some(tensor),
            Sum::Owned(var) => Some(var.as_tensor()),
        }
    }
}

/// The layer that a parameter belongs to: up to the first number in its name (`visual.transformer.resblocks.3`),
/// else the name without its last part if that is `weight` or `bias`.
pub fn layer_of(name: &str) -> &str {
    let mut end = 0;
    for part in name.split('.') {
        end += part.len();
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            return &name[..end];
        }
        end += 1;
    }
    name.strip_suffix(".weight").or_else(|| name.strip_suffix(".bias")).unwrap_or(name)
}

/// Square root of the sum of squares over all gradients.
///
/// # Errors
/// Only those of the tensor library.
pub fn global_norm(grads: &[Tensor]) -> Result<f64> {
    let sums = grads.iter().map(square_sum).collect::<Result<Vec<_>>>()?;
    Ok(sums.iter().sum::<f64>().sqrt())
}

pub(super) fn square_sum(grad: &Tensor) -> Result<f64> {
    if !crate::ops::on_kernels(&[grad]) {
        return Ok(f64::from(grad.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_scalar::<f32>()?));
    }
    crate::ops::read(grad, |grad| {
        let sums: Vec<f64> = grad
            .par_chunks(CHUNK)
            .map(|chunk| chunk.chunks(1024).map(|part| f64::from(crate::ops::dot(part, part))).sum())
            .collect();
        Ok(sums.iter().sum())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn layers_are_blocks_or_single_tensors() {
        for (name, layer) in [
            ("visual.transformer.resblocks.3.attn.in_proj_weight", "visual.transformer.resblocks.3"),
            ("transformer.resblocks.11.ln_1.bias", "transformer.resblocks.11"),
            ("visual.layer1.0.conv1.weight", "visual.layer1.0"),
            ("visual.conv1.weight", "visual.conv1"),
            ("ln_final.bias", "ln_final"),
            ("logit_scale", "logit_scale"),
            ("text_projection", "text_projection"),
        ] {
            assert_eq!(layer_of(name), layer);
        }
    }

    #[test]
    fn sums_leave_what_they_were_given_alone() {
        let part = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap();
        let mut sums = Gradients::default();
        for times in 1..=3u8 {
            sums.add(1, &part).unwrap();
            let expected: Vec<f32> = [1.0, 2.0, 3.0].map(|v: f32| v * f32::from(times)).to_vec();
            assert_eq!(sums.get(1).unwrap().to_vec1::<f32>().unwrap(), expected);
        }
        assert_eq!(part.to_vec1::<f32>().unwrap(), [1.0, 2.0, 3.0]);
        assert!(sums.get(0).is_none() && sums.get(2).is_none());
    }
}
