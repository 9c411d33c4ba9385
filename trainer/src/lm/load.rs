//! From a source's tensors to blocks: names, fused and transposed matrices, and the order of rotated rows.
//!
//! Hugging Face's llama keeps a matrix a layer; GPT-2 keeps queries, keys and values in one, transposed. llama.cpp
//! reorders the rows of llama's queries and keys for rotations of neighbours, which is undone here. Leaves out sizes
//! and tokenizers.

use super::{Kind, LmSizes};
use crate::error::{Error, Result};
use crate::model::is_finite;
use crate::ops::{LmBlockParams, LmLinear, LmMlp, LmNorm};
use candle_core::{DType, Tensor};

/// Whose names and shapes a source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// llama.cpp's.
    Gguf,
    /// Those of Hugging Face's transformers, without the model's own prefix.
    HuggingFace,
}

/// Tensors by name.
pub(super) trait Tensors {
    /// The shape of a tensor, where there is one that was not asked for before.
    fn dims(&self, name: &str) -> Option<Vec<usize>>;

    /// A tensor, where there is one that was not asked for before.
    fn find(&mut self, name: &str) -> Result<Option<Tensor>>;

    /// Tensors that were not asked for and that another model would need.
    fn rest(&self) -> Vec<&str>;

    /// The error for a tensor that does not serve.
    fn fail(&self, reason: String) -> Error;
}

/// A source with its names and the sizes that its tensors must have.
pub(super) struct Loading<'a> {
    pub(super) tensors: &'a mut dyn Tensors,
    pub(super) names: Names,
    pub(super) sizes: &'a LmSizes,
}

/// What stands outside the blocks.
pub(super) struct Ends {
    pub(super) tokens: Tensor,
    pub(super) positions: Option<Tensor>,
    pub(super) norm: LmNorm,
    /// None where it is the table of tokens.
    pub(super) output: Option<Tensor>,
}

impl Loading<'_> {
    fn get(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        match self.find(name, shape)? {
            Some(tensor) => Ok(tensor),
            None => Err(self.tensors.fail(format!("it has no tensor {name}"))),
        }
    }

    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        // Before a larger one takes memory.
        if let Some(found) = self.tensors.dims(name).filter(|found| found != shape) {
            let reason = format!("{name} is {found:?}, and the configuration asks for {shape:?}");
            return Err(self.tensors.fail(reason));
        }
        let Some(tensor) = self.tensors.find(name)? else { return Ok(None) };
        if !matches!(tensor.dtype(), DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            let reason = format!(
                "{name} is of {}, which stands for numbers only with a scale that is not read here; give F16, BF16 or F32",
                tensor.dtype().as_str()
            );
            return Err(self.tensors.fail(reason));
        }
        let tensor = tensor.to_dtype(DType::F32).and_then(|t| t.contiguous()).map_err(tensor_error())?;
        if !is_finite(&tensor).map_err(tensor_error())? {
            return Err(self.tensors.fail(format!("{name} has what is no finite number")));
        }
        Ok(Some(tensor))
    }

    fn pick<'n>(&self, gguf: &'n str, llama: &'n str, gpt2: &'n str) -> &'n str {
        match (self.names, self.sizes.kind) {
            (Names::Gguf, _) => gguf,
            (Names::HuggingFace, Kind::Llama) => llama,
            (Names::HuggingFace, Kind::Gpt2) => gpt2,
        }
    }

    fn norm(&mut self, name: &str) -> Result<LmNorm> {
        let width = self.sizes.width;
        let weight = self.get(&format!("{name}.weight"), &[width])?;
        let bias = match self.sizes.kind {
            Kind::Llama => None,
            Kind::Gpt2 => Some(self.get(&format!("{name}.bias"), &[width])?),
        };
        Ok(LmNorm { weight, bias })
    }

    /// A layer (outputs, inputs); GPT-2's of Hugging Face are the other way around.
    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<LmLinear> {
        let is_turned = self.names == Names::HuggingFace && self.sizes.kind == Kind::Gpt2;
        let shape = if is_turned { [inputs, outputs] } else { [outputs, inputs] };
        let mut weight = self.get(&format!("{name}.weight"), &shape)?;
        if is_turned {
            weight = weight.t().and_then(|t| t.contiguous()).map_err(tensor_error())?;
        }
        let bias = match self.sizes.kind {
            Kind::Gpt2 => Some(self.get(&format!("{name}.bias"), &[outputs])?),
            Kind::Llama => self.find(&format!("{name}.bias"), &[outputs])?,
        };
        Ok(LmLinear::frozen(weight, bias))
    }

    /// Block number `layer`.
    pub(super) fn block(&mut self, layer: usize) -> Result<LmBlockParams> {
        let LmSizes { kind, width, hidden, heads, groups, .. } = *self.sizes;
        let depth = self.sizes.depth();
        let (wide, narrow) = (heads * depth, groups * depth);
        let prefix = match (self.names, kind) {
            (Names::Gguf, _) => format!("blk.{layer}"),
            (Names::HuggingFace, Kind::Llama) => format!("layers.{layer}"),
            (Names::HuggingFace, Kind::Gpt2) => format!("h.{layer}"),
        };
        let at = |name: &str| format!("{prefix}.{name}");
        let norm_1 = self.norm(&at(self.pick("attn_norm", "input_layernorm", "ln_1")))?;
        let norm_2 = self.norm(&at(self.pick("ffn_norm", "post_attention_layernorm", "ln_2")))?;
        let [q, k, v] = match kind {
            Kind::Gpt2 => {
                let name = at(self.pick("attn_qkv", "", "attn.c_attn"));
                split(&self.linear(&name, width, 3 * width)?).map_err(tensor_error())?
            }
            Kind::Llama => {
                let q = self.linear(&at(self.pick("attn_q", "self_attn.q_proj", "")), width, wide)?;
                let k = self.linear(&at(self.pick("attn_k", "self_attn.k_proj", "")), width, narrow)?;
                let v = self.linear(&at(self.pick("attn_v", "self_attn.v_proj", "")), width, narrow)?;
                match self.names {
                    Names::HuggingFace => [q, k, v],
                    Names::Gguf => [
                        reordered(q, heads).map_err(tensor_error())?,
                        reordered(k, groups).map_err(tensor_error())?,
                        v,
                    ],
                }
            }
        };
        let out =
            self.linear(&at(self.pick("attn_output", "self_attn.o_proj", "attn.c_proj")), wide, width)?;
        let gate = match kind {
            Kind::Llama => {
                Some(self.linear(&at(self.pick("ffn_gate", "mlp.gate_proj", "")), width, hidden)?)
            }
            Kind::Gpt2 => None,
        };
        let up = self.linear(&at(self.pick("ffn_up", "mlp.up_proj", "mlp.c_fc")), width, hidden)?;
        let down = self.linear(&at(self.pick("ffn_down", "mlp.down_proj", "mlp.c_proj")), hidden, width)?;
        Ok(LmBlockParams { norm_1, q, k, v, out, norm_2, mlp: LmMlp { gate, up, down } })
    }

    /// Refuses a source with more in it than was read, which would be another model.
    pub(super) fn all_read(&self) -> Result<()> {
        let rest = self.tensors.rest();
        let Some(first) = rest.first() else { return Ok(()) };
        let reason = format!(
            "{} of its tensors belong to no {} model of {} layers (the first is {first}): its sizes are not those of its weights, or it has parts that are not known here",
            rest.len(),
            if self.sizes.kind == Kind::Llama { "llama" } else { "GPT-2" },
            self.sizes.layers
        );
        Err(self.tensors.fail(reason))
    }

    /// Tables, last normalisation and output layer.
    pub(super) fn ends(&mut self) -> Result<Ends> {
        let LmSizes { kind, width, vocab_size, context_length, .. } = *self.sizes;
        let tokens = self
            .get(self.pick("token_embd.weight", "embed_tokens.weight", "wte.weight"), &[vocab_size, width])?;
        let positions = match kind {
            Kind::Llama => None,
            Kind::Gpt2 => {
                Some(self.get(self.pick("position_embd.weight", "", "wpe.weight"), &[context_length, width])?)
            }
        };
        let norm = self.norm(self.pick("output_norm", "norm", "ln_f"))?;
        let output = match self.sizes.is_tied {
            true => None,
            false => self
                .find(self.pick("output.weight", "lm_head.weight", "lm_head.weight"), &[vocab_size, width])?,
        };
        Ok(Ends { tokens, positions, norm, output })
    }
}

fn tensor_error() -> impl FnOnce(candle_core::Error) -> Error {
    Error::tensor("put the language model together")
}

/// Cuts a layer of queries, keys and values.
fn split(packed: &LmLinear) -> candle_core::Result<[LmLinear; 3]> {
    let width = packed.weight.dim(0)? / 3;
    let part = |number: usize| -> candle_core::Result<LmLinear> {
        let weight = packed.weight.narrow(0, number * width, width)?.contiguous()?;
        let bias = packed.bias.as_ref().map(|bias| bias.narrow(0, number * width, width)?.contiguous());
        Ok(LmLinear::frozen(weight, bias.transpose()?))
    };
    Ok([part(0)?, part(1)?, part(2)?])
}

/// Rows of a head from pairs of neighbours to halves.
fn reordered(layer: LmLinear, heads: usize) -> candle_core::Result<LmLinear> {
    let turn = |tensor: &Tensor| {
        let rows = tensor.dim(0)?;
        let rest: usize = tensor.elem_count() / rows;
        let pairs = tensor.reshape((heads, rows / heads / 2, 2, rest))?;
        pairs.transpose(1, 2)?.contiguous()?.reshape(tensor.dims())
    };
    let bias = layer.bias.as_ref().map(turn).transpose()?;
    Ok(LmLinear::frozen(turn(&layer.weight)?, bias))
}
