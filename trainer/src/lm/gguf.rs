//! GGUF files (llama.cpp's format, version 2 and 3): metadata, and tensors dequantised to f32.
//!
//! A header's counts and lengths are numbers from a file: each is compared with the bytes that are left before memory is
//! taken. Dequantisation is candle's. Leaves out what names and metadata mean, big-endian files and version 1.

use super::load::Tensors;
use crate::error::{Error, Result};
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The most dimensions of a tensor.
const RANK_MAX: u32 = 4;

/// The most items of all lists together: more than any vocabulary has, few enough for a value each in memory.
const ITEMS_MAX: u64 = 1 << 22;

/// How deep arrays of arrays may go.
const DEPTH_MAX: u32 = 2;

/// One value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A whole number of any width.
    Whole(i64),
    /// A number of either width.
    Number(f64),
    /// Yes or no.
    Bool(bool),
    /// Text.
    Text(String),
    /// Several of one kind.
    List(Vec<Value>),
}

/// Where a tensor is.
#[derive(Clone, Debug)]
struct Info {
    /// The outermost first, as tensors have it here.
    dims: Vec<usize>,
    dtype: GgmlDType,
    offset: u64,
    bytes: usize,
}

/// An open file.
pub(super) struct Gguf {
    path: PathBuf,
    file: BufReader<fs_err::File>,
    metadata: BTreeMap<String, Value>,
    device: Device,
    tensors: BTreeMap<String, Info>,
    /// Tensors that were read.
    read: BTreeSet<String>,
}

/// Reads numbers and knows how many bytes are left.
struct Cursor<'a, R> {
    path: &'a Path,
    from: R,
    length: u64,
    place: u64,
    /// Items that lists may still have.
    items_left: u64,
}

impl<R: Read> Cursor<'_, R> {
    fn damaged(&self, reason: String) -> Error {
        Error::Weights { path: self.path.to_path_buf(), reason: format!("at byte {}: {reason}", self.place) }
    }

    fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        if count > self.length - self.place {
            let left = self.length - self.place;
            return Err(self.damaged(format!("{count} bytes are announced and {left} are left")));
        }
        // As long as the file at most.
        let mut bytes = vec![0; count as usize];
        self.from.read_exact(&mut bytes).map_err(Error::io("read the language model"))?;
        self.place += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.bytes(N as u64)?;
        let mut array = [0; N];
        array.copy_from_slice(&bytes);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<String> {
        let count = self.u64()?;
        let bytes = self.bytes(count)?;
        String::from_utf8(bytes).map_err(|_| self.damaged("a text is no UTF-8".into()))
    }

    fn value(&mut self, kind: u32, depth: u32) -> Result<Value> {
        Ok(match kind {
            0 => Value::Whole(i64::from(self.array::<1>()?[0])),
            1 => Value::Whole(i64::from(i8::from_le_bytes(self.array()?))),
            2 => Value::Whole(i64::from(u16::from_le_bytes(self.array()?))),
            3 => Value::Whole(i64::from(i16::from_le_bytes(self.array()?))),
            4 => Value::Whole(i64::from(self.u32()?)),
            5 => Value::Whole(i64::from(i32::from_le_bytes(self.array()?))),
            6 => Value::Number(f64::from(f32::from_le_bytes(self.array()?))),
            7 => Value::Bool(self.array::<1>()?[0] != 0),
            8 => Value::Text(self.text()?),
            9 if depth < DEPTH_MAX => {
                let (kind, count) = (self.u32()?, self.u64()?);
                let Some(left) = self.items_left.checked_sub(count) else {
                    return Err(self.damaged(format!(
                        "a list of {count} items, and {ITEMS_MAX} are the most in all lists together"
                    )));
                };
                self.items_left = left;
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.value(kind, depth + 1)?);
                }
                Value::List(list)
            }
            10 => Value::Whole(i64::try_from(self.u64()?).unwrap_or(i64::MAX)),
            11 => Value::Whole(i64::from_le_bytes(self.array()?)),
            12 => Value::Number(f64::from_le_bytes(self.array()?)),
            other => return Err(self.damaged(format!("{other} is no kind of value that is known here"))),
        })
    }

    fn info(&mut self) -> Result<(String, Info)> {
        let name = self.text()?;
        let rank = self.u32()?;
        if rank > RANK_MAX {
            return Err(self.damaged(format!("{name} has {rank} dimensions, and {RANK_MAX} are the most")));
        }
        let mut dims = Vec::new();
        for _ in 0..rank {
            dims.push(self.u64()?);
        }
        let (kind, offset) = (self.u32()?, self.u64()?);
        let Some(dtype) = dtype(kind) else {
            return Err(self.damaged(format!("{name} is of type {kind}, which is not known here")));
        };
        if dims.contains(&0) {
            return Err(self.damaged(format!("{name} of {dims:?} has no numbers")));
        }
        let block = dtype.block_size() as u64;
        let count = dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        let bytes = count
            .filter(|n| n.is_multiple_of(block))
            .and_then(|n| (n / block).checked_mul(dtype.type_size() as u64));
        let Some(bytes) = bytes.filter(|bytes| *bytes <= self.length) else {
            return Err(
                self.damaged(format!("{name} of {dims:?} is larger than the file, or no whole blocks"))
            );
        };
        let dims = dims.iter().rev().map(|d| *d as usize).collect();
        Ok((name, Info { dims, dtype, offset, bytes: bytes as usize }))
    }
}

fn dtype(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

impl Gguf {
    /// Reads the header of `path`.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Weights`] naming the byte at which it is no GGUF file.
    pub(super) fn open(path: &Path, device: &Device) -> Result<Self> {
        let io = || Error::io("read the language model");
        let file = fs_err::File::open(path).map_err(io())?;
        let length = file.metadata().map_err(io())?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut cursor = Cursor { path, from: &mut file, length, place: 0, items_left: ITEMS_MAX };
        if cursor.array::<4>()? != *b"GGUF" {
            return Err(cursor.damaged("it does not begin with GGUF".into()));
        }
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            return Err(cursor.damaged(format!("it has version {version}, and 2 and 3 are read here")));
        }
        let (tensor_count, value_count) = (cursor.u64()?, cursor.u64()?);
        let mut metadata = BTreeMap::new();
        for _ in 0..value_count {
            let name = cursor.text()?;
            let kind = cursor.u32()?;
            let value = cursor.value(kind, 0)?;
            if metadata.contains_key(&name) {
                return Err(cursor.damaged(format!("it says {name} twice")));
            }
            metadata.insert(name, value);
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let (name, info) = cursor.info()?;
            if tensors.contains_key(&name) {
                return Err(cursor.damaged(format!("it lists {name} twice")));
            }
            tensors.insert(name, info);
        }
        let align = match metadata.get("general.alignment") {
            Some(Value::Whole(align @ 1..=65_536)) => *align as u64,
            None => 32,
            Some(_) => return Err(cursor.damaged("its general.alignment is none".into())),
        };
        let begin = cursor.place.next_multiple_of(align);
        for (name, info) in &mut tensors {
            let end = begin.checked_add(info.offset).and_then(|at| at.checked_add(info.bytes as u64));
            if end.is_none_or(|end| end > length) {
                return Err(
                    cursor.damaged(format!("{name} lies behind the end of the file: it was cut short"))
                );
            }
            info.offset += begin;
        }
        let mut places: Vec<_> =
            tensors.iter().map(|(name, info)| (info.offset, info.bytes as u64, name)).collect();
        places.sort_unstable();
        if let Some(pair) = places.windows(2).find(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
            return Err(cursor.damaged(format!("{} lies over {}", pair[1].2, pair[0].2)));
        }
        let (device, read) = (device.clone(), BTreeSet::new());
        Ok(Self { path: path.to_path_buf(), file, metadata, device, tensors, read })
    }

    /// BLAKE3 of the file, in hex.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn digest(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_mmap(&self.path).map_err(Error::io("read the language model"))?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Rows of a tensor.
    pub(super) fn rows(&self, name: &str) -> Option<usize> {
        self.tensors.get(name)?.dims.first().copied()
    }

    /// Whether the metadata say anything of this name.
    pub(super) fn says(&self, name: &str) -> bool {
        self.metadata.contains_key(name)
    }

    /// A whole number of the metadata.
    pub(super) fn whole(&self, name: &str) -> Option<usize> {
        match self.metadata.get(name) {
            Some(Value::Whole(number)) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A number of the metadata.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match self.metadata.get(name) {
            Some(Value::Number(number)) => Some(*number),
            Some(Value::Whole(number)) => Some(*number as f64),
            _ => None,
        }
    }

    /// A text of the metadata.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.metadata.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A list of texts of the metadata.
    pub(super) fn texts(&self, name: &str) -> Option<Vec<&str>> {
        let Some(Value::List(list)) = self.metadata.get(name) else { return None };
        list.iter()
            .map(|value| if let Value::Text(text) = value { Some(text.as_str()) } else { None })
            .collect()
    }

    /// A list of whole numbers of the metadata.
    pub(super) fn wholes(&self, name: &str) -> Option<Vec<i64>> {
        let Some(Value::List(list)) = self.metadata.get(name) else { return None };
        list.iter().map(|value| if let Value::Whole(n) = value { Some(*n) } else { None }).collect()
    }
}

impl Tensors for Gguf {
    fn dims(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors.get(name)?.dims.clone())
    }

    fn rest(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).filter(|name| !self.read.contains(*name)).collect()
    }

    fn find(&mut self, name: &str) -> Result<Option<Tensor>> {
        let Some(info) = self.tensors.get(name) else { return Ok(None) };
        self.read.insert(name.to_owned());
        let io = || Error::io("read the language model");
        self.file.seek(SeekFrom::Start(info.offset)).map_err(io())?;
        // Blocks are taken from where they lie, which must be aligned as theirs are.
        let mut words = vec![0u64; info.bytes.div_ceil(size_of::<u64>())];
        let bytes = &mut bytemuck::cast_slice_mut(&mut words)[..info.bytes];
        self.file.read_exact(bytes).map_err(io())?;
        qtensor_from_ggml(info.dtype, bytes, info.dims.clone(), &Device::Cpu)
            .and_then(|quantised| quantised.dequantize(&Device::Cpu)?.to_device(&self.device))
            .map(Some)
            .map_err(|error| Error::Weights {
                path: self.path.clone(),
                reason: format!("{name} could not be dequantised: {error}"),
            })
    }

    fn fail(&self, reason: String) -> Error {
        Error::Weights { path: self.path.clone(), reason }
    }
}
