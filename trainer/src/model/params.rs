//! The ordered store of a model's parameters.
//!
//! The order is that of the model's definition and never that of a hash map, so whatever walks the store
//! (norms, updates, checkpoints) does so alike in every run.

use crate::init::{Init, values};
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use std::collections::{HashMap, HashSet};

/// One parameter as a model asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Name as in open_clip.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Initial values.
    pub init: Init,
    /// Whether training changes it.
    pub trainable: bool,
}

impl ParamSpec {
    /// A trainable parameter.
    pub(super) fn new(name: impl Into<String>, shape: &[usize], init: Init) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), init, trainable: true }
    }
}

/// One parameter of a model.
#[derive(Clone, Debug)]
pub struct Param {
    /// Name as in open_clip.
    pub name: String,
    /// The values, shared with the model that uses them.
    pub var: Var,
    /// Whether training changes it.
    pub trainable: bool,
}

/// Named parameters in the order of their definition.
#[derive(Clone, Debug, Default)]
pub struct Params {
    entries: Vec<Param>,
    places: HashMap<String, usize>,
}

/// Why given weights do not fit a model; every name is reported, not only the first.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// Names or shapes differ.
    #[error(
        "weights do not fit the model: {} missing {missing:?}, {} unexpected {unexpected:?}, \
         {} of another shape {reshaped:?}",
        missing.len(), unexpected.len(), reshaped.len()
    )]
    Mismatch {
        /// Parameters of the model that were not given.
        missing: Vec<String>,
        /// Given names that the model does not have.
        unexpected: Vec<String>,
        /// `name: expected [..], found [..]`.
        reshaped: Vec<String>,
    },
    /// A tensor has an infinity, or what is no number.
    #[error("{name} has what is no finite number")]
    NotFinite {
        /// The parameter.
        name: String,
    },
    /// A fitting tensor could not be copied.
    #[error("could not set parameter {name}")]
    Set {
        /// The parameter.
        name: String,
        /// What the tensor library says.
        #[source]
        source: Box<candle_core::Error>,
    },
}

impl Params {
    /// Makes every parameter of `specs` with its seeded initial values, in f32.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub fn create(specs: Vec<ParamSpec>, seed: u64, device: &Device) -> Result<Self> {
        let mut params = Self::default();
        for spec in specs {
            let len = spec.shape.iter().product();
            let initial = values(spec.init, seed, &spec.name, len);
            let var = Var::from_tensor(&Tensor::from_vec(initial, spec.shape, device)?)?;
            params.push(Param { name: spec.name, var, trainable: spec.trainable });
        }
        Ok(params)
    }

    /// A store of trainable variables that exist already.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, Var)>) -> Self {
        let mut params = Self::default();
        for (name, var) in vars {
            params.push(Param { name, var, trainable: true });
        }
        params
    }

    fn push(&mut self, param: Param) {
        self.places.insert(param.name.clone(), self.entries.len());
        self.entries.push(param);
    }

    /// The parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = &Param> {
        self.entries.iter()
    }

    /// The parameter of this name.
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.places.get(name).map(|place| &self.entries[*place].var)
    }

    /// The parameter of this name, with what belongs to it.
    pub fn find(&self, name: &str) -> Option<&Param> {
        self.places.get(name).map(|place| &self.entries[*place])
    }

    /// The tensor of a parameter: a variable that gradients are recorded for where it is learned and `learns` says so,
    /// else its values alone.
    ///
    /// # Errors
    /// When there is no such parameter.
    pub(super) fn tensor(&self, name: &str, learns: bool) -> Result<Tensor> {
        match self.find(name) {
            Some(param) if learns && param.trainable => Ok(param.var.as_tensor().clone()),
            // What is not learned costs no gradient: it stands outside the record of the backward pass.
            Some(param) => Ok(param.var.as_detached_tensor()),
            None => bail!("the model has no parameter {name}"),
        }
    }

    /// The same variables, of which those that `is_frozen` names are not trainable.
    pub(super) fn frozen(&self, is_frozen: &dyn Fn(&str) -> bool) -> Self {
        let mut params = self.clone();
        for param in &mut params.entries {
            param.trainable &= !is_frozen(&param.name);
        }
        params
    }

    /// Parameters of the same names and values in memory of their own.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub(super) fn copied(&self) -> Result<Self> {
        let mut params = self.clone();
        for param in &mut params.entries {
            param.var = Var::from_tensor(&param.var.as_detached_tensor().copy()?)?;
        }
        Ok(params)
    }

    /// Number of parameter tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of scalars in all parameters.
    pub fn scalar_count(&self) -> usize {
        self.entries.iter().map(|p| p.var.elem_count()).sum()
    }

    /// Name and current values of every parameter, in order.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        self.entries.iter().map(|p| (p.name.clone(), p.var.as_detached_tensor())).collect()
    }

    /// Sets every parameter from `weights`, or none.
    ///
    /// # Errors
    /// [`ParamsError::Mismatch`] names all missing, unexpected and wrongly shaped tensors; [`ParamsError::NotFinite`].
    pub fn load(&self, weights: &HashMap<String, Tensor>) -> std::result::Result<(), ParamsError> {
        fitting(self.entries.iter().map(|p| (p.name.as_str(), p.var.dims())), weights)?;
        let failed = |name: &str| {
            let name = name.to_owned();
            move |source| ParamsError::Set { name, source: Box::new(source) }
        };
        for Param { name, .. } in &self.entries {
            if !is_finite(&weights[name]).map_err(failed(name))? {
                return Err(ParamsError::NotFinite { name: name.clone() });
            }
        }
        for param in &self.entries {
            let tensor = &weights[&param.name];
            let set = tensor
                .to_device(param.var.device())
                .and_then(|t| t.to_dtype(DType::F32)?.contiguous())
                .and_then(|t| param.var.set(&t));
            set.map_err(failed(&param.name))?;
        }
        Ok(())
    }
}

/// Whether weights are those of a model of these names and shapes, which need not have been built.
///
/// # Errors
/// [`ParamsError::Mismatch`] names all missing, unexpected and wrongly shaped tensors.
pub(crate) fn fitting<'a>(
    model: impl Iterator<Item = (&'a str, &'a [usize])>,
    weights: &HashMap<String, Tensor>,
) -> std::result::Result<(), ParamsError> {
    let (mut missing, mut reshaped, mut known) = (Vec::new(), Vec::new(), HashSet::new());
    for (name, expected) in model {
        known.insert(name);
        match weights.get(name).map(Tensor::dims) {
            None => missing.push(name.to_owned()),
            Some(found) if found != expected => {
                reshaped.push(format!("{name}: expected {expected:?}, found {found:?}"));
            }
            Some(_) => {}
        }
    }
    let mut unexpected: Vec<String> =
        weights.keys().filter(|name| !known.contains(name.as_str())).cloned().collect();
    unexpected.sort();
    if missing.is_empty() && unexpected.is_empty() && reshaped.is_empty() {
        return Ok(());
    }
    Err(ParamsError::Mismatch { missing, unexpected, reshaped })
}

/// Whether all of a tensor's numbers are finite in f32.
///
/// # Errors
/// When it holds no numbers.
pub(crate) fn is_finite(tensor: &Tensor) -> Result<bool> {
    // One NaN or infinity makes the sum one; of finite weights it is far from any.
    Ok(tensor.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?.is_finite())
}
