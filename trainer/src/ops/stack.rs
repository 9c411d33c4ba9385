//! A stack of stages as one differentiable operation.
//!
//! The operation keeps each stage's input and what the stage wants for its backward pass, in recycled buffers, and
//! frees them as the backward pass comes down; candle sees one edge for the whole stack. With `recompute` only
//! the inputs are kept, and each stage runs forward once more before its backward pass (gradient checkpointing;
//! Chen et al. 2016). Left out: what a stage computes.

use super::buffer::{read, slice, tensor, with_slices};
use super::recycle::{Buffer, stale_vec};
use super::sink::GradSink;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use std::sync::Mutex;

/// What a forward run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Whether the backward pass needs something of it.
    pub(crate) keeps: bool,
    /// Whether it is the step's first run, and not one that gets back what was not kept.
    pub(crate) is_first: bool,
}

/// One stage: a function of its input and its parameters.
pub(crate) trait Stage: Send + Sync {
    /// What the backward pass needs beside input, output and parameters.
    type Kept: Send;

    /// The parameters, in the order in which both passes take them.
    fn parameters(&self) -> Vec<&Tensor>;

    /// Numbers in the output.
    fn out_len(&self) -> usize;

    /// Writes the output, and returns what the backward pass needs if the pass keeps it.
    fn forward(
        &self,
        x: &[f32],
        parameters: &[&[f32]],
        out: &mut [f32],
        pass: Pass,
    ) -> Result<Option<Self::Kept>>;

    /// Writes the gradient of the input to `dx`, and returns those of the parameters.
    fn backward(&self, given: &Given<'_, Self::Kept>, dx: Option<&mut [f32]>) -> Vec<Vec<f32>>;
}

/// What a stage's backward pass reads.
pub(crate) struct Given<'a, K> {
    /// The stage's input.
    pub(crate) x: &'a [f32],
    /// The stage's output.
    pub(crate) out: &'a [f32],
    /// The parameters.
    pub(crate) parameters: &'a [&'a [f32]],
    /// Whether each parameter's gradient is wanted; that of a frozen one may come back empty.
    pub(crate) wanted: &'a [bool],
    /// What the forward pass left.
    pub(crate) kept: &'a K,
    /// Gradient of the output.
    pub(crate) grad: &'a [f32],
}

impl<'a, K> Given<'a, K> {
    /// The same with a part of what was kept.
    pub(crate) fn with<P>(&self, kept: &'a P) -> Given<'a, P> {
        let Given { x, out, parameters, wanted, kept: _, grad } = *self;
        Given { x, out, parameters, wanted, kept, grad }
    }
}

/// Input and remains of one stage's forward pass. The first stage's input is the operation's own.
struct Saved<K> {
    input: Option<Buffer>,
    kept: Option<K>,
}

/// The last stage's output, and what all stages left.
type Run<S> = (Vec<f32>, Vec<Saved<<S as Stage>::Kept>>);

struct Stack<S: Stage> {
    stages: Vec<S>,
    shape: Shape,
    sink: GradSink,
    /// Whether a backward pass may follow.
    tracked: bool,
    recompute: bool,
    saved: Mutex<Option<Vec<Saved<S::Kept>>>>,
}

/// Carries `x` through `stages` to a tensor of `shape`.
pub(crate) fn stack<S: Stage + 'static>(
    x: &Tensor,
    stages: Vec<S>,
    shape: impl Into<Shape>,
    sink: &GradSink,
    recompute: bool,
) -> Result<Tensor> {
    let learns = stages.iter().any(|stage| stage.parameters().iter().any(|p| p.track_op()));
    let anchor = if learns { sink.anchor().clone() } else { sink.anchor().detach() };
    let tracked = x.track_op() || anchor.track_op();
    let op = Stack {
        stages,
        shape: shape.into(),
        sink: sink.clone(),
        tracked,
        recompute,
        saved: Mutex::new(None),
    };
    x.contiguous()?.apply_op2(&anchor, op)
}

impl<S: Stage> Stack<S> {
    fn forward(&self, x: &[f32], is_first: bool) -> Result<Run<S>> {
        let mut saved: Vec<Saved<S::Kept>> = Vec::with_capacity(self.stages.len());
        let mut result = Vec::new();
        let mut current: Option<Buffer> = None;
        let pass = Pass { keeps: self.tracked && !self.recompute, is_first };
        for (number, stage) in self.stages.iter().enumerate() {
            let input = current.as_deref().unwrap_or(x);
            let is_last = number + 1 == self.stages.len();
            let mut next = (!is_last).then(|| Buffer::stale(stage.out_len()));
            if is_last {
                result = stale_vec(stage.out_len());
            }
            let out: &mut [f32] = next.as_deref_mut().unwrap_or(&mut result);
            let kept = with_slices(&stage.parameters(), |p| stage.forward(input, p, out, pass))?;
            let input = std::mem::replace(&mut current, next);
            if self.tracked {
                saved.push(Saved { input, kept });
            }
        }
        if self.stages.is_empty() {
            result = x.to_vec();
        }
        Ok((result, saved))
    }

    fn backward(&self, x: &[f32], result: &[f32], grad: &[f32], wants_dx: bool) -> Result<Option<Vec<f32>>> {
        // Taken out so that the memory is freed on the way; a second backward pass runs forward again.
        let kept = self.saved.lock().ok().and_then(|mut slot| slot.take());
        let mut saved = match kept {
            Some(saved) => saved,
            None => self.forward(x, false)?.1,
        };
        let mut outputs: Option<Buffer> = None;
        let mut grads: Option<Buffer> = None;
        let mut dx = None;
        for (number, stage) in self.stages.iter().enumerate().rev() {
            let Some(Saved { input, kept }) = saved.pop() else { break };
            let x = input.as_deref().unwrap_or(x);
            let out = outputs.as_deref().unwrap_or(result);
            let grad = grads.as_deref().unwrap_or(grad);
            let parameters = stage.parameters();
            let wanted: Vec<bool> = parameters.iter().map(|p| p.track_op()).collect();
            let mut below = (number > 0).then(|| Buffer::stale(x.len()));
            if number == 0 && wants_dx {
                dx = Some(stale_vec(x.len()));
            }
            let into = below.as_deref_mut().or(dx.as_deref_mut());
            let found = with_slices(&parameters, |p| {
                let kept = match kept {
                    Some(kept) => Some(kept),
                    None => {
                        let again = Pass { keeps: true, is_first: false };
                        stage.forward(x, p, &mut Buffer::stale(stage.out_len()), again)?
                    }
                };
                let Some(kept) = kept else {
                    candle_core::bail!("a stage kept nothing for its backward pass")
                };
                let given = Given { x, out, parameters: p, wanted: &wanted, kept: &kept, grad };
                Ok(stage.backward(&given, into))
            })?;
            for ((parameter, found), wanted) in parameters.iter().zip(found).zip(wanted) {
                if wanted {
                    self.sink.add(parameter, tensor(found, parameter.shape())?)?;
                }
            }
            (outputs, grads) = (input, below);
        }
        Ok(dx)
    }
}

impl<S: Stage> CustomOp2 for Stack<S> {
    fn name(&self) -> &'static str {
        "stack"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        _s2: &CpuStorage,
        _l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (result, saved) = self.forward(slice(s1, l1)?, true)?;
        if self.tracked
            && let Ok(mut slot) = self.saved.lock()
        {
            *slot = Some(saved);
        }
        Ok((CpuStorage::F32(result), self.shape.clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        _anchor: &Tensor,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = read(x, |xs| {
            read(result, |result| read(grad, |grad| self.backward(xs, result, grad, x.track_op())))
        })?;
        Ok((dx.map(|dx| tensor(dx, x.shape())).transpose()?, None))
    }
}
