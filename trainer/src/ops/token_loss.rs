//! Cross-entropy of chosen tokens through an output layer, without keeping the logits.
//!
//! `loss = mean over targets of (logsumexp(z) − z[class])` with `z = hidden[row]·Wᵀ + b`. A captioner has targets at
//! a part of its positions only (not at the image's tokens, not behind a caption's end), so rows are gathered first.
//! Logits are the largest tensor of a small language model: here they exist for a segment of rows at a time, and turn
//! into their own gradient in place, `softmax(z) − onehot(class)`, from which those of `hidden`, W and b are summed
//! while it is in the cache. The forward pass thus does the backward pass's work, which then scales the results.
//! Left out: label smoothing, class weights.

use super::buffer::{even, on_kernels, read, slice, sum_in_order, tensor};
use super::cross_entropy::cross_entropy;
use super::gemm::{Matrix, MatrixMut, gemm};
use super::lanes::{exp, max, sum_map};
use super::linear::{add_rows, backward_input, forward_rows, linear};
use super::recycle::{Buffer, stale_vec};
use super::sink::GradSink;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// Rows that one task carries through the output layer, which it packs anew.
const ROWS: usize = 256;

/// Most logits that exist at once.
const LOGITS: usize = 1 << 24;

/// Rows of the output layer's gradient that one task sums.
const BAND: usize = 192;

/// One prediction that is learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The row of the hidden states that predicts.
    pub row: u32,
    /// The token that is right.
    pub class: u32,
}

/// The layer from hidden states to logits.
#[derive(Clone, Debug)]
pub struct OutputLayer {
    /// (V, D); may be the table of the token embedding.
    pub weight: Tensor,
    /// (V).
    pub bias: Option<Tensor>,
}

/// The loss of some tokens.
#[derive(Clone, Debug)]
pub struct TokenLoss {
    /// The mean over the targets, in nats; a scalar, 0 without targets.
    pub mean: Tensor,
    /// Each target's own loss, in their order.
    pub each: Vec<f32>,
}

/// The mean cross-entropy of `targets` over the rows of `hidden` (…, D) through `output`; the output layer's gradients
/// go to `sink`. No row may be the target twice.
///
/// # Errors
/// When shapes do not fit, a row or class does not exist, or a row comes twice.
pub fn token_loss(
    hidden: &Tensor,
    output: &OutputLayer,
    targets: &[Target],
    sink: &GradSink,
) -> Result<TokenLoss> {
    let (classes, width) = output.weight.dims2()?;
    let rows = hidden.elem_count() / width.max(1);
    if hidden.dims().last() != Some(&width) || output.bias.as_ref().is_some_and(|b| b.dims() != [classes]) {
        bail!("token_loss: {:?} by {:?}", hidden.shape(), output.weight.shape())
    }
    let mut seen = vec![false; rows];
    for Target { row, class } in targets {
        let (row, class) = (*row as usize, *class as usize);
        if row >= rows || class >= classes || std::mem::replace(&mut seen[row], true) {
            bail!(
                "token_loss: row {row} of {rows} for class {class} of {classes} is outside of them, or comes twice"
            )
        }
    }
    let tensors: Vec<&Tensor> = [hidden, &output.weight].into_iter().chain(&output.bias).collect();
    if !on_kernels(&tensors) || targets.is_empty() {
        return composite(hidden, output, targets, (rows, width));
    }
    let learns = output.weight.track_op() || output.bias.as_ref().is_some_and(Tensor::track_op);
    let anchor = if learns { sink.anchor().clone() } else { sink.anchor().detach() };
    let each = Arc::new(Mutex::new(Vec::new()));
    let op = Fused {
        output: OutputLayer {
            weight: output.weight.contiguous()?,
            bias: output.bias.as_ref().map(Tensor::contiguous).transpose()?,
        },
        targets: targets.to_vec(),
        sink: sink.clone(),
        tracked: hidden.track_op() || learns,
        wants_input: hidden.track_op(),
        each: Arc::clone(&each),
        found: Mutex::new(None),
    };
    let mean = hidden.contiguous()?.apply_op2(&anchor, op)?;
    let each = each.lock().map(|mut each| std::mem::take(&mut *each)).unwrap_or_default();
    Ok(TokenLoss { mean, each })
}

/// The same from single operations: the reference, and the path of other devices.
fn composite(
    hidden: &Tensor,
    output: &OutputLayer,
    targets: &[Target],
    shape: (usize, usize),
) -> Result<TokenLoss> {
    let rows: Vec<u32> = targets.iter().map(|target| target.row).collect();
    let classes: Vec<u32> = targets.iter().map(|target| target.class).collect();
    if rows.is_empty() {
        // Zero, with a gradient of zero for everything; `* 0.0` would pass none back at all.
        let mut mean = (hidden.sum_all()? + output.weight.sum_all()?)?;
        if let Some(bias) = &output.bias {
            mean = (mean + bias.sum_all()?)?;
        }
        return Ok(TokenLoss { mean: (&mean * mean.zeros_like()?)?, each: Vec::new() });
    }
    let chosen = Tensor::from_vec(rows, targets.len(), hidden.device())?;
    let chosen = hidden.reshape(shape)?.index_select(&chosen, 0)?;
    let logits = linear(&chosen, &output.weight, output.bias.as_ref())?;
    let mean = cross_entropy(&logits, &classes, None)?;
    let logits = super::buffer::at_least_f32(&logits.detach())?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(1)?.log()?;
    let classes = Tensor::from_vec(classes, (targets.len(), 1), hidden.device())?;
    let each = (log_sum - shifted.gather(&classes, 1)?)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
    Ok(TokenLoss { mean, each })
}

/// Gradients of the summed loss, until the backward pass asks for them.
struct Found {
    input: Option<Vec<f32>>,
    weight: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

struct Fused {
    output: OutputLayer,
    targets: Vec<Target>,
    sink: GradSink,
    /// Whether a backward pass may follow, and whether it wants the input's gradient.
    tracked: bool,
    wants_input: bool,
    each: Arc<Mutex<Vec<f32>>>,
    found: Mutex<Option<Found>>,
}

simd! {
    /// Turns a row of logits into `softmax(z) − onehot(class)`, and returns the row's loss.
    fn to_gradient(row: &mut [f32], class: usize) -> f32 {
        let largest = max(row);
        let at_class = row[class];
        for value in row.iter_mut() {
            *value = exp(*value - largest);
        }
        let sum = sum_map(row, |v| v);
        let scale = 1.0 / sum;
        for value in row.iter_mut() {
            *value *= scale;
        }
        row[class] -= 1.0;
        (f64::from(sum).ln() + f64::from(largest) - f64::from(at_class)) as f32
    }
}

simd! {
    /// The loss of a row of logits.
    fn loss_of(row: &[f32], class: usize) -> f32 {
        let largest = max(row);
        let sum = sum_map(row, |v| exp(v - largest));
        (f64::from(sum).ln() + f64::from(largest) - f64::from(row[class])) as f32
    }
}

impl Fused {
    fn run(&self, hidden: &[f32], tracked: bool) -> Result<(Vec<f32>, Option<Found>)> {
        let (classes, width) = self.output.weight.dims2()?;
        let learns_weight = tracked && self.output.weight.track_op();
        let learns_bias = tracked && self.output.bias.as_ref().is_some_and(Tensor::track_op);
        let mut found = tracked.then(|| Found {
            input: self.wants_input.then(|| {
                let mut zeros = stale_vec(hidden.len());
                zeros.fill(0.0);
                zeros
            }),
            weight: learns_weight.then(|| stale_vec(classes * width)),
            bias: None,
        });
        let segment = (LOGITS / classes.max(1)).clamp(ROWS, 1 << 14);
        let mut each = Vec::with_capacity(self.targets.len());
        let mut biases: Vec<Buffer> = Vec::new();
        read(&self.output.weight, |weight| {
            with_bias(self.output.bias.as_ref(), |bias| {
                for (number, targets) in self.targets.chunks(segment).enumerate() {
                    let run = Segment { targets, weight, bias, sizes: (width, classes), tracked };
                    let part = run.forward(hidden, found.as_mut().is_some_and(|f| f.input.is_some()));
                    each.extend(part.each);
                    let Some(found) = &mut found else { continue };
                    if let Some(input) = &mut found.input {
                        for (target, row) in targets.iter().zip(part.input.chunks_exact(width)) {
                            input[target.row as usize * width..][..width].copy_from_slice(row);
                        }
                    }
                    if let Some(total) = &mut found.weight {
                        weight_gradient(&part.logits, &part.gathered, total, (width, classes), number > 0);
                    }
                    if learns_bias {
                        biases.push(bias_gradient(&part.logits, classes));
                    }
                }
                Ok(())
            })
        })?;
        if let (Some(found), true) = (&mut found, learns_bias) {
            let mut total = sum_in_order(biases);
            total.truncate(classes);
            found.bias = Some(total);
        }
        Ok((each, found))
    }
}

fn with_bias<R>(bias: Option<&Tensor>, f: impl FnOnce(Option<&[f32]>) -> Result<R>) -> Result<R> {
    match bias {
        Some(bias) => read(bias, |bias| f(Some(bias))),
        None => f(None),
    }
}

/// Some targets whose logits exist at once.
struct Segment<'a> {
    targets: &'a [Target],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    /// Inputs and outputs of the layer.
    sizes: (usize, usize),
    tracked: bool,
}

/// What a segment's forward pass leaves: a row a target.
struct Part {
    each: Vec<f32>,
    gathered: Buffer,
    /// The gradient of the logits; nothing where no backward pass follows.
    logits: Buffer,
    /// The gradient of the gathered rows; empty where it is not wanted.
    input: Buffer,
}

impl Segment<'_> {
    fn forward(&self, hidden: &[f32], wants_input: bool) -> Part {
        let (width, classes) = self.sizes;
        let count = self.targets.len();
        let rows = even(count, ROWS);
        let mut gathered = Buffer::stale(count * width);
        let mut logits = Buffer::stale(count * classes);
        let mut input = Buffer::stale(if wants_input { count * width } else { 0 });
        let mut each = vec![0.0; count];
        // Where no gradient is wanted there is nothing to cut; empty pieces stand in.
        let inputs: Vec<&mut [f32]> = match wants_input {
            true => input.chunks_mut(rows * width).collect(),
            false => (0..count.div_ceil(rows)).map(|_| Default::default()).collect(),
        };
        let tasks = gathered.par_chunks_mut(rows * width).zip(logits.par_chunks_mut(rows * classes));
        let tasks = tasks.zip(inputs).zip(each.par_chunks_mut(rows)).zip(self.targets.par_chunks(rows));
        tasks.for_each(|((((x, logits), input), each), targets)| {
            for (x, target) in x.chunks_exact_mut(width).zip(targets) {
                x.copy_from_slice(&hidden[target.row as usize * width..][..width]);
            }
            forward_rows(x, self.weight, self.bias, logits, self.sizes);
            for ((row, target), loss) in logits.chunks_exact_mut(classes).zip(targets).zip(each) {
                let class = target.class as usize;
                *loss = if self.tracked { to_gradient(row, class) } else { loss_of(row, class) };
            }
            if !input.is_empty() {
                backward_input(logits, self.weight, input, false, self.sizes);
            }
        });
        Part { each, gathered, logits, input }
    }
}

/// `dW = dzᵀ·x`, by bands that are summed over all rows.
fn weight_gradient(
    dz: &[f32],
    x: &[f32],
    total: &mut [f32],
    (width, classes): (usize, usize),
    accumulate: bool,
) {
    let rows = x.len() / width;
    total.par_chunks_mut(BAND * width).enumerate().for_each(|(band, dw)| {
        let columns = dw.len() / width;
        let dz = Matrix::strided(&dz[band * BAND..], rows, columns, classes).t();
        gemm(MatrixMut::new(dw, columns, width), accumulate, dz, Matrix::new(x, rows, width), 1.0);
    });
}

fn bias_gradient(dz: &[f32], classes: usize) -> Buffer {
    let mut total = Buffer::zeroed(classes);
    add_rows(dz, &mut total);
    total
}

fn scaled(mut values: Vec<f32>, scale: f32) -> Vec<f32> {
    values.par_chunks_mut(1 << 15).for_each(|values| values.iter_mut().for_each(|v| *v *= scale));
    values
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "token-loss"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        _s2: &CpuStorage,
        _l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (each, found) = self.run(slice(s1, l1)?, self.tracked)?;
        let mean = each.iter().map(|loss| f64::from(*loss)).sum::<f64>() / each.len().max(1) as f64;
        if let Ok(mut slot) = self.each.lock() {
            *slot = each;
        }
        if let Ok(mut slot) = self.found.lock() {
            *slot = found;
        }
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        _anchor: &Tensor,
        _result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let scale = grad.to_scalar::<f32>()? / self.targets.len().max(1) as f32;
        // A second backward pass over one graph computes anew.
        let found = self.found.lock().ok().and_then(|mut slot| slot.take());
        let found = match found {
            Some(found) => found,
            None => match read(hidden, |hidden| self.run(hidden, true))?.1 {
                Some(found) => found,
                None => bail!("token_loss: nothing was kept for the backward pass"),
            },
        };
        if let Some(weight) = found.weight {
            self.sink.add(&self.output.weight, tensor(scaled(weight, scale), self.output.weight.shape())?)?;
        }
        if let (Some(grad), Some(bias)) = (found.bias, &self.output.bias) {
            self.sink.add(bias, tensor(scaled(grad, scale), bias.shape())?)?;
        }
        let input = found.input.map(|input| tensor(scaled(input, scale), hidden.shape())).transpose()?;
        Ok((input, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn values(shape: &[usize], phase: f32) -> Tensor {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37 + phase).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn all(tensor: &Tensor) -> Vec<f32> {
        tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn close(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 2e-6, "{a} against {b}");
        }
    }

    /// Loss, each target's loss, and the gradients of hidden states, weight and bias.
    fn run(dtype: DType, targets: &[Target]) -> Vec<Vec<f32>> {
        let var = |shape: &[usize], phase| {
            Var::from_tensor(&values(shape, phase).to_dtype(dtype).unwrap()).unwrap()
        };
        let (hidden, weight, bias) = (var(&[2, 300, 8], 0.1), var(&[500, 8], 0.5), var(&[500], 0.9));
        let sink = GradSink::new(&Device::Cpu).unwrap();
        let output = OutputLayer { weight: weight.as_tensor().clone(), bias: Some(bias.as_tensor().clone()) };
        let loss = token_loss(hidden.as_tensor(), &output, targets, &sink).unwrap();
        let grads = sink.backward(&(loss.mean.clone() * 0.5).unwrap()).unwrap();
        let grad = |var: &Var| all(grads.get(var).unwrap());
        vec![all(&loss.mean), loss.each, grad(&hidden), grad(&weight), grad(&bias)]
    }

    #[test]
    fn it_is_the_composite_of_single_operations() {
        // f64 takes the stock path. More rows than one task has, not in order.
        let targets: Vec<Target> =
            (0..599).map(|i| Target { row: (i * 7) % 600, class: (i * i) % 500 }).collect();
        for (fused, stock) in run(DType::F32, &targets).iter().zip(run(DType::F64, &targets)) {
            close(fused, &stock);
        }
    }

    #[test]
    fn segments_sum_up() {
        // 70,000 classes leave 256 rows a segment.
        let sink = GradSink::new(&Device::Cpu).unwrap();
        let (hidden, weight) =
            (values(&[600, 4], 0.3), Var::from_tensor(&values(&[70_000, 4], 0.7)).unwrap());
        let targets: Vec<Target> = (0..600).map(|i| Target { row: i, class: i * 100 }).collect();
        let output = OutputLayer { weight: weight.as_tensor().clone(), bias: None };
        let whole = token_loss(&hidden, &output, &targets, &sink).unwrap();
        let grads = sink.backward(&whole.mean).unwrap();
        let sum = grads.get(&weight).unwrap().clone();
        let mut parts = sum.zeros_like().unwrap();
        for targets in targets.chunks(100) {
            let part = token_loss(&hidden, &output, targets, &sink).unwrap();
            let grads = sink.backward(&part.mean).unwrap();
            parts = (parts + (grads.get(&weight).unwrap() / 6.0).unwrap()).unwrap();
        }
        close(&all(&sum), &all(&parts));
    }

    #[test]
    fn without_targets_the_loss_is_0_and_wrong_ones_are_refused() {
        let sink = GradSink::new(&Device::Cpu).unwrap();
        let weight = Var::from_tensor(&values(&[5, 4], 0.0)).unwrap();
        let output = OutputLayer { weight: weight.as_tensor().clone(), bias: None };
        let hidden = Var::from_tensor(&values(&[3, 4], 0.0)).unwrap();
        let none = token_loss(hidden.as_tensor(), &output, &[], &sink).unwrap();
        assert_eq!((none.mean.to_scalar::<f32>().unwrap(), none.each.len()), (0.0, 0));
        let grads = sink.backward(&none.mean).unwrap();
        assert!(
            all(grads.get(&hidden).unwrap())
                .iter()
                .chain(&all(grads.get(&weight).unwrap()))
                .all(|g| *g == 0.0)
        );
        for (row, class) in [(3, 0), (0, 5)] {
            assert!(token_loss(hidden.as_tensor(), &output, &[Target { row, class }], &sink).is_err());
        }
        let twice = [Target { row: 1, class: 0 }, Target { row: 1, class: 2 }];
        assert!(token_loss(hidden.as_tensor(), &output, &twice, &sink).is_err());
    }
}
