//! Gradients of parameters that an operation delivers by itself.
//!
//! A candle custom op takes three arguments at most, and candle zeroes a tensor and adds to it for every argument
//! of every operation. An operation with many parameters (a stack of transformer blocks, a residual network)
//! therefore takes only its input and the sink's anchor as arguments, and puts its parameters' gradients here;
//! [`GradSink::backward`] brings them together with those that candle found. Left out: two backward passes over
//! one sink at the same time.

use super::buffer::{add_to, on_kernels, read, write};
use super::recycle::reclaim;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, TensorId, Var};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a model's operations put the gradients of their parameters. Clones share one place.
#[derive(Clone, Debug)]
pub struct GradSink {
    /// A scalar that makes candle call an operation's backward pass even where its input needs no gradient.
    anchor: Tensor,
    grads: Arc<Mutex<HashMap<TensorId, Tensor>>>,
}

impl GradSink {
    /// A sink for a model in training.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn new(device: &Device) -> Result<Self> {
        let anchor = Var::zeros((), DType::F32, device)?.as_tensor().clone();
        Ok(Self { anchor, grads: Arc::default() })
    }

    /// A sink that takes nothing: operations on it record no backward pass for their parameters.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn detached(device: &Device) -> Result<Self> {
        Ok(Self { anchor: Tensor::zeros((), DType::F32, device)?, grads: Arc::default() })
    }

    pub(crate) fn anchor(&self) -> &Tensor {
        &self.anchor
    }

    fn grads(&self) -> MutexGuard<'_, HashMap<TensorId, Tensor>> {
        // A panic elsewhere leaves at worst the gradients of a step that failed, which the next one drops.
        self.grads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the gradient of `parameter`; nothing else may hold `grad`, which must be contiguous.
    pub(crate) fn add(&self, parameter: &Tensor, grad: Tensor) -> Result<()> {
        let mut grads = self.grads();
        let total = match grads.remove(&parameter.id()) {
            Some(earlier) if on_kernels(&[&earlier, &grad]) => {
                // Both are the sink's alone.
                read(&grad, |grad| {
                    write(&earlier, |earlier| {
                        add_to(earlier, grad);
                        Ok(())
                    })
                })?;
                reclaim(&grad)?;
                earlier
            }
            Some(earlier) => (earlier + grad)?,
            None => grad,
        };
        grads.insert(parameter.id(), total);
        Ok(())
    }

    /// Runs the backward pass of `loss` and returns the gradients of every variable that it depends on.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        self.grads().clear();
        let mut all = loss.backward()?;
        for (id, grad) in self.grads().drain() {
            let total = match all.get_id(id) {
                Some(earlier) => (earlier + grad)?,
                None => grad,
            };
            all.insert_id(id, total);
        }
        Ok(all)
    }
}
